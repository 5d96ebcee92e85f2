//! The shares that this relay has of each quota's windows, in memory, and what it has to tell of them.
//!
//! - One lock, held for arithmetic only: a request takes it once for each kind of item it brings.
//! - Bounded by configuration: there is one entry for each quota and key, or project with spike protection, that was met;
//!   windows that have ended are removed when the table is written down.
//! - What changed is reported after [`REPORT_INTERVAL`]; what runs low, or was refused, after [`URGENT_INTERVAL`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use picket_common::category::DataCategory;
use picket_common::ids::ProjectId;
use picket_common::outcome::Reason;
use picket_common::project_config::ProjectConfig;
use picket_common::quota::lease::{Lease, Reply, Verdict};
use picket_common::quota::window::{QuotaBucket, WindowNumber, WindowShare, WindowUse, base_share};
use picket_common::timestamp::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::compiled::{Counter, KeyQuota};
use super::keeper::{Ending, StoredLease, StoredState};
use super::spike::{Baseline, SPIKE_REASON};
use crate::rate_limit::{LimitScope, RateLimit};

/// How long a change may wait until the aggregator hears of it.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may wait where a share runs low.
pub const URGENT_INTERVAL: Duration = Duration::from_millis(100);
/// The longest that clients are told to stay away, as the protocol has it: limits change, and clients ask nobody meanwhile.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// How long they are told to stay away from what is closed for good.
const RETRY_CLOSED: Duration = Duration::from_secs(60);
/// How long while the aggregator is asked for more: it answers sooner, unless it has to ask other relays first.
const RETRY_ASKING: Duration = Duration::from_secs(1);

/// The shares. Clones share them.
#[derive(Debug, Clone)]
pub struct Quotas {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something is due to be told sooner than before.
    changed: Notify,
    /// Something is to be written down that was not before.
    unwritten: Notify,
}

#[derive(Debug)]
struct State {
    /// How many relays divide a limit.
    relays: u32,
    link: Link,
    leases: HashMap<Arc<QuotaBucket>, Entry>,
    baselines: HashMap<ProjectId, Baseline>,
    /// When a report is due; none while nothing changed.
    due: Option<Instant>,
    last_report: Instant,
    is_written_down: bool,
}

/// Whether an aggregator can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It can.
    Up,
    /// It can't.
    Down,
}

#[derive(Debug)]
struct Entry {
    lease: Lease,
    is_reported: bool,
    /// What was used when it was last written down.
    written: u64,
}

impl Entry {
    const fn new(number: WindowNumber, base: u64) -> Self {
        Self { lease: Lease::new(number, base), is_reported: true, written: 0 }
    }
}

// === impl Quotas ===

impl Default for Quotas {
    /// Nothing was ever written down.
    fn default() -> Self {
        Self::new(StoredState::default(), Instant::now())
    }
}

