//! The node's last round of claims in the journal's database, and what settling one writes.

use std::sync::atomic::Ordering;

use super::super::claims::KeptRound;
use super::super::disk::Family;
use super::super::{JournalError, JournalPosition};
use super::{Store, Transaction};

const KEY_ROUND: &[u8] = b"claims";

// === impl Store ===

impl Store {
    /// The last round; number 0 before the first.
    pub(in super::super) fn kept_round(&self) -> Result<KeptRound, JournalError> {
        let Some(json) = self.get(Family::State, KEY_ROUND)? else { return Ok(KeptRound::default()) };
        serde_json::from_slice(&json).map_err(|_| JournalError::State("round of claims"))
    }

    pub(in super::super) fn put_kept_round(
        &self,
        transaction: &mut Transaction,
        round: &KeptRound,
    ) -> Result<(), JournalError> {
        // Ids and numbers always serialise.
        let json = serde_json::to_vec(round).map_err(|_| JournalError::State("round of claims"))?;
        transaction.put(Family::State, KEY_ROUND, json);
        Ok(())
    }

    pub(in super::super) fn put_deleted_entry(&self, transaction: &mut Transaction, position: JournalPosition) {
        transaction.delete(Family::Batches, position.to_key());
    }

    /// Writes a transaction that may be forgotten in a crash, unless a later one was synced.
    pub(in super::super) fn write_lazily(&self, transaction: Transaction) -> Result<(), JournalError> {
        self.opened()?.write_lazily(transaction.changes).map_err(|source| {
            self.is_broken.store(true, Ordering::Release);
            JournalError::Write { directory: self.directory.clone(), source }
        })
    }
}
