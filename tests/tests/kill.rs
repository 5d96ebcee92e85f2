//! `kill -9` of relay and aggregator at random instants, under load.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_tests::aggregator::Start;
use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::load::Load;
use picket_tests::oracle::assert_exactly_once;
use picket_tests::random::Random;
use picket_tests::soak::sample_or_whole;

/// From a kill to the next: some fall into the start of what was killed before, some into full operation.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1_800));
const CONNECTIONS: u64 = 4;
const POSTS_PER_SECOND: u32 = 60;
/// How long a new event may take once the faults have ended.
const RECOVERY: Duration = Duration::from_secs(10);

#[test]
fn whatever_is_killed_at_whatever_instant_what_was_answered_200_is_counted_exactly_once() {
    let kills = sample_or_whole(40_u32, 400);
    let mut random = Random::seeded();
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let api = installation.aggregator.api();
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&relay)], CONNECTIONS, POSTS_PER_SECOND, &ledger);

    let mut kills_of_aggregator = 0;
    for kill in 0..kills {
        // The instant of a fault, which is meant to be anywhere; nothing is waited for.
        std::thread::sleep(random.span(INTERVAL.0, INTERVAL.1));
        // Half of the kills each, in random order within pairs.
        let is_second = kill % 2 == 1;
        let takes_aggregator = if is_second { kills_of_aggregator * 2 < kill + 1 } else { random.below(2) == 0 };
        if takes_aggregator {
            kills_of_aggregator += 1;
            installation.aggregator.kill();
            installation.aggregator.launch(&Start::default());
        } else {
            relay.kill();
            relay.launch(&Start::default());
        }
    }
    assert_eq!(kills_of_aggregator, kills / 2);
    installation.aggregator.wait_until_serving();
    relay.wait_until("is ready", ARRIVAL_PATIENCE, |status| status["ready"] == true);

    let faults_ended = Instant::now();
    let fresh = TestEvent::message("after the last restart");
    assert_eq!(Installation::ingest(&project, &relay).post_noted(&fresh, &ledger), Outcome::Accepted);
    api.wait_for_event(&project.slug, fresh.id, RECOVERY);
    eprintln!("a new event was visible {:?} after the last restart", faults_ended.elapsed());

    load.stop();
    assert_exactly_once(&mut installation.aggregator, &mut [&mut relay], &ledger);
    let least = u64::from(kills) * CONNECTIONS;
    assert!(ledger.accepted() as u64 > least, "only {} events were accepted: the load was none", ledger.accepted());
    assert!(ledger.unknown() > 0, "no kill hit a request: the load was none");
}
