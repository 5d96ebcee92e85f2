//! Batches set aside: damaged on disk, or refused by the aggregator for good.
//!
//! ```text
//! quarantine: first sequence u64 BE -> note length: u32 BE | note: JSON | payload, as far as it could be read
//! state "quarantine" -> JSON of the totals, written with each change
//! ```
//!
//! They leave the queue so that what follows can flow, and stay on disk for an operator to look at. In the queue a tombstone says
//! that nothing comes of their sequences. The quarantine is
//! bounded (`spool.quarantine_max_bytes`): the oldest entries go when a new one needs their room.

use picket_common::config::ByteSize;
use serde::{Deserialize, Serialize};

use super::counts::RemovalCounts;
use super::error::SpoolError;
use super::store::{Leaves, STATE_QUARANTINE, Store, StoredHeader};

/// Why a batch was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SetAsideReason {
    /// What the disk holds does not match its checksum or can't be read.
    Damaged,
    /// The aggregator found its bytes not to match its header, or to be no records.
    RefusedCorrupt,
    /// The aggregator has overlapping sequences of this spool in other bounds.
    RefusedOverlap,
}

impl SetAsideReason {
    /// The word in metrics and notes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::RefusedCorrupt => "refused_corrupt",
            Self::RefusedOverlap => "refused_overlap",
        }
    }
}

/// What is kept of the reason beside the payload.
#[derive(Debug, Serialize)]
struct Note<'a> {
    reason: SetAsideReason,
    detail: &'a str,
    /// The header as it was stored, read or not.
    header: std::borrow::Cow<'a, str>,
}

/// A note as it is read again.
#[derive(Debug, Deserialize)]
pub(super) struct StoredNote {
    /// [`SetAsideReason::as_str`], or that of another version.
    pub(super) reason: String,
    pub(super) detail: String,
    /// The header as it was stored.
    pub(super) header: String,
}

impl StoredNote {
    /// Takes an entry of the quarantine apart into note and payload; `None` if it is none.
    pub(super) fn of(value: &[u8]) -> Option<(Self, &[u8])> {
        let (length, rest) = value.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (note, payload) = rest.split_at_checked(length)?;
        Some((serde_json::from_slice(note).ok()?, payload))
    }
}

/// What the quarantine holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) batches: u64,
    pub(super) bytes: u64,
}

impl Totals {
    /// Reads the totals; a spool without a quarantine has none.
    pub(super) fn load(store: &Store) -> Result<Self, SpoolError> {
        let stored = store.state(STATE_QUARANTINE)?;
        Ok(stored.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default())
    }

    /// Moves a batch from the queue to the quarantine and makes room for it there.
    pub(super) fn take(&mut self, store: &Store, batch: &SetAside<'_>, bound: ByteSize) -> Result<(), SpoolError> {
        let value = batch.encode();
        let mut totals = *self;
        let mut evicted = Vec::new();
        for entry in store.quarantine() {
            if totals.bytes.saturating_add(value.len() as u64) <= bound.as_u64() {
                break;
            }
            let (old, old_value) = entry?;
            totals.batches = totals.batches.saturating_sub(1);
            totals.bytes = totals.bytes.saturating_sub(old_value.len() as u64);
            evicted.push(old);
        }
        totals.batches += 1;
        totals.bytes += value.len() as u64;
        // Two numbers always serialise.
        let encoded = serde_json::to_vec(&totals).unwrap_or_default();
        store.move_to_quarantine(batch.stored, batch.leaves, &value, &evicted, &encoded, batch.counted)?;
        *self = totals;
        if !evicted.is_empty() {
            tracing::error!(
                evicted = evicted.len(),
                bound = %bound,
                "the quarantine is full, its oldest batches were deleted; raise spool.quarantine_max_bytes to keep more"
            );
        }
        Ok(())
    }
}

/// A batch on its way to the quarantine.
pub(super) struct SetAside<'a> {
    /// Its header; what it must have been, if that can't be read.
    pub(super) stored: &'a StoredHeader,
    /// What stays in its place.
    pub(super) leaves: Leaves,
    pub(super) reason: SetAsideReason,
    pub(super) detail: &'a str,
    pub(super) header_json: &'a [u8],
    pub(super) payload: &'a [u8],
    /// What is counted as lost by it.
    pub(super) counted: &'a RemovalCounts,
}

impl SetAside<'_> {
    fn encode(&self) -> Vec<u8> {
        let note = Note { reason: self.reason, detail: self.detail, header: String::from_utf8_lossy(self.header_json) };
        // Strings always serialise.
        let note = serde_json::to_vec(&note).unwrap_or_default();
        let length = u32::try_from(note.len()).unwrap_or(u32::MAX);
        let mut value = Vec::with_capacity(4 + note.len() + self.payload.len());
        value.extend_from_slice(&length.to_be_bytes());
        value.extend_from_slice(&note);
        value.extend_from_slice(self.payload);
        value
    }
}
