use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_common::project_config::ConfigSnapshot;
use picket_common::timestamp::Timestamp;
use picket_common::transport::ConnectionLost;
use picket_common::wire::control::RelayStatistics;
use picket_common::wire::{BatchReply, FromAggregator, FromRelay};

use super::fixture::{Joined, TestAggregator, closed, code, soon, spool, start};
use crate::fleet::{Authorities, Fleet};
use picket_common::wire::CloseCode;

fn snapshot(revision: u64) -> Arc<ConfigSnapshot> {
    Arc::new(ConfigSnapshot { revision, projects: Vec::new() })
}

/// Polls a condition that nothing signals, until the deadline.
async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_configuration_is_pushed_on_connect_and_on_each_change() {
    let aggregator = start().await;
    aggregator.projects.send_replace(snapshot(3));
    let mut relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    assert_eq!(relay.hear().await, FromAggregator::ProjectConfigs((*snapshot(3)).clone()));
    aggregator.projects.send_replace(snapshot(4));
    assert_eq!(relay.hear().await, FromAggregator::ProjectConfigs((*snapshot(4)).clone()));
}

#[tokio::test]
async fn a_relay_that_has_the_configuration_is_not_sent_it() {
    let aggregator = start().await;
    // The revision that the fixture's relays say they have.
    aggregator.projects.send_replace(snapshot(0));
    let mut relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    aggregator.projects.send_replace(snapshot(1));
    assert_eq!(relay.hear().await, FromAggregator::ProjectConfigs((*snapshot(1)).clone()));
}

#[tokio::test]
async fn a_revoked_relay_is_cut_off_within_five_seconds_and_refused_from_then_on() {
    let aggregator = start().await;
    let joined = aggregator.join().await;
    let relay = aggregator.session(&joined, spool(1)).await.welcomed().await;
    let revoked = Instant::now();
    aggregator.fleet.revoke(joined.relay_id, Timestamp::now()).await.unwrap();
    let (closed_with, reason) = relay.closed().await;
    assert!(revoked.elapsed() < Duration::from_secs(5));
    assert_eq!((closed_with, reason.as_str()), (code(CloseCode::NotAllowed), "the relay was revoked"));

    let connection = aggregator.connect(&joined).await.unwrap();
    assert_eq!(closed(&connection).await.0, code(CloseCode::NotAllowed));
    until(|| aggregator.live.count() == 0).await;
}

