//! The relays that are connected now.
//!
//! Invariant: at most one session a spool. A second one of the same relay takes over and the first is closed; that it is of
//! the same relay has been made sure before, by claiming the spool in the journal.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_common::ids::{RelayId, SpoolId};
use picket_common::timestamp::Timestamp;
use picket_common::transport::{Connection, ConnectionId, TransportKind};
use picket_common::wire::control::RelayStatistics;
use serde::Serialize;

use super::close::Close;
use picket_common::wire::CloseCode;

/// A connected relay, for status pages.
#[derive(Debug, Clone, Serialize)]
pub struct LiveRelay {
    /// Who it is.
    pub relay_id: RelayId,
    /// The name it is listed under.
    pub name: String,
    /// Where it connects from.
    pub remote_address: SocketAddr,
    /// By what: `quic` or `tcp`.
    pub transport: TransportKind,
    /// The version it runs.
    pub version: String,
    /// The spool it sends.
    pub spool_id: SpoolId,
    /// Since when.
    pub connected_since: Timestamp,
    /// What it last said of itself, and when.
    pub statistics: Option<(Timestamp, RelayStatistics)>,
}

#[derive(Debug)]
struct Session {
    relay: LiveRelay,
    connection: Connection,
}

/// The connected relays. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct LiveRelays {
    sessions: Arc<Mutex<HashMap<SpoolId, Session>>>,
}

/// Keeps a session listed until dropped.
#[derive(Debug)]
pub(super) struct SessionGuard {
    live: LiveRelays,
    spool_id: SpoolId,
    connection_id: ConnectionId,
}

// === impl LiveRelays ===

impl LiveRelays {
    /// What is connected at the moment, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LiveRelay> {
        let mut relays: Vec<_> = self.lock().values().map(|session| session.relay.clone()).collect();
        relays.sort_by(|one, other| one.name.cmp(&other.name).then(one.spool_id.cmp(&other.spool_id)));
        relays
    }

    /// How many are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Lists a session; closes and returns the older one of the same spool.
    pub(super) fn enter(&self, relay: LiveRelay, connection: Connection) -> (SessionGuard, Option<LiveRelay>) {
        let spool_id = relay.spool_id;
        let connection_id = connection.id();
        let older = self.lock().insert(spool_id, Session { relay, connection });
        let older = older.map(|session| {
            let reason = "another connection with the same spool took over";
            Close::new(CloseCode::Superseded, reason).apply(&session.connection);
            session.relay
        });
        (SessionGuard { live: self.clone(), spool_id, connection_id }, older)
    }

    /// The relays that are connected.
    pub(super) fn relay_ids(&self) -> HashSet<RelayId> {
        self.lock().values().map(|session| session.relay.relay_id).collect()
    }

    /// Closes the connections of relays that are not allowed any more; returns them.
    pub(super) fn cut_all_but(&self, allowed: &HashSet<RelayId>) -> Vec<LiveRelay> {
        let sessions = self.lock();
        let not_allowed = sessions.values().filter(|session| !allowed.contains(&session.relay.relay_id));
        not_allowed
            .map(|session| {
                Close::new(CloseCode::NotAllowed, "the relay was revoked").apply(&session.connection);
                session.relay.clone()
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpoolId, Session>> {
        // Valid between any two statements, so a panic elsewhere does not make it unusable.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl SessionGuard ===

impl SessionGuard {
    /// Notes what the relay said of itself.
    pub(super) fn set_statistics(&self, now: Timestamp, statistics: RelayStatistics) {
        if let Some(session) = self.live.lock().get_mut(&self.spool_id)
            && session.connection.id() == self.connection_id
        {
            session.relay.statistics = Some((now, statistics));
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let mut sessions = self.live.lock();
        // The place may have been taken over.
        if sessions.get(&self.spool_id).is_some_and(|session| session.connection.id() == self.connection_id) {
            sessions.remove(&self.spool_id);
        }
    }
}
