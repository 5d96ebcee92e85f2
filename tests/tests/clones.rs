//! A relay's data directory that was copied (a cloned host) or turned back (a restored snapshot): both hold the same spool id and
//! go on to give the same sequences to different records. Nothing may be lost or counted twice, and somebody must hear of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::relay::Relay;
use picket_tests::stored_events::stored_events;

fn post(project: &Project, relay: &Relay, ledger: &Ledger, events: usize) {
    let ingest = Installation::ingest(project, relay);
    for number in 0..events {
        let event = TestEvent::message(&format!("{} {number}", relay.name()));
        assert_eq!(ingest.post_noted(&event, ledger), Outcome::Accepted);
    }
}

/// The directory as it is at this moment: the relay is stopped meanwhile, as its host is while a snapshot is taken.
fn copy(relay: &Relay, to: &Path) {
    relay.pause();
    let copied = Command::new("cp").arg("-a").arg(&relay.data_dir).arg(to).status().unwrap();
    relay.resume();
    assert!(copied.success());
}

fn check(mut installation: Installation, ledger: &Ledger) {
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    assert_eq!(installation.aggregator.api().total_count(), ledger.accepted() as u64);
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
}

#[test]
fn a_cloned_relay_and_its_original_lose_nothing_and_one_of_them_says_so() {
    let (mut installation, project, mut original) = Installation::start_with_relay();
    let ledger = Ledger::default();
    post(&project, &original, &ledger, 5);
    original.wait_until_drained(ARRIVAL_PATIENCE);
    let before = original.status().unwrap()["spool"]["id"].clone();

    // While nothing can be delivered: what both hold, and then what each got for itself.
    installation.aggregator.stop();
    post(&project, &original, &ledger, 7);
    let directory = installation.directory().join("clone-data");
    copy(&original, &directory);
    let mut clone = Relay::prepare(installation.directory(), "clone", directory);
    clone.start();
    post(&project, &original, &ledger, 11);
    post(&project, &clone, &ledger, 13);
    installation.aggregator.start();
    original.wait_until_drained(ARRIVAL_PATIENCE);
    clone.wait_until_drained(ARRIVAL_PATIENCE);

    let ids = [&original, &clone].map(|relay| relay.status().unwrap()["spool"]["id"].clone());
    assert_ne!(ids[0], ids[1], "one of them goes on under a new spool id");
    assert!(ids.contains(&before), "the other keeps it: {ids:?}");
    let forks = [&original, &clone].map(|relay| relay.metric("picket_relay_spool_forks_total"));
    assert_eq!(forks.iter().sum::<u64>(), 1, "{forks:?}");
    let forked = if forks[0] == 1 { &original } else { &clone };
    assert!(forked.logged().contains("was copied or turned back"), "the relay says so");
    assert!(installation.aggregator.logged().contains("was copied or turned back"), "and the aggregator");
    assert_eq!(installation.aggregator.metric("picket_aggregator_spools_forked_total"), 1);
    // From here on each is a spool of its own.
    post(&project, &original, &ledger, 3);
    post(&project, &clone, &ledger, 3);
    original.wait_until_drained(ARRIVAL_PATIENCE);
    clone.wait_until_drained(ARRIVAL_PATIENCE);
    drop((original, clone));
    check(installation, &ledger);
}

#[test]
fn a_snapshot_that_is_turned_back_loses_nothing_that_came_after_it() {
    let (installation, project, mut relay) = Installation::start_with_relay();
    let ledger = Ledger::default();
    post(&project, &relay, &ledger, 5);
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    let snapshot = installation.directory().join("snapshot");
    copy(&relay, &snapshot);
    // These are delivered, and gone from the relay's disk when it is turned back.
    post(&project, &relay, &ledger, 9);
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    relay.kill();

    std::fs::remove_dir_all(&relay.data_dir).unwrap();
    std::fs::rename(&snapshot, &relay.data_dir).unwrap();
    relay.start();
    // Their sequences were given before, to events that the aggregator has.
    post(&project, &relay, &ledger, 20);
    relay.wait_until_drained(ARRIVAL_PATIENCE);

    assert_eq!(relay.metric("picket_relay_spool_forks_total"), 1);
    drop(relay);
    check(installation, &ledger);
}