#[tokio::test]
async fn a_revocation_by_another_process_is_noticed_within_five_seconds() {
    let aggregator = start().await;
    let joined = aggregator.join().await;
    let relay = aggregator.session(&joined, spool(1)).await.welcomed().await;
    let directory = tempfile::tempdir().unwrap();
    let authorities = Authorities::open_or_create(directory.path(), Timestamp::now()).unwrap();
    // Shares the database and nothing else, as another process would.
    let elsewhere = Fleet::new(aggregator.fleet.database(), authorities);
    let revoked = Instant::now();
    elsewhere.revoke(joined.relay_id, Timestamp::now()).await.unwrap();
    assert_eq!(relay.closed().await.0, code(CloseCode::NotAllowed));
    assert!(revoked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_certificate_whose_relay_is_not_registered_is_refused() {
    let aggregator = start().await;
    let joined = aggregator.join().await;
    sqlx::query("DELETE FROM relays").execute(aggregator.fleet.database().pool()).await.unwrap();
    let connection = aggregator.connect(&joined).await.unwrap();
    let (closed_with, reason) = closed(&connection).await;
    assert_eq!(closed_with, code(CloseCode::NotAllowed), "{reason}");
}

#[tokio::test]
async fn a_relay_renews_its_certificate_over_its_connection_and_connects_with_the_new_one() {
    let aggregator = start().await;
    let joined = aggregator.join().await;
    let mut relay = aggregator.session(&joined, spool(1)).await.welcomed().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap();
    relay.say(&FromRelay::Renew { csr_pem: request.pem().unwrap() }).await;
    let certificate_pem = loop {
        match relay.hear().await {
            FromAggregator::Renewed { certificate_pem } => break certificate_pem,
            FromAggregator::ProjectConfigs(_) | FromAggregator::Window(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let renewed = joined.renewed(certificate_pem, key);
    let second = aggregator.session(&renewed, spool(1)).await.welcomed().await;
    assert_eq!(relay.closed().await.0, code(CloseCode::Superseded));
    // In a loop it is refused, and goes on with what it has.
    let mut relay = second;
    relay.say(&FromRelay::Renew { csr_pem: "no request".to_owned() }).await;
    relay.say(&FromRelay::Renew { csr_pem: request.pem().unwrap() }).await;
    let mut refusals = Vec::new();
    while refusals.len() < 2 {
        match relay.hear().await {
            FromAggregator::RenewRefused { detail } => refusals.push(detail),
            FromAggregator::ProjectConfigs(_) | FromAggregator::Window(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(refusals[0].contains("can't be used") && refusals[1].contains("too often"), "{refusals:?}");
    let (header, payload) = relay.batch(1, 1);
    assert!(matches!(relay.send_batch(&header, &payload).await, BatchReply::Ack { .. }));
}

/// rustls refuses the certificate, so the connection ends in a TLS alert; the client may believe to be connected before.
pub(super) async fn assert_refused_by_tls(aggregator: &TestAggregator, joined: &Joined) {
    let ended = match aggregator.connect(joined).await {
        Ok(connection) => soon(connection.closed()).await,
        Err(error) => error,
    };
    assert!(matches!(ended, ConnectionLost::Refused(_) | ConnectionLost::RefusedForTime), "{ended:?}");
    assert_eq!(aggregator.live.count(), 0);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (aggregator, other) = (start().await, start().await);
    let theirs = other.join().await.trusting(&aggregator);
    assert_refused_by_tls(&aggregator, &theirs).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let aggregator = start().await;
    let long_ago = Timestamp::now().minus(Duration::from_secs(91 * 24 * 3600));
    let expired = aggregator.join_at(long_ago).await;
    assert_refused_by_tls(&aggregator, &expired).await;
}

#[tokio::test]
async fn a_second_session_of_a_spool_takes_over_from_the_first() {
    let aggregator = start().await;
    let joined = aggregator.join().await;
    let first = aggregator.session(&joined, spool(1)).await.welcomed().await;
    let second = aggregator.session(&joined, spool(1)).await.welcomed().await;
    assert_eq!(first.closed().await.0, code(CloseCode::Superseded));
    let (header, payload) = second.batch(1, 1);
    second.send_batch(&header, &payload).await;
    assert_eq!(aggregator.live.count(), 1);
}

#[tokio::test]
async fn another_relay_with_the_same_spool_is_refused_while_the_first_is_allowed() {
    let aggregator = start().await;
    let (owner, clone) = (aggregator.join().await, aggregator.join().await);
    let first = aggregator.session(&owner, spool(1)).await.welcomed().await;
    let second = aggregator.session(&clone, spool(1)).await;
    let (closed_with, reason) = second.closed().await;
    assert_eq!(closed_with, code(CloseCode::SpoolOwned));
    assert!(reason.contains(&owner.relay_id.to_string()), "{reason}");
    assert!(first.connection.close_reason().is_none());

    aggregator.fleet.revoke(owner.relay_id, Timestamp::now()).await.unwrap();
    aggregator.session(&clone, spool(1)).await.welcomed().await;
}

fn statistics() -> RelayStatistics {
    RelayStatistics { spooled_records: 5, spooled_bytes: 100, oldest_received_at: None, accepted_total: 9 }
}

#[tokio::test]
async fn live_relays_show_who_is_connected_and_how_they_fare() {
    let aggregator = start().await;
    let joined = aggregator.join().await;
    let mut relay = aggregator.session(&joined, spool(1)).await.welcomed().await;
    relay.say(&FromRelay::Statistics(statistics())).await;
    let shown = |aggregator: &TestAggregator| aggregator.live.snapshot().pop().unwrap();
    until(|| shown(&aggregator).statistics.is_some()).await;
    let live = shown(&aggregator);
    assert_eq!((live.relay_id, live.name.as_str(), live.version.as_str()), (joined.relay_id, "test-host", "0.1.0"));
    assert_eq!(live.statistics.unwrap().1, statistics());
    relay.connection.close(CloseCode::Done, "");
    until(|| aggregator.live.count() == 0).await;
}

#[tokio::test]
async fn the_first_message_must_be_hello() {
    let aggregator = start().await;
    let connection = aggregator.connect(&aggregator.join().await).await.unwrap();
    let (mut send, _receive) = connection.open().await.unwrap();
    let message = FromRelay::Statistics(statistics());
    picket_common::wire::write_frame(&mut send, &message, 1000).await.unwrap();
    assert_eq!(closed(&connection).await.0, code(CloseCode::Protocol));
    assert_eq!(aggregator.live.count(), 0);
}
