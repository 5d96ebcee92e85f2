use std::sync::Arc;

use picket_common::config::ByteSize;
use picket_common::ids::Sequence;
use picket_common::wire::{BatchHeader, BatchReply, FromAggregator, NackReason};

use super::fixture::{code, soon, spool, start, start_with};
use crate::intake::LinkConfig;
use crate::journal::{JournalConfig, JournalPosition};
use picket_common::wire::CloseCode;
use tokio::io::AsyncWriteExt;

fn ack(first: u64, last: u64, duplicate: bool) -> BatchReply {
    BatchReply::Ack { first: Sequence::new(first), last: Sequence::new(last), duplicate }
}

fn nacked(reply: &BatchReply, expected: NackReason) -> bool {
    matches!(reply, BatchReply::Nack { reason, .. } if *reason == expected)
}

#[tokio::test]
async fn a_batch_is_in_the_journal_when_it_is_acknowledged_and_a_second_copy_is_a_duplicate() {
    let aggregator = start().await;
    let relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    let (header, payload) = relay.batch(1, 10);
    assert_eq!(relay.send_batch(&header, &payload).await, ack(1, 10, false));
    let read = aggregator.journal.read_from(JournalPosition::START, 10, u64::MAX).unwrap();
    assert_eq!((&read.entries[0].header, &read.entries[0].payload), (&header, &payload));

    assert_eq!(relay.send_batch(&header, &payload).await, ack(1, 10, true));
    assert_eq!(aggregator.journal.backlog().batches, 1);
    let metrics = aggregator.metrics();
    for line in [
        "picket_aggregator_batches_received_total{result=\"stored\"} 1",
        "picket_aggregator_batches_received_total{result=\"duplicate\"} 1",
        "picket_aggregator_records_received_total 10",
        "picket_aggregator_sessions 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_relay_learns_at_welcome_what_is_stored() {
    let aggregator = start().await;
    let joined = aggregator.join().await;
    let relay = aggregator.session(&joined, spool(1)).await.welcomed().await;
    for (first, last) in [(1, 10), (11, 20), (31, 40)] {
        let (header, payload) = relay.batch(first, last);
        relay.send_batch(&header, &payload).await;
    }
    let mut again = aggregator.session(&joined, spool(1)).await;
    let welcome = again.hear().await;
    assert!(matches!(welcome, FromAggregator::Welcome { stored_up_to, .. } if stored_up_to == Sequence::new(20)));
}

#[tokio::test]
async fn a_tombstone_is_acknowledged_and_its_sequences_count_as_stored() {
    let aggregator = start().await;
    let relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    let (after, payload) = relay.batch(11, 20);
    relay.send_batch(&after, &payload).await;
    let tombstone = BatchHeader {
        first: Sequence::new(1),
        last: Sequence::new(10),
        raw_bytes: 0,
        payload_bytes: 0,
        crc32c: 0,
        is_tombstone: true,
        ..after
    };
    assert_eq!(relay.send_batch(&tombstone, b"").await, ack(1, 10, false));
    assert_eq!(relay.send_batch(&tombstone, b"").await, ack(1, 10, true));
    let with_payload = BatchHeader { payload_bytes: 1, ..tombstone };
    assert!(nacked(&relay.send_batch(&with_payload, b"x").await, NackReason::Corrupt));
    assert_eq!(aggregator.journal.stored_up_to(spool(1)).unwrap(), Sequence::new(20));
    assert_eq!(aggregator.journal.backlog().batches, 1);
    assert!(aggregator.metrics().contains("picket_aggregator_records_received_total 10\n"));
}

#[tokio::test]
async fn damaged_batches_are_refused_for_good_and_not_stored() {
    let aggregator = start().await;
    let relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    let (header, payload) = relay.batch(1, 10);
    let mut flipped = payload.to_vec();
    flipped[100] ^= 1;
    let longer = [&payload[..], b"more"].concat();
    let backwards = BatchHeader { last: Sequence::new(0), ..header.clone() };
    let cases = [
        ("flipped", &header, &flipped[..]),
        ("shorter", &header, &payload[..50]),
        ("longer", &header, &longer[..]),
        ("backwards", &backwards, &payload[..]),
    ];
    for (case, header, payload) in cases {
        let reply = relay.send_batch(header, payload).await;
        assert!(nacked(&reply, NackReason::Corrupt), "{case}: {reply:?}");
    }
    assert_eq!(aggregator.journal.backlog().batches, 0);
    assert_eq!(relay.send_batch(&header, &payload).await, ack(1, 10, false));
}

#[tokio::test]
async fn a_batch_that_overlaps_stored_ones_is_refused_as_such() {
    let aggregator = start().await;
    let relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    let (header, payload) = relay.batch(1, 10);
    relay.send_batch(&header, &payload).await;
    let (header, payload) = relay.batch(8, 12);
    assert!(nacked(&relay.send_batch(&header, &payload).await, NackReason::Overlap));
}

#[tokio::test]
async fn a_full_journal_narrows_the_window_and_keeps_batches_in_the_relay() {
    let journal = JournalConfig { max_bytes: ByteSize::kib(64), ..JournalConfig::default() };
    let aggregator = start_with(LinkConfig::default(), &journal).await;
    let mut relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    let mut sequence = 0;
    let reply = loop {
        sequence += 1;
        let (header, payload) = relay.batch(sequence, sequence);
        let reply = relay.send_batch(&header, &payload).await;
        if reply != ack(sequence, sequence, false) {
            break reply;
        }
        assert!(sequence < 100, "nothing limits it");
    };
    assert!(nacked(&reply, NackReason::Retry), "{reply:?}");
    let narrowed = relay.hear().await;
    let full = LinkConfig::default().window_batches;
    assert!(matches!(narrowed, FromAggregator::Window(window) if window.batches < full), "{narrowed:?}");
}

#[tokio::test]
async fn many_batches_at_once_share_little_memory() {
    let config = LinkConfig { max_bytes_in_flight: ByteSize::kib(64), ..LinkConfig::default() };
    let aggregator = start_with(config, &JournalConfig::default()).await;
    let relay = Arc::new(aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await);
    let mut sends = tokio::task::JoinSet::new();
    for sequence in 1..=30 {
        let relay = Arc::clone(&relay);
        sends.spawn(async move {
            let (header, payload) = relay.batch(sequence, sequence);
            relay.send_batch(&header, &payload).await
        });
    }
    for reply in sends.join_all().await {
        assert!(matches!(reply, BatchReply::Ack { duplicate: false, .. }), "{reply:?}");
    }
    assert_eq!(aggregator.journal.stored_up_to(spool(1)).unwrap(), Sequence::new(30));
}

#[tokio::test]
async fn a_batch_of_another_spool_ends_the_connection() {
    let aggregator = start().await;
    let relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    let (header, payload) = relay.batch(1, 10);
    let foreign = BatchHeader { spool_id: spool(2), ..header };
    let (mut send, _receive) = relay.connection.open().await.unwrap();
    picket_common::wire::write_frame(&mut send, &foreign, 1000).await.unwrap();
    let _ = send.write_all(&payload).await;
    assert_eq!(relay.closed().await.0, code(CloseCode::Protocol));
    assert_eq!(aggregator.journal.backlog().batches, 0);
}

#[tokio::test]
async fn at_shutdown_relays_hear_goodbye_and_open_batches_are_answered() {
    let aggregator = start().await;
    let mut relay = aggregator.session(&aggregator.join().await, spool(1)).await.welcomed().await;
    let (header, payload) = relay.batch(1, 10);
    let (mut send, mut receive) = relay.connection.open().await.unwrap();
    picket_common::wire::write_frame(&mut send, &header, 1000).await.unwrap();
    send.write_all(&payload[..100]).await.unwrap();
    // Acknowledged streams are accepted in order, so this one tells that the first has begun.
    let (second, second_payload) = relay.batch(11, 20);
    assert_eq!(relay.send_batch(&second, &second_payload).await, ack(11, 20, false));

    aggregator.shutdown.cancel();
    assert!(matches!(relay.hear().await, FromAggregator::Goodbye { .. }));
    send.write_all(&payload[100..]).await.unwrap();
    send.finish();
    let reply: BatchReply = soon(picket_common::wire::read_frame(&mut receive, 1000)).await.unwrap();
    assert_eq!(reply, ack(1, 10, false));
    assert_eq!(relay.closed().await.0, code(CloseCode::Done));
    soon(aggregator.server).await.unwrap();
}
