//! Who a relay is: certificates that renew, tokens, the authority that signs, revocation.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_aggregator::database::Database;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::Ledger;
use picket_tests::load::Load;
use picket_tests::oracle::assert_exactly_once;
use picket_tests::relay::Relay;
use picket_tests::soak::sample_or_whole;
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
    // Before the aggregator stops, which is trouble for a relay.
    assert!(!relay.logged().contains("can't be used"), "the link never failed");
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
}

/// A relay whose data is in a directory of its own, laid out and not joined.
fn prepare(installation: &Installation, name: &str) -> Relay {
    Relay::prepare(installation.directory(), name, installation.directory().join(name))
}

fn invite(installation: &Installation, arguments: &[&str]) -> String {
    let invitation = installation.aggregator.ask(&[&["relay", "invite"], arguments].concat());
    invitation["token"].as_str().unwrap().to_owned()
}

#[test]
fn of_two_relays_that_join_with_one_token_at_once_one_gets_in_and_an_expired_token_lets_in_nobody() {
    let (installation, _project) = start("");
    for round in 0..3 {
        let token = invite(&installation, &[]);
        let relays = [0, 1, 2].map(|number| prepare(&installation, &format!("r{round}-{number}")));
        let finished = std::thread::scope(|scope| {
            let joining = relays.each_ref().map(|relay| scope.spawn(|| relay.run(&["join", &token])));
            joining.map(|thread| thread.join().unwrap())
        });
        let refused: Vec<_> = finished.iter().filter(|finished| finished.code != Some(0)).collect();
        assert_eq!(refused.len(), 2, "{finished:?}");
        assert!(refused.iter().all(|finished| finished.stderr.contains("has been used")), "{finished:?}");
    }
    assert_eq!(installation.aggregator.ask(&["relay", "list"]).as_array().unwrap().len(), 3);
    let token = invite(&installation, &["--ttl", "1s"]);
    let made = Instant::now();
    eventually("a second has passed", ARRIVAL_PATIENCE, || {
        holds(made.elapsed() > Duration::from_millis(1100), made.elapsed())
    });
    let late = prepare(&installation, "late").run(&["join", &token]).failed();
    assert!(late.contains("expired"), "{late}");
}

/// How long a relay may go on after it was revoked.
const REVOCATION: Duration = Duration::from_secs(5);

#[test]
fn a_revocation_by_another_process_counts_within_five_seconds_also_while_the_registry_is_locked() {
    let (installation, _project) = start("");
    let mut relays = ["elsewhere", "locked"].map(|name| installation.add_relay(name));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // This process is the other one.
    let file = installation.aggregator.data_dir.join("picket.db");
    let database = runtime.block_on(Database::open(&file)).unwrap();
    let revoke = |name: &str| {
        let sql = "UPDATE relays SET revoked_at = 1 WHERE name = $1";
        runtime.block_on(sqlx::query(sql).bind(name.to_owned()).execute(database.pool())).unwrap();
        Instant::now()
    };
    let is_cut_off = |status: &Value| status["uplink"]["connected_to"].is_null();

    let revoked_at = revoke("elsewhere");
    relays[0].wait_until("is cut off", REVOCATION, is_cut_off);
    eprintln!("cut off {:?} after another process revoked it", revoked_at.elapsed());

    let revoked_at = revoke("locked");
    let lock = runtime.block_on(database.begin_write()).unwrap();
    relays[1].wait_until("is cut off", REVOCATION, is_cut_off);
    eprintln!("cut off {:?} after another process revoked it and locked the registry", revoked_at.elapsed());
    runtime.block_on(lock.rollback()).unwrap();
}

