//! Lanes in a whole spool: the quiet are not held back, and nobody's records change places.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use picket_common::config::Span;
use picket_common::ids::ProjectId;

use super::tests::{ALL, noise, open, record, records, small};
use super::*;

fn of_project(project: u64, body: Vec<u8>) -> Record {
    let mut record = record(body, 1);
    record.header.project_id = ProjectId::new(project);
    record
}

fn config() -> SpoolConfig {
    SpoolConfig { linger: Span::secs(10), queue_records: 512, ..small() }
}

/// Appends all of them, many at a time, in their order.
async fn append_all(spool: &Spool, records: impl IntoIterator<Item = Record>) {
    let mut waiting = std::collections::VecDeque::new();
    for record in records {
        let place = spool.place(&record).await.unwrap();
        waiting.push_back(Box::pin(place.put(record, Vec::new())));
        if waiting.len() == 256 {
            waiting.pop_front().unwrap().await.unwrap();
        }
    }
    for answer in waiting {
        answer.await.unwrap();
    }
}

/// Batch by batch in the order of reading: the projects and bodies.
fn read_in_turn(spool: &Spool) -> Vec<Vec<Record>> {
    let mut cursor = ReadCursor::default();
    let mut read = Vec::new();
    while !cursor.is_at(*spool.subscribe().borrow()) {
        let limit = ReadLimit { batches: 3, bytes: 1 << 20, oversized: Oversized::Take };
        read.extend(spool.read_next(&mut cursor, limit).unwrap().iter().map(records));
    }
    read
}

fn body(number: u64, length: usize) -> Vec<u8> {
    [number.to_be_bytes().as_slice(), &noise(length, 2 * number + 1)].concat()
}

fn assert_in_order(batches: &[Vec<Record>]) {
    let mut last: BTreeMap<ProjectId, u64> = BTreeMap::new();
    for record in batches.iter().flatten() {
        let number = u64::from_be_bytes(*record.body.first_chunk().unwrap());
        let before = last.insert(record.header.project_id, number);
        assert!(before.is_none_or(|before| before < number), "{number} came after {before:?}");
    }
}

#[tokio::test]
async fn ten_records_of_a_quiet_project_are_not_held_back_by_fifty_thousand_of_a_noisy_one() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &config());
    append_all(&spool, (0..50_000).map(|number| of_project(7, body(number, 400)))).await;
    append_all(&spool, (0..10).map(|number| of_project(8, body(number, 400)))).await;
    drop(spool);
    committer.close().await;
    // Also after a restart, which is what often ends an outage.
    let (spool, _committer) = open(&directory, &config());
    let batches = read_in_turn(&spool);
    assert_eq!(batches.iter().flatten().count(), 50_010);
    assert_in_order(&batches);
    let position = batches.iter().position(|batch| batch.iter().any(|record| record.header.project_id.get() == 8));
    // What came before there was a backlog shares the lane of the quiet project: about 2 MiB in batches of 512 records of 400 bytes.
    let before_lanes = usize::try_from(super::lanes::LANES_FROM_BYTES).unwrap() / (512 * 400) + 3;
    assert!(position.unwrap() <= before_lanes, "the quiet project is in batch {position:?} of {}", batches.len());
    let payload: u64 =
        spool.read_from(Sequence::FIRST, ALL).unwrap().iter().map(|batch| batch.header.payload_bytes).sum();
    assert_eq!(spool.usage().bytes, payload);
}

#[tokio::test]
async fn noisy_projects_take_turns_by_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &config());
    append_all(&spool, (0..16_000).map(|number| of_project(7 + number % 2, body(number, 400)))).await;
    append_all(&spool, (0..1000).map(|number| of_project(9, body(number, 400)))).await;
    committer.close().await;
    let batches = read_in_turn(&spool);
    assert_in_order(&batches);
    let end_of = |project: u64| {
        batches.iter().rposition(|batch| batch.iter().any(|record| record.header.project_id.get() == project)).unwrap()
    };
    assert!(end_of(9) < batches.len() / 2, "the quiet one ends in batch {} of {}", end_of(9), batches.len());
    // From there on 7 and 8 have batches of their own and go in step.
    let mut ahead = 0_i64;
    for batch in &batches[end_of(9) + 1..] {
        ahead += if batch[0].header.project_id.get() == 7 { 1 } else { -1 };
        assert!(ahead.abs() <= 2, "one is {ahead} batches ahead");
    }
}

#[tokio::test]
async fn a_project_keeps_its_order_when_its_lane_is_drained_and_entered_again() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &SpoolConfig { linger: Span::millis(0), ..config() });
    let mut cursor = ReadCursor::default();
    let mut read = Vec::new();
    let mut number = 0;
    for round in 0..6 {
        let count = if round % 2 == 0 { 9000 } else { 10 };
        append_all(&spool, (number..number + count).map(|number| of_project(7, body(number, 400)))).await;
        number += count;
        while !cursor.is_at(*spool.subscribe().borrow()) {
            for batch in spool.read_next(&mut cursor, ALL).unwrap() {
                read.push(records(&batch));
                // In the last rounds the reader is away.
                if round < 4 {
                    spool.acknowledge(batch.header.first, batch.header.last).unwrap();
                }
            }
        }
    }
    assert_eq!(read.iter().flatten().count() as u64, number);
    assert_in_order(&read);
}

#[tokio::test]
async fn while_little_waits_all_share_a_lane() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &config());
    append_all(&spool, (0..100).map(|number| of_project(7 + number % 2, body(number, 400)))).await;
    committer.close().await;
    assert_eq!(read_in_turn(&spool).len(), 1);
}

#[tokio::test]
async fn a_batch_that_lost_its_place_in_a_lane_is_put_back_by_the_next_opening() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    spool.append(record("a", 1)).await.unwrap();
    spool.shared.store().unwrap().delete_from_lane(super::lanes::Lane::SHARED, Sequence::FIRST).unwrap();
    assert_eq!(spool.read_next(&mut ReadCursor::default(), ALL).unwrap(), []);
    let (spool, _committer) = super::tests::reopen(&directory, &small(), spool, committer).await;
    assert_eq!(spool.read_next(&mut ReadCursor::default(), ALL).unwrap().len(), 1);
}
