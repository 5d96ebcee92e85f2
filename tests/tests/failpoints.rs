//! Kills at the instants that matter most, held open by failpoints: between a write and the next step that relies on it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use picket_tests::aggregator::Start;
use picket_tests::clickhouse_server::ClickHouseServer;
use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::oracle::assert_exactly_once;
use picket_tests::relay::Relay;
use picket_tests::wait::{eventually, holds};

/// How long a client waits for an answer that must not come. An answer takes a few milliseconds.
const NO_ANSWER: Duration = Duration::from_secs(3);

fn failpoint(setting: &'static str) -> [(&'static str, &'static str); 1] {
    [("FAILPOINTS", setting)]
}

/// Posts a marker, waits until it is through, and holds what is stored and counted against the ledger.
#[track_caller]
fn check_all(mut installation: Installation, project: &Project, mut relay: Relay, ledger: &Ledger) {
    let marker = TestEvent::message("marker");
    assert_eq!(Installation::ingest(project, &relay).post_noted(&marker, ledger), Outcome::Accepted);
    let api = installation.aggregator.api();
    api.wait_for_event(&project.slug, marker.id, ARRIVAL_PATIENCE);
    assert_exactly_once(&mut installation.aggregator, &mut [&mut relay], ledger);
}

/// Goes red if the insert is not deduplicated. (ClickHouse knows an equal block also without the plan's token; what the token
/// is for besides is `equal_outcomes_of_two_plans_are_both_counted`.)
#[test]
fn an_aggregator_killed_between_insert_and_cursor_counts_the_insert_once() {
    let (mut installation, project, relay) = Installation::start_with_relay();
    let api = installation.aggregator.api();
    let ledger = Ledger::default();
    installation.aggregator.stop();
    let pause = failpoint("process::after_insert_before_cursor=pause");
    installation.aggregator.start_as(&Start::with_failpoint(&pause));

    let event = TestEvent::message("inserted, and killed before the cursor moved");
    assert_eq!(Installation::ingest(&project, &relay).post_noted(&event, &ledger), Outcome::Accepted);
    api.wait_for_event(&project.slug, event.id, ARRIVAL_PATIENCE);
    installation.aggregator.kill();

    assert_eq!(installation.aggregator.journal_batches(), 1, "the journal still has what was inserted");
    installation.aggregator.start();
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    api.wait_for_issue("inserted, and killed before the cursor moved", 1, ARRIVAL_PATIENCE);
    check_all(installation, &project, relay, &ledger);
}

/// On reconnecting the aggregator says up to where it has the spool, and the relay forgets that.
#[test]
fn an_aggregator_killed_between_journal_and_ack_takes_the_batch_once() {
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let api = installation.aggregator.api();
    let ledger = Ledger::default();
    installation.aggregator.stop();
    let pause = failpoint("journal::after_commit_before_ack=pause");
    installation.aggregator.start_as(&Start::with_failpoint(&pause));

    let event = TestEvent::message("in the journal, and killed before the ack");
    assert_eq!(Installation::ingest(&project, &relay).post_noted(&event, &ledger), Outcome::Accepted);
    api.wait_for_event(&project.slug, event.id, ARRIVAL_PATIENCE);
    assert_eq!(relay.status().unwrap()["spool"]["records"], 1, "the relay keeps what was not acknowledged");
    installation.aggregator.kill();

    installation.aggregator.start();
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    check_all(installation, &project, relay, &ledger);
}