impl Quotas {
    /// Takes up what was written down before; `now` is only compared with later instants.
    #[must_use]
    pub fn new(stored: StoredState, now: Instant) -> Self {
        let entry = |stored: StoredLease| {
            let lease = stored.lease.with_margin(stored.margin);
            (Arc::new(stored.bucket), Entry { is_reported: false, written: lease.used(), lease })
        };
        let state = State {
            relays: stored.relays.max(1),
            link: Link::Down,
            leases: stored.leases.into_iter().map(entry).collect(),
            baselines: stored.baselines.into_iter().collect(),
            due: None,
            last_report: now,
            is_written_down: true,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), unwritten: Notify::new() }) }
    }

    /// Admits what an item counts as under all quotas of its key, or under none.
    ///
    /// # Errors
    /// The limit that is hit; of several the one that lasts longest.
    pub fn charge(
        &self,
        project: &ProjectConfig,
        quotas: &[KeyQuota],
        amounts: &[(DataCategory, u64)],
        at: Timestamp,
    ) -> Result<(), RateLimit> {
        let protection = &project.settings.spike_protection;
        let is_event = amounts.iter().any(|(category, _)| is_protected(*category));
        if quotas.is_empty() && !(protection.enabled && is_event) {
            return Ok(());
        }
        let mut state = self.lock();
        if protection.enabled && is_event && !state.baseline(project.id).admits(protection, at) {
            return Err(spike_limit(at));
        }
        let hits: Vec<_> = quotas.iter().filter_map(|quota| Some((quota, state.check(quota, amounts, at)?))).collect();
        if let Some((quota, hit)) = hits.iter().max_by_key(|(_, hit)| hit.retry_after) {
            let is_urgent = state.refuse(&hits, amounts, at);
            drop(state);
            self.wake(is_urgent);
            return Err(limit_of(quota, hit.retry_after));
        }
        let is_urgent = state.admit(quotas, amounts, at);
        if protection.enabled && is_event {
            state.baseline(project.id).count(at);
        }
        let was_written_down = std::mem::take(&mut state.is_written_down);
        drop(state);
        if was_written_down {
            self.shared.unwritten.notify_one();
        }
        self.wake(is_urgent);
        Ok(())
    }

    /// Gives back what was charged at `at` for a request that is not stored after all.
    ///
    /// Only to windows that are still the ones that were charged. Where the next has begun meanwhile there is nobody to give it to:
    /// nothing more is admitted in the window that has ended, and a window that never charged it would admit more than its limit.
    pub fn give_back(
        &self,
        project: &ProjectConfig,
        quotas: &[KeyQuota],
        amounts: &[(DataCategory, u64)],
        at: Timestamp,
    ) {
        let mut state = self.lock();
        state.give_back(quotas, amounts, at);
        if project.settings.spike_protection.enabled {
            let events =
                amounts.iter().filter(|(category, _)| is_protected(*category)).map(|(_, quantity)| quantity).sum();
            state.baseline(project.id).give_back(events, at);
        }
        state.is_written_down = false;
        let is_urgent = state.plan(Urgency::Soon);
        drop(state);
        self.shared.unwritten.notify_one();
        self.wake(is_urgent);
    }

    /// Takes in what the aggregator says.
    pub fn apply(&self, relays: u32, windows: &[WindowShare]) {
        let mut state = self.lock();
        state.relays = relays.max(1);
        state.is_written_down = false;
        let mut is_urgent = Urgency::None;
        for share in windows {
            is_urgent = is_urgent.max(state.apply(share));
        }
        drop(state);
        self.shared.unwritten.notify_one();
        self.wake(is_urgent);
    }

    /// Notes whether an aggregator can be asked.
    pub fn set_link(&self, link: Link) {
        self.lock().link = link;
    }

    /// Waits until there is something to tell. Cancelling it loses nothing.
    pub async fn due(&self) {
        loop {
            let due = self.lock().due;
            let changed = self.shared.changed.notified();
            match due {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => return,
                    () = changed => {}
                },
            }
        }
    }

    /// Waits until there is something to write down.
    pub async fn unwritten(&self) {
        while self.lock().is_written_down {
            self.shared.unwritten.notified().await;
        }
    }

    /// What changed since the last report. Whoever takes it must send it, or call [`Quotas::take_whole_report`] later.
    #[must_use]
    pub fn take_report(&self, now: Instant) -> Vec<WindowUse> {
        self.lock().report(now, |entry| !entry.is_reported)
    }

    /// All windows that are open: what begins a connection.
    #[must_use]
    pub fn take_whole_report(&self, at: Timestamp, now: Instant) -> Vec<WindowUse> {
        let mut state = self.lock();
        state.leases.retain(|bucket, entry| bucket.end_of(entry.lease.number()) > at);
        state.report(now, |_| true)
    }

    /// The state to write down, if it has changed since the last call. Windows that have ended at `at` are forgotten.
    #[must_use]
    pub fn take_stored(&self, at: Timestamp, ending: Ending) -> Option<StoredState> {
        let mut state = self.lock();
        let is_final = ending == Ending::Clean;
        if state.is_written_down && !is_final {
            return None;
        }
        state.leases.retain(|bucket, entry| bucket.end_of(entry.lease.number()) > at);
        state.is_written_down = true;
        let mut leases = Vec::with_capacity(state.leases.len());
        for (bucket, entry) in &mut state.leases {
            let used_since = entry.lease.used() - entry.written.min(entry.lease.used());
            entry.written = entry.lease.used();
            // Twice what was admitted in the last interval: a process that is killed has gone on for about one.
            let margin = if is_final { 0 } else { used_since.saturating_mul(2) };
            leases.push(StoredLease { bucket: QuotaBucket::clone(bucket), lease: entry.lease, margin });
        }
        // The margin of a window that was used must go down again when it is not used any more.
        state.is_written_down = is_final || leases.iter().all(|stored| stored.margin == 0);
        let baselines = state.baselines.iter().map(|(project, baseline)| (*project, *baseline)).collect();
        Some(StoredState { relays: state.relays, leases, baselines })
    }

    fn wake(&self, urgency: Urgency) {
        if urgency != Urgency::None {
            self.shared.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Held for arithmetic only; a panic in it leaves at worst one charge undone.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How soon a change must be told, if that is sooner than what was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    None,
    Soon,
    Now,
}

/// A quota that keeps something out.
#[derive(Debug, Clone, Copy)]
struct Hit {
    /// For how long.
    retry_after: Duration,
    ask: Ask,
}

/// What the aggregator is asked for the sake of what is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// More of the limit.
    ForShare,
    /// Whether there is anything left by now.
    WhetherExhausted,
    /// Nothing: the quota is closed.
    Nothing,
}

