//! What the journal promises when a commit fails. In a process of its own, because failpoints hold for all of it; run with
//! `cargo test -p picket-aggregator --features failpoints --test journal_failpoints`.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use fail::FailScenario;
use picket_aggregator::journal::{AppendError, Appended, Journal, JournalConfig, JournalPosition};
use picket_common::ids::{Sequence, SpoolId};
use picket_common::wire::BatchHeader;

fn batch(first: u64, last: u64) -> (BatchHeader, Bytes) {
    let payload = Bytes::from(vec![7; 10_000]);
    let header = BatchHeader {
        spool_id: SpoolId::from_random([1; 16]),
        first: Sequence::new(first),
        last: Sequence::new(last),
        raw_bytes: 10_000,
        payload_bytes: 10_000,
        crc32c: crc32c::crc32c(&payload),
        is_tombstone: false,
    };
    (header, payload)
}

async fn append(journal: &Journal, first: u64, last: u64) -> Result<Appended, AppendError> {
    let (header, payload) = batch(first, last);
    journal.append(header, payload).await
}

#[tokio::test]
async fn a_failed_commit_stores_nothing_and_its_positions_are_not_used_again() {
    let scenario = FailScenario::setup();
    let directory = tempfile::tempdir().unwrap();
    let (journal, committer) = Journal::open(directory.path(), &JournalConfig::default()).unwrap();
    assert_eq!(append(&journal, 1, 10).await, Ok(Appended::Stored));

    fail::cfg("journal::before_commit", "return").unwrap();
    assert!(matches!(append(&journal, 11, 20).await, Err(AppendError::Failed(_))));
    fail::remove("journal::before_commit");
    assert_eq!(journal.stored_up_to(SpoolId::from_random([1; 16])).unwrap(), Sequence::new(10));

    assert_eq!(append(&journal, 11, 20).await, Ok(Appended::Stored), "the relay sends it again");
    let read = journal.read_from(JournalPosition::START, 10, u64::MAX).unwrap();
    let positions: Vec<_> = read.entries.iter().map(|entry| entry.position.get()).collect();
    assert_eq!(positions, [0, 2]);
    assert_eq!(read.next, journal.end());

    drop(journal);
    tokio::task::spawn_blocking(|| committer.shutdown()).await.unwrap();
    let (journal, _committer) = Journal::open(directory.path(), &JournalConfig::default()).unwrap();
    assert_eq!(append(&journal, 11, 20).await, Ok(Appended::Duplicate));
    assert_eq!(journal.end(), JournalPosition::new(3));
    scenario.teardown();
}
