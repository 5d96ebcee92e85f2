//! The aggregator with a ClickHouse server in place of the embedded engine: HTTP, user, password, LZ4.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use picket_tests::clickhouse_server::{ClickHouseServer, USER};
use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::Ledger;
use picket_tests::load::Load;
use picket_tests::random::Random;
use picket_tests::stored_events::stored_events_at;

const PASSWORD: &str = "a \"password\" with = odd, letters";

fn section(server: &ClickHouseServer, password: &str) -> String {
    let password = toml::Value::String(password.to_owned());
    format!("url = \"http://{}\"\nuser = \"{USER}\"\npassword = {password}\ndatabase = \"elsewhere\"", server.address)
}

#[test]
fn events_are_stored_in_and_read_from_a_clickhouse_server() {
    let directory = tempfile::tempdir().unwrap();
    let server = ClickHouseServer::start(&directory.path().join("server"), PASSWORD);
    let mut installation = Installation::prepare(&section(&server, PASSWORD));
    installation.aggregator.init();
    installation.aggregator.start();
    let project = installation.create_project("Shop");
    let mut relay = installation.add_relay("relay");
    let api = installation.aggregator.api();

    let ingest = Installation::ingest(&project, &relay);
    let events: Vec<_> = (0..40).map(|number| TestEvent::exception(&format!("group{}", number % 2))).collect();
    for event in &events {
        ingest.post(event);
    }

    api.wait_for_total(40, ARRIVAL_PATIENCE);
    let counts: Vec<_> = api.issues().iter().map(|issue| issue.count).collect();
    assert_eq!(counts, [20, 20]);
    let event = api.event(&project.slug, events[7].id).unwrap().expect("the event is stored");
    assert_eq!(event["entries"][0]["data"]["values"][0]["type"], "LoadError");
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    let rows = server.query("SELECT count(), uniqExact(event_id) FROM elsewhere.events");
    assert_eq!(rows, [["40", "40"]]);
    assert!(!installation.aggregator.clickhouse_data().exists(), "no embedded engine was opened beside the server");

    installation.aggregator.stop();
    drop(relay);
    server.stop();
}

#[test]
fn a_wrong_password_is_said_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let server = ClickHouseServer::start(&directory.path().join("server"), PASSWORD);
    let installation = Installation::prepare(&section(&server, "wrong"));

    let finished = installation.aggregator.run(&["init"]);

    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("clickhouse.password"), "{finished:?}");
    assert!(finished.stderr.contains(&server.address.to_string()), "{finished:?}");
    assert!(!finished.stderr.contains("wrong\""), "the password is not printed: {finished:?}");
    let after = installation.aggregator.run(&["serve"]);
    assert_eq!(after.code, Some(1), "{after:?}");
}

/// An insert whose answer never came may have been done or not; the repetition must make no difference.
#[test]
fn a_server_that_is_killed_under_load_loses_no_event_and_repeats_none() {
    const KILLS: u32 = 10;
    let mut random = Random::seeded();
    let directory = tempfile::tempdir().unwrap();
    let mut server = ClickHouseServer::start(&directory.path().join("server"), PASSWORD);
    let mut installation = Installation::prepare(&section(&server, PASSWORD));
    installation.aggregator.init();
    installation.aggregator.start();
    let project = installation.create_project("Shop");
    let mut relay = installation.add_relay("relay");
    let api = installation.aggregator.api();
    let ledger = Arc::new(Ledger::default());

    let load = Load::start(&[project.at(&relay)], 2, 100, &ledger);
    for _ in 0..KILLS {
        // The sleep is the instant of the fault, which is meant to be anywhere; nothing is waited for.
        std::thread::sleep(random.span(Duration::from_millis(100), Duration::from_millis(900)));
        server.kill_and_restart();
    }
    load.stop();

    assert_eq!(ledger.unknown(), 0, "the relay answered all the while");
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    assert_eq!(api.total_count(), ledger.accepted() as u64);
    ledger.check(&stored_events_at(&server, "elsewhere"));
    installation.aggregator.stop();
    drop(relay);
    server.stop();
}
