//! The aggregator with PostgreSQL in place of SQLite.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::Ledger;
use picket_tests::load::Load;
use picket_tests::postgres_server::PostgresServer;
use picket_tests::random::Random;
use picket_tests::stored_events::stored_events;

const PASSWORD: &str = "correct-horse-7";

fn start(server: &PostgresServer) -> Installation {
    let mut installation = Installation::prepare(&server.section());
    installation.aggregator.init();
    installation.aggregator.start();
    installation
}

#[test]
fn projects_keys_relays_accounts_and_issues_work_on_postgresql() {
    let server = PostgresServer::start(PASSWORD);
    let mut installation = start(&server);
    let aggregator = &installation.aggregator;
    let project = installation.create_project("Shop");
    assert_eq!(installation.create_project("Shop").slug, "shop-2");
    let key = aggregator.ask(&["key", "create", &project.slug, "--label", "second"]);
    let key = key["public_key"].as_str().unwrap();
    assert_eq!(aggregator.ask(&["key", "disable", key])["enabled"], false);
    let settings = installation.directory().join("settings.json");
    std::fs::write(&settings, r#"{"retentionDays": 30}"#).unwrap();
    let _set = aggregator.run(&["project", "config", "set", &project.slug, settings.to_str().unwrap()]).successful();
    assert_eq!(aggregator.ask(&["project", "config", "get", &project.slug])["retentionDays"], 30);

    let relay = installation.add_relay("relay");
    let api = aggregator.api();
    let ingest = Installation::ingest(&project, &relay);
    for number in 0..30 {
        ingest.post(&TestEvent::exception(&format!("group{}", number % 3)));
    }
    api.wait_for_total(30, ARRIVAL_PATIENCE);
    let counts: Vec<_> = api.issues().iter().map(|issue| issue.count).collect();
    assert_eq!(counts, [10, 10, 10]);
    let found = aggregator.ask(&["issues", "list", "GROUP1"]);
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    let listed = aggregator.ask(&["relay", "list"]);
    assert_eq!(listed[0]["name"], "relay", "{listed}");
    assert!(!aggregator.data_dir.join("picket.db").exists(), "no SQLite file was made beside PostgreSQL");

    installation.aggregator.stop();
    installation.aggregator.start();
    assert_eq!(installation.aggregator.api().total_count(), 30);
    installation.aggregator.stop();
}

#[test]
fn a_wrong_password_is_said_at_the_start_and_not_shown() {
    let server = PostgresServer::start(PASSWORD);
    let installation =
        Installation::prepare(&format!("[database]\nurl = {:?}\n", server.url_with_password("s3cr3t-wrong")));

    let finished = installation.aggregator.run(&["init"]);

    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("database.url") && finished.stderr.contains("127.0.0.1"), "{finished:?}");
    assert!(!finished.stderr.contains("s3cr3t"), "{finished:?}");
}

#[test]
fn a_database_that_ends_under_load_loses_no_event_and_repeats_none() {
    const RESTARTS: u32 = 4;
    let mut random = Random::seeded();
    let mut server = PostgresServer::start(PASSWORD);
    let mut installation = start(&server);
    let project = installation.create_project("Shop");
    let mut relay = installation.add_relay("relay");
    let ledger = Arc::new(Ledger::default());

    let load = Load::start(&[project.at(&relay)], 2, 100, &ledger);
    for _ in 0..RESTARTS {
        // The instant of a fault, which is meant to be anywhere; nothing is waited for.
        std::thread::sleep(random.span(Duration::from_millis(200), Duration::from_millis(1200)));
        server.kill_and_restart();
    }
    load.stop();

    assert_eq!(ledger.unknown(), 0, "the relay answered all the while");
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    assert_eq!(installation.aggregator.api().total_count(), ledger.accepted() as u64);
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
    drop(relay);
}
