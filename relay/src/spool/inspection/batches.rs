//! What batches there are.

use picket_common::ids::{ProjectId, Sequence, SpoolId};
use picket_common::timestamp::Timestamp;
use serde::Serialize;

use super::super::error::SpoolError;
use super::super::quarantine::StoredNote;
use super::super::store::{RawHeader, StoredHeader};
use super::{ALL, Inspection};

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Sealed; waits for an aggregator.
    Waiting,
    /// Takes records still. Its sequences are those that it gets if nothing comes before it.
    Growing,
    /// Only its sequences are left: its records were dropped or set aside, and counted.
    Tombstone,
    /// Set aside; is not sent.
    Quarantined,
    /// Its header can't be read. It is set aside once a relay comes by.
    Unreadable,
}

impl BatchState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Growing => "growing",
            Self::Tombstone => "tombstone",
            Self::Quarantined => "quarantined",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What is known of a batch without its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchFacts {
    /// Sequence of its first record.
    pub first: Sequence,
    /// That of its last; absent where the header can't be read.
    pub last: Option<Sequence>,
    /// Where it stands.
    pub state: BatchState,
    /// Its records; none of a tombstone.
    pub records: u64,
    /// Their bytes before compression.
    pub raw_bytes: u64,
    /// Bytes of the compressed payload.
    pub bytes: u64,
    /// When the oldest of its records was received.
    pub oldest_received_at: Option<Timestamp>,
    /// When the youngest was.
    pub newest_received_at: Option<Timestamp>,
    /// The project that it is of, where a project has batches of its own; of all others where absent.
    pub project: Option<ProjectId>,
    /// The spool id that it is sent under.
    pub spool_id: SpoolId,
    /// Why it was set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was found, where it was set aside or can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Inspection {
    /// Tells the batches: those that wait in the order of their sequences, then those that grow, then those set aside.
    ///
    /// # Errors
    /// [`SpoolError`] if the files can't be read, or what `each` says.
    pub fn batches<E: From<SpoolError>>(&self, mut each: impl FnMut(BatchFacts) -> Result<(), E>) -> Result<(), E> {
        for raw in self.store.headers(ALL.0, ALL.1) {
            each(self.facts_of_raw(&raw?))?;
        }
        for stored in self.growing()? {
            each(self.facts(&stored, BatchState::Growing))?;
        }
        for entry in self.store.quarantine() {
            let (first, value) = entry?;
            each(self.facts_of_quarantined(first, &value))?;
        }
        Ok(())
    }

    pub(super) fn facts_of_raw(&self, raw: &RawHeader) -> BatchFacts {
        match raw.parse() {
            Ok(stored) if stored.header.is_tombstone => self.facts(&stored, BatchState::Tombstone),
            Ok(stored) => self.facts(&stored, BatchState::Waiting),
            Err(problem) => BatchFacts { detail: Some(problem), ..self.nothing_known(raw.first) },
        }
    }

    pub(super) fn facts(&self, stored: &StoredHeader, state: BatchState) -> BatchFacts {
        let header = &stored.header;
        BatchFacts {
            first: header.first,
            last: Some(header.last),
            state,
            records: stored.records(),
            raw_bytes: header.raw_bytes,
            bytes: header.payload_bytes,
            oldest_received_at: Some(stored.oldest_received_at),
            newest_received_at: stored.newest_received_at,
            project: stored.lane.project(),
            spool_id: self.id_of(header.first),
            reason: None,
            detail: None,
        }
    }

    pub(super) fn facts_of_quarantined(&self, first: Sequence, value: &[u8]) -> BatchFacts {
        let Some((note, payload)) = StoredNote::of(value) else {
            let detail = Some("its note can't be read".to_owned());
            return BatchFacts { state: BatchState::Quarantined, detail, ..self.nothing_known(first) };
        };
        let raw = RawHeader { first, json: note.header.as_bytes().into() };
        let known = raw
            .parse()
            .map_or_else(|_| self.nothing_known(first), |stored| self.facts(&stored, BatchState::Quarantined));
        BatchFacts {
            state: BatchState::Quarantined,
            bytes: payload.len() as u64,
            reason: Some(note.reason),
            detail: Some(note.detail),
            ..known
        }
    }

    fn nothing_known(&self, first: Sequence) -> BatchFacts {
        BatchFacts {
            first,
            last: None,
            state: BatchState::Unreadable,
            records: 0,
            raw_bytes: 0,
            bytes: 0,
            oldest_received_at: None,
            newest_received_at: None,
            project: None,
            spool_id: self.id_of(first),
            reason: None,
            detail: None,
        }
    }
}
