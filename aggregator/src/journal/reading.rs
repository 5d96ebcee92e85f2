//! Reading entries: position by position, so that one damaged block costs only its own entries.

use bytes::Bytes;
use picket_common::wire::BatchHeader;
use tracing::warn;

use super::{Journal, JournalError, JournalPosition, entry};

/// A batch in the journal.
#[derive(Debug, Clone)]
pub struct JournalEntry {
    /// Its place.
    pub position: JournalPosition,
    /// As the relay sent it.
    pub header: BatchHeader,
    /// The zstd frame, as the relay sent it; matches the checksum in the header.
    pub payload: Bytes,
    /// It was a dead letter before: some of its rows may be stored already.
    pub is_replay: bool,
}

/// An entry that is damaged on disk: its batch is lost here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptEntry {
    /// Its place.
    pub position: JournalPosition,
    /// What is wrong with it.
    pub problem: String,
    /// How many records are lost with it; 1 where it does not even say that.
    pub records: u64,
    /// The entry as it was found; empty where the disk does not give it out.
    pub bytes: Bytes,
}

/// What one read found.
#[derive(Debug, Clone)]
pub struct JournalRead {
    /// Sound entries, in order.
    pub entries: Vec<JournalEntry>,
    /// Damaged entries among them, counted and logged already.
    pub corrupt: Vec<CorruptEntry>,
    /// Where to read on, and the cursor once all before it is processed. Equal to where the read began only at the end.
    pub next: JournalPosition,
}

// === impl Journal ===

impl Journal {
    /// Reads entries from `position` on (from the cursor if that is further), at least one if there is one, and no more
    /// than `max_batches` or, beyond the first, `max_bytes` of payload.
    ///
    /// # Errors
    /// What may pass, such as a want of file handles; what is damaged on disk for good is in [`JournalRead::corrupt`].
    pub fn read_from(
        &self,
        position: JournalPosition,
        max_batches: usize,
        max_bytes: u64,
    ) -> Result<JournalRead, JournalError> {
        let end = self.end();
        let mut read = JournalRead { entries: Vec::new(), corrupt: Vec::new(), next: position.max(self.cursor()) };
        let mut bytes = 0;
        while read.next < end && read.entries.len() < max_batches {
            let position = read.next;
            match self.read_entry(position) {
                // A hole: the commit that was to fill it failed.
                Ok(None) => {}
                Ok(Some(entry)) => {
                    bytes += entry.payload.len() as u64;
                    if bytes > max_bytes && !read.entries.is_empty() {
                        break;
                    }
                    read.entries.push(entry);
                }
                Err(error) if error.is_damage() => {
                    let records = if let JournalError::Entry { records, .. } = &error { *records } else { 1 };
                    let bytes = self.shared.store.entry(position).ok().flatten().unwrap_or_default();
                    read.corrupt.push(CorruptEntry { position, problem: error.to_string(), records, bytes });
                }
                Err(error) => return Err(error),
            }
            read.next = position.next();
        }
        for entry in &read.corrupt {
            self.shared.metrics.corrupt_entries.inc();
            warn!(position = %entry.position, problem = entry.problem, "journal entry is damaged, its batch is lost");
        }
        Ok(read)
    }

    fn read_entry(&self, position: JournalPosition) -> Result<Option<JournalEntry>, JournalError> {
        let Some(value) = self.shared.store.entry(position)? else { return Ok(None) };
        let decoded = entry::decode(&value).map_err(|problem| JournalError::Entry {
            position,
            records: problem.records(),
            problem: problem.to_string(),
        })?;
        let is_replay = decoded.source == entry::Source::DeadLetter;
        Ok(Some(JournalEntry { position, header: decoded.header, payload: decoded.payload, is_replay }))
    }
}
