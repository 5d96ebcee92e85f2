//! The spool on real files: what was answered is there, sequences never come again, damage does not spread.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use bytes::Bytes;
use picket_common::config::{ByteSize, Span};
use picket_common::ids::{EventId, ProjectId, PublicKey, Sequence};
use picket_common::record::{Record, RecordHeader, RecordKind, RecordReader};
use picket_common::timestamp::Timestamp;
use tempfile::TempDir;
use tokio::time::timeout;

use super::frame::PIECE_HEADER;
use super::store::STATE_FORMAT;
use super::*;

pub(super) const ALL: ReadLimit = ReadLimit { batches: usize::MAX, bytes: u64::MAX, oversized: Oversized::Take };

pub(super) fn record(body: impl Into<Bytes>, received_at: u64) -> Record {
    Record {
        header: RecordHeader {
            kind: RecordKind::Envelope,
            project_id: ProjectId::new(1),
            public_key: PublicKey::from_random([7; 16]),
            received_at: Timestamp::from_millis(received_at),
            event_id: Some(EventId::from_random([9; 16])),
            chunk: None,
            blobs: Vec::new(),
        },
        body: body.into(),
    }
}

/// Each commit is a batch.
pub(super) fn small() -> SpoolConfig {
    SpoolConfig { min_free_bytes: ByteSize::bytes(0), linger: Span::millis(0), ..SpoolConfig::default() }
}

/// Appends where each commit is a batch and nobody else appends: the sequence is that of the end.
async fn append(spool: &Spool, record: Record) -> Result<Sequence, AppendError> {
    spool.append(record).await?;
    Ok(*spool.subscribe().borrow())
}

pub(super) fn open(directory: &TempDir, config: &SpoolConfig) -> (Spool, Committer) {
    Spool::open(&directory.path().join("spool"), config, [1; 16]).unwrap()
}

pub(super) async fn reopen(
    directory: &TempDir,
    config: &SpoolConfig,
    spool: Spool,
    committer: Committer,
) -> (Spool, Committer) {
    drop(spool);
    committer.close().await;
    open(directory, config)
}

/// Bodies that do not compress, so that budgets in stored bytes can be reasoned about.
pub(super) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(length)
    .collect()
}

fn bodies(spool: &Spool) -> Vec<Bytes> {
    let batches = spool.read_from(Sequence::FIRST, ALL).unwrap();
    batches.iter().flat_map(records).map(|record| record.body).collect()
}

pub(super) fn records(batch: &SealedBatch) -> Vec<Record> {
    if batch.header.is_tombstone {
        assert_eq!((batch.payload.len(), batch.header.raw_bytes), (0, 0));
        return Vec::new();
    }
    let raw = zstd::bulk::decompress(&batch.payload, usize::try_from(batch.header.raw_bytes).unwrap()).unwrap();
    let records: Vec<_> = RecordReader::new(Bytes::from(raw)).collect::<Result<_, _>>().unwrap();
    assert_eq!(records.len() as u64, batch.header.records());
    records
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    for number in 0..10_u64 {
        assert_eq!(append(&spool, record(format!("body {number}"), number)).await, Ok(Sequence::new(number + 1)));
    }
    let usage = spool.usage();
    let (spool, _committer) = reopen(&directory, &small(), spool, committer).await;
    let expected: Vec<_> = (0..10).map(|number| Bytes::from(format!("body {number}"))).collect();
    assert_eq!(bodies(&spool), expected);
    assert_eq!(spool.usage(), SpoolUsage { accepted_total: 0, ..usage });
    // No aggregator was heard of between the two openings, so none of it can have been sent.
    assert_eq!(spool.sealed_before_contact(), Sequence::new(0));
}

#[tokio::test]
async fn what_may_have_been_sent_is_what_the_first_opening_after_a_contact_found() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    spool.append(record("one", 1)).await.unwrap();
    spool.note_session(None).unwrap();
    spool.append(record("two", 2)).await.unwrap();
    let (spool, committer) = reopen(&directory, &small(), spool, committer).await;
    assert_eq!(spool.sealed_before_contact(), Sequence::new(2));
    spool.append(record("three", 3)).await.unwrap();
    let (spool, committer) = reopen(&directory, &small(), spool, committer).await;
    assert_eq!(spool.sealed_before_contact(), Sequence::new(2), "nobody was heard of since");
    drop(committer);
}

/// As after `kill -9`: nothing was closed or flushed.
#[tokio::test]
async fn what_was_answered_is_in_a_copy_of_the_files_taken_while_the_spool_is_open() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    for number in 0..5_u64 {
        spool.append(record(format!("body {number}"), number)).await.unwrap();
    }
    spool.acknowledge(Sequence::new(5), Sequence::new(5)).unwrap();
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("spool")).unwrap();
    for file in std::fs::read_dir(directory.path().join("spool")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join("spool").join(file.file_name())).unwrap();
    }
    let (recovered, _committer) = open(&copy, &small());
    assert_eq!(bodies(&recovered), bodies(&spool));
    assert_eq!(bodies(&recovered).len(), 4);
    assert_eq!(append(&recovered, record("next", 9)).await, Ok(Sequence::new(6)));
}

