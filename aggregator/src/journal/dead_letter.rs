//! Dead letters: what can't be read, decoded or inserted, set aside with its bytes so that the way goes on.
//!
//! ```text
//! dead_letters   'h' | id: u64 BE  ──▶ DeadLetter as JSON: reason, time, whose, which sequences, checksum of the bytes
//!                'b' | id: u64 BE  ──▶ the bytes, see `Form`
//! state          "dead_letter"     ──▶ next id: u64 BE, never used twice
//! ```
//!
//! Invariants:
//! - a dead letter is written in the transaction that finishes the plan it comes from: never twice, never without the rest;
//! - it leaves in the transaction that appends it to the journal again ([`Journal::replay_dead_letter`]): once;
//! - together they have at most `journal.dead_letter_max_bytes`; the oldest go first, and one that is larger keeps no bytes.

use std::borrow::Cow;

use bytes::Bytes;
use picket_common::ids::{EventId, ProjectId, Sequence, SpoolId};
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::committer::Request;
use super::{Journal, JournalError, JournalPosition, lock};

/// Longest text of what went wrong that is kept, in characters.
const MAX_DETAIL_CHARS: usize = 1000;
/// zstd level of a batch that is made of a dead letter: one record, now and then.
const REPLAY_LEVEL: i32 = 3;

/// Why something was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterReason {
    /// A batch, or the end of one, that is no records.
    Unreadable,
    /// A journal entry that does not match its checksums.
    Damaged,
    /// A record whose decoding panicked.
    Panicked,
    /// A record whose rows ClickHouse refuses, or a row of the books.
    Refused,
}

impl DeadLetterReason {
    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Damaged => "damaged",
            Self::Panicked => "panicked",
            Self::Refused => "refused",
        }
    }
}

/// What the bytes of a dead letter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Records as in a decompressed batch, or what should be such.
    Records,
    /// A payload as a relay sent it.
    Payload,
    /// A whole journal entry, as it was found.
    Entry,
}

/// What is set aside, before it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeadLetter {
    /// Why.
    pub reason: DeadLetterReason,
    /// What went wrong, in words; may quote the data.
    pub detail: String,
    /// Whose it is, as far as known.
    pub project_id: Option<ProjectId>,
    /// Which event it is, as far as known.
    pub event_id: Option<EventId>,
    /// The spool it came from and the first and last sequence it holds, as far as known.
    pub origin: Option<(SpoolId, Sequence, Sequence)>,
    /// What the bytes are.
    pub form: Form,
    /// Bytes of the records before compression; what a payload unpacks to.
    pub raw_bytes: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// A dead letter without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its name.
    pub id: u64,
    /// When it was set aside.
    pub set_aside_at: Timestamp,
    /// Why.
    pub reason: DeadLetterReason,
    /// What went wrong, in words; may quote the data.
    pub detail: String,
    /// Whose it is, as far as known.
    pub project_id: Option<ProjectId>,
    /// Which event it is, as far as known.
    pub event_id: Option<EventId>,
    /// The spool it came from and the first and last sequence it holds, as far as known.
    pub origin: Option<(SpoolId, Sequence, Sequence)>,
    /// What the bytes are.
    pub form: Form,
    /// Bytes of the records before compression.
    pub raw_bytes: u64,
    /// How many bytes are kept: 0 where it was larger than the budget, or there were none to be had.
    pub bytes: u64,
    /// CRC-32C of the bytes.
    pub crc32c: u32,
}

/// What the dead letters come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeadLetterTotals {
    /// How many there are.
    pub count: u64,
    /// Bytes they hold.
    pub bytes: u64,
}

/// Why a dead letter can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is none of this id.
    #[error("there is no dead letter {0}; `picket-aggregator dead-letter list` shows them")]
    NotFound(u64),
    /// What it holds is no batch.
    #[error(
        "dead letter {id} can't be replayed: {problem}; look at it with `dead-letter show`, then `dead-letter drop`"
    )]
    NoBatch {
        /// Which.
        id: u64,
        /// Why not.
        problem: &'static str,
    },
    /// No room; later there will be.
    #[error("the journal is full; try again when ClickHouse has caught up")]
    Full,
    /// The aggregator is stopping.
    #[error("the journal is closed")]
    Closed,
    /// Nothing was changed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A dead letter for the commit thread to append again, and whom to tell.
