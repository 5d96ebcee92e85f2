//! What tells this spool from a copy of its directory, and which id each of its batches has. Blocking where it writes.
//!
//! Why and how is in `picket_common::wire::lineage`. Kept in `state`:
//! ```text
//! mark         u64 BE: what was sealed when the directory was first opened since its last session
//! session      JSON of the last session's id; nothing before the first
//! former_ids   JSON: [{"spool_id", "up_to"}], ascending: batches that begin at or below `up_to` keep that id
//! ```

use picket_common::ids::{Sequence, SpoolId};
use picket_common::wire::control::MAX_FORMER_SPOOLS;
use picket_common::wire::lineage::{Lineage, SessionId};
use serde::{Deserialize, Serialize};

use super::error::SpoolError;
use super::recover::{ANYTHING_MAY_BE_SENT, STATE_CONTACT, read_contact};
use super::store::{STATE_SPOOL_ID, Store};
use super::{Spool, lock};

const STATE_SESSION: &[u8] = b"session";
const STATE_FORMER: &[u8] = b"former_ids";
const STATE_MARK: &[u8] = b"mark";

/// An id that the spool had before it was forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerId {
    /// The id.
    pub spool_id: SpoolId,
    /// Batches that begin here or before have it, unless an older id covers them.
    pub up_to: Sequence,
}

/// Who the spool is and was.
#[derive(Debug)]
pub(super) struct Identity {
    current: SpoolId,
    /// Oldest first, `up_to` ascending, at most [`MAX_FORMER_SPOOLS`].
    former: Vec<FormerId>,
    last_session: Option<SessionId>,
    /// The last session was had since the spool was opened.
    is_same_process: bool,
    /// See [`Spool::sealed_before_contact`].
    sealed_before_contact: Sequence,
    /// The same without what that opening sealed itself: a copy seals what was growing, and its original goes on with it.
    mark: Sequence,
}

/// What an opening found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    /// The last sequence once what was left growing is sealed. It may have been sealed, and sent, before: that is not synced.
    pub(super) committed: Sequence,
    /// The last sequence before.
    pub(super) sealed_before: Sequence,
}

impl Identity {
    /// Reads what the state says; what can't be read counts as absent, and the next session says what follows from that.
    pub(super) fn load(store: &Store, current: SpoolId, opening: Opening) -> Result<Self, SpoolError> {
        let sealed_before_contact = read_contact(store, STATE_CONTACT, opening.committed)?;
        let mark = read_contact(store, STATE_MARK, opening.sealed_before)?;
        let former = store.state(STATE_FORMER)?.and_then(|json| serde_json::from_slice(&json).ok());
        let last_session = store.state(STATE_SESSION)?.and_then(|json| serde_json::from_slice(&json).ok());
        let former = former.unwrap_or_default();
        Ok(Self { current, former, last_session, is_same_process: false, sealed_before_contact, mark })
    }

    /// The id of new batches.
    pub(super) const fn current(&self) -> SpoolId {
        self.current
    }

    /// The id of the batch that begins at `first`.
    pub(super) fn of(&self, first: Sequence) -> SpoolId {
        self.former.iter().find(|former| first <= former.up_to).map_or(self.current, |former| former.spool_id)
    }

    /// The first sequence that may have the current id.
    fn begins_at(&self) -> Sequence {
        self.former.last().map_or(Sequence::FIRST, |former| former.up_to.advanced_by(1))
    }

    /// What the list of former ids becomes by a fork.
    fn former_after(&self, at: Sequence) -> Vec<FormerId> {
        let mut former = self.former.clone();
        if at >= self.begins_at() {
            former.push(FormerId { spool_id: self.current, up_to: at });
        }
        former.drain(..former.len().saturating_sub(MAX_FORMER_SPOOLS));
        former
    }
}

impl Spool {
    /// The id under which new batches are sent.
    #[must_use]
    pub fn id(&self) -> SpoolId {
        lock(&self.shared.identity).current()
    }

    /// The ids that batches from before a fork still have.
    #[must_use]
    pub fn former_ids(&self) -> Vec<FormerId> {
        lock(&self.shared.identity).former.clone()
    }

