//! What holds over QUIC holds over TCP.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use picket_common::identity;
use picket_common::ids::Sequence;
use picket_common::timestamp::Timestamp;
use picket_common::transport::{ConnectionLost, TransportKind};
use picket_common::wire::{ALPN_LINK, BatchReply, CloseCode, FromAggregator, read_frame, write_frame};
use tokio::io::AsyncWriteExt;

use super::fixture::{TestAggregator, closed, code, soon, spool, start, start_with};
use super::sessions::assert_refused_by_tls;
use crate::intake::LinkConfig;
use crate::journal::JournalConfig;

async fn start_tcp() -> TestAggregator {
    let mut aggregator = start().await;
    aggregator.transport = TransportKind::Tcp;
    aggregator
}

fn ack(first: u64, last: u64) -> BatchReply {
    BatchReply::Ack { first: Sequence::new(first), last: Sequence::new(last), duplicate: false }
}

#[tokio::test]
async fn a_relay_joins_and_sends_batches_by_tcp() {
    let aggregator = start_tcp().await;
    let relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    for first in [1, 11, 21] {
        let (header, payload) = relay.batch(first, first + 9);
        assert_eq!(relay.send_batch(&header, &payload).await, ack(first, first + 9));
    }
    assert_eq!(aggregator.journal.stored_up_to(spool(1)).unwrap(), Sequence::new(30));
    let metrics = aggregator.metrics();
    assert!(metrics.contains("picket_aggregator_connections{transport=\"tcp\"} 1"), "{metrics}");
    assert_eq!(aggregator.live.snapshot()[0].transport, TransportKind::Tcp);
}

#[tokio::test]
async fn a_revoked_relay_is_cut_off_by_tcp_as_well_and_hears_why() {
    let aggregator = start_tcp().await;
    let joined = aggregator.join().await;
    let relay = aggregator.session(&joined, spool(1)).await.welcomed().await;
    let revoked = Instant::now();
    aggregator.fleet.revoke(joined.relay_id, Timestamp::now()).await.unwrap();
    assert_eq!(relay.closed().await, (code(CloseCode::NotAllowed), "the relay was revoked".to_owned()));
    assert!(revoked.elapsed() < Duration::from_secs(5));
    assert_eq!(closed(&aggregator.connect(&joined).await.unwrap()).await.0, code(CloseCode::NotAllowed));
}

#[tokio::test]
async fn nobody_without_a_good_certificate_gets_on_the_link_by_tcp() {
    let (aggregator, other) = (start_tcp().await, start_tcp().await);
    let mut tls = identity::join_client_config(aggregator.token().await.authority).unwrap();
    tls.alpn_protocols = vec![ALPN_LINK.to_vec()];
    let (closed_with, reason) = closed(&aggregator.connect_as(tls).await.unwrap()).await;
    assert_eq!(closed_with, code(CloseCode::NoIdentity), "{reason}");

    assert_refused_by_tls(&aggregator, &other.join().await.trusting(&aggregator)).await;
    let long_ago = Timestamp::now().minus(Duration::from_secs((9 * 365 + 1) * 24 * 3600));
    assert_refused_by_tls(&aggregator, &aggregator.join_at(long_ago).await).await;
}

#[tokio::test]
async fn a_protocol_that_is_not_pickets_is_refused() {
    let aggregator = start_tcp().await;
    let mut tls = identity::join_client_config(aggregator.token().await.authority).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    assert!(aggregator.connect_as(tls).await.is_err());
}

#[tokio::test]
async fn a_relay_that_changes_to_tcp_takes_its_spool_along() {
    let mut aggregator = start().await;
    let joined = aggregator.join().await;
    let by_quic = aggregator.session(&joined, spool(1)).await.welcomed().await;
    aggregator.transport = TransportKind::Tcp;
    let by_tcp = aggregator.session(&joined, spool(1)).await.welcomed().await;
    assert_eq!(by_quic.closed().await.0, code(CloseCode::Superseded));
    let (header, payload) = by_tcp.batch(1, 1);
    assert_eq!(by_tcp.send_batch(&header, &payload).await, ack(1, 1));
}

