//! Whether the pieces of blobs are there for the records that name them.
//!
//! Pieces come before the record, in order, so one pass is enough. What was acknowledged is gone: a piece that is not here may have
//! been delivered, unless nothing is missing between the first piece that is here and the record.

use std::collections::HashMap;

use picket_common::ids::{BlobId, Sequence};
use picket_common::record::RecordHeader;

/// Blobs that are followed at once. More than are ever written at once; those of requests that were cut off stay.
const MAX_FOLLOWED: usize = 10_000;

/// How far a blob was seen.
struct Seen {
    /// Where the first piece that was seen began.
    from: u64,
    /// The end of what was seen without a gap.
    to: u64,
    /// Sequences that were missing before its first piece was seen.
    gaps_before: u64,
}

/// The blobs that were seen and not named yet.
#[derive(Default)]
pub(super) struct Blobs {
    seen: HashMap<BlobId, Seen>,
}

impl Blobs {
    /// The next record; `gaps` counts the gaps in the sequences up to here. Says what is missing for it, if that can't have been
    /// delivered.
    pub(super) fn note(&mut self, sequence: Sequence, gaps: u64, header: &RecordHeader, length: u64) -> Option<String> {
        if let Some(chunk) = header.chunk {
            if self.seen.len() >= MAX_FOLLOWED && !self.seen.contains_key(&chunk.blob_id) {
                self.seen.clear();
            }
            let fresh = Seen { from: chunk.offset, to: chunk.offset, gaps_before: gaps };
            let seen = self.seen.entry(chunk.blob_id).or_insert(fresh);
            if seen.to == chunk.offset {
                seen.to += length;
            }
        }
        let mut missing = None;
        for reference in &header.blobs {
            let Some(seen) = self.seen.remove(&reference.blob_id) else { continue };
            let is_whole = seen.to >= reference.bytes;
            if !is_whole && seen.gaps_before == gaps {
                let (from, to, bytes) = (seen.from, seen.to, reference.bytes);
                missing = Some(format!(
                    "item {} of record {sequence} has {bytes} bytes in pieces before it, of which only {from}..{to} are there",
                    reference.item
                ));
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_common::ids::{ProjectId, PublicKey};
    use picket_common::record::{BlobChunk, BlobReference, RecordKind};
    use picket_common::timestamp::Timestamp;

    fn header(chunk: Option<u64>, blobs: &[u64]) -> RecordHeader {
        let blob_id = BlobId::from_random([4; 16]);
        RecordHeader {
            kind: RecordKind::Envelope,
            project_id: ProjectId::new(1),
            public_key: PublicKey::from_random([7; 16]),
            received_at: Timestamp::EPOCH,
            event_id: None,
            chunk: chunk.map(|offset| BlobChunk { blob_id, offset }),
            blobs: blobs.iter().map(|&bytes| BlobReference { item: 0, blob_id, bytes }).collect(),
        }
    }

    /// Pieces of 10 bytes at these offsets, with so many gaps before each; then a record that names 30 bytes.
    fn is_missing(pieces: &[(u64, u64)], gaps_at_record: u64) -> bool {
        let mut blobs = Blobs::default();
        for &(offset, gaps) in pieces {
            assert_eq!(blobs.note(Sequence::FIRST, gaps, &header(Some(offset), &[]), 10), None);
        }
        blobs.note(Sequence::new(9), gaps_at_record, &header(None, &[30]), 5).is_some()
    }

    #[test]
    fn a_piece_is_missing_only_where_it_can_not_have_been_delivered() {
        assert!(!is_missing(&[(0, 0), (10, 0), (20, 0)], 0), "all are there");
        assert!(!is_missing(&[], 0), "all may have been delivered");
        assert!(!is_missing(&[(10, 1), (20, 1)], 1), "the first was delivered");
        assert!(!is_missing(&[(0, 0), (20, 1)], 1), "the second was delivered");
        assert!(is_missing(&[(0, 0), (20, 0)], 0));
        assert!(is_missing(&[(0, 0), (10, 0)], 0));
    }
}
