//! The authority over quotas: divides the limits of all open windows among the relays.
//!
//! ```text
//! control stream of a relay ──report──▶ WindowLedger of each bucket and window ──▶ outbox of each relay ──▶ its control stream
//!                                       (picket_common::quota::ledger)
//! ```
//!
//! Invariants:
//! - the arithmetic is the ledger's; here are the relays, the limits and the clock that it needs;
//! - a window is divided only if its quota is configured and it is open by this aggregator's clock, or one off: a relay whose
//!   clock is further away keeps to its own parts of the windows that it believes in;
//! - where there are other aggregators, an aggregator grants only while all relays are connected to it (docs/decisions/0020);
//! - everything is in memory. After a start nothing is granted of windows that were open before until every relay has reported,
//!   because only they know what was granted (docs/decisions/0008);
//! - bounded: one ledger for each configured bucket and open window, one pending share for each of those and connected relay.
//!
//! No task of its own: reports are worked on in the control stream's task, under one lock that is never held across an await.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_common::ids::RelayId;
use picket_common::project_config::ConfigSnapshot;
use picket_common::quota::ledger::{Memory, Relays, WindowLedger};
use picket_common::quota::window::{QuotaBucket, WindowNumber, WindowShare, WindowUse};
use picket_common::timestamp::Timestamp;
use picket_common::wire::FromAggregator;
use picket_common::wire::control::MAX_QUOTA_WINDOWS;
use tokio::sync::{Notify, watch};

/// Divides the limits. Clones share it.
#[derive(Debug, Clone)]
pub struct QuotaAuthority {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    projects: watch::Receiver<Arc<ConfigSnapshot>>,
}

#[derive(Debug)]
struct State {
    started_at: Timestamp,
    company: Company,
    relays: Relays<RelayId>,
    /// The limits of one revision of the configuration.
    revision: Option<u64>,
    limits: HashMap<QuotaBucket, u64>,
    windows: BTreeMap<(QuotaBucket, WindowNumber), WindowLedger<RelayId>>,
    outboxes: HashMap<RelayId, Outbox>,
    next_session: u64,
}

/// Whether other aggregators divide the same limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// None does.
    Alone,
    /// They do, among the relays that are connected to them.
    Others,
}

/// What is to be told to a connected relay.
#[derive(Debug)]
struct Outbox {
    session: u64,
    shares: BTreeMap<(QuotaBucket, WindowNumber), WindowShare>,
    told_relays: Option<u32>,
    wake: Arc<Notify>,
}

/// A relay's connection, as the authority knows it; ends when it is dropped.
#[derive(Debug)]
pub struct QuotaSession {
    authority: QuotaAuthority,
    relay: RelayId,
    session: u64,
    wake: Arc<Notify>,
}

// === impl QuotaAuthority ===