#[test]
fn the_authority_is_rotated_under_load_and_a_relay_that_was_away_comes_back_by_itself() {
    let (mut installation, project) = start("");
    let api = installation.aggregator.api();
    let (mut here, mut away) = (installation.add_relay("here"), installation.add_relay("away"));
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&here), project.at(&away)], 1, 20, &ledger);
    let old_token = invite(&installation, &["--name", "old-token"]);
    let show = |installation: &Installation| installation.aggregator.ask(&["authority", "show"]);
    let before = show(&installation);
    away.stop();

    let rotated = installation.aggregator.ask(&["authority", "rotate"]);
    assert_eq!(rotated["authorities"][1]["fingerprint"], before["authorities"][0]["fingerprint"], "{rotated}");
    let again = installation.aggregator.run(&["authority", "rotate"]).failed();
    assert!(again.contains("authority retire"), "{again}");
    eventually("the relay that is connected moves", ARRIVAL_PATIENCE, || {
        let report = show(&installation);
        holds(report["waiting_for"] == serde_json::json!(["away"]), report)
    });
    let refused = installation.aggregator.run(&["authority", "retire"]).failed();
    assert!(refused.contains("away") && refused.contains("--force"), "{refused}");

    // Tokens of either authority are good, also after a restart.
    installation.aggregator.stop();
    installation.aggregator.start();
    let new_token = invite(&installation, &["--name", "new-token"]);
    for (name, token) in [("old-token", old_token), ("new-token", new_token)] {
        let mut relay = prepare(&installation, name);
        let _joined = relay.run(&["join", &token]).successful();
        relay.start();
        relay.wait_until("is connected", ARRIVAL_PATIENCE, |status| status["uplink"]["connected_to"].is_string());
        eventually("it is noted", ARRIVAL_PATIENCE, || {
            let report = show(&installation);
            holds(report["waiting_for"] == serde_json::json!(["away"]), report)
        });
        relay.stop();
    }

    away.start();
    eventually("the relay that was away moves", ARRIVAL_PATIENCE, || {
        let report = show(&installation);
        holds(report["waiting_for"] == serde_json::json!([]), report)
    });
    let retired = installation.aggregator.ask(&["authority", "retire"]);
    assert_eq!(retired["authorities"].as_array().unwrap().len(), 1, "{retired}");
    assert_eq!(retired["authorities"][0]["fingerprint"], rotated["authorities"][0]["fingerprint"], "{retired}");

    // Handshakes from scratch, with the new authority alone.
    installation.aggregator.stop();
    installation.aggregator.start();
    load.stop();
    for relay in [&mut here, &mut away] {
        relay.stop();
        relay.start();
        relay.wait_until_drained(ARRIVAL_PATIENCE);
    }
    api.wait_for_total(ledger.accepted() as u64, ARRIVAL_PATIENCE);
    drop((here, away));
    installation.aggregator.stop();
    ledger.check(&stored_events(&installation.aggregator.clickhouse_data()));
}

/// Each rotation gives every relay another certificate and every connection another authority; none of it may cost an event.
#[test]
fn one_rotation_after_the_other_under_load_loses_nothing() {
    let (mut installation, project) = start("");
    let (mut first, mut second) = (installation.add_relay("first"), installation.add_relay("second"));
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&first), project.at(&second)], 1, 20, &ledger);
    let rotations = sample_or_whole(3, 20);
    for rotation in 1..=rotations {
        let began = Instant::now();
        let accepted = ledger.accepted();
        let rotated = installation.aggregator.ask(&["authority", "rotate"]);
        eventually("both relays trust the new authority", ARRIVAL_PATIENCE, || {
            let report = installation.aggregator.ask(&["authority", "show"]);
            holds(report["waiting_for"] == serde_json::json!([]), report)
        });
        let retired = installation.aggregator.ask(&["authority", "retire"]);
        assert_eq!(retired["authorities"][0]["fingerprint"], rotated["authorities"][0]["fingerprint"], "{retired}");
        for relay in [&mut first, &mut second] {
            relay.wait_until("is connected", ARRIVAL_PATIENCE, |status| status["uplink"]["connected_to"].is_string());
        }
        eventually("the load goes on", ARRIVAL_PATIENCE, || holds(ledger.accepted() > accepted, ledger.accepted()));
        eprintln!("rotation {rotation} took {:?}", began.elapsed());
    }
    load.stop();
    assert_eq!(ledger.unknown(), 0, "the relays answered all the while");
    assert_exactly_once(&mut installation.aggregator, &mut [&mut first, &mut second], &ledger);
}
