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

/// Single values that are on disk before a write of them returns; all of one write, or none of it.
pub trait SpoolState {
    /// A value.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if it can't be read.
    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, SpoolError>;

    /// Writes values, synced.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if they can't be written; the former ones then stay.
    fn put_state(&self, entries: &[(&[u8], &[u8])]) -> Result<(), SpoolError>;
}

impl SpoolState for Store {
    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, SpoolError> {
        self.state(key)
    }

    fn put_state(&self, entries: &[(&[u8], &[u8])]) -> Result<(), SpoolError> {
        self.put_state(entries)
    }
}

/// What keeps its id in a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForkPoint {
    /// What begins at this sequence or before. It must end a batch, or be 0.
    After(Sequence),
    /// Nothing, not even what has a former id: any of the ids may be another relay's.
    Everything,
}

/// Who the spool is and was.
#[derive(Debug, Clone)]
pub struct Identity {
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
pub struct Opening {
    /// The last sequence once what was left growing is sealed. It may have been sealed, and sent, before: that is not synced.
    pub committed: Sequence,
    /// The last sequence before.
    pub sealed_before: Sequence,
}

/// What becomes of an identity, and what is to be on disk before it does.
#[derive(Debug)]
pub struct Changed {
    entries: Vec<(&'static [u8], Vec<u8>)>,
    identity: Identity,
}

impl Changed {
    /// Writes it down; then it is so.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if it can't be written; the identity then stays as it was.
    pub fn write(self, state: &impl SpoolState) -> Result<Identity, SpoolError> {
        let entries: Vec<_> = self.entries.iter().map(|(key, value)| (*key, value.as_slice())).collect();
        state.put_state(&entries)?;
        Ok(self.identity)
    }
}

impl Identity {
    /// Reads what the state says; what can't be read counts as absent, and the next session says what follows from that.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if the state fails.
    pub fn load(state: &impl SpoolState, current: SpoolId, opening: Opening) -> Result<Self, SpoolError> {
        let sealed_before_contact = read_contact(state, STATE_CONTACT, opening.committed)?;
        let mark = read_contact(state, STATE_MARK, opening.sealed_before)?;
        let former = former_ids_of(state)?;
        let last_session = state.state(STATE_SESSION)?.and_then(|json| serde_json::from_slice(&json).ok());
        Ok(Self { current, former, last_session, is_same_process: false, sealed_before_contact, mark })
    }

    /// The id of new batches.
    #[must_use]
    pub const fn current(&self) -> SpoolId {
        self.current
    }

    /// The id of the batch that begins at `first`.
    #[must_use]
    pub fn of(&self, first: Sequence) -> SpoolId {
        self.former.iter().find(|former| first <= former.up_to).map_or(self.current, |former| former.spool_id)
    }

    /// The ids that batches from before a fork still have.
    #[must_use]
    pub fn former(&self) -> &[FormerId] {
        &self.former
    }

    /// See [`Spool::lineage`].
    #[must_use]
    pub const fn lineage(&self) -> Lineage {
        Lineage { last_session: self.last_session, is_same_process: self.is_same_process, mark: self.mark }
    }

    /// See [`Spool::sealed_before_contact`].
    #[must_use]
    pub const fn sealed_before_contact(&self) -> Sequence {
        self.sealed_before_contact
    }

    /// The first sequence that may have the current id.
    #[must_use]
    pub fn begins_at(&self) -> Sequence {
        self.former.last().map_or(Sequence::FIRST, |former| former.up_to.advanced_by(1))
    }

    /// The sequences that may have a former id; none if it is not one.
    #[must_use]
    pub fn range_of(&self, former: SpoolId) -> Option<(Sequence, Sequence)> {
        let at = self.former.iter().position(|known| known.spool_id == former)?;
        let from = self.former[..at].last().map_or(Sequence::FIRST, |before| before.up_to.advanced_by(1));
        Some((from, self.former[at].up_to))
    }

    /// See [`Spool::note_session`].
    ///
    /// # Errors
    /// [`SpoolError::Seal`] if a session can't be put down as text: a bug.
    pub fn noting(&self, session: Option<SessionId>) -> Result<Changed, SpoolError> {
        let contact = ANYTHING_MAY_BE_SENT.to_key().to_vec();
        let mut entries = vec![(STATE_CONTACT, contact.clone()), (STATE_MARK, contact)];
        let mut identity = self.clone();
        if let Some(session) = session {
            entries.push((STATE_SESSION, encoded(&session)?));
            identity.last_session = Some(session);
            identity.is_same_process = true;
        }
        Ok(Changed { entries, identity })
    }

