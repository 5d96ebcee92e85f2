//! SIGHUP: a configuration that is valid as a whole takes effect, any other changes nothing, and both are told truthfully.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::Ledger;
use picket_tests::load::Load;
use picket_tests::program::Signal;
use picket_tests::relay::Relay;
use picket_tests::stored_events::stored_events;
use picket_tests::wait::{eventually, holds};
use serde_json::Value;

/// Signals in `make test`; `PICKET_SOAK=1` sends 1 000.
const SIGNALS: u64 = 200;
/// What a storm may leave behind. One configuration takes some kilobytes; what the allocator keeps for requests in flight varies by
/// more than that.
const GROWTH: u64 = 5 * 1024 * 1024;

/// Rewrites a configuration: what it was, with other lines at its end. Renamed into place, as editors and packages do.
fn rewrite(file: &Path, base: &str, lines: &str) {
    let beside = file.with_extension("toml.new");
    std::fs::write(&beside, format!("{base}\n{lines}\n")).unwrap();
    std::fs::rename(&beside, file).unwrap();
}

/// Sends SIGHUP and waits until a reload has ended that began after it; how that went.
#[track_caller]
fn reload(relay: &mut Relay) -> Value {
    let before = relay.status().unwrap()["config"]["last_reload"]["at"].clone();
    relay.process().signal(Signal::HUP);
    let status = relay.wait_until("has reloaded", ARRIVAL_PATIENCE, |status| {
        let at = &status["config"]["last_reload"]["at"];
        at.is_u64() && *at != before
    });
    status["config"]["last_reload"].clone()
}

#[test]
fn a_storm_of_signals_under_load_loses_nothing_and_leaves_the_last_valid_configuration() {
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let api = installation.aggregator.api();
    let base = std::fs::read_to_string(relay.config_file()).unwrap();
    let file = relay.config_file().to_owned();
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&relay)], 2, 50, &ledger);

    // One that is not valid: nothing changes, and it is told with line and key.
    rewrite(&file, &base, "[limits]\nmax_items = 0");
    let failed = reload(&mut relay);
    let error = failed["error"].as_str().unwrap();
    assert!(failed["ok"] == false && error.contains("relay.toml:") && error.contains("limits.max_items"), "{failed}");
    assert!(relay.metrics().contains("\npicket_relay_config_reload_success 0\n"));
    rewrite(&file, &base, "[limits]\nno_such_key = 1");
    let failed = reload(&mut relay);
    assert!(failed["error"].as_str().unwrap().contains("no_such_key"), "{failed}");

    // One that is, of which a part needs a restart.
    rewrite(&file, &base, "[http]\nmax_connections = 77\n[limits]\nmax_items = 99");
    let taken = reload(&mut relay);
    assert!(taken["ok"] == true && taken["needs_restart"] == serde_json::json!(["http.max_connections"]), "{taken}");
    assert!(relay.metrics().contains("\npicket_relay_config_reload_success 1\n"));

    let signals = if std::env::var_os("PICKET_SOAK").is_some() { 1000 } else { SIGNALS };
    let memory = relay.process().resident_memory();
    for number in 0..signals {
        let items = if number % 10 == 9 { 0 } else { 50 + number };
        rewrite(&file, &base, &format!("[limits]\nmax_items = {items}\nmax_event_bytes = \"{}KiB\"", 500 + number));
        relay.process().signal(Signal::HUP);
        // The sleep is the storm's pace, waiting for nothing: some signals meet a reload under way, some do not.
        std::thread::sleep(Duration::from_millis(number % 25));
    }
    let grown = relay.process().resident_memory().saturating_sub(memory);
    eprintln!("{signals} signals: resident memory grew by {} KiB", grown / 1024);
    assert!(grown < GROWTH, "{grown} bytes");

    rewrite(&file, &base, "[limits]\nmax_envelope_bytes = \"2KiB\"");
    load.stop();
    assert_eq!(ledger.unknown(), 0, "every post was answered 200, over connections that stayed open");
    assert_eq!(reload(&mut relay)["ok"], true);
    let ingest = Installation::ingest(&project, &relay);
    let post = |length: usize| ingest.post_within(&TestEvent::message(&"x".repeat(length)), ARRIVAL_PATIENCE).unwrap();
    assert_eq!(post(4000).status, 413, "the last configuration is in force");
    rewrite(&file, &base, "[limits]\nmax_items = 0");
    assert_eq!(reload(&mut relay)["ok"], false);
    assert_eq!(post(4000).status, 413, "what is not valid has changed nothing");
    rewrite(&file, &base, "");
    assert_eq!(reload(&mut relay)["ok"], true);
    let answer = post(4000);
    assert_eq!(answer.status, 200);
    let accepted = ledger.accepted() as u64 + 1;
    api.wait_for_total(accepted, ARRIVAL_PATIENCE);
    drop(relay);
    installation.aggregator.stop();
    assert_eq!(stored_events(&installation.aggregator.clickhouse_data()).len() as u64, accepted);
}