#[tokio::test]
async fn records_that_wait_together_share_a_batch_without_gaps() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    let appends = (0..200_u64).map(|number| {
        let spool = spool.clone();
        tokio::spawn(async move { spool.append(record(number.to_string(), number)).await.unwrap() })
    });
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
    let batches = spool.read_from(Sequence::FIRST, ALL).unwrap();
    assert!(batches.len() < 200, "every record had a batch of its own");
    let (mut next, mut found) = (Sequence::FIRST, Vec::new());
    for batch in &batches {
        assert_eq!(batch.header.first, next);
        assert_eq!(batch.header.spool_id, spool.id());
        found.extend(records(batch).into_iter().map(|record| record.body));
        next = batch.header.last.advanced_by(1);
    }
    assert_eq!(next, Sequence::new(201));
    found.sort();
    let mut expected: Vec<_> = (0..200).map(|number| Bytes::from(number.to_string())).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn sequences_never_come_again_even_after_everything_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    let id = spool.id();
    spool.append(record("a", 1)).await.unwrap();
    spool.append(record("b", 2)).await.unwrap();
    for batch in spool.read_from(Sequence::FIRST, ALL).unwrap() {
        spool.acknowledge(batch.header.first, batch.header.last).unwrap();
    }
    assert_eq!((spool.usage().records, spool.usage().bytes, spool.usage().oldest_received_at), (0, 0, None));
    let (spool, _committer) = reopen(&directory, &small(), spool, committer).await;
    assert_eq!(append(&spool, record("c", 3)).await, Ok(Sequence::new(3)));
    assert_eq!(spool.id(), id);
}

#[tokio::test]
async fn acknowledgements_may_come_in_any_order_and_twice_but_not_in_other_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    for number in 1..=3_u64 {
        spool.append(record(number.to_string(), number)).await.unwrap();
    }
    let sequence = Sequence::new;
    assert!(matches!(spool.acknowledge(sequence(2), sequence(3)), Err(SpoolError::WrongBounds { .. })));
    spool.acknowledge(sequence(2), sequence(2)).unwrap();
    spool.acknowledge(sequence(2), sequence(2)).unwrap();
    assert_eq!(spool.usage().oldest_received_at, Some(Timestamp::from_millis(1)));
    spool.acknowledge(sequence(1), sequence(1)).unwrap();
    assert_eq!(spool.usage().oldest_received_at, Some(Timestamp::from_millis(3)));
    assert_eq!(bodies(&spool), ["3"]);
    assert_eq!(spool.forget_stored(sequence(3)).unwrap(), 1);
    assert_eq!(spool.usage().batches, 0);
}

#[tokio::test]
async fn a_damaged_batch_is_set_aside_and_the_rest_flows() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    for number in 1..=3_u64 {
        spool.append(record(number.to_string(), number)).await.unwrap();
    }
    // Each commit is a frame here, and frames count from 0.
    spool.shared.store().unwrap().damage_piece(1, 0, &[&[0; PIECE_HEADER], b"not what was sealed".as_slice()].concat());
    assert_eq!(bodies(&spool), ["1", "3"]);
    let counted: Vec<_> = spool.counted().into_iter().map(|count| (count.key.reason, count.quantity)).collect();
    assert_eq!(counted, [("spool_quarantined".into(), 1)]);
    assert_eq!(spool.usage().quarantined_batches, 1);
    assert_eq!(spool.usage().records, 2);
    let kept: Vec<_> = spool.shared.store().unwrap().quarantine().map(Result::unwrap).collect();
    assert_eq!(kept[0].0, Sequence::new(2));
    assert!(kept[0].1.ends_with(b"not what was sealed\x01\0\0"));
    let (spool, _committer) = reopen(&directory, &small(), spool, committer).await;
    assert_eq!(spool.usage().quarantined_batches, 1);
    assert_eq!(bodies(&spool), ["1", "3"]);
}

fn batches_of(spool: &Spool) -> Vec<(u64, u64, bool)> {
    let batches = spool.read_from(Sequence::FIRST, ALL).unwrap();
    batches.iter().map(|batch| (batch.header.first.get(), batch.header.last.get(), batch.header.is_tombstone)).collect()
}

