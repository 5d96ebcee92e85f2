//! What the journal knows of a spool: whose it is, and how far it is stored.

use picket_common::ids::{RelayId, Sequence, SpoolId};

use super::store::Transaction;
use super::{Journal, JournalError, lock};

/// Whether a relay may send batches of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolClaim {
    /// The spool is the claiming relay's.
    Granted,
    /// It belongs to this other relay.
    OwnedBy(RelayId),
}

// === impl Journal ===

impl Journal {
    /// All sequences of the spool up to this one are stored; zero if the first is missing.
    ///
    /// # Errors
    /// [`JournalError::Read`], [`JournalError::State`] or [`JournalError::Ledger`].
    pub fn stored_up_to(&self, spool: SpoolId) -> Result<Sequence, JournalError> {
        Ok(self.stored(spool)?.0)
    }

    /// The highest sequence of the spool that is stored, whatever is missing below; zero if none is.
    ///
    /// # Errors
    /// [`JournalError::Read`], [`JournalError::State`] or [`JournalError::Ledger`].
    pub fn highest_stored(&self, spool: SpoolId) -> Result<Sequence, JournalError> {
        Ok(self.stored(spool)?.1)
    }

    /// Both of a spool: up to where all of it is stored, and the highest sequence that is.
    ///
    /// # Errors
    /// [`JournalError::Read`], [`JournalError::State`] or [`JournalError::Ledger`].
    pub fn stored(&self, spool: SpoolId) -> Result<(Sequence, Sequence), JournalError> {
        if let Some(ledger) = &self.shared.ledger {
            return Ok(ledger.stored(spool)?);
        }
        let ranges = self.shared.stored_ranges(spool)?;
        Ok((ranges.high_water(), ranges.highest()?))
    }

    /// Makes the spool the relay's, durably, if it is nobody's or `replaces`'s; else says whose it is. A spool keeps its
    /// owner while that relay is allowed, so that no relay can fill in another's sequences.
    ///
    /// # Errors
    /// [`JournalError`] if the state can't be read or written.
    pub fn claim_spool(
        &self,
        spool: SpoolId,
        relay: RelayId,
        replaces: Option<RelayId>,
    ) -> Result<SpoolClaim, JournalError> {
        if let Some(ledger) = &self.shared.ledger {
            return Ok(ledger.claim_spool(spool, relay, replaces)?);
        }
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        match self.shared.store.spool_owner(spool)? {
            Some(owner) if owner == relay => return Ok(SpoolClaim::Granted),
            Some(owner) if Some(owner) != replaces => return Ok(SpoolClaim::OwnedBy(owner)),
            _ => {}
        }
        let mut transaction = Transaction::default();
        self.shared.store.put_spool_owner(&mut transaction, spool, relay);
        self.shared.store.commit(transaction)?;
        Ok(SpoolClaim::Granted)
    }
}
