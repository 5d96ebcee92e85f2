//! The authority with relays that the test plays.
#![allow(clippy::unwrap_used)]

use picket_common::ids::PublicKey;
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_763_769_600_000);

fn relay(number: u8) -> RelayId {
    RelayId::from_random([number; 16])
}

/// A quota of 100 a minute.
fn authority(started_at: Timestamp) -> (QuotaAuthority, watch::Sender<Arc<ConfigSnapshot>>) {
    let key = PublicKey::from_random([1; 16]);
    let snapshot: ConfigSnapshot = serde_json::from_value(json!({"revision": 1, "projects": [{
        "id": "7", "slug": "shop", "keys": [{"public_key": key.as_str(), "enabled": true}],
        "quotas": [{"id": "q", "limit": 100, "window": 60}],
    }]}))
    .unwrap();
    let (sender, projects) = watch::channel(Arc::new(snapshot));
    let authority = QuotaAuthority::new(projects, started_at);
    authority.set_fleet(&[relay(1), relay(2)].into());
    (authority, sender)
}

fn told(used: u64, wants: u64) -> WindowUse {
    let bucket: QuotaBucket =
        serde_json::from_value(json!({"quota": "q", "scope": "organization", "seconds": 60})).unwrap();
    let number = bucket.window_at(NOW);
    WindowUse { bucket, number, base: 50, granted: 0, released: 0, used, wants }
}

fn shares(session: &QuotaSession) -> Vec<WindowShare> {
    match session.take_message() {
        Some(FromAggregator::QuotaShares { windows, .. }) => windows,
        _ => Vec::new(),
    }
}

#[test]
fn a_relay_hears_first_how_many_there_are_and_again_when_that_changes() {
    let (authority, _projects) = authority(Timestamp::EPOCH);
    let session = authority.enter(relay(1));
    assert!(
        matches!(session.take_message(), Some(FromAggregator::QuotaShares { relays: 2, windows }) if windows.is_empty())
    );
    assert!(session.take_message().is_none());
    authority.set_fleet(&[relay(1), relay(2), relay(3)].into());
    assert!(matches!(session.take_message(), Some(FromAggregator::QuotaShares { relays: 3, .. })));
}

#[test]
fn one_relay_gets_what_the_other_gives_back() {
    let (authority, _projects) = authority(Timestamp::EPOCH);
    let (one, two) = (authority.enter(relay(1)), authority.enter(relay(2)));
    one.report(true, &[told(50, 10)], NOW);
    let recall = shares(&two);
    assert!(recall[0].is_recalled && recall[0].base == Some(50), "{recall:?}");
    two.report(true, &[WindowUse { released: 38, ..told(0, 0) }], NOW);
    assert_eq!(shares(&one)[0].granted, 10);
}

#[test]
fn a_window_that_was_open_before_the_start_waits_for_every_relay() {
    let (authority, _projects) = authority(NOW.plus(std::time::Duration::from_secs(1)));
    let (one, two) = (authority.enter(relay(1)), authority.enter(relay(2)));
    one.report(true, &[WindowUse { released: 20, ..told(0, 0) }], NOW);
    two.report(false, &[told(50, 10)], NOW);
    assert_eq!(shares(&two)[0].granted, 0);
    two.report(true, &[told(50, 10)], NOW);
    assert_eq!(shares(&two)[0].granted, 10);
}

#[test]
fn among_other_aggregators_nothing_is_lent_unless_every_relay_is_connected_here() {
    let (authority, _projects) = authority(Timestamp::EPOCH);
    let (one, two) = (authority.enter(relay(1)), authority.enter(relay(2)));
    two.report(true, &[WindowUse { released: 38, ..told(0, 0) }], NOW);
    one.report(true, &[told(0, 0)], NOW);
    authority.set_company(Company::Others);
    // It goes to another aggregator, which may grant to it what it gave back here.
    drop(two);
    one.report(true, &[told(50, 10)], NOW);
    assert_eq!(shares(&one)[0].granted, 0);
    // It is back, and the other has granted it 30.
    let two = authority.enter(relay(2));
    one.report(true, &[told(50, 10)], NOW);
    assert_eq!(shares(&one)[0].granted, 0, "it has not said what it holds");
    two.report(true, &[WindowUse { released: 38, granted: 30, ..told(42, 0) }], NOW);
    one.report(true, &[told(50, 10)], NOW);
    assert_eq!(shares(&one)[0].granted, 8);
}

#[test]
fn what_is_not_configured_or_not_open_is_not_divided() {
    let (authority, projects) = authority(Timestamp::EPOCH);
    let session = authority.enter(relay(1));
    let _ = session.take_message();
    let other_window = WindowUse { number: WindowNumber(3), ..told(50, 10) };
    session.report(true, &[other_window], NOW);
    let _ = projects.send(Arc::new(ConfigSnapshot { revision: 2, projects: Vec::new() }));
    session.report(true, &[told(50, 10)], NOW);
    assert!(session.take_message().is_none() && authority.lock().windows.is_empty());
}

#[test]
fn a_former_connection_of_a_relay_counts_no_more() {
    let (authority, _projects) = authority(Timestamp::EPOCH);
    let former = authority.enter(relay(1));
    let present = authority.enter(relay(1));
    former.report(true, &[told(50, 10)], NOW);
    assert!(former.take_message().is_none());
    drop(former);
    assert!(present.take_message().is_some() && authority.lock().relays.connected.contains(&relay(1)));
    drop(present);
    assert!(authority.lock().relays.connected.is_empty());
}

#[test]
fn windows_that_have_ended_are_forgotten() {
    let (authority, _projects) = authority(Timestamp::EPOCH);
    let session = authority.enter(relay(1));
    session.report(true, &[told(1, 0)], NOW);
    assert_eq!(authority.lock().windows.len(), 1);
    session.report(true, &[], NOW.plus(std::time::Duration::from_secs(121)));
    assert!(authority.lock().windows.is_empty());
}
