//! Relays without an aggregator, several relays, and relays that are not wanted any more.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::ingest::Ingest;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::relay::Relay;
use picket_tests::stored_events::stored_events;
use picket_tests::wait::{eventually, holds};

/// How long a relay may go on after it was revoked.
const REVOCATION: Duration = Duration::from_secs(5);

#[track_caller]
fn post_all(ingest: &Ingest, count: usize, ledger: &Ledger) {
    for number in 0..count {
        let event = TestEvent::exception(&format!("group{}", number % 3));
        assert_eq!(ingest.post_noted(&event, ledger), Outcome::Accepted, "post {number}");
    }
}

#[track_caller]
fn assert_ready(relay: &Relay) {
    let answer = HttpClient::new().get(relay.listen, "/api/relay/healthcheck/ready/", &[]).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_relay_takes_events_while_no_aggregator_is_there_and_delivers_them_when_it_is_back() {
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let api = installation.aggregator.api();
    let ledger = Ledger::default();
    installation.aggregator.stop();

    let ingest = Installation::ingest(&project, &relay);
    post_all(&ingest, 100, &ledger);
    assert_ready(&relay);
    relay.stop();
    relay.start();
    assert_ready(&relay);
    post_all(&ingest_anew(&project, &relay), 100, &ledger);
    relay.kill();
    relay.start();
    post_all(&ingest_anew(&project, &relay), 100, &ledger);
    assert_eq!(relay.status().unwrap()["spool"]["records"], 300);

    installation.aggregator.start();
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    api.wait_for_total(300, ARRIVAL_PATIENCE);

    let mut second = installation.add_relay("second");
    post_all(&Installation::ingest(&project, &second), 50, &ledger);
    post_all(&ingest_anew(&project, &relay), 50, &ledger);
    second.wait_until_drained(ARRIVAL_PATIENCE);
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    api.wait_for_total(400, ARRIVAL_PATIENCE);
    let names: Vec<_> = connected_relays(&installation);
    assert_eq!(names, ["relay", "second"]);

    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
}

/// A client that does not know of the relay's restart would find its connection closed; this one connects.
fn ingest_anew(project: &picket_tests::installation::Project, relay: &Relay) -> Ingest {
    Installation::ingest(project, relay)
}

fn connected_relays(installation: &Installation) -> Vec<String> {
    let relays = installation.aggregator.ask(&["relay", "list"]);
    let connected = relays.as_array().unwrap().iter().filter(|relay| relay["connected"] == true);
    let mut names: Vec<_> = connected.map(|relay| relay["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_revoked_relay_is_cut_off_within_five_seconds_and_stays_out() {
    let (mut installation, project, mut kept) = Installation::start_with_relay();
    let mut revoked = installation.add_relay("revoked");
    let api = installation.aggregator.api();
    let ledger = Ledger::default();
    let (to_kept, to_revoked) = (Installation::ingest(&project, &kept), Installation::ingest(&project, &revoked));
    post_all(&to_kept, 1, &ledger);
    post_all(&to_revoked, 1, &ledger);
    api.wait_for_total(2, ARRIVAL_PATIENCE);

    let relays = installation.aggregator.ask(&["relay", "list"]);
    let row = relays.as_array().unwrap().iter().find(|relay| relay["name"] == "revoked").unwrap();
    let answer = installation.aggregator.ask(&["relay", "revoke", row["id"].as_str().unwrap()]);
    let revoked_at = Instant::now();
    assert_eq!(answer["already_revoked"], false);
    revoked.wait_until("is cut off", REVOCATION, |status| status["uplink"]["connected_to"].is_null());
    eventually("the aggregator counts one relay", REVOCATION, || {
        let names = connected_relays(&installation);
        holds(names == ["relay"], names)
    });
    assert!(revoked_at.elapsed() < REVOCATION, "{:?}", revoked_at.elapsed());

    // What it takes now stays with it, over a restart too, which makes it try once more.
    let taken_after = 5;
    for _ in 0..taken_after {
        to_revoked.post(&TestEvent::message("after the revocation"));
    }
    revoked.stop();
    revoked.start();
    let status =
        revoked.wait_until("was refused", ARRIVAL_PATIENCE, |status| status["uplink"]["last_error"].is_string());
    assert!(status["uplink"]["last_error"].as_str().unwrap().contains("revoked"), "{status}");
    assert_eq!(status["spool"]["records"], taken_after);

    post_all(&to_kept, 1, &ledger);
    kept.wait_until_drained(ARRIVAL_PATIENCE);
    api.wait_for_total(3, ARRIVAL_PATIENCE);
    let relays = installation.aggregator.ask(&["relay", "list"]);
    let row = relays.as_array().unwrap().iter().find(|relay| relay["name"] == "revoked").unwrap();
    assert!(row["revoked_at"].is_string() && row["connected"] == false, "{row}");
    assert_eq!(revoked.status().unwrap()["spool"]["records"], taken_after, "its events are still its own");
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
}

#[test]
fn both_programs_end_in_order_within_their_time_even_with_work_under_way() {
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let ledger = Ledger::default();
    post_all(&Installation::ingest(&project, &relay), 50, &ledger);
    // Work is under way; both must end all the same, with code 0 (that is what `stop` asserts).
    let (aggregator_took, relay_took) = (installation.aggregator.stop(), relay.stop());
    eprintln!("the aggregator ended after {aggregator_took:?}, the relay after {relay_took:?}");
    assert!(aggregator_took < Duration::from_secs(12) && relay_took < Duration::from_secs(12));
    installation.aggregator.start();
    relay.start();
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    installation.aggregator.api().wait_for_total(50, ARRIVAL_PATIENCE);
}
