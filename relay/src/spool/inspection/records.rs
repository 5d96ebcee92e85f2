//! What is in a batch: who sent what, when, and how large it is. Never what it says.

use bytes::Bytes;
use picket_common::envelope::{Envelope, MAX_ITEMS};
use picket_common::ids::{EventId, ProjectId, Sequence};
use picket_common::record::{BlobChunk, BlobReference, Record, RecordKind, RecordReader};
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use serde::Serialize;

use super::super::error::SpoolError;
use super::super::quarantine::StoredNote;
use super::super::store::{RawHeader, StoredHeader};
use super::batches::{BatchFacts, BatchState};
use super::{ALL, Inspection};

/// What is known of a record without its texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecordFacts {
    /// Its sequence; one that is not final in a batch that grows.
    pub sequence: Sequence,
    /// What its body is.
    pub kind: RecordKind,
    /// The project it was accepted for; 0 of counts, which name their own.
    pub project: ProjectId,
    /// The id of its event, if an item makes one.
    pub event_id: Option<EventId>,
    /// When it was received.
    pub received_at: Timestamp,
    /// Length of its body.
    pub bytes: u64,
    /// The items of its envelope; empty where the body is none.
    pub items: Vec<ItemFacts>,
    /// Which piece of which blob its body is, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<BlobChunk>,
    /// The items whose payloads are in records before this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<BlobReference>,
}

/// What is known of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemFacts {
    /// Its type.
    #[serde(rename = "type")]
    pub item_type: String,
    /// Length of its payload here; 0 where that is in records before.
    pub bytes: u64,
}

/// A record and where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoundRecord {
    /// Its batch.
    pub batch: BatchFacts,
    /// The record.
    pub record: RecordFacts,
}

impl Inspection {
    /// The batch that has the sequence, with what is in it as far as that can be read. One that was set aside is found by any of its
    /// sequences too.
    ///
    /// # Errors
    /// [`SpoolError`] if the files can't be read.
    pub fn batch_with(&self, sequence: Sequence) -> Result<Option<(BatchFacts, Vec<RecordFacts>)>, SpoolError> {
        let mut found = None;
        let look = |facts: BatchFacts, read: Result<Vec<RecordFacts>, String>| {
            let last = facts.last.unwrap_or(facts.first);
            if !(facts.first..=last).contains(&sequence) {
                return;
            }
            let (records, problem) = read.map_or_else(|problem| (Vec::new(), Some(problem)), |records| (records, None));
            let detail = facts.detail.clone().or(problem);
            // A tombstone says less than what was set aside under the same sequences.
            if found.as_ref().is_none_or(|(facts, _): &(BatchFacts, _)| facts.state == BatchState::Tombstone) {
                found = Some((BatchFacts { detail, ..facts }, records));
            }
        };
        let waiting = self.store.header_up_to(sequence)?;
        self.read_each(waiting.into_iter().map(Ok), look)?;
        Ok(found)
    }

    /// Tells the records of an event, wherever they are. Reads and unpacks all batches; of one that can't be read nothing is told.
    ///
    /// # Errors
    /// [`SpoolError`] if the files can't be read, or what `each` says.
    pub fn records_of_event<E: From<SpoolError>>(
        &self,
        event_id: EventId,
        mut each: impl FnMut(FoundRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut told = Ok(());
        self.read_each(self.store.headers(ALL.0, ALL.1), |batch, read| {
            let of_event = read.unwrap_or_default().into_iter().filter(|record| record.event_id == Some(event_id));
            for record in of_event {
                if told.is_ok() {
                    told = each(FoundRecord { batch: batch.clone(), record });
                }
            }
        })?;
        told
    }

    /// Reads these batches, those that grow, and those set aside.
    fn read_each(
        &self,
        waiting: impl Iterator<Item = Result<RawHeader, SpoolError>>,
        mut each: impl FnMut(BatchFacts, Result<Vec<RecordFacts>, String>),
    ) -> Result<(), SpoolError> {
        for raw in waiting {
            let raw = raw?;
            let facts = self.facts_of_raw(&raw);
            let Ok(stored) = raw.parse() else {
                each(facts, Ok(Vec::new()));
                continue;
            };
            let read = self.store.payload(&stored)?.and_then(|payload| records(&stored.header, &payload));
            each(facts, read.map(|records| told(&stored, &records)));
        }
        for stored in self.growing()? {
            let read = self.store.payload(&stored)?.and_then(|payload| records(&stored.header, &payload));
            each(self.facts(&stored, BatchState::Growing), read.map(|records| told(&stored, &records)));
        }
        for entry in self.store.quarantine() {
            let (first, value) = entry?;
            let facts = self.facts_of_quarantined(first, &value);
            let read = StoredNote::of(&value).ok_or_else(|| "its note can't be read".to_owned()).and_then(
                |(note, payload)| {
                    let stored = RawHeader { first, json: note.header.as_bytes().into() }.parse()?;
                    records(&stored.header, payload).map(|records| told(&stored, &records))
                },
            );
            each(facts, read);
        }
        Ok(())
    }
}

/// Unpacks a payload and takes its records apart; in what way it is none, where it is not what the header says.
pub(super) fn records(header: &BatchHeader, payload: &[u8]) -> Result<Vec<Record>, String> {
    if header.is_tombstone {
        return Ok(Vec::new());
    }
    // Bounded when the header was read.
    let raw_bytes = usize::try_from(header.raw_bytes).unwrap_or(0);
    let raw = zstd::bulk::decompress(payload, raw_bytes).map_err(|error| format!("it can't be unpacked: {error}"))?;
    if raw.len() != raw_bytes {
        return Err(format!("{} bytes were unpacked, the header says {raw_bytes}", raw.len()));
    }
    let records: Vec<_> =
        RecordReader::new(Bytes::from(raw)).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if records.len() as u64 != header.records() {
        return Err(format!("{} records are in it, the header says {}", records.len(), header.records()));
    }
    Ok(records)
}

fn told(stored: &StoredHeader, records: &[Record]) -> Vec<RecordFacts> {
    let numbered = records.iter().zip(0..);
    numbered.map(|(record, number)| facts(stored.header.first.advanced_by(number), record)).collect()
}

fn facts(sequence: Sequence, record: &Record) -> RecordFacts {
    let header = &record.header;
    let is_envelope = header.kind == RecordKind::Envelope && header.chunk.is_none();
    let envelope = is_envelope.then(|| Envelope::parse(record.body.clone(), MAX_ITEMS).ok()).flatten();
    let items = envelope.as_ref().map_or(&[][..], Envelope::items);
    let items = items
        .iter()
        .map(|item| ItemFacts { item_type: item.item_type().as_str().to_owned(), bytes: item.payload_len() });
    RecordFacts {
        sequence,
        kind: header.kind,
        project: header.project_id,
        event_id: header.event_id,
        received_at: header.received_at,
        bytes: record.body.len() as u64,
        items: items.collect(),
        chunk: header.chunk,
        blobs: header.blobs.clone(),
    }
}
