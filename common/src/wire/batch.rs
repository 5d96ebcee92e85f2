//! Batches: sealed groups of records and the answer to each.

use serde::{Deserialize, Serialize};

use crate::ids::{Sequence, SpoolId};

/// What a batch holds. Written once, when the relay seals it, and sent verbatim ever after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// The spool that sealed it.
    pub spool_id: SpoolId,
    /// Sequence of its first record.
    pub first: Sequence,
    /// Sequence of its last record; `last - first + 1` records in all.
    pub last: Sequence,
    /// Bytes of the records before compression.
    pub raw_bytes: u64,
    /// Bytes of the zstd frame that follows the header.
    pub payload_bytes: u64,
    /// CRC-32C of the zstd frame.
    pub crc32c: u32,
    /// Nothing of these sequences will ever be sent: the relay dropped the records by its retention or set them aside, and
    /// counted them there. The payload is empty; the aggregator notes the sequences as stored, so that they leave no gap.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tombstone: bool,
}

/// A header contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid batch header: {0}")]
pub struct InvalidBatchHeader(&'static str);

impl BatchHeader {
    /// How many records it covers.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.last.get().saturating_sub(self.first.get()).saturating_add(1)
    }

    /// Checks what can be checked without the payload.
    ///
    /// # Errors
    /// [`InvalidBatchHeader`] if the sequences are not a range from 1 up, a size is over its bound, or a tombstone has a payload.
    pub const fn validate(&self) -> Result<(), InvalidBatchHeader> {
        if self.first.get() == 0 || self.last.get() < self.first.get() {
            return Err(InvalidBatchHeader("first and last are no range of sequences"));
        }
        if self.is_tombstone && (self.payload_bytes > 0 || self.raw_bytes > 0) {
            return Err(InvalidBatchHeader("a tombstone has no payload"));
        }
        if self.payload_bytes > super::MAX_BATCH_PAYLOAD as u64 {
            return Err(InvalidBatchHeader("payload_bytes is over the bound"));
        }
        if self.raw_bytes > super::MAX_BATCH_RAW as u64 {
            return Err(InvalidBatchHeader("raw_bytes is over the bound"));
        }
        Ok(())
    }
}

/// The aggregator's answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BatchReply {
    /// The batch is in the journal and the journal is on disk. The relay deletes it.
    Ack {
        /// Sequence of the first record.
        first: Sequence,
        /// Sequence of the last record.
        last: Sequence,
        /// It was there already.
        #[serde(default)]
        duplicate: bool,
    },
    /// The batch was not taken.
    Nack {
        /// Why.
        reason: NackReason,
        /// For the log of the relay.
        detail: String,
    },
}

/// Why a batch was not taken, by what the relay does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NackReason {
    /// The aggregator can't take it now: send it again later.
    Retry,
    /// Its bytes do not match its header, or are no records: sending it again is no use, the relay sets it aside.
    Corrupt,
    /// Its sequences overlap others of the same spool that are stored already in other bounds: the spool was copied or
    /// turned back, and an operator must look.
    Overlap,
    /// A reason this version does not know; treated as [`NackReason::Retry`].
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header(first: u64, last: u64) -> BatchHeader {
        BatchHeader {
            spool_id: SpoolId::from_random([1; 16]),
            first: Sequence::new(first),
            last: Sequence::new(last),
            raw_bytes: 10,
            payload_bytes: 5,
            crc32c: 0,
            is_tombstone: false,
        }
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        assert!(header(1, 1).validate().is_ok());
        assert!(header(0, 1).validate().is_err());
        assert!(header(5, 4).validate().is_err());
        assert!(BatchHeader { payload_bytes: u64::MAX, ..header(1, 1) }.validate().is_err());
        assert!(BatchHeader { raw_bytes: u64::MAX, ..header(1, 1) }.validate().is_err());
        assert!(BatchHeader { is_tombstone: true, ..header(1, 1) }.validate().is_err());
        let tombstone = BatchHeader { is_tombstone: true, raw_bytes: 0, payload_bytes: 0, ..header(1, 9) };
        assert!(tombstone.validate().is_ok());
    }

    #[test]
    fn a_header_of_an_older_relay_is_no_tombstone() {
        let json = serde_json::to_string(&header(1, 2)).unwrap();
        assert!(!json.contains("tombstone"));
        assert_eq!(serde_json::from_str::<BatchHeader>(&json).unwrap(), header(1, 2));
    }

    #[test]
    fn a_reason_of_a_newer_version_reads_as_unknown() {
        let reply: BatchReply =
            serde_json::from_str(r#"{"type":"nack","reason":"novelty","detail":"x","more":1}"#).unwrap();
        assert!(matches!(reply, BatchReply::Nack { reason: NackReason::Unknown, .. }));
    }
}
