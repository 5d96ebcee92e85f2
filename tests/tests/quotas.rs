//! Quotas that three relays count together, under the bound of docs/decisions/0008: `limit + relays - 1`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::thread;
use std::time::Duration;

use picket_tests::event::TestEvent;
use picket_tests::http::{HttpClient, PATIENCE};
use picket_tests::ingest::Target;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::relay::Relay;
use picket_tests::wait::{eventually, holds};
use serde_json::json;

const LIMIT: u64 = 300;
const RELAYS: u64 = 3;
/// What decision 8 allows three relays to admit.
const BOUND: u64 = LIMIT + RELAYS - 1;
/// A part of the limit as a relay gives it to itself.
const PART: u64 = LIMIT.div_ceil(RELAYS);
/// A year: a test does not run into the next window but once a year.
const WINDOW_SECONDS: u64 = 365 * 24 * 60 * 60;

/// Posts events one after the other and says how many were stored.
fn flood(target: Target, events: u64) -> u64 {
    let ingest = picket_tests::ingest::Ingest::new(target);
    let status = |_| ingest.post_within(&TestEvent::message("flood"), PATIENCE).expect("an answer").status;
    (0..events).map(status).filter(|status| *status == 200).count() as u64
}

/// Floods relays at once and says how many events were stored.
fn flood_all(targets: &[Target], events: u64) -> u64 {
    let floods: Vec<_> = targets
        .iter()
        .map(|target| {
            let target = *target;
            thread::spawn(move || flood(target, events))
        })
        .collect();
    floods.into_iter().map(|flood| flood.join().unwrap()).sum()
}

/// Sets a quota under an id of its own, and waits until all relays have it.
#[track_caller]
fn set_quota(installation: &Installation, targets: &[Target], id: &str) {
    let origin = format!("https://{id}.test");
    let quota =
        json!({ "id": id, "limit": LIMIT, "window": WINDOW_SECONDS, "scope": "project", "categories": ["error"] });
    let settings = json!({ "quotas": [quota], "allowedDomains": [format!("{id}.test")] });
    let file = installation.directory().join("settings.json");
    std::fs::write(&file, settings.to_string()).unwrap();
    let _ = installation.aggregator.ask(&["project", "config", "set", "shop", file.to_str().unwrap()]);
    for target in targets {
        eventually("the relay has the quota", ARRIVAL_PATIENCE, || {
            // An envelope without items: answered by the origin alone, and counted by nothing.
            let auth = target.auth_header();
            let headers = [("x-sentry-auth", auth.as_str()), ("origin", origin.as_str())];
            let answer =
                HttpClient::new().post(target.relay, &target.envelope_path(), &headers, b"{}\n".to_vec()).unwrap();
            holds(answer.status == 200, answer.status)
        });
    }
}

/// Posts to one relay until it says that nothing is left in the window; returns how many events were stored.
#[track_caller]
fn use_up(target: Target) -> u64 {
    let mut stored = 0;
    let ingest = picket_tests::ingest::Ingest::new(target);
    eventually("nothing is left", Duration::from_secs(30), || {
        loop {
            let answer = ingest.post_within(&TestEvent::message("use up"), PATIENCE).expect("an answer");
            if answer.status == 200 {
                stored += 1;
                continue;
            }
            let wait: u64 = answer.header("retry-after").unwrap_or_default().parse().unwrap();
            return holds(wait > 1, format!("{stored} stored, come back in {wait} s"));
        }
    });
    stored
}

fn three_relays() -> (Installation, Project, Vec<Relay>, Vec<Target>) {
    let (installation, project) = Installation::start();
    let relays: Vec<_> = ["one", "two", "three"].into_iter().map(|name| installation.add_relay(name)).collect();
    let targets = relays.iter().map(|relay| project.at(relay)).collect();
    (installation, project, relays, targets)
}

#[test]
fn three_relays_together_stay_under_the_bound_whatever_is_restarted() {
    let (mut installation, _project, mut relays, targets) = three_relays();
    set_quota(&installation, &targets, "shared");
    let mut stored = flood_all(&targets, 150);
    assert!(stored <= BOUND, "{stored} of {LIMIT} stored by a flood");
    stored += use_up(targets[0]);
    assert!((LIMIT..=BOUND).contains(&stored), "{stored} of {LIMIT} stored");

    // Neither a kill nor a restart brings anything back, on either side.
    relays[1].kill();
    relays[1].start();
    relays[2].stop();
    relays[2].start();
    stored += flood_all(&targets, 20);
    installation.aggregator.stop();
    stored += flood_all(&targets, 20);
    installation.aggregator.start();
    stored += flood_all(&targets, 20);
    assert!((LIMIT..=BOUND).contains(&stored), "{stored} of {LIMIT} stored after restarts");

    for relay in &mut relays {
        relay.wait_until_drained(ARRIVAL_PATIENCE);
    }
    installation.aggregator.api().wait_for_total(stored, ARRIVAL_PATIENCE);
}

#[test]
fn relays_keep_to_their_parts_without_an_aggregator_and_one_may_use_all_with_it() {
    let (mut installation, _project, relays, targets) = three_relays();
    set_quota(&installation, &targets, "alone");
    let alone = use_up(targets[0]);
    assert!((LIMIT..=BOUND).contains(&alone), "one relay stored {alone} of {LIMIT} while the others were idle");

    set_quota(&installation, &targets, "away");
    installation.aggregator.stop();
    let each: Vec<u64> = targets.iter().map(|target| flood(*target, PART + 20)).collect();
    assert_eq!(each, [PART; 3]);
    installation.aggregator.start();
    assert!(each.iter().sum::<u64>() + flood_all(&targets, 20) <= BOUND);
    drop(relays);
}