#[derive(Debug)]
pub(super) struct ReplayRequest {
    pub(super) id: u64,
    pub(super) reply: oneshot::Sender<Result<JournalPosition, ReplayError>>,
}

// === impl DeadLetter ===

impl DeadLetter {
    pub(super) fn new(id: u64, set_aside_at: Timestamp, new: &NewDeadLetter, kept: &[u8]) -> Self {
        Self {
            id,
            set_aside_at,
            reason: new.reason,
            detail: new.detail.chars().take(MAX_DETAIL_CHARS).collect(),
            project_id: new.project_id,
            event_id: new.event_id,
            origin: new.origin,
            form: new.form,
            raw_bytes: new.raw_bytes,
            bytes: kept.len() as u64,
            crc32c: crc32c::crc32c(kept),
        }
    }

    /// The batch to append again: under the sequences it had, which are noted already.
    pub(super) fn batch<'a>(&self, bytes: &'a [u8]) -> Result<(BatchHeader, Cow<'a, [u8]>), ReplayError> {
        let no_batch = |problem| ReplayError::NoBatch { id: self.id, problem };
        let (spool_id, first, last) = self.origin.ok_or_else(|| no_batch("it is not known where it came from"))?;
        if bytes.is_empty() {
            return Err(no_batch("its bytes were not kept"));
        }
        if crc32c::crc32c(bytes) != self.crc32c {
            return Err(no_batch("its bytes are damaged"));
        }
        let (payload, raw_bytes) = match self.form {
            Form::Entry => return Err(no_batch("it was damaged on disk")),
            Form::Payload => (Cow::Borrowed(bytes), self.raw_bytes),
            Form::Records => {
                let compressed = zstd::bulk::compress(bytes, REPLAY_LEVEL);
                (Cow::Owned(compressed.map_err(|_| no_batch("it can't be compressed"))?), bytes.len() as u64)
            }
        };
        let (payload_bytes, crc32c) = (payload.len() as u64, crc32c::crc32c(&payload));
        let header = BatchHeader { spool_id, first, last, raw_bytes, payload_bytes, crc32c, is_tombstone: false };
        Ok((header, payload))
    }
}

// === impl Journal ===

impl Journal {
    /// How many dead letters there are, and their bytes.
    #[must_use]
    pub fn dead_letter_totals(&self) -> DeadLetterTotals {
        *lock(&self.shared.dead_letters)
    }

    /// The newest dead letters, oldest of them first, at most `limit`.
    ///
    /// # Errors
    /// [`JournalError::Read`] or [`JournalError::State`].
    pub fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, JournalError> {
        self.shared.store.dead_letters(limit)
    }

    /// A dead letter with its bytes; `None` if there is none of this id.
    ///
    /// # Errors
    /// [`JournalError::Read`] or [`JournalError::State`].
    pub fn dead_letter(&self, id: u64) -> Result<Option<(DeadLetter, Bytes)>, JournalError> {
        self.shared.store.dead_letter(id)
    }

    /// Forgets a dead letter; whether there was one.
    ///
    /// # Errors
    /// [`JournalError`] if it can't be read or deleted.
    pub fn drop_dead_letter(&self, id: u64) -> Result<bool, JournalError> {
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        let Some((letter, _)) = self.shared.store.dead_letter(id)? else { return Ok(false) };
        self.shared.store.delete_dead_letter(id)?;
        self.shared.forget_dead_letter(&letter);
        Ok(true)
    }

    /// Appends what a dead letter holds to the journal again, under the sequences it had, and forgets it, in one synced
    /// write.
    ///
    /// # Errors
    /// [`ReplayError`]; the dead letter is still there then.
    pub async fn replay_dead_letter(&self, id: u64) -> Result<JournalPosition, ReplayError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Replay(ReplayRequest { id, reply });
        self.requests.send(request).await.map_err(|_| ReplayError::Closed)?;
        answer.await.map_err(|_| ReplayError::Closed)?
    }
}

#[cfg(test)]
mod tests;