// === impl State ===

impl State {
    fn baseline(&mut self, project: ProjectId) -> &mut Baseline {
        self.baselines.entry(project).or_default()
    }

    /// The share of the window that is open at `at`. A clock that was put back goes on in the later window.
    fn entry(&mut self, bucket: &Arc<QuotaBucket>, limit: u64, at: Timestamp) -> &mut Entry {
        let number = bucket.window_at(at);
        let base = base_share(limit, self.relays);
        let entry = self.leases.entry(Arc::clone(bucket)).or_insert_with(|| Entry::new(number, base));
        if entry.lease.number() < number {
            *entry = Entry::new(number, base);
        }
        entry
    }

    /// What keeps the amounts out of a quota; `None` if nothing does.
    fn check(&mut self, quota: &KeyQuota, amounts: &[(DataCategory, u64)], at: Timestamp) -> Option<Hit> {
        let quantity = counted(quota, amounts)?;
        let (bucket, limit) = match &quota.counter {
            Counter::Closed => return Some(Hit { retry_after: RETRY_CLOSED, ask: Ask::Nothing }),
            Counter::Window { bucket, limit } => (bucket, *limit),
        };
        let link = self.link;
        let lease = &self.entry(bucket, limit, at).lease;
        let until_end = || bucket.end_of(lease.number()).since(at).min(RETRY_MAX);
        match (lease.check(quantity, limit), link) {
            (Verdict::Fits, _) => None,
            (Verdict::ShareUsedUp, Link::Up) if quantity <= limit => {
                Some(Hit { retry_after: RETRY_ASKING.min(until_end()), ask: Ask::ForShare })
            }
            (Verdict::ShareUsedUp, _) => Some(Hit { retry_after: until_end(), ask: Ask::ForShare }),
            // The limit may have been raised since: whoever asks is told.
            (Verdict::Exhausted, _) => Some(Hit { retry_after: until_end(), ask: Ask::WhetherExhausted }),
        }
    }

    fn admit(&mut self, quotas: &[KeyQuota], amounts: &[(DataCategory, u64)], at: Timestamp) -> Urgency {
        self.touch(quotas.iter(), amounts, at, |lease, quantity, _| lease.charge(quantity))
    }

    /// Asks for more where that would have let the amounts in. A share of one quota is of no use to what another keeps out, and
    /// would be taken from relays that have use for it.
    fn refuse(&mut self, hits: &[(&KeyQuota, Hit)], amounts: &[(DataCategory, u64)], at: Timestamp) -> Urgency {
        let is_share_of_use = hits.iter().all(|(_, hit)| hit.ask == Ask::ForShare);
        let asked = hits.iter().filter(|(_, hit)| match hit.ask {
            Ask::ForShare => is_share_of_use,
            Ask::WhetherExhausted => true,
            Ask::Nothing => false,
        });
        self.touch(asked.map(|(quota, _)| *quota), amounts, at, Lease::refuse)
    }

    fn give_back(&mut self, quotas: &[KeyQuota], amounts: &[(DataCategory, u64)], at: Timestamp) {
        for quota in quotas {
            let (Counter::Window { bucket, .. }, Some(quantity)) = (&quota.counter, counted(quota, amounts)) else {
                continue;
            };
            let charged = self.leases.get_mut(bucket).filter(|entry| entry.lease.number() == bucket.window_at(at));
            if let Some(entry) = charged {
                entry.lease.give_back(quantity);
                entry.is_reported = false;
            }
        }
    }

