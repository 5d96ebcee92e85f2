//! Who a relay is: certificates that renew, tokens, the authority that signs, revocation.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::Ledger;
use picket_tests::load::Load;
use picket_tests::relay::Relay;
use picket_tests::stored_events::stored_events;
use picket_tests::wait::{eventually, holds};
use serde_json::Value;

/// The shortest life that certificates may have. They are renewed some 33 s after they were signed: two thirds of it, less what
/// they begin in the past.
const SHORT_LIFE: &str = "[link]\nrelay_certificate_lifetime = \"1m\"";

fn start(lines: &str) -> (Installation, Project) {
    let mut installation = Installation::prepare(lines);
    installation.aggregator.init();
    installation.aggregator.start();
    let project = installation.create_project("Shop");
    (installation, project)
}

/// The row of a relay in `relay list`.
#[track_caller]
fn listed(installation: &Installation, name: &str) -> Value {
    let relays = installation.aggregator.ask(&["relay", "list"]);
    relays.as_array().unwrap().iter().find(|relay| relay["name"] == name).expect("it is listed").clone()
}

/// A metric without labels.
#[track_caller]
fn metric(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

fn not_after(relay: &Relay) -> f64 {
    metric(&relay.metrics(), "picket_relay_certificate_not_after_seconds")
}

#[test]
fn a_relay_renews_its_certificate_under_load_and_goes_on_after_the_first_has_expired() {
    let (mut installation, project) = start(SHORT_LIFE);
    let api = installation.aggregator.api();
    let mut relay = installation.add_relay("relay");
    let joined = Instant::now();
    let (first, listed_first) = (not_after(&relay), listed(&installation, "relay")["certificate_expires_at"].clone());
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&relay)], 2, 20, &ledger);

    let expires = relay.status().unwrap()["certificate_expires_at"].clone();
    relay.wait_until("has another certificate", Duration::from_secs(50), |status| {
        status["certificate_expires_at"] != expires && status["uplink"]["connected_to"].is_string()
    });
    assert!(joined.elapsed() < Duration::from_secs(60), "in time: {:?}", joined.elapsed());
    assert!(not_after(&relay) > first);
    let row = listed(&installation, "relay");
    assert_ne!(row["certificate_expires_at"], listed_first, "{row}");

    eventually("the first certificate has expired", Duration::from_secs(65), || {
        holds(joined.elapsed() > Duration::from_secs(62), joined.elapsed())
    });
    // The handshake of a new process shows what is on disk.
    load.stop();
    relay.stop();
    relay.start();
    relay.wait_until("is connected", ARRIVAL_PATIENCE, |status| status["uplink"]["connected_to"].is_string());
    let load = Load::start(&[project.at(&relay)], 1, 20, &ledger);
    let before = ledger.accepted();
    eventually("more is taken", ARRIVAL_PATIENCE, || holds(ledger.accepted() > before + 20, ledger.accepted()));
    load.stop();
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    api.wait_for_total(ledger.accepted() as u64, ARRIVAL_PATIENCE);
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
    assert!(!relay.logged().contains("can't be used"), "the link never failed");
}
