//! One run: everything that happens, in the order of virtual time, from a seed.
//!
//! ```text
//! 0 ──────────── events are posted, faults happen ──────────── calm ──── everything drains ────▶ the truth is checked
//! ```
//!
//! Invariants that are checked on the way:
//! - an acknowledgement says what the aggregator's disk holds at that moment;
//! - no record is stored in another one's place ([`Truth`]);
//! - a spool has one live session;
//!
//! and at the end: every event that was answered is there once, in each table and in each count, within a bounded time after the last
//! fault.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_common::ids::RelayId;
use tokio::time::Instant;

use crate::aggregator::{Aggregator, Process, Stores};
use crate::click_house::ClickHouse;
use crate::environment::{Environment, Millis};
use crate::fault::Fault;
use crate::link::{Connection, ConnectionId, Down, Standing, StreamId, Up};
use crate::relay::{After, Relay, RelayFlaw, RelayProcess};
use crate::spool::Contents;
use crate::truth::Truth;

mod steps;

use steps::PATIENCE;

/// Everything must be drained so long after the last fault: a relay that lost its aggregator by silence, several times over.
const DRAINED_WITHIN: Millis = 600_000;

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// An SDK posts an event, for the so-manieth time.
    Post { relay: usize, number: u64, attempt: u32 },
    /// What grows has waited for long enough.
    Seal { relay: usize, life: u64 },
    /// The relay connects, if it is not connected.
    Dial { relay: usize, life: u64 },
    /// Something that was put off may be due.
    Fill { relay: usize, life: u64 },
    /// A batch's answer should be there.
    Patience { relay: usize, life: u64, connection: ConnectionId, stream: StreamId },
    /// A message arrives.
    ToAggregator(ConnectionId, Up),
    /// A message arrives.
    ToRelay(ConnectionId, Down),
    /// The aggregator notices that a connection is gone.
    Gone(ConnectionId),
    /// The commit thread's turn.
    Commit { life: u64 },
    /// The worker's turn.
    Work { life: u64 },
    /// A relay starts.
    StartRelay(usize),
    /// The aggregator starts.
    StartAggregator,
    /// Something goes wrong.
    Fault(Fault),
    /// Nothing goes wrong from now on.
    Calm,
}

/// What a run was like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Events that were posted.
    pub events: u64,
    /// Things that happened.
    pub steps: u64,
    /// Acknowledgements that a relay heard.
    pub acknowledged: u64,
    /// Of these, of batches that were there.
    pub duplicates: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Spools that took a new id.
    pub forks: u64,
}

// === impl Report ===

impl Report {
    /// What two runs add up to.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            steps: self.steps + other.steps,
            acknowledged: self.acknowledged + other.acknowledged,
            duplicates: self.duplicates + other.duplicates,
            cuts: self.cuts + other.cuts,
            forks: self.forks + other.forks,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub(crate) environment: Environment,
    queue: BTreeMap<(Millis, u64), Event>,
    order: u64,
    began: Instant,
    pub(crate) relays: Vec<Relay>,
    pub(crate) aggregator: Aggregator,
    pub(crate) click_house: Arc<Mutex<ClickHouse>>,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    next_connection: ConnectionId,
    pub(crate) truth: Truth,
    /// When the worker is to be polled next.
    work_at: Option<Millis>,
    pub(crate) cut_off_until: Millis,
    /// Of a thousand messages so many meet each kind of trouble.
    trouble: u64,
    posts_left: u64,
    next_event: u64,
    /// Copies of relays' disks that an operator keeps.
    pub(crate) snapshots: Vec<(usize, Contents)>,
    /// Nothing goes wrong any more since then.
    calm_since: Option<Millis>,
    flaw: RelayFlaw,
    report: Report,
}

/// Runs a seed to its end.
///
/// # Panics
/// If anything that must hold does not.
pub fn run(seed: u64, environment: &Environment, flaw: RelayFlaw) -> Report {
    let mut world = World::new(seed, environment, flaw);
    world.prepare();
    while let Some(((at, _), event)) = world.queue.pop_first() {
        world.environment.go_to(at);
        world.report.steps += 1;
        world.happen(event);
        if world.is_drained() {
            break;
        }
    }
    world.lock().come_back(Millis::MAX / 2);
    world.truth.check(&world.lock());
    world.report
}

// === impl World ===

