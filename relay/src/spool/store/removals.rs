//! Counts of what was dropped or set aside, on their way to the ledger.
//!
//! The ledger is the commit thread's, which writes totals. So a removal writes its counts beside them, in the same write as the
//! tombstone, under a key that no total has; the next commit adds them to the totals and deletes them here, in one write too.
//! ```text
//! outcomes: 0 | first sequence of the first batch removed: u64 BE -> JSON of a list of OutcomeCount
//! ```

use picket_common::ids::Sequence;
use picket_common::outcome::OutcomeCount;
use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::super::counts::RemovalCounts;
use super::super::error::SpoolError;
use super::{CF_OUTCOMES, Store};

/// How such a key begins; those of totals are JSON objects.
pub(super) const REMOVAL_MARK: u8 = 0;

pub(super) fn removal_key(first: Sequence) -> [u8; 9] {
    let mut key = [REMOVAL_MARK; 9];
    key[1..].copy_from_slice(&first.to_key());
    key
}

impl Store {
    pub(super) fn count_in(&self, batch: &mut WriteBatch, counted: &RemovalCounts) {
        // They have string keys only, and so always serialise.
        let counts = serde_json::to_vec(&counted.counts).unwrap_or_default();
        batch.put_cf(self.family(CF_OUTCOMES), removal_key(counted.first), counts);
    }

    /// Those that no commit has taken over yet. One that can't be read is left out, and said.
    pub(in super::super) fn counts_of_removals(&self) -> Result<Vec<RemovalCounts>, SpoolError> {
        let mut removals = Vec::new();
        let mode = IteratorMode::From(&[REMOVAL_MARK], Direction::Forward);
        for entry in self.db.iterator_cf(self.family(CF_OUTCOMES), mode) {
            let (key, value) = entry.map_err(|source| SpoolError::Storage { action: "read its outcomes", source })?;
            let Some((&REMOVAL_MARK, first)) = key.split_first() else { break };
            let counts: Option<Vec<OutcomeCount>> = serde_json::from_slice(&value).ok();
            match Sequence::from_key(first).zip(counts) {
                Some((first, counts)) => removals.push(RemovalCounts { first, counts }),
                None => tracing::warn!("a count of what was removed from the spool can't be read and is left out"),
            }
        }
        Ok(removals)
    }

    /// Whether a commit is in the database: all of it is, if any of it is.
    pub(in super::super) fn has(&self, proof: &super::Proof) -> Result<bool, SpoolError> {
        let (family, key, value) = match proof {
            super::Proof::Piece(frame, number) => (super::CF_PIECES, super::piece_key(*frame, *number).to_vec(), None),
            super::Proof::Total(key, total) => {
                (CF_OUTCOMES, serde_json::to_vec(key).unwrap_or_default(), Some(total.to_be_bytes()))
            }
        };
        let found = self.db.get_pinned_cf(self.family(family), key);
        let found = found.map_err(|source| SpoolError::Storage { action: "look for what was written", source })?;
        Ok(found.is_some_and(|found| value.is_none_or(|value| found[..] == value)))
    }
}
