//! The sessions of each spool, durable: what tells a spool from its copies (`picket_common::wire::lineage`).

use picket_common::ids::SpoolId;
use picket_common::wire::lineage::{Greeting, Lineage, SessionId};

use super::store::Transaction;
use super::{Journal, JournalError, SessionEpoch, lock};

/// The epoch of every session where no other node has any: intake closes the earlier connection itself.
const ALONE: SessionEpoch = SessionEpoch::new(0);

impl Journal {
    /// Judges what a relay says of its spool's past, and offers `session` where it is the spool that was here. The offer is on
    /// disk when this returns.
    ///
    /// # Errors
    /// [`JournalError`] if the state can't be read or written; then nothing was offered.
    pub fn greet_spool(&self, spool: SpoolId, lineage: &Lineage, session: SessionId) -> Result<Greeting, JournalError> {
        if let Some(ledger) = &self.shared.ledger {
            return Ok(ledger.greet(spool, lineage, session)?);
        }
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        let mut book = self.shared.store.session_book(spool)?;
        let greeting = book.greet(lineage, session);
        let mut transaction = Transaction::default();
        self.shared.store.put_session_book(&mut transaction, spool, &book)?;
        self.shared.store.commit(transaction)?;
        Ok(greeting)
    }

    /// Notes that the relay has written the session down, and returns its epoch; none if it is not the session that was offered
    /// last. On disk when this returns, so that no batch of the session is taken while a copy could still pass for its spool.
    /// Sessions of the spool that were confirmed before, at whichever node, store nothing from then on.
    ///
    /// # Errors
    /// [`JournalError`] if the state can't be read or written.
    pub fn confirm_session(&self, spool: SpoolId, session: SessionId) -> Result<Option<SessionEpoch>, JournalError> {
        if let Some(ledger) = &self.shared.ledger {
            return Ok(ledger.confirm(spool, session)?);
        }
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        let mut book = self.shared.store.session_book(spool)?;
        if !book.confirm(session) {
            return Ok(None);
        }
        let mut transaction = Transaction::default();
        self.shared.store.put_session_book(&mut transaction, spool, &book)?;
        self.shared.store.commit(transaction)?;
        Ok(Some(ALONE))
    }

    /// As [`Self::confirm_session`], for a relay that knows nothing of sessions.
    ///
    /// # Errors
    /// [`JournalError`] if the state can't be read or written.
    pub fn begin_session(&self, spool: SpoolId) -> Result<SessionEpoch, JournalError> {
        match &self.shared.ledger {
            Some(ledger) => Ok(ledger.begin_session(spool)?),
            None => Ok(ALONE),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use picket_common::ids::Sequence;

    use super::super::JournalConfig;
    use super::*;

    #[test]
    fn sessions_are_known_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let spool = SpoolId::from_random([1; 16]);
        let session = |number| SessionId::from_random([number; 16]);
        let hello = |last_session| Lineage { last_session, is_same_process: false, mark: Sequence::new(7) };
        {
            let (journal, committer) = Journal::open(directory.path(), &JournalConfig::default()).unwrap();
            assert_eq!(journal.greet_spool(spool, &hello(None), session(1)).unwrap(), Greeting::Welcome);
            assert_eq!(journal.confirm_session(spool, session(2)).unwrap(), None, "it was not offered");
            assert!(journal.confirm_session(spool, session(1)).unwrap().is_some());
            drop(journal);
            committer.shutdown();
        }
        let (journal, _committer) = Journal::open(directory.path(), &JournalConfig::default()).unwrap();
        let copy = journal.greet_spool(spool, &hello(None), session(3)).unwrap();
        assert_eq!(copy, Greeting::Forked { at: Sequence::new(7) });
        assert_eq!(journal.greet_spool(spool, &hello(Some(session(1))), session(4)).unwrap(), Greeting::Welcome);
    }
}