#[tokio::test]
async fn what_is_set_aside_leaves_a_tombstone_where_the_aggregator_takes_one() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    for number in 1..=3_u64 {
        spool.append(record(number.to_string(), number)).await.unwrap();
    }
    let sequence = Sequence::new;
    spool.set_aside(sequence(1), SetAsideReason::RefusedCorrupt, "test").unwrap();
    spool.set_aside(sequence(2), SetAsideReason::RefusedOverlap, "test").unwrap();
    assert_eq!(batches_of(&spool), [(1, 1, true), (3, 3, false)]);
    let usage = spool.usage();
    assert_eq!((usage.batches, usage.records, usage.quarantined_batches), (2, 1, 2));
    assert_eq!(usage.oldest_received_at, Some(Timestamp::from_millis(3)));
    let (spool, _committer) = reopen(&directory, &small(), spool, committer).await;
    assert_eq!(spool.usage(), SpoolUsage { accepted_total: 0, ..usage });
    // Refused as well: it goes, and is not counted again.
    spool.set_aside(sequence(1), SetAsideReason::RefusedCorrupt, "test").unwrap();
    assert_eq!(batches_of(&spool), [(3, 3, false)]);
    assert_eq!(spool.usage().quarantined_batches, 2);
    let lost: u64 = spool.counted().iter().map(|count| count.quantity).sum();
    assert_eq!(lost, 2);
}

#[tokio::test]
async fn what_is_older_than_the_limit_is_dropped_counted_and_leaves_tombstones() {
    let directory = tempfile::tempdir().unwrap();
    let config = SpoolConfig { max_age: Span::secs(60), ..small() };
    let (spool, _committer) = open(&directory, &config);
    for number in 1..=3_u64 {
        spool.append(record(noise(1000, number), number * 1000)).await.unwrap();
    }
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
    assert_eq!(
        spool.expire(at(61)).unwrap(),
        retention::Expired::default(),
        "the first is as old as the limit, not older"
    );
    assert_eq!(spool.expire(at(62)).unwrap(), retention::Expired { batches: 1, records: 1 });
    assert_eq!(batches_of(&spool), [(1, 1, true), (2, 2, false), (3, 3, false)]);
    assert_eq!(spool.usage().oldest_received_at, Some(at(2)));
    assert_eq!(spool.expire(at(64)).unwrap(), retention::Expired { batches: 2, records: 2 });
    assert_eq!(spool.expire(at(64)).unwrap(), retention::Expired::default());
    let usage = spool.usage();
    assert_eq!((usage.batches, usage.records, usage.bytes, usage.oldest_received_at), (3, 0, 0, None));
    let counted: Vec<_> = spool.counted().into_iter().map(|count| (count.key.reason, count.quantity)).collect();
    assert_eq!(counted, [("spool_expired".into(), 3)]);
    for number in 1..=3 {
        spool.acknowledge(Sequence::new(number), Sequence::new(number)).unwrap();
    }
    assert_eq!((batches_of(&spool), spool.usage().batches), (vec![], 0));
}

#[tokio::test]
async fn nothing_is_too_old_unless_a_limit_is_set() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    spool.append(record("a", 1)).await.unwrap();
    assert_eq!(spool.expire(Timestamp::from_millis(u64::MAX / 2)).unwrap(), retention::Expired::default());
    assert_eq!(batches_of(&spool), [(1, 1, false)]);
}

#[tokio::test]
async fn the_quarantine_is_bounded_and_loses_its_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let config = SpoolConfig { quarantine_max_bytes: ByteSize::kib(64), ..small() };
    let (spool, _committer) = open(&directory, &config);
    for number in 1..=4_u64 {
        spool.append(record(noise(30_000, number), number)).await.unwrap();
        spool.set_aside(Sequence::new(number), SetAsideReason::RefusedCorrupt, "test").unwrap();
    }
    let kept: Vec<_> = spool.shared.store().unwrap().quarantine().map(|entry| entry.unwrap().0.get()).collect();
    assert_eq!(kept, [3, 4]);
    assert_eq!(spool.usage().quarantined_batches, 2);
    assert_eq!(spool.usage().records, 0);
}

#[tokio::test]
async fn a_full_spool_refuses_and_recovers_after_an_acknowledgement() {
    let directory = tempfile::tempdir().unwrap();
    let config = SpoolConfig { max_bytes: ByteSize::mib(1), ..small() };
    let (spool, _committer) = open(&directory, &config);
    spool.append(record(noise(600_000, 1), 1)).await.unwrap();
    spool.append(record(noise(600_000, 2), 2)).await.unwrap();
    assert!(!spool.has_room());
    assert_eq!(append(&spool, record("more", 3)).await, Err(AppendError::Full));
    spool.acknowledge(Sequence::new(1), Sequence::new(1)).unwrap();
    assert_eq!(append(&spool, record("more", 3)).await, Ok(Sequence::new(3)));
}