/// Two plans with one event each come to equal rows of outcomes, and are told apart by their tokens alone. Goes red without the
/// deduplication token: ClickHouse takes the second block for a repetition of the first.
#[test]
fn equal_outcomes_of_two_plans_are_both_counted() {
    let (mut installation, project, relay) = Installation::start_with_relay();
    let api = installation.aggregator.api();
    let ingest = Installation::ingest(&project, &relay);
    for _ in 0..3 {
        let event = TestEvent::message("one at a time");
        ingest.post(&event);
        api.wait_for_event(&project.slug, event.id, ARRIVAL_PATIENCE);
        installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    }
    installation.aggregator.stop();

    let server = ClickHouseServer::start(&installation.aggregator.clickhouse_data(), "for this test");
    let rows = server.query("SELECT sum(quantity) FROM picket.outcomes WHERE outcome = 'accepted'");
    server.stop();
    assert_eq!(rows, [["3"]]);
}

/// The second batch is stored and the first is not, so "stored up to" says nothing of the second and the relay resends both.
/// Goes red without the journal's look at each batch's sequences.
#[test]
fn a_batch_that_was_stored_beyond_a_gap_is_known_when_it_is_sent_again() {
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let api = installation.aggregator.api();
    let ledger = Ledger::default();
    relay.stop();
    installation.aggregator.stop();
    let faults = failpoint("journal::before_commit=1*return;journal::after_commit_before_ack=1*off->pause");
    installation.aggregator.start_as(&Start::with_failpoint(&faults));
    // So long that the second batch overtakes the first, which is put off.
    // Without a linger, each event is a batch.
    let patient = [
        ("PICKET_RELAY__UPLINK__BACKOFF_MIN", "4s"),
        ("PICKET_RELAY__UPLINK__BACKOFF_MAX", "4s"),
        ("PICKET_RELAY__SPOOL__LINGER", "0s"),
    ];
    relay.start_as(&Start { environment: &patient, ..Start::default() });
    let ingest = Installation::ingest(&project, &relay);

    let (first, second) = (TestEvent::message("refused at first"), TestEvent::message("stored beyond the gap"));
    assert_eq!(ingest.post_noted(&first, &ledger), Outcome::Accepted);
    eventually("the first batch is put off", ARRIVAL_PATIENCE, || {
        holds(installation.aggregator.logged().contains("batch not taken"), "it is not")
    });
    assert_eq!(ingest.post_noted(&second, &ledger), Outcome::Accepted);
    api.wait_for_event(&project.slug, second.id, ARRIVAL_PATIENCE);
    installation.aggregator.kill();

    assert_eq!(relay.status().unwrap()["spool"]["records"], 2, "the relay keeps what was not acknowledged");
    installation.aggregator.start();
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    assert!(relay.logged().contains("duplicate=true"), "no batch was sent twice, so this run has shown nothing");
    check_all(installation, &project, relay, &ledger);
}

#[test]
fn a_relay_gives_no_200_before_the_event_is_on_disk() {
    let (installation, project, mut relay) = Installation::start_with_relay();
    let ledger = Ledger::default();
    relay.stop();
    relay.start_as(&Start::with_failpoint(&failpoint("spool::before_commit=pause")));

    let event = TestEvent::message("not on disk");
    let answer = Installation::ingest(&project, &relay).post_within(&event, NO_ANSWER);
    assert!(answer.is_err(), "answered before the commit: {answer:?}");
    relay.kill();

    relay.start();
    // The event is not in the ledger, so one that is stored all the same is found as never posted.
    check_all(installation, &project, relay, &ledger);
}

#[test]
fn an_event_on_disk_is_delivered_once_though_its_sender_heard_nothing() {
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let ledger = Ledger::default();
    installation.aggregator.stop();
    relay.stop();
    relay.start_as(&Start::with_failpoint(&failpoint("spool::after_commit=pause")));

    let event = TestEvent::message("on disk, not answered");
    let answer = Installation::ingest(&project, &relay).post_within(&event, NO_ANSWER);
    assert!(answer.is_err(), "answered although the commit is not over: {answer:?}");
    relay.kill();
    // It is on disk, so that it arrives is as certain as if it had been answered.
    ledger.note(event.id, Outcome::Accepted);

    relay.start();
    installation.aggregator.start();
    check_all(installation, &project, relay, &ledger);
}