impl World {
    fn new(seed: u64, environment: &Environment, flaw: RelayFlaw) -> Self {
        let click_house = Arc::new(Mutex::new(ClickHouse::default()));
        let stores = Stores { click_house: Arc::clone(&click_house), issues: Arc::default() };
        environment.note(|| format!("seed {seed}"));
        Self {
            queue: BTreeMap::new(),
            order: 0,
            began: Instant::now(),
            relays: Vec::new(),
            aggregator: Aggregator::new(environment, stores),
            click_house,
            connections: BTreeMap::new(),
            next_connection: 0,
            truth: Truth::default(),
            work_at: None,
            cut_off_until: 0,
            trouble: 0,
            posts_left: 0,
            next_event: 1,
            snapshots: Vec::new(),
            calm_since: None,
            flaw,
            report: Report::default(),
            environment: environment.clone(),
        }
    }

    /// Chooses who is there and what will go wrong.
    fn prepare(&mut self) {
        let environment = self.environment.clone();
        let horizon = if environment.chance(60) { 3 * 3_600_000 } else { environment.between(4_000, 40_000) };
        for number in 0..environment.between(1, 2) {
            let relay = RelayId::from_random([u8::try_from(number).unwrap_or(0); 16]);
            self.relays.push(Relay::new(relay, Contents::default(), self.flaw));
            self.after(0, Event::StartRelay(self.relays.len() - 1));
            self.post_some(self.relays.len() - 1, horizon, 12);
        }
        self.after(0, Event::StartAggregator);
        self.trouble = environment.between(0, 60);
        let trouble = environment.between(0, 120);
        self.lock().set_trouble(trouble);
        for (at, fault) in Fault::of_a_run(&environment, horizon) {
            self.at(at, Event::Fault(fault));
        }
        self.at(horizon, Event::Calm);
    }

    /// SDKs will post events to a relay.
    pub(crate) fn post_some(&mut self, relay: usize, until: Millis, most: u64) {
        for _ in 0..self.environment.between(1, most) {
            let at = self.environment.between(self.environment.now(), until.max(self.environment.now() + 1));
            let number = self.next_event;
            self.next_event += 1;
            self.posts_left += 1;
            self.report.events += 1;
            self.at(at, Event::Post { relay, number, attempt: 0 });
        }
    }

    pub(crate) fn after(&mut self, delay: Millis, event: Event) {
        self.at(self.environment.now() + delay, event);
    }

    fn at(&mut self, at: Millis, event: Event) {
        self.order += 1;
        self.queue.insert((at, self.order), event);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ClickHouse> {
        self.click_house.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Post { relay, number, attempt } => self.post(relay, number, attempt),
            Event::Seal { relay, life } => self.relay_works(relay, life, |process, _| {
                process.spool.seal();
                Ok(After::GoesOn)
            }),
            Event::Fill { relay, life } => self.relay_works(relay, life, |_, _| Ok(After::GoesOn)),
            Event::Dial { relay, life } => self.dial(relay, life),
            Event::Patience { relay, life, connection, stream } => {
                let is_awaited = |process: &RelayProcess| {
                    process.session.as_ref().is_some_and(|(of, _)| *of == connection) && process.awaits(stream)
                };
                if self.relays[relay].process.as_ref().is_some_and(is_awaited) {
                    self.relay_works(relay, life, |process, _| process.lose_patience(stream, PATIENCE));
                }
            }
            Event::ToAggregator(connection, message) => self.reach_aggregator(connection, message),
            Event::ToRelay(connection, message) => self.reach_relay(connection, message),
            Event::Gone(connection) => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.standing = Standing::Closed;
                }
            }
            Event::Commit { life } => self.commit(life),
            Event::Work { life } => self.work(life),
            Event::StartRelay(relay) => self.start_relay(relay),
            Event::StartAggregator => {
                if self.aggregator.process.is_none() {
                    self.environment.note(|| "aggregator: starts".to_owned());
                    self.aggregator.start();
                    self.wake_worker(1);
                }
            }
            Event::Fault(fault) => self.go_wrong(fault),
            Event::Calm => self.calm(),
        }
    }

    fn calm(&mut self) {
        self.environment.note(|| "calm".to_owned());
        self.calm_since = Some(self.environment.now());
        (self.trouble, self.cut_off_until) = (0, 0);
        let now = self.environment.now();
        self.lock().set_trouble(0);
        self.lock().come_back(now);
        self.aggregator.fuse.put_out();
        self.after(0, Event::StartAggregator);
        for relay in 0..self.relays.len() {
            self.relays[relay].fuse.put_out();
            self.after(0, Event::StartRelay(relay));
        }
    }

    fn is_drained(&self) -> bool {
        let Some(calm_since) = self.calm_since else { return false };
        let is_empty = |relay: &Relay| relay.process.as_ref().is_some_and(|process| process.spool.is_empty());
        let are_relays = self.posts_left == 0 && self.relays.iter().all(is_empty);
        let is_drained = are_relays && self.aggregator.process.as_ref().is_some_and(Process::is_drained);
        assert!(is_drained || self.environment.now() < calm_since + DRAINED_WITHIN, "it does not drain");
        is_drained
    }
}