#[test]
fn an_aggregator_takes_a_new_configuration_without_dropping_a_relay() {
    let (mut installation, project, mut relay) = Installation::start_with_relay();
    let file = installation.aggregator.config_file().to_owned();
    let base = std::fs::read_to_string(&file).unwrap();
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&relay)], 1, 20, &ledger);
    let connected_since = relay.status().unwrap()["uplink"]["since"].clone();
    let last = |installation: &Installation| installation.aggregator.ask(&["status"])["config"]["last_reload"].clone();
    let success = "picket_aggregator_config_reload_success";
    let metrics = installation.aggregator.admin;
    let shown = |expected: u8| {
        let text = HttpClient::new().get(metrics, "/metrics", &[]).map_err(|error| error.0)?.text();
        holds(text.contains(&format!("\n{success} {expected}\n")), "another value")
    };
    assert!(last(&installation).is_null());
    for number in 0..40 {
        let batches = if number % 10 == 9 { 0 } else { 2 + number };
        rewrite(&file, &base, &format!("[link]\nwindow_batches = {batches}"));
        installation.aggregator.process().signal(Signal::HUP);
    }
    rewrite(&file, &base, "[link]\nwindow_batches = 0");
    installation.aggregator.process().signal(Signal::HUP);
    eventually("the metric tells that the reload failed", ARRIVAL_PATIENCE, || shown(0));
    // The command reads the same file, which must be valid for that.
    rewrite(&file, &base, "[link]\nrelay_certificate_lifetime = \"2h\"\nidle_timeout = \"40s\"");
    let failed = last(&installation);
    let error = failed["error"].as_str().unwrap();
    assert!(failed["ok"] == false && error.contains("aggregator.toml:"), "{failed}");
    assert!(error.contains("link.window_batches"), "{failed}");

    installation.aggregator.process().signal(Signal::HUP);
    eventually("the metric tells that the reload succeeded", ARRIVAL_PATIENCE, || shown(1));
    let taken = last(&installation);
    assert_eq!(taken["needs_restart"], serde_json::json!(["link.idle_timeout"]), "{taken}");
    let _joined = installation.join_relay("short", installation.directory().join("short"));
    let relays = installation.aggregator.ask(&["relay", "list"]);
    let row = relays.as_array().unwrap().iter().find(|row| row["name"] == "short").unwrap();
    let until = picket_common::timestamp::Timestamp::parse(row["certificate_expires_at"].as_str().unwrap()).unwrap();
    let left = until.since(picket_common::timestamp::Timestamp::now());
    assert!(left <= Duration::from_secs(2 * 3600) && left > Duration::from_secs(3600), "{left:?}");

    load.stop();
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    assert_eq!(relay.status().unwrap()["uplink"]["since"], connected_since, "one connection all the time");
    holds(ledger.unknown() == 0, ledger.unknown()).unwrap();
    drop(relay);
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
}