    /// What an aggregator is told, so that it can tell this spool from a copy.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        let identity = lock(&self.shared.identity);
        Lineage { last_session: identity.last_session, is_same_process: identity.is_same_process, mark: identity.mark }
    }

    /// The last sequence that can have been sent before this process opened the spool: what was sealed when it was first
    /// opened after the last contact with an aggregator. What was sealed since then was not sent, however often the relay was
    /// restarted; an aggregator that knows such sequences knows them from other records.
    #[must_use]
    pub fn sealed_before_contact(&self) -> Sequence {
        lock(&self.shared.identity).sealed_before_contact
    }

    /// Notes that an aggregator was heard of, so that everything may be sent from now on, and the session that it offered;
    /// synced.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if it can't be written; then nothing may be sent in that session.
    pub fn note_session(&self, session: Option<SessionId>) -> Result<(), SpoolError> {
        let json = session.map(|session| encoded(&session)).transpose()?;
        let contact = ANYTHING_MAY_BE_SENT.to_key();
        let mut entries = vec![(STATE_CONTACT, contact.as_slice()), (STATE_MARK, contact.as_slice())];
        entries.extend(json.as_deref().map(|json| (STATE_SESSION, json)));
        self.shared.store.put_state(&entries)?;
        if session.is_some() {
            let mut identity = lock(&self.shared.identity);
            identity.last_session = session;
            identity.is_same_process = true;
        }
        Ok(())
    }

    /// Takes a new id for everything that begins after `at`, now and later; what begins before keeps the one it has. Synced. For
    /// a directory that was copied or turned back: see the module. The sequence `at` must end a batch, or be 0.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if it can't be written; the old id then stays.
    pub fn fork(&self, at: Sequence, random: [u8; 16]) -> Result<SpoolId, SpoolError> {
        let id = SpoolId::from_random(random);
        let former = lock(&self.shared.identity).former_after(at);
        // No session is known under the new id, which an unreadable value says as well as none.
        self.shared.store.put_state(&[
            (STATE_SPOOL_ID, id.to_string().as_bytes()),
            (STATE_FORMER, &encoded(&former)?),
            (STATE_SESSION, b"null"),
        ])?;
        let mut identity = lock(&self.shared.identity);
        identity.current = id;
        identity.former = former;
        identity.last_session = None;
        identity.is_same_process = false;
        self.shared.metrics.forks.inc();
        Ok(id)
    }

    /// The aggregator has everything of the current id up to `up_to`: deletes those batches, and says how many they were.
    ///
    /// The caller must be sure that `up_to` speaks of this spool's own records; see the uplink's session.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if the database fails; what was deleted until then is.
    pub fn forget_stored(&self, up_to: Sequence) -> Result<u64, SpoolError> {
        let from = lock(&self.shared.identity).begins_at();
        self.forget(from, up_to)
    }

    /// As [`Self::forget_stored`], for one of [`Self::former_ids`]; and forgets the id once none of its batches is left.
    ///
    /// # Errors
    /// As [`Self::forget_stored`].
    pub fn forget_former(&self, spool_id: SpoolId, up_to: Sequence) -> Result<u64, SpoolError> {
        let (from, last) = {
            let identity = lock(&self.shared.identity);
            let Some(at) = identity.former.iter().position(|former| former.spool_id == spool_id) else { return Ok(0) };
            let from = identity.former[..at].last().map_or(Sequence::FIRST, |before| before.up_to.advanced_by(1));
            (from, identity.former[at].up_to)
        };
        let forgotten = self.forget(from, up_to.min(last))?;
        if self.shared.store.headers(from, last).next().is_none() {
            // The oldest only: without one in between, its batches would fall to the one after it.
            let mut former = self.former_ids();
            if former.first().is_some_and(|oldest| oldest.spool_id == spool_id) {
                former.remove(0);
                self.shared.store.put_state(&[(STATE_FORMER, &encoded(&former)?)])?;
                lock(&self.shared.identity).former = former;
            }
        }
        Ok(forgotten)
    }
}

fn encoded<T: Serialize>(value: &T) -> Result<Vec<u8>, SpoolError> {
    serde_json::to_vec(value).map_err(|error| SpoolError::Seal { problem: error.to_string() })
}

#[cfg(test)]
mod tests;