#[tokio::test]
async fn at_shutdown_open_batches_are_answered_by_tcp() {
    let aggregator = start_tcp().await;
    let mut relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    let (header, payload) = relay.batch(1, 10);
    let (mut send, mut receive) = relay.connection.open().await.unwrap();
    write_frame(&mut send, &header, 1000).await.unwrap();
    send.write_all(&payload[..100]).await.unwrap();
    // Streams are accepted in order, so this one tells that the first has begun.
    let (second, second_payload) = relay.batch(11, 20);
    assert_eq!(relay.send_batch(&second, &second_payload).await, ack(11, 20));

    aggregator.shutdown.cancel();
    assert!(matches!(relay.hear().await, FromAggregator::Goodbye { .. }));
    send.write_all(&payload[100..]).await.unwrap();
    send.finish();
    let reply: BatchReply = soon(read_frame(&mut receive, 1000)).await.unwrap();
    assert_eq!(reply, ack(1, 10));
    assert_eq!(relay.closed().await.0, code(CloseCode::Done));
    soon(aggregator.server).await.unwrap();
}

/// The first records of a `ClientHello` that is as long as its extensions' length can make it (RFC 8446 §4.1.2), in good form
/// except that its last bytes are never sent.
fn overlong_hello() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    // No session, one cipher suite, no compression; extensions of 65,535 bytes: padding (RFC 7685).
    hello.extend([0, 0, 2, 0x13, 1, 1, 0, 0xff, 0xff, 0, 21, 0xff, 0xfb]);
    hello.resize(hello.len() + 0xfffb, 0);
    let length = u32::try_from(hello.len()).unwrap().to_be_bytes();
    let mut handshake = vec![1, length[1], length[2], length[3]];
    handshake.append(&mut hello);
    let records = handshake.chunks(16 * 1024).take(4).flat_map(|record| {
        let length = u16::try_from(record.len()).unwrap().to_be_bytes();
        [&[22, 3, 1, length[0], length[1]], record].concat()
    });
    records.collect()
}

#[tokio::test]
async fn a_peer_that_sends_more_than_a_handshake_may_hold_is_not_waited_for() {
    let aggregator = start_tcp().await;
    let mut stranger = soon(tokio::net::TcpStream::connect(aggregator.address)).await.unwrap();
    let began = Instant::now();
    let _ = stranger.write_all(&overlong_hello()).await;
    let mut answer = Vec::new();
    // An alert, or nothing but a reset.
    let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut stranger, &mut answer)).await;
    // The handshake's time is 10 s.
    assert!(began.elapsed() < Duration::from_secs(5), "waited for {:?}", began.elapsed());
    assert_eq!(aggregator.live.count(), 0);
}

#[tokio::test]
async fn silent_peers_of_one_address_keep_no_other_out_and_nobody_by_quic() {
    let mut aggregator = start_tcp().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(soon(tokio::net::TcpStream::connect(aggregator.address)).await.unwrap());
    }
    // The listener takes them in the order in which they came, so all have been seen by then.
    aggregator.relays_at = Ipv4Addr::new(127, 0, 0, 2).into();
    let began = Instant::now();
    let by_tcp = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    aggregator.transport = TransportKind::Quic;
    aggregator.relays_at = Ipv4Addr::LOCALHOST.into();
    let by_quic = aggregator.session(&aggregator.join().await, spool(2)).await.welcomed().await;
    // The silent ones keep their places for 10 s.
    assert!(began.elapsed() < Duration::from_secs(8), "waited for {:?}", began.elapsed());
    for relay in [by_tcp, by_quic] {
        let (header, payload) = relay.batch(1, 1);
        assert_eq!(relay.send_batch(&header, &payload).await, ack(1, 1));
    }
}

#[tokio::test]
async fn nothing_listens_by_tcp_where_it_is_switched_off() {
    let config = LinkConfig { tcp: false, ..LinkConfig::default() };
    let mut aggregator = start_with(config, &JournalConfig::default()).await;
    let joined = aggregator.join().await;
    aggregator.transport = TransportKind::Tcp;
    let refused = aggregator.connect(&joined).await;
    assert!(matches!(refused, Err(ConnectionLost::Broken(_))), "{refused:?}");
}
