//! A model of relays and an aggregator that count one window together: messages are late or lost, relays go away, restart
//! and come back, the aggregator restarts. What is admitted never exceeds the bound, and while all are connected nothing of
//! the limit goes to waste.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::QuotaScope;
use super::lease::{Lease, Reply, Verdict};
use super::ledger::{Memory, Relays, WindowLedger};
use super::window::{QuotaBucket, WindowNumber, WindowShare, WindowUse, base_share};

const WINDOW: WindowNumber = WindowNumber(9);

#[derive(Debug, Clone)]
enum Step {
    /// Relays get this many units to admit, one by one.
    Load(usize, u8),
    /// A relay reports.
    Report(usize),
    /// The next message to the aggregator, or to the relay, arrives.
    ToAggregator(usize),
    ToRelay(usize),
    /// The connection is lost with all that was under way.
    Disconnect(usize),
    Connect(usize),
    /// All connections are lost, and all that the aggregator knew.
    RestartAggregator,
}

struct ModelRelay {
    lease: Option<Lease>,
    is_connected: bool,
    upward: VecDeque<Vec<WindowUse>>,
    downward: VecDeque<WindowShare>,
}

struct Model {
    limit: u64,
    relays: Vec<ModelRelay>,
    fleet: Relays<usize>,
    window: WindowLedger<usize>,
}

fn bucket() -> QuotaBucket {
    QuotaBucket { quota: "q".into(), scope: QuotaScope::Organization, of: "".into(), seconds: 60 }
}

impl Model {
    fn new(limit: u64, relays: usize) -> Self {
        let new =
            || ModelRelay { lease: None, is_connected: false, upward: VecDeque::new(), downward: VecDeque::new() };
        let mut model = Self {
            limit,
            relays: (0..relays).map(|_| new()).collect(),
            fleet: Relays { allowed: (0..relays).collect(), ..Relays::default() },
            window: WindowLedger::new(bucket(), WINDOW, Memory::Whole),
        };
        (0..relays).for_each(|relay| model.step(&Step::Connect(relay)));
        model
    }

    fn lease(&mut self, relay: usize) -> &mut Lease {
        let base = base_share(self.limit, self.fleet.count());
        self.relays[relay].lease.get_or_insert_with(|| Lease::new(WINDOW, base))
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Load(relay, units) => {
                let limit = self.limit;
                let lease = self.lease(relay);
                for _ in 0..units {
                    match lease.check(1, limit) {
                        Verdict::Fits => lease.charge(1),
                        Verdict::ShareUsedUp | Verdict::Exhausted => lease.refuse(1, limit),
                    }
                }
            }
            Step::Report(relay) => {
                let of = &mut self.relays[relay];
                if let Some(lease) = of.lease.as_mut().filter(|_| of.is_connected) {
                    of.upward.push_back(vec![lease.report(&bucket())]);
                }
            }
            Step::ToAggregator(relay) => self.deliver_upward(relay),
            Step::ToRelay(relay) => {
                let Some(share) = self.relays[relay].downward.pop_front() else { return };
                if self.lease(relay).apply(&share) == Reply::Needed {
                    self.step(&Step::Report(relay));
                }
            }
            Step::Disconnect(relay) => self.disconnect(relay),
            Step::Connect(relay) => self.connect(relay),
            Step::RestartAggregator => {
                (0..self.relays.len()).for_each(|relay| self.disconnect(relay));
                self.fleet.heard.clear();
                self.window = WindowLedger::new(bucket(), WINDOW, Memory::Partial);
            }
        }
    }

    fn deliver_upward(&mut self, relay: usize) {
        let Some(message) = self.relays[relay].upward.pop_front() else { return };
        // The first message of a connection is the complete one, and messages keep their order.
        self.fleet.heard.insert(relay);
        for told in message {
            for (to, share) in self.window.report(relay, &told, self.limit, &self.fleet) {
                if self.relays[to].is_connected {
                    self.relays[to].downward.push_back(share);
                }
            }
        }
    }

    fn disconnect(&mut self, relay: usize) {
        let of = &mut self.relays[relay];
        of.is_connected = false;
        of.upward.clear();
        of.downward.clear();
        self.fleet.connected.remove(&relay);
        self.window.disconnected(relay);
    }

    fn connect(&mut self, relay: usize) {
        let of = &mut self.relays[relay];
        if of.is_connected {
            return;
        }
        of.is_connected = true;
        self.fleet.connected.insert(relay);
        let all = of.lease.as_mut().map(|lease| lease.report(&bucket()));
        of.upward.push_back(all.into_iter().collect());
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            for relay in 0..self.relays.len() {
                self.step(&Step::Report(relay));
                self.step(&Step::ToAggregator(relay));
                self.step(&Step::ToAggregator(relay));
                (0..4).for_each(|_| self.step(&Step::ToRelay(relay)));
            }
        }
    }

    fn admitted(&self) -> u64 {
        self.relays.iter().filter_map(|relay| relay.lease.as_ref()).map(Lease::used).sum()
    }

    fn bound(&self) -> u64 {
        self.limit + self.relays.len() as u64 - 1
    }
}

fn steps(relays: usize) -> impl Strategy<Value = Vec<Step>> {
    let relay = 0..relays;
    let step = prop_oneof![
        6 => (relay.clone(), any::<u8>()).prop_map(|(relay, units)| Step::Load(relay, units)),
        4 => relay.clone().prop_map(Step::Report),
        6 => relay.clone().prop_map(Step::ToAggregator),
        6 => relay.clone().prop_map(Step::ToRelay),
        1 => relay.clone().prop_map(Step::Disconnect),
        2 => relay.prop_map(Step::Connect),
        1 => Just(Step::RestartAggregator),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn relays_never_admit_more_than_the_limit_and_one_unit_for_each_further_relay(
        limit in 1_u64..2000,
        (relays, steps) in (1_usize..6).prop_flat_map(|relays| (Just(relays), steps(relays))),
    ) {
        let mut model = Model::new(limit, relays);
        for step in &steps {
            model.step(step);
            prop_assert!(model.admitted() <= model.bound(), "{} of {limit} after {step:?}", model.admitted());
        }
    }

    #[test]
    fn one_busy_relay_may_use_all_of_the_limit_while_the_others_are_idle(
        limit in 1_u64..2000,
        relays in 1_usize..6,
        warm_up in steps(1),
    ) {
        let mut model = Model::new(limit, relays);
        for step in warm_up.iter().filter(|step| !matches!(step, Step::RestartAggregator)) {
            model.step(step);
        }
        (0..relays).for_each(|relay| model.step(&Step::Connect(relay)));
        for _ in 0..40 {
            (0..10).for_each(|_| model.step(&Step::Load(0, 255)));
            model.settle();
        }
        prop_assert!(model.admitted() >= limit, "{} of {limit}", model.admitted());
        prop_assert!(model.admitted() <= model.bound());
        prop_assert_eq!(model.lease(0).check(1, limit), Verdict::Exhausted);
    }
}

#[test]
fn relays_without_an_aggregator_admit_their_parts_and_no_more() {
    let mut model = Model::new(100, 3);
    model.step(&Step::RestartAggregator);
    (0..3).for_each(|relay| model.step(&Step::Load(relay, 255)));
    assert_eq!(model.admitted(), 102);
    let connected: BTreeSet<usize> = model.fleet.connected.clone();
    assert!(connected.is_empty());
}