    /// Changes the lease of each quota by what it counts of the amounts; `change` is given that and the limit.
    fn touch<'q>(
        &mut self,
        quotas: impl Iterator<Item = &'q KeyQuota>,
        amounts: &[(DataCategory, u64)],
        at: Timestamp,
        change: fn(&mut Lease, u64, u64),
    ) -> Urgency {
        let mut urgency = Urgency::None;
        for quota in quotas {
            let (Counter::Window { bucket, limit }, Some(quantity)) = (&quota.counter, counted(quota, amounts)) else {
                continue;
            };
            let entry = self.entry(bucket, *limit, at);
            change(&mut entry.lease, quantity, *limit);
            entry.is_reported = false;
            urgency = urgency.max(if entry.lease.is_running_low() { Urgency::Now } else { Urgency::Soon });
        }
        self.plan(urgency)
    }

    fn apply(&mut self, share: &WindowShare) -> Urgency {
        let Some(entry) = self.leases.get_mut(&share.bucket) else {
            return self.release_untouched(share);
        };
        if entry.lease.number() < share.number {
            // The window is one that this relay has not begun: what it would give itself may be asked back like any other.
            return self.release_untouched(share);
        }
        match entry.lease.apply(share) {
            Reply::Unneeded => Urgency::None,
            Reply::Needed => {
                entry.is_reported = false;
                self.plan(Urgency::Now)
            }
        }
    }

    /// A recall of a window that this relay has admitted nothing in.
    fn release_untouched(&mut self, share: &WindowShare) -> Urgency {
        let Some(base) = share.base.filter(|_| share.is_recalled) else { return Urgency::None };
        let mut lease = Lease::new(share.number, base);
        let _ = lease.apply(share);
        self.leases.insert(Arc::new(share.bucket.clone()), Entry { lease, is_reported: false, written: 0 });
        self.plan(Urgency::Now)
    }

    /// Sets when the next report is due; says how urgent that is if it is sooner than before.
    fn plan(&mut self, urgency: Urgency) -> Urgency {
        let interval = match urgency {
            Urgency::None => return Urgency::None,
            Urgency::Soon => REPORT_INTERVAL,
            Urgency::Now => URGENT_INTERVAL,
        };
        let due = self.last_report + interval;
        if self.due.is_some_and(|planned| planned <= due) {
            return Urgency::None;
        }
        self.due = Some(due);
        urgency
    }

    fn report(&mut self, now: Instant, is_wanted: impl Fn(&Entry) -> bool) -> Vec<WindowUse> {
        self.due = None;
        self.last_report = now;
        let wanted = self.leases.iter_mut().filter(|(_, entry)| is_wanted(entry));
        wanted
            .map(|(bucket, entry)| {
                entry.is_reported = true;
                entry.lease.report(bucket)
            })
            .collect()
    }
}

/// How much of the amounts a quota counts; `None` if nothing.
fn counted(quota: &KeyQuota, amounts: &[(DataCategory, u64)]) -> Option<u64> {
    let mut counted = amounts.iter().filter(|(category, _)| quota.counted.contains(*category)).peekable();
    counted.peek()?;
    Some(counted.fold(0, |total, (_, quantity)| total.saturating_add(*quantity)))
}

/// The categories that floods of events are made of. Those without a page are not among them: they cost no disk, and would use
/// up the room that errors need.
const fn is_protected(category: DataCategory) -> bool {
    matches!(category, DataCategory::Error | DataCategory::Security | DataCategory::Feedback)
}

fn limit_of(quota: &KeyQuota, retry_after: Duration) -> RateLimit {
    RateLimit {
        categories: if quota.names_categories { quota.counted.iter().collect() } else { Vec::new() },
        scope: quota.scope,
        reason_code: Some(quota.reason.clone()),
        retry_after,
    }
}

fn spike_limit(at: Timestamp) -> RateLimit {
    let in_minute = at.as_seconds() % 60;
    RateLimit {
        categories: DataCategory::ALL.into_iter().filter(|category| is_protected(*category)).collect(),
        scope: LimitScope::Project,
        reason_code: Some(Reason::Borrowed(SPIKE_REASON)),
        retry_after: Duration::from_secs(60 - in_minute),
    }
}
