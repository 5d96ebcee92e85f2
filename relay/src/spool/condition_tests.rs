//! Writes that fail, and what survives a kill right after something was given up.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use picket_common::config::Span;
use picket_common::ids::Sequence;
use picket_common::timestamp::Timestamp;
use tempfile::TempDir;
use tokio::time::timeout;

use super::growing_tests::copy_of;
use super::tests::{ALL, open, record, records, small};
use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// As a write of another thread that fails.
async fn break_and_wait(spool: &Spool) {
    let mut condition = spool.shared.condition.subscribe();
    spool.shared.alarm.raise();
    timeout(PATIENCE, condition.wait_for(|now| matches!(now, Condition::Broken(_)))).await.unwrap().unwrap();
    timeout(PATIENCE, condition.wait_for(|now| *now == Condition::Well)).await.unwrap().unwrap();
}

fn found(spool: &Spool) -> Vec<(u64, u64, usize)> {
    let batches = spool.read_from(Sequence::FIRST, ALL).unwrap();
    batches.iter().map(|batch| (batch.header.first.get(), batch.header.last.get(), records(batch).len())).collect()
}

fn lost(spool: &Spool) -> Vec<(String, u64)> {
    spool.counted().into_iter().map(|count| (count.key.reason.to_string(), count.quantity)).collect()
}

#[tokio::test]
async fn after_a_failed_write_the_spool_goes_on_by_itself_with_all_it_had() {
    let directory = tempfile::tempdir().unwrap();
    // What grows is never sealed by its age here.
    let config = SpoolConfig { linger: Span::secs(10), ..small() };
    let (spool, _committer) = open(&directory, &config);
    spool.append(record("a", 1)).await.unwrap();
    spool.append(record("b", 2)).await.unwrap();
    let id = spool.id();
    break_and_wait(&spool).await;
    assert_eq!(found(&spool), [(1, 2, 2)], "what grew was sealed");
    spool.append(record("c", 3)).await.unwrap();
    let usage = spool.usage();
    assert_eq!((usage.batches, usage.records, usage.accepted_total), (2, 3, 3));
    assert_eq!(usage.oldest_received_at, Some(Timestamp::from_millis(1)));
    break_and_wait(&spool).await;
    assert_eq!(found(&spool), [(1, 2, 2), (3, 3, 1)]);
    assert_eq!((spool.id(), spool.shared.metrics.reopened.get()), (id, 2));
    spool.acknowledge(Sequence::new(1), Sequence::new(2)).unwrap();
    assert_eq!(spool.usage().records, 1);
}

#[tokio::test]
async fn what_was_counted_and_not_written_is_counted_after_the_database_was_opened_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    spool.append(record("a", 1)).await.unwrap();
    spool.set_aside(Sequence::FIRST, SetAsideReason::RefusedCorrupt, "test").unwrap();
    spool.count(lost_one());
    break_and_wait(&spool).await;
    spool.settle().await.unwrap();
    assert_eq!(lost(&spool), [("spool_quarantined".to_owned(), 1), ("test".to_owned(), 1)]);
    break_and_wait(&spool).await;
    spool.settle().await.unwrap();
    assert_eq!(lost(&spool), [("spool_quarantined".to_owned(), 1), ("test".to_owned(), 1)], "once");
}

fn lost_one() -> Vec<OutcomeCount> {
    let key = picket_common::outcome::OutcomeKey {
        hour: Timestamp::EPOCH,
        project_id: None,
        category: picket_common::category::DataCategory::Default,
        outcome: picket_common::outcome::Outcome::Dropped,
        reason: "test".into(),
    };
    vec![OutcomeCount { key, quantity: 1 }]
}

/// The relay is killed before any other commit.
#[tokio::test]
async fn what_is_given_up_is_counted_in_the_write_that_does_it() {
    type GivesUp = fn(&Spool);
    let table: [(GivesUp, &str); 2] = [
        (
            |spool| spool.set_aside(Sequence::FIRST, SetAsideReason::RefusedCorrupt, "test").unwrap(),
            "spool_quarantined",
        ),
        (
            |spool| {
                spool.expire(Timestamp::from_millis(1_000_000)).unwrap();
            },
            "spool_expired",
        ),
    ];
    for (gives_up, reason) in table {
        let directory: TempDir = tempfile::tempdir().unwrap();
        let config = SpoolConfig { max_age: Span::secs(60), ..small() };
        let (spool, _committer) = open(&directory, &config);
        spool.append(record("a", 1)).await.unwrap();
        gives_up(&spool);
        let copy = copy_of(&directory);
        let (after, committer) = open(&copy, &config);
        assert_eq!(lost(&after), [(reason.to_owned(), 1)]);
        after.settle().await.unwrap();
        drop(after);
        committer.close().await;
        let (again, _committer) = open(&copy, &config);
        assert_eq!(lost(&again), [(reason.to_owned(), 1)], "counted once");
    }
}

#[tokio::test]
async fn a_batch_with_an_unreadable_header_leaves_a_tombstone_up_to_the_next_one() {
    for restarts in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let config = SpoolConfig { batch_records: 3, linger: Span::secs(10), ..small() };
        let (mut spool, mut committer) = open(&directory, &config);
        for number in 1..=9_u64 {
            spool.append(record(number.to_string(), number)).await.unwrap();
        }
        for damaged in [4, 7] {
            spool.shared.store().unwrap().damage_header(damaged, b"{no header");
        }
        if restarts {
            (spool, committer) = super::tests::reopen(&directory, &config, spool, committer).await;
        }
        let mut cursor = ReadCursor::default();
        let read = spool.read_next(&mut cursor, ALL).unwrap();
        let headers: Vec<_> = read
            .iter()
            .map(|batch| (batch.header.first.get(), batch.header.last.get(), batch.header.is_tombstone))
            .collect();
        assert_eq!(headers, [(1, 3, false), (4, 6, true), (7, 9, true)], "{restarts}");
        assert_eq!(lost(&spool), [("spool_quarantined".to_owned(), 6)]);
        assert_eq!((spool.usage().batches, spool.usage().records), (3, 3));
        for batch in &read {
            spool.acknowledge(batch.header.first, batch.header.last).unwrap();
        }
        assert_eq!((spool.usage().batches, spool.usage().records), (0, 0));
        committer.close().await;
    }
}