impl QuotaAuthority {
    /// An authority that knows of nothing before `started_at`.
    #[must_use]
    pub fn new(projects: watch::Receiver<Arc<ConfigSnapshot>>, started_at: Timestamp) -> Self {
        let state = State {
            started_at,
            company: Company::Alone,
            relays: Relays::default(),
            revision: None,
            limits: HashMap::new(),
            windows: BTreeMap::new(),
            outboxes: HashMap::new(),
            next_session: 0,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), projects }) }
    }

    /// Notes which relays there are; tells those that are connected if their number changed.
    pub fn set_fleet(&self, allowed: &HashSet<RelayId>) {
        let mut state = self.lock();
        let state = &mut *state;
        state.relays.allowed = allowed.iter().copied().collect();
        let count = state.relays.count();
        for outbox in state.outboxes.values().filter(|outbox| outbox.told_relays != Some(count)) {
            outbox.wake.notify_one();
        }
    }

    /// Notes whether there are other aggregators. Among them nothing is lent unless all relays are connected to one of them and have
    /// told it what they hold: an aggregator does not know what another has granted of a window.
    pub fn set_company(&self, company: Company) {
        let mut state = self.lock();
        let state = &mut *state;
        if state.company == company {
            return;
        }
        state.company = company;
        if company == Company::Others {
            state.windows.values_mut().for_each(WindowLedger::is_shared_now);
            let connected = &state.relays.connected;
            state.relays.heard.retain(|relay| connected.contains(relay));
        }
    }

    /// A relay connected. A former connection of it counts no more.
    #[must_use]
    pub fn enter(&self, relay: RelayId) -> QuotaSession {
        let mut state = self.lock();
        // It was looked up just now; the registry's next reading may be seconds away.
        state.relays.allowed.insert(relay);
        state.relays.connected.insert(relay);
        state.doubt(relay);
        state.next_session += 1;
        let (session, wake) = (state.next_session, Arc::new(Notify::new()));
        let outbox = Outbox { session, shares: BTreeMap::new(), told_relays: None, wake: Arc::clone(&wake) };
        state.outboxes.insert(relay, outbox);
        state.windows.values_mut().for_each(|window| window.disconnected(relay));
        QuotaSession { authority: self.clone(), relay, session, wake }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Held for arithmetic only; a panic in it leaves at worst a grant that nobody hears of.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl QuotaSession ===

impl QuotaSession {
    /// Takes in what the relay says.
    pub fn report(&self, is_complete: bool, windows: &[WindowUse], now: Timestamp) {
        let snapshot = Arc::clone(&self.authority.shared.projects.borrow());
        let mut state = self.authority.lock();
        if state.outboxes.get(&self.relay).is_none_or(|outbox| outbox.session != self.session) {
            return;
        }
        state.learn_limits(&snapshot);
        state.forget_ended(now);
        if is_complete {
            state.relays.heard.insert(self.relay);
        }
        for told in windows {
            state.report(self.relay, told, now);
        }
    }

    /// Waits until there is something to tell. Cancelling it loses nothing.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// What to tell the relay now; `None` if that is nothing.
    #[must_use]
    pub fn take_message(&self) -> Option<FromAggregator> {
        let mut state = self.authority.lock();
        let relays = state.relays.count();
        let outbox = state.outboxes.get_mut(&self.relay).filter(|outbox| outbox.session == self.session)?;
        if outbox.shares.is_empty() && outbox.told_relays == Some(relays) {
            return None;
        }
        outbox.told_relays = Some(relays);
        let mut windows = Vec::with_capacity(outbox.shares.len().min(MAX_QUOTA_WINDOWS));
        while windows.len() < MAX_QUOTA_WINDOWS
            && let Some((_, share)) = outbox.shares.pop_first()
        {
            windows.push(share);
        }
        if !outbox.shares.is_empty() {
            outbox.wake.notify_one();
        }
        Some(FromAggregator::QuotaShares { relays, windows })
    }
}

impl Drop for QuotaSession {
    fn drop(&mut self) {
        let mut state = self.authority.lock();
        // A later connection of the same relay has taken the place.
        if state.outboxes.get(&self.relay).is_some_and(|outbox| outbox.session == self.session) {
            state.outboxes.remove(&self.relay);
            state.relays.connected.remove(&self.relay);
            state.doubt(self.relay);
            let relay = self.relay;
            state.windows.values_mut().for_each(|window| window.disconnected(relay));
        }
    }
}

// === impl State ===

impl State {
    /// The limit of each bucket that a snapshot configures. Where projects disagree on a limit that they share, the smallest
    /// counts.
    fn learn_limits(&mut self, snapshot: &ConfigSnapshot) {
        if self.revision == Some(snapshot.revision) {
            return;
        }
        self.revision = Some(snapshot.revision);
        self.limits.clear();
        for project in &snapshot.projects {
            for (quota, key) in
                project.settings.quotas.iter().flat_map(|quota| project.keys.iter().map(move |key| (quota, key)))
            {
                let (Some(bucket), Some(limit)) = (QuotaBucket::of(quota, project.id, &key.public_key), quota.limit)
                else {
                    continue;
                };
                let known = self.limits.entry(bucket).or_insert(limit);
                *known = limit.min(*known);
            }
        }
    }

    /// What the relay holds may change, or have changed, by what another aggregator tells it.
    fn doubt(&mut self, relay: RelayId) {
        if self.company == Company::Others {
            self.relays.heard.remove(&relay);
        }
    }

    fn forget_ended(&mut self, now: Timestamp) {
        // Kept for one window more: relays' clocks differ.
        self.windows.retain(|(bucket, number), _| number.0.saturating_add(1) >= bucket.window_at(now).0);
    }

    fn report(&mut self, relay: RelayId, told: &WindowUse, now: Timestamp) {
        let Some(&limit) = self.limits.get(&told.bucket) else { return };
        if told.number.0.abs_diff(told.bucket.window_at(now).0) > 1 {
            return tracing::debug!(%relay, "a relay reports a window that is not open, its clock is wrong");
        }
        let begun = Timestamp::from_millis(told.number.0.saturating_mul(told.bucket.seconds).saturating_mul(1000));
        let is_whole = begun >= self.started_at && self.company == Company::Alone;
        let memory = if is_whole { Memory::Whole } else { Memory::Partial };
        let window = self
            .windows
            .entry((told.bucket.clone(), told.number))
            .or_insert_with(|| WindowLedger::new(told.bucket.clone(), told.number, memory));
        for (to, share) in window.report(relay, told, limit, &self.relays) {
            if let Some(outbox) = self.outboxes.get_mut(&to) {
                outbox.post(share);
            }
        }
    }
}

impl Outbox {
    /// A recall that was not told yet stays one: the ledger waits for its answer.
    fn post(&mut self, mut share: WindowShare) {
        let key = (share.bucket.clone(), share.number);
        if let Some(pending) = self.shares.get(&key).filter(|pending| pending.is_recalled && !share.is_recalled) {
            (share.is_recalled, share.base) = (true, pending.base);
        }
        self.shares.insert(key, share);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
