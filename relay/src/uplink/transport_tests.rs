//! Which way the uplink takes: QUIC or TCP, this aggregator or that.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use picket_common::config::Span;
use picket_common::transport::TransportKind;
use picket_common::wire::{CloseCode, FromAggregator};
use tokio::net::UdpSocket;

use super::fake_aggregator::{Authority, FakeAggregator};
use super::tests::{Relay, until_spooled};
use super::*;

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Longer than anything takes that waits for nothing, and shorter than QUIC's patience.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(5);

fn config() -> UplinkConfig {
    UplinkConfig { tcp_after: Span::millis(100), quic_probe_interval: Span::millis(200), ..UplinkConfig::default() }
}

#[tokio::test]
async fn where_udp_is_swallowed_tcp_takes_over_and_is_remembered() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start_at(ANY_PORT, &authority, &[TransportKind::Tcp]);
    // Swallows whatever comes.
    let _hole = UdpSocket::bind(aggregator.address).await.unwrap();
    let relay = Relay::with_batches(2).await;
    let mut running = relay.start_with(authority.relay(&[aggregator.address]), config());
    assert_eq!(aggregator.hello().await.transport, TransportKind::Tcp);
    aggregator.batch().await.ack();
    aggregator.batch().await.ack();
    until_spooled(&relay, &mut running, 0).await;
    assert_eq!(running.status.borrow().transport, Some(TransportKind::Tcp));
    running.stop().await;

    let relay = relay.restarted().await;
    relay.append(3).await;
    // Would wait for QUIC until that gives up (9 s), if it began with that.
    let started = Instant::now();
    let slow = UplinkConfig { tcp_after: Span::secs(3600), ..config() };
    let mut running = relay.start_with(authority.relay(&[aggregator.address]), slow);
    assert_eq!(aggregator.hello().await.transport, TransportKind::Tcp);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    aggregator.batch().await.ack();
    until_spooled(&relay, &mut running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn where_udp_is_refused_tcp_is_tried_at_once() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start_at(ANY_PORT, &authority, &[TransportKind::Tcp]);
    let relay = Relay::with_batches(1).await;
    let slow = UplinkConfig { tcp_after: Span::secs(3600), connect_timeout: Span::secs(3600), ..config() };
    let started = Instant::now();
    let running = relay.start_with(authority.relay(&[aggregator.address]), slow);
    assert_eq!(aggregator.hello().await.transport, TransportKind::Tcp);
    // QUIC by itself would give up after 9 s.
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    running.stop().await;
}

#[tokio::test]
async fn once_udp_gets_through_the_session_moves_and_no_batch_is_sent_twice() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start_at(ANY_PORT, &authority, &[TransportKind::Tcp]);
    let relay = Relay::with_batches(1).await;
    let mut running = relay.start_with(authority.relay(&[aggregator.address]), config());
    assert_eq!(aggregator.hello().await.transport, TransportKind::Tcp);
    let in_flight = aggregator.batch().await;
    aggregator.listen_quic();
    // The old connection ends only after the answer to what is in flight.
    aggregator.connected_by_quic().await;
    in_flight.ack();
    assert_eq!(aggregator.hello().await.transport, TransportKind::Quic);
    relay.append(2).await;
    let batch = aggregator.batch().await;
    assert_eq!(batch.header.first.get(), 2);
    batch.ack();
    until_spooled(&relay, &mut running, 0).await;
    assert_eq!(running.status.borrow().transport, Some(TransportKind::Quic));
    running.stop().await;
}

#[tokio::test]
async fn a_relay_that_is_told_to_use_quic_only_does_not_fall_back() {
    let authority = Arc::new(Authority::new());
    let aggregator = FakeAggregator::start_at(ANY_PORT, &authority, &[TransportKind::Tcp]);
    let relay = Relay::with_batches(1).await;
    let config = UplinkConfig { transport: TransportChoice::Quic, ..config() };
    let mut running = relay.start_with(authority.relay(&[aggregator.address]), config);
    running
        .until(|status| status.last_error.as_ref().is_some_and(|error| error.contains("listens there for UDP")))
        .await;
    running.stop().await;
}

#[tokio::test]
async fn reasons_to_close_arrive_by_tcp_and_are_acted_on() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start_at(ANY_PORT, &authority, &[TransportKind::Tcp]);
    let relay = Relay::with_batches(1).await;
    let mut running = relay.start_with(authority.relay(&[aggregator.address]), config());
    let old = aggregator.hello().await.spool_id;
    aggregator.hang_up(CloseCode::SpoolOwned, "spool belongs to another");
    assert_ne!(aggregator.hello().await.spool_id, old);
    aggregator.hang_up(CloseCode::NotAllowed, "this relay was revoked");
    running.until(|status| status.last_error.as_ref().is_some_and(|error| error.contains("join it anew"))).await;
    running.stop().await;
}

/// Two aggregators, the relay's preferred one first.
fn two(authority: &Arc<Authority>, relay: &Relay) -> (FakeAggregator, FakeAggregator) {
    let (one, other) = (FakeAggregator::start(authority), FakeAggregator::start(authority));
    let addresses = [one.address.to_string(), other.address.to_string()];
    match preference::ranked(relay.spool.id(), &addresses)[0] == addresses[0] {
        true => (one, other),
        false => (other, one),
    }
}

#[tokio::test]
async fn a_goodbye_moves_the_relay_to_the_next_aggregator_and_the_probe_brings_it_back() {
    let authority = Arc::new(Authority::new());
    let relay = Relay::with_batches(1).await;
    let (mut home, mut other) = two(&authority, &relay);
    let config = UplinkConfig { failback_interval: Span::millis(300), ..config() };
    let running = relay.start_with(authority.relay(&[other.address, home.address]), config);
    home.hello().await;
    home.batch().await.ack();
    home.say(FromAggregator::Goodbye { reason: "test".to_owned() }).await;
    other.hello().await;
    home.hello().await;
    running.stop().await;
}

#[tokio::test]
async fn a_list_that_an_aggregator_pushed_is_used_after_a_restart() {
    let authority = Arc::new(Authority::new());
    let relay = Relay::with_batches(0).await;
    let (mut first, mut second) = (FakeAggregator::start(&authority), FakeAggregator::start(&authority));
    let running = relay.start(authority.relay(&[first.address]));
    first.hello().await;
    first.say(FromAggregator::Aggregators { addresses: vec![second.address.to_string()] }).await;
    // The goodbye comes after it, so the list has been heard.
    first.say(FromAggregator::Goodbye { reason: "test".to_owned() }).await;
    second.hello().await;
    running.stop().await;

    let relay = relay.restarted().await;
    let running = relay.start(authority.relay(&[first.address]));
    second.hello().await;
    running.stop().await;
}
