//! Whether a spool that says hello is the one that was here last, or a copy of it.
//!
//! A directory that is copied (a cloned host, a snapshot that was turned back) holds the same spool id, and both go on to give
//! the same sequences to different records. An aggregator that took the second for the first would drop records as known:
//! they would be lost. So every session leaves a mark on both sides:
//!
//! ```text
//! relay's directory: last session        aggregator, per spool: the recent sessions, confirmed or just offered
//!
//! Hello(last session S1) ─────────────▶  S1 is the last confirmed, or the one offered: it is the spool that was here
//!                        ◀─────────────  Welcome(session S2), S2 noted as offered
//! S2 written down, synced
//! Confirm(S2)            ─────────────▶  S2 noted as confirmed, before any batch of the session is taken
//!
//! Hello(last session S1) ─────────────▶  S2 is confirmed: another directory went on from S1. Forked(at)
//! ```
//!
//! *at* is up to where both directories surely hold the same records: those keep the old id, under which sending them twice does no
//! harm. What the forked spool sealed after it gets a new id. The two directories parted at some sequence, which neither side
//! knows for certain; what is known:
//! - a copy is opened anew, and holds at that moment what its original held when it was copied: its *mark*, the last sequence
//!   sealed when the directory was first opened since its last session;
//! - a process that had a session and has another is no copy.
//!
//! So if the session after S1 was had by the very process that had S1, the one that says hello now is the copy, and its own mark
//! is the place; if the process that says hello had S1 itself, the other one is the copy, and the mark that it came with is.
//! Where neither is known the smaller mark is taken.
//!
//! Invariant: *at* is never beyond where the directories parted, so no record is ever taken for another. Where it is before
//! (both were opened anew without a session in between), records that both hold are sent under two ids; the aggregator knows
//! events by their own ids for two days.
//!
//! What it does not do: keep or send anything.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::Sequence;

/// Sessions that are remembered of a spool. A copy of a directory that is older than so many sessions forks at 0: all that it
/// holds is sent under a new id.
pub const REMEMBERED_SESSIONS: usize = 16;

/// What names a session; random, chosen by the aggregator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

impl SessionId {
    /// An id of 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

/// What a relay says of its spool's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The last session that the directory knows; none before the first.
    pub last_session: Option<SessionId>,
    /// Whether the process that says so had that session itself.
    pub is_same_process: bool,
    /// The last sequence that was sealed when the directory was first opened since that session.
    pub mark: Sequence,
}

/// A session as the aggregator remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SessionNote {
    id: SessionId,
    /// Had by the process that had the session before it.
    is_same_process: bool,
    mark: Sequence,
}

/// The sessions of one spool id, as the aggregator keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionBook {
    /// Oldest first.
    confirmed: Vec<SessionNote>,
    offered: Option<SessionNote>,
    /// Offered, and overtaken by another offer before it was confirmed: its relay may have written it down all the same.
    #[serde(default)]
    overtaken: Vec<Overtaken>,
}

/// An offer that another one overtook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Overtaken {
    /// The session that the relay of this offer had before.
    after: Option<SessionId>,
    note: SessionNote,
}

/// What a relay is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// It is the spool that was here: the offered session may begin.
    Welcome,
    /// Another directory went on under this id. Records up to `at` keep it.
    Forked {
        /// The last sequence that both surely share.
        at: Sequence,
    },
}

// === impl SessionBook ===

impl SessionBook {
    /// Judges a hello and offers the session `id` if it is welcome. The book must be on disk before the relay hears of it.
    pub fn greet(&mut self, lineage: &Lineage, id: SessionId) -> Greeting {
        if let Some(offered) = self.offered.filter(|offered| lineage.last_session == Some(offered.id)) {
            // The relay wrote it down and its confirmation was lost.
            self.push(offered);
        }
        let last = self.confirmed.last().map(|last| last.id);
        // What it said when it was made that offer is what it would say now, had it not written the offer down.
        let overtaken = self.overtaken.iter().find(|overtaken| lineage.last_session == Some(overtaken.note.id));
        let lineage = overtaken.map_or(*lineage, |Overtaken { after, note }| Lineage {
            last_session: *after,
            is_same_process: note.is_same_process,
            mark: note.mark,
        });
        if lineage.last_session == last {
            let note = SessionNote { id, is_same_process: lineage.is_same_process, mark: lineage.mark };
            if let Some(before) = self.offered.replace(note) {
                self.overtaken.drain(..(self.overtaken.len() + 1).saturating_sub(REMEMBERED_SESSIONS));
                self.overtaken.push(Overtaken { after: last, note: before });
            }
            return Greeting::Welcome;
        }
        let at = self.next_after(lineage.last_session).map_or(Sequence::new(0), |next| parted(&lineage, next));
        Greeting::Forked { at }
    }

    /// The relay has written the session down; false if it is not the one that was offered last.
    pub fn confirm(&mut self, id: SessionId) -> bool {
        if self.confirmed.last().is_some_and(|last| last.id == id) {
            return true;
        }
        match self.offered.filter(|offered| offered.id == id) {
            Some(offered) => {
                self.push(offered);
                true
            }
            None => false,
        }
    }

    fn push(&mut self, note: SessionNote) {
        if self.confirmed.len() >= REMEMBERED_SESSIONS {
            self.confirmed.remove(0);
        }
        self.confirmed.push(note);
        self.offered = None;
    }

    /// The session that followed `last`; none where that is not known any more.
    fn next_after(&self, last: Option<SessionId>) -> Option<&SessionNote> {
        match last {
            // Before the first of all, if that is still remembered.
            None => self.confirmed.first().filter(|_| self.confirmed.len() < REMEMBERED_SESSIONS),
            Some(last) => {
                let at = self.confirmed.iter().position(|note| note.id == last)?;
                self.confirmed.get(at + 1)
            }
        }
    }
}

/// Up to where the directory that says hello and the one that had `next` surely hold the same records.
fn parted(hello: &Lineage, next: &SessionNote) -> Sequence {
    match (hello.is_same_process, next.is_same_process) {
        (false, true) => hello.mark,
        (true, false) => next.mark,
        // Both: a process that was copied with its memory. Neither: both were opened anew.
        (true, true) | (false, false) => hello.mark.min(next.mark),
    }
}

#[cfg(test)]
mod tests;
