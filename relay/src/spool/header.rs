//! What is stored of a batch beside its payload: the header that is sent, and what only the relay needs.

use picket_common::ids::Sequence;
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use serde::{Deserialize, Serialize};

use super::lanes::Lane;

/// What the `headers` column family holds for a batch: the wire header as sealed, and what only the relay needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredHeader {
    #[serde(flatten)]
    pub(super) header: BatchHeader,
    /// The earliest `received_at` among its records.
    pub(super) oldest_received_at: Timestamp,
    /// The latest; formats before had only the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) newest_received_at: Option<Timestamp>,
    /// Where its payload is; `None` where it is one value under the first sequence, as in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pieces: Option<Pieces>,
    /// The lane it is read in.
    #[serde(default, skip_serializing_if = "Lane::is_shared")]
    pub(super) lane: Lane,
    /// Of a lane that is not the shared one: what the shared one has before this is read first, because it may have earlier
    /// records of the same project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) entered: Option<Sequence>,
}

impl StoredHeader {
    /// What takes the place of the batch when its records are dropped: the sequences, in the same lane.
    pub(super) fn tombstone(&self) -> Self {
        let header =
            BatchHeader { raw_bytes: 0, payload_bytes: 0, crc32c: 0, is_tombstone: true, ..self.header.clone() };
        Self { header, pieces: None, ..self.clone() }
    }

    /// How many records it has: none where only the sequences are left.
    pub(super) const fn records(&self) -> u64 {
        if self.header.is_tombstone { 0 } else { self.header.records() }
    }
}

/// The pieces of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pieces {
    /// The frame they were written for.
    pub(super) frame: u64,
    /// How many they are, from 0.
    pub(super) count: u32,
}

/// One entry of the `headers` column family as it is on disk.
pub(super) struct RawHeader {
    pub(super) first: Sequence,
    pub(super) json: Box<[u8]>,
}

impl RawHeader {
    /// Reads the header; the problem as text where it is not one, or contradicts its key.
    pub(super) fn parse(&self) -> Result<StoredHeader, String> {
        let stored: StoredHeader = serde_json::from_slice(&self.json).map_err(|error| error.to_string())?;
        if stored.header.first != self.first {
            return Err(format!("the header says {}, its key {}", stored.header.first, self.first));
        }
        stored.header.validate().map_err(|error| error.to_string())?;
        Ok(stored)
    }
}