    /// See [`Spool::fork`].
    ///
    /// # Errors
    /// [`SpoolError::Seal`] if the ids can't be put down as text: a bug.
    pub fn forking(&self, point: ForkPoint, id: SpoolId) -> Result<Changed, SpoolError> {
        let former = match point {
            ForkPoint::After(at) => self.former_after(at),
            ForkPoint::Everything => Vec::new(),
        };
        // No session is known under the new id, which an unreadable value says as well as none.
        let entries = vec![
            (STATE_SPOOL_ID, id.to_string().into_bytes()),
            (STATE_FORMER, encoded(&former)?),
            (STATE_SESSION, b"null".to_vec()),
        ];
        let identity = Self { current: id, former, last_session: None, is_same_process: false, ..self.clone() };
        Ok(Changed { entries, identity })
    }

    /// Without a former id none of whose batches is left. None if it has to stay: without one in between, its batches would fall
    /// to the one after it, so only the oldest goes.
    ///
    /// # Errors
    /// [`SpoolError::Seal`] if the ids can't be put down as text: a bug.
    pub fn forgetting(&self, former: SpoolId) -> Result<Option<Changed>, SpoolError> {
        let [oldest, younger @ ..] = self.former.as_slice() else { return Ok(None) };
        if oldest.spool_id != former {
            return Ok(None);
        }
        let entries = vec![(STATE_FORMER, encoded(&younger)?)];
        Ok(Some(Changed { entries, identity: Self { former: younger.to_vec(), ..self.clone() } }))
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
        lock(&self.shared.identity).former().to_vec()
    }

    /// What an aggregator is told, so that it can tell this spool from a copy.
    #[must_use]
    pub fn lineage(&self) -> Lineage {
        lock(&self.shared.identity).lineage()
    }

    /// The last sequence that can have been sent before this process opened the spool: what was sealed when it was first
    /// opened after the last contact with an aggregator. What was sealed since then was not sent, however often the relay was
    /// restarted; an aggregator that knows such sequences knows them from other records.
    #[must_use]
    pub fn sealed_before_contact(&self) -> Sequence {
        lock(&self.shared.identity).sealed_before_contact()
    }

    /// Notes that an aggregator was heard of, so that everything may be sent from now on, and the session that it offered;
    /// synced.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if it can't be written; then nothing may be sent in that session.
    pub fn note_session(&self, session: Option<SessionId>) -> Result<(), SpoolError> {
        let changed = lock(&self.shared.identity).noting(session)?;
        self.become_changed(changed)
    }

    /// Takes a new id for what begins after `point`, now and later; what begins before keeps the one it has. Synced. For
    /// a directory that was copied or turned back: see the module.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if it can't be written; the old id then stays.
    pub fn fork(&self, point: ForkPoint, random: [u8; 16]) -> Result<SpoolId, SpoolError> {
        let id = SpoolId::from_random(random);
        let changed = lock(&self.shared.identity).forking(point, id)?;
        self.become_changed(changed)?;
        self.shared.metrics.forks.inc();
        Ok(id)
    }

    /// Only the uplink changes the identity, one thing after the other.
    fn become_changed(&self, changed: Changed) -> Result<(), SpoolError> {
        let identity = changed.write(&*self.shared.store()?)?;
        *lock(&self.shared.identity) = identity;
        Ok(())
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
        let Some((from, last)) = lock(&self.shared.identity).range_of(spool_id) else { return Ok(0) };
        let forgotten = self.forget(from, up_to.min(last))?;
        if self.shared.store()?.headers(from, last).next().is_none() {
            let forgetting = lock(&self.shared.identity).forgetting(spool_id)?;
            forgetting.map_or(Ok(()), |changed| self.become_changed(changed))?;
        }
        Ok(forgotten)
    }
}

/// The former ids that the state has; what can't be read counts as none.
pub(super) fn former_ids_of(store: &impl SpoolState) -> Result<Vec<FormerId>, SpoolError> {
    let stored = store.state(STATE_FORMER)?;
    Ok(stored.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default())
}

fn encoded<T: Serialize>(value: &T) -> Result<Vec<u8>, SpoolError> {
    serde_json::to_vec(value).map_err(|error| SpoolError::Seal { problem: error.to_string() })
}

#[cfg(test)]
mod tests;
