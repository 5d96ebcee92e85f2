//! A kill at each step of an event's way, under load: relay, aggregator, or both at once.
//!
//! ```text
//! commit ▸ answer ▸ seal ▸ send ▸ journal ▸ ack ▸ removal          each ▸ is a place (common/src/failpoint.rs) at which the
//!                              └▸ plan ▸ insert ▸ cursor            process ends by itself, as by kill -9
//! ```
//!
//! A round arms a place, waits until the process has ended there (its exit and its log prove it, so no round is for nothing),
//! starts it anew and wants a fresh event to pass within ten seconds. At the end the oracle judges all rounds together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_tests::aggregator::Start;
use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::load::Load;
use picket_tests::oracle::assert_exactly_once;
use picket_tests::program::Signal;
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::soak::sample_or_whole;
use picket_tests::wait::{eventually, holds};

/// Places in the relay, in the order in which an event comes by.
const IN_RELAY: [&str; 8] = [
    "spool::before_commit",
    "spool::after_commit",
    "spool::before_seal",
    "spool::after_seal",
    "uplink::before_send",
    "uplink::after_send",
    "uplink::acked_before_removal",
    "uplink::after_removal",
];
/// Places in the aggregator, likewise. The table's place comes twice in a plan: after the payloads, and after the events.
const IN_AGGREGATOR: [&str; 8] = [
    "intake::before_journal",
    "journal::before_write",
    "journal::after_commit_before_ack",
    "intake::after_ack",
    "process::before_plan",
    "process::after_plan_before_insert",
    "events::after_table",
    "process::after_insert_before_cursor",
];
/// Not one of the steps: the plan is over, and nothing was lost if nothing is repeated.
const AFTER_ALL: &str = "process::after_cursor";
/// How often a place may be passed by before the process ends there.
const MOST_PASSED_BY: u64 = 12;
const CONNECTIONS: u64 = 4;
const POSTS_PER_SECOND: u32 = 60;
/// How long a process that serves may take to come to its place: each is passed several times a second under the load.
const PLACE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a new event may take once the faults have ended.
const RECOVERY: Duration = Duration::from_secs(10);

/// Who ends where in a round.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    relay: Option<&'static str>,
    aggregator: Option<&'static str>,
}

/// Each place once, then pairs; of the relay and of the aggregator in turn, so that both are new at each other's rounds.
fn rounds(count: usize, random: &mut Random) -> Vec<Round> {
    let mut rounds = Vec::with_capacity(count);
    for (relay, aggregator) in IN_RELAY.into_iter().zip(IN_AGGREGATOR) {
        rounds.push(Round { relay: Some(relay), aggregator: None });
        rounds.push(Round { relay: None, aggregator: Some(aggregator) });
    }
    rounds.push(Round { relay: None, aggregator: Some(AFTER_ALL) });
    let mut any = |places: &[&'static str]| places[usize::try_from(random.below(places.len() as u64)).unwrap()];
    while rounds.len() < count {
        rounds.push(match rounds.len() % 3 {
            0 => Round { relay: Some(any(&IN_RELAY)), aggregator: None },
            1 => Round { relay: None, aggregator: Some(any(&IN_AGGREGATOR)) },
            _ => Round { relay: Some(any(&IN_RELAY)), aggregator: Some(any(&IN_AGGREGATOR)) },
        });
    }
    rounds
}

struct Scene {
    installation: Installation,
    project: Project,
    relay: Relay,
    ledger: Arc<Ledger>,
}

/// The process has ended at the place, and nowhere else.
#[track_caller]
fn assert_ended_at(place: &str, status: ExitStatus, logged_before: usize, logged: &str) {
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "not at {place}: {status}");
    let said = &logged[logged_before.min(logged.len())..];
    assert!(said.contains(&format!("failpoint {place}: the process ends here")), "it ended elsewhere than at {place}");
}

impl Scene {
    /// Lets who ends in this round end at its place, and starts it anew. It was killed before, at an instant of its own.
    fn fail(&mut self, round: Round, random: &mut Random) {
        let logged_before = (self.relay.logged().len(), self.installation.aggregator.logged().len());
        let mut setting = |place: &str| format!("{place}={}*off->return", random.below(MOST_PASSED_BY + 1));
        let (for_relay, for_aggregator) = (round.relay.map(&mut setting), round.aggregator.map(setting));
        if let Some(setting) = &for_aggregator {
            self.installation.aggregator.kill();
            let armed = [("FAILPOINTS", setting.as_str())];
            self.installation.aggregator.launch(&Start::with_failpoint(&armed));
        }
        if let Some(setting) = &for_relay {
            self.relay.kill();
            let armed = [("FAILPOINTS", setting.as_str())];
            self.relay.launch(&Start::with_failpoint(&armed));
        }
        let mut awaited = round;
        eventually(&format!("all have ended: {round:?}"), PLACE_PATIENCE, || {
            // Who has ended is started at once: where both end, the other may not come to its place without it.
            if let Some(place) = awaited.relay
                && let Some(status) = self.relay.ended()
            {
                assert_ended_at(place, status, logged_before.0, &self.relay.logged());
                awaited.relay = None;
                self.relay.launch(&Start::default());
            }
            if let Some(place) = awaited.aggregator
                && let Some(status) = self.installation.aggregator.ended()
            {
                assert_ended_at(place, status, logged_before.1, &self.installation.aggregator.logged());
                awaited.aggregator = None;
                self.installation.aggregator.launch(&Start::default());
            }
            holds(awaited.relay.is_none() && awaited.aggregator.is_none(), awaited)
        });
    }

    /// Both serve again, and a fresh event passes in time. Returns how long it took.
    fn recover(&mut self, api: &picket_tests::api::Api) -> Duration {
        self.installation.aggregator.wait_until_serving();
        self.relay.wait_until("is ready", ARRIVAL_PATIENCE, |status| status["ready"] == true);
        let since = Instant::now();
        let fresh = TestEvent::message("after the fault");
        let ingest = Installation::ingest(&self.project, &self.relay);
        assert_eq!(ingest.post_noted(&fresh, &self.ledger), Outcome::Accepted);
        api.wait_for_event(&self.project.slug, fresh.id, RECOVERY);
        since.elapsed()
    }
}

#[test]
fn whoever_is_killed_between_whichever_steps_what_was_answered_200_is_counted_exactly_once() {
    let mut random = Random::seeded();
    let rounds = rounds(sample_or_whole(24, 200), &mut random);
    let (installation, project, relay) = Installation::start_with_relay();
    let mut scene = Scene { installation, project, relay, ledger: Arc::default() };
    let api = scene.installation.aggregator.api();
    let load = Load::start(&[scene.project.at(&scene.relay)], CONNECTIONS, POSTS_PER_SECOND, &scene.ledger);

    let mut slowest = Duration::ZERO;
    for (number, round) in rounds.iter().enumerate() {
        let began = Instant::now();
        scene.fail(*round, &mut random);
        let took = scene.recover(&api);
        slowest = slowest.max(took);
        eprintln!("round {number}: {round:?} in {:?}, a fresh event after {took:?}", began.elapsed());
    }
    load.stop();
    eprintln!("{} rounds, each at its place; the slowest fresh event took {slowest:?}", rounds.len());

    let Scene { mut installation, mut relay, ledger, .. } = scene;
    assert_exactly_once(&mut installation.aggregator, &mut [&mut relay], &ledger);
    assert!(ledger.accepted() > rounds.len() * 20, "only {} were accepted: the load was none", ledger.accepted());
    assert!(ledger.unknown() > 0, "no kill hit a request: the load was none");
}