#[tokio::test]
async fn a_disk_with_too_little_room_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let config = SpoolConfig { min_free_bytes: ByteSize::bytes(u64::MAX), ..small() };
    let (spool, _committer) = open(&directory, &config);
    assert_eq!(append(&spool, record("a", 1)).await, Err(AppendError::Full));
}

#[tokio::test]
async fn a_read_stops_at_its_limit_but_never_starves() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    for number in 1..=3_u64 {
        spool.append(record(noise(10_000, number), number)).await.unwrap();
    }
    let read = |batches, bytes, oversized| {
        spool.read_from(Sequence::FIRST, ReadLimit { batches, bytes, oversized }).unwrap().len()
    };
    assert_eq!(read(2, u64::MAX, Oversized::Leave), 2);
    assert_eq!(read(9, 25_000, Oversized::Leave), 2);
    assert_eq!(read(9, 1, Oversized::Take), 1);
    assert_eq!(read(9, 1, Oversized::Leave), 0);
    assert_eq!(spool.read_from(Sequence::new(4), ALL).unwrap(), []);
}

#[tokio::test]
async fn a_spool_in_use_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (_spool, _committer) = open(&directory, &small());
    let second = Spool::open(&directory.path().join("spool"), &small(), [2; 16]);
    assert!(matches!(second, Err(SpoolError::InUse { .. })), "{second:?}");
}

#[tokio::test]
async fn an_unknown_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    spool.shared.store().unwrap().put_state(&[(STATE_FORMAT, b"99")]).unwrap();
    drop(spool);
    committer.close().await;
    let opened = Spool::open(&directory.path().join("spool"), &small(), [2; 16]);
    assert!(matches!(opened, Err(SpoolError::UnknownFormat { .. })), "{opened:?}");
}

#[tokio::test]
async fn a_closed_spool_commits_what_waits_and_takes_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    let waiting = tokio::spawn({
        let spool = spool.clone();
        async move { spool.append(record("waiting", 1)).await }
    });
    let mut committed = spool.subscribe();
    timeout(Duration::from_secs(30), committed.wait_for(|last| last.get() == 1)).await.unwrap().unwrap();
    committer.close().await;
    assert_eq!(waiting.await.unwrap(), Ok(()));
    assert_eq!(append(&spool, record("late", 2)).await, Err(AppendError::Closed));
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_taken_or_given() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    spool.append(record("a", 1)).await.unwrap();
    spool.shared.fail(&"the disk is gone".into());
    assert_eq!(append(&spool, record("b", 2)).await, Err(AppendError::Failed("the disk is gone".into())));
    assert!(matches!(spool.read_from(Sequence::FIRST, ALL), Err(SpoolError::Failed(_))));
    assert!(matches!(spool.acknowledge(Sequence::FIRST, Sequence::FIRST), Err(SpoolError::Failed(_))));
    assert_eq!(&*timeout(Duration::from_secs(30), spool.failed()).await.unwrap(), "the disk is gone");
}

#[tokio::test]
async fn a_record_larger_than_the_queue_goes_alone() {
    let directory = tempfile::tempdir().unwrap();
    let config = SpoolConfig { queue_bytes: ByteSize::mib(1), ..small() };
    let (spool, _committer) = open(&directory, &config);
    let large = record(noise(3_000_000, 1), 1);
    assert_eq!(append(&spool, large.clone()).await, Ok(Sequence::FIRST));
    assert_eq!(bodies(&spool), [large.body]);
}

#[tokio::test]
async fn a_new_identity_covers_what_is_spooled_already_and_survives() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    let old = spool.id();
    spool.append(record("a", 1)).await.unwrap();
    let new = spool.fork(ForkPoint::After(Sequence::new(0)), [5; 16]).unwrap();
    assert_ne!(old, new);
    assert_eq!(spool.read_from(Sequence::FIRST, ALL).unwrap()[0].header.spool_id, new);
    let (spool, _committer) = reopen(&directory, &small(), spool, committer).await;
    assert_eq!(spool.id(), new);
}

/// A waiter without an answer would hold its client's request, and the relay would look alive.
#[tokio::test]
async fn after_a_panic_of_the_commit_thread_every_append_hears_that_the_spool_failed() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    // The next batch can't be counted: arithmetic in a debug build panics.
    lock(&spool.shared.counters).accepted_total = u64::MAX;
    let appends: Vec<_> = (0..50_u64)
        .map(|number| {
            let spool = spool.clone();
            tokio::spawn(async move { spool.append(record(number.to_string(), number)).await })
        })
        .collect();
    for append in appends {
        let answer = timeout(Duration::from_secs(20), append).await.expect("an append hangs").unwrap();
        assert!(matches!(answer, Err(AppendError::Failed(_))), "{answer:?}");
    }
    assert!(spool.failed().await.contains("panicked"));
    assert!(!spool.has_room());
    committer.close().await;
}
