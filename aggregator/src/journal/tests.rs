//! The journal on a real RocksDB.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use tempfile::TempDir;

use picket_common::config::ByteSize;

use picket_common::ids::{RelayId, Sequence, SpoolId};
use picket_common::timestamp::Timestamp;

use super::store::Transaction;
use super::*;

/// Gaps that a test can make one by one.
const FEW_GAPS: u64 = 1024;

struct Opened {
    directory: TempDir,
    journal: Journal,
    committer: JournalCommitter,
}

fn open_in(directory: TempDir, config: &JournalConfig) -> Opened {
    let (journal, committer) = Journal::open(directory.path(), config).unwrap();
    Opened { directory, journal, committer }
}

fn open() -> Opened {
    open_in(tempfile::tempdir().unwrap(), &JournalConfig::default())
}

/// Closes and opens again.
async fn reopen(opened: Opened) -> Opened {
    let Opened { directory, journal, committer } = opened;
    drop(journal);
    tokio::task::spawn_blocking(|| committer.shutdown()).await.unwrap();
    open_in(directory, &JournalConfig::default())
}

fn spool() -> SpoolId {
    SpoolId::from_random([7; 16])
}

fn batch(first: u64, last: u64) -> (BatchHeader, Bytes) {
    // Above the size from which payloads go to blob files.
    let payload = Bytes::from(format!("records {first} to {last}, ").repeat(400));
    let header = BatchHeader {
        spool_id: spool(),
        first: Sequence::new(first),
        last: Sequence::new(last),
        raw_bytes: 10_000,
        payload_bytes: payload.len() as u64,
        crc32c: crc32c::crc32c(&payload),
        is_tombstone: false,
    };
    (header, payload)
}

async fn append(journal: &Journal, first: u64, last: u64) -> Result<Appended, AppendError> {
    let (header, payload) = batch(first, last);
    journal.append(header, payload).await
}

async fn append_tombstone(journal: &Journal, first: u64, last: u64) -> Result<Appended, AppendError> {
    let (header, _) = batch(first, last);
    let header = BatchHeader { raw_bytes: 0, payload_bytes: 0, crc32c: 0, is_tombstone: true, ..header };
    journal.append(header, Bytes::new()).await
}

fn read_all(journal: &Journal) -> Vec<(u64, u64)> {
    let read = journal.read_from(JournalPosition::START, usize::MAX, u64::MAX).unwrap();
    assert_eq!(read.corrupt, []);
    assert_eq!(read.next, journal.end());
    read.entries.iter().map(|entry| (entry.header.first.get(), entry.header.last.get())).collect()
}

#[tokio::test]
async fn a_stored_batch_is_read_back_verbatim_after_reopening() {
    let opened = open();
    assert_eq!(append(&opened.journal, 1, 10).await, Ok(Appended::Stored));
    let opened = reopen(opened).await;
    let read = opened.journal.read_from(opened.journal.cursor(), 10, u64::MAX).unwrap();
    let (header, payload) = batch(1, 10);
    assert_eq!(read.entries[0].header, header);
    assert_eq!(read.entries[0].payload, payload);
    assert_eq!(opened.journal.stored_up_to(spool()).unwrap(), Sequence::new(10));
}

#[tokio::test]
async fn batches_may_come_in_any_order() {
    let opened = open();
    append(&opened.journal, 11, 20).await.unwrap();
    append(&opened.journal, 21, 30).await.unwrap();
    assert_eq!(opened.journal.stored_up_to(spool()).unwrap(), Sequence::new(0));
    append(&opened.journal, 1, 10).await.unwrap();
    assert_eq!(opened.journal.stored_up_to(spool()).unwrap(), Sequence::new(30));
    assert_eq!(read_all(&opened.journal), [(11, 20), (21, 30), (1, 10)]);
}

#[tokio::test]
async fn a_batch_sent_again_is_a_duplicate_also_after_it_was_processed_and_after_reopening() {
    let opened = open();
    append(&opened.journal, 1, 10).await.unwrap();
    assert_eq!(append(&opened.journal, 1, 10).await, Ok(Appended::Duplicate));
    opened.journal.finish_plan(opened.journal.end()).unwrap();
    assert_eq!(append(&opened.journal, 1, 10).await, Ok(Appended::Duplicate));
    let opened = reopen(opened).await;
    assert_eq!(append(&opened.journal, 3, 5).await, Ok(Appended::Duplicate));
    assert_eq!(read_all(&opened.journal), []);
}

#[tokio::test]
async fn copies_of_a_batch_that_arrive_together_are_stored_once() {
    let opened = open();
    let copies: Vec<_> = (0..50)
        .map(|_| {
            let journal = opened.journal.clone();
            tokio::spawn(async move { append(&journal, 1, 10).await.unwrap() })
        })
        .collect();
    let mut stored = 0;
    for copy in copies {
        stored += usize::from(copy.await.unwrap() == Appended::Stored);
    }
    assert_eq!(stored, 1);
    assert_eq!(read_all(&opened.journal), [(1, 10)]);
}

#[tokio::test]
async fn a_batch_that_is_stored_in_part_is_an_overlap() {
    let opened = open();
    append(&opened.journal, 5, 10).await.unwrap();
    for (first, last) in [(1, 5), (10, 12), (1, 20)] {
        assert_eq!(append(&opened.journal, first, last).await, Err(AppendError::Overlap), "{first}..={last}");
    }
    assert_eq!(read_all(&opened.journal), [(5, 10)]);
}

#[tokio::test]
async fn spools_do_not_share_their_sequences() {
    let opened = open();
    append(&opened.journal, 1, 10).await.unwrap();
    let (header, payload) = batch(1, 10);
    let other = BatchHeader { spool_id: SpoolId::from_random([8; 16]), ..header };
    assert_eq!(opened.journal.append(other, payload).await, Ok(Appended::Stored));
}

#[tokio::test]
async fn a_refused_batch_leaves_no_trace_in_the_group_it_came_with() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, committer) = Journal::open_with(directory.path(), &JournalConfig::default(), None, FEW_GAPS).unwrap();
    let opened = Opened { directory, journal, committer };
    // One commit with many gaps and, among them, the batch that is one gap too many.
    let last_gap = FEW_GAPS;
    let mut waiting = tokio::task::JoinSet::new();
    for gap in 1..=last_gap {
        let journal = opened.journal.clone();
        waiting.spawn(async move { append(&journal, gap * 2, gap * 2).await });
    }
    while let Some(appended) = waiting.join_next().await {
        assert_eq!(appended.unwrap(), Ok(Appended::Stored));
    }
    let beyond = last_gap * 2 + 2;
    assert_eq!(append(&opened.journal, beyond, beyond).await, Err(AppendError::TooManyGaps));
    let opened = reopen(opened).await;
    assert!(!read_all(&opened.journal).contains(&(beyond, beyond)));
    assert_eq!(append(&opened.journal, 1, 1).await, Ok(Appended::Stored));
    assert_eq!(append(&opened.journal, beyond, beyond).await, Ok(Appended::Stored));
}

#[tokio::test]
async fn a_tombstone_closes_its_gap_and_leaves_no_entry() {
    let opened = open();
    append(&opened.journal, 1, 10).await.unwrap();
    append(&opened.journal, 21, 30).await.unwrap();
    assert_eq!(append_tombstone(&opened.journal, 11, 20).await, Ok(Appended::Stored));
    assert_eq!(append_tombstone(&opened.journal, 11, 20).await, Ok(Appended::Duplicate));
    assert_eq!(append(&opened.journal, 12, 14).await, Ok(Appended::Duplicate));
    assert_eq!(append_tombstone(&opened.journal, 30, 31).await, Err(AppendError::Overlap));
    let opened = reopen(opened).await;
    assert_eq!(opened.journal.stored_up_to(spool()).unwrap(), Sequence::new(30));
    assert_eq!(read_all(&opened.journal), [(1, 10), (21, 30)]);
    assert_eq!(opened.journal.end(), JournalPosition::new(2), "it takes no position");
}

#[tokio::test]
async fn a_tombstone_needs_no_room_in_a_full_journal() {
    let payload_bytes = batch(1, 1).1.len() as u64;
    let config = JournalConfig { max_bytes: ByteSize::bytes(payload_bytes), ..JournalConfig::default() };
    let opened = open_in(tempfile::tempdir().unwrap(), &config);
    append(&opened.journal, 1, 1).await.unwrap();
    assert_eq!(append(&opened.journal, 2, 2).await, Err(AppendError::Full));
    assert_eq!(append_tombstone(&opened.journal, 2, 2).await, Ok(Appended::Stored));
}

/// Lanes that drain at once leave gaps wherever one is behind the others.
#[tokio::test]
async fn a_spool_may_have_very_many_gaps_and_they_close_in_any_order() {
    const BATCHES: u64 = 30_000;
    let mut opened = open();
    // Every batch at its place in an order that has nothing to do with the sequences: the stride has no factor in common
    // with the number.
    let order: Vec<u64> = (0..BATCHES).map(|at| at * 17_977 % BATCHES).collect();
    let halves = order.split_at(order.len() / 2);
    for (half, stored) in [(halves.0, Appended::Stored), (halves.1, Appended::Stored), (&order, Appended::Duplicate)] {
        let mut waiting = tokio::task::JoinSet::new();
        for at in half {
            let (journal, first) = (opened.journal.clone(), at * 10 + 1);
            waiting.spawn(async move { append_tombstone(&journal, first, first + 9).await });
        }
        while let Some(appended) = waiting.join_next().await {
            assert_eq!(appended.unwrap(), Ok(stored));
        }
        opened = reopen(opened).await;
    }
    assert_eq!(opened.journal.stored_up_to(spool()).unwrap(), Sequence::new(BATCHES * 10));
    assert_eq!(opened.journal.highest_stored(spool()).unwrap(), Sequence::new(BATCHES * 10));
}

#[tokio::test]
async fn a_full_journal_refuses_and_takes_again_when_there_is_room() {
    let payload_bytes = batch(1, 1).1.len() as u64;
    let config = JournalConfig { max_bytes: ByteSize::bytes(payload_bytes * 2), ..JournalConfig::default() };
    let opened = open_in(tempfile::tempdir().unwrap(), &config);
    append(&opened.journal, 1, 1).await.unwrap();
    append(&opened.journal, 2, 2).await.unwrap();
    assert_eq!(append(&opened.journal, 3, 3).await, Err(AppendError::Full));
    assert_eq!(append(&opened.journal, 1, 2).await, Ok(Appended::Duplicate), "what is stored needs no room");
    opened.journal.finish_plan(opened.journal.cursor().next()).unwrap();
    assert_eq!(append(&opened.journal, 3, 3).await, Ok(Appended::Stored));
}

#[tokio::test]
async fn a_plan_survives_until_it_is_finished_and_nothing_below_the_cursor_comes_back() {
    let opened = open();
    for sequence in 1..=4 {
        append(&opened.journal, sequence, sequence).await.unwrap();
    }
    opened.journal.put_plan(b"insert 0 to 2").unwrap();
    opened.journal.put_plan(b"insert 0 to 2").unwrap();
    assert!(matches!(opened.journal.put_plan(b"another"), Err(JournalError::PlanPending)));

    let opened = reopen(opened).await;
    assert_eq!(opened.journal.plan().unwrap().as_deref(), Some(&b"insert 0 to 2"[..]));
    opened.journal.finish_plan(JournalPosition::new(3)).unwrap();

    let opened = reopen(opened).await;
    assert_eq!(opened.journal.plan().unwrap(), None);
    assert_eq!(opened.journal.cursor(), JournalPosition::new(3));
    assert_eq!(read_all(&opened.journal), [(4, 4)]);
    opened.journal.put_plan(b"another").unwrap();
}

#[tokio::test]
async fn positions_go_on_where_they_ended_also_if_all_is_processed() {
    let opened = open();
    append(&opened.journal, 1, 1).await.unwrap();
    append(&opened.journal, 2, 2).await.unwrap();
    opened.journal.finish_plan(JournalPosition::new(2)).unwrap();
    let opened = reopen(opened).await;
    assert_eq!(opened.journal.end(), JournalPosition::new(2));
    append(&opened.journal, 3, 3).await.unwrap();
    let read = opened.journal.read_from(JournalPosition::START, 10, u64::MAX).unwrap();
    assert_eq!(read.entries[0].position, JournalPosition::new(2));
}

#[tokio::test]
async fn the_cursor_goes_neither_back_nor_beyond_the_end() {
    let opened = open();
    append(&opened.journal, 1, 1).await.unwrap();
    opened.journal.finish_plan(JournalPosition::new(1)).unwrap();
    for wanted in [0, 2] {
        let moved = opened.journal.finish_plan(JournalPosition::new(wanted));
        assert!(matches!(moved, Err(JournalError::CursorOutOfRange { .. })), "{wanted}");
    }
}

#[tokio::test]
async fn the_backlog_is_known_again_after_reopening() {
    let opened = open();
    for sequence in 1..=5 {
        append(&opened.journal, sequence, sequence).await.unwrap();
    }
    opened.journal.finish_plan(JournalPosition::new(2)).unwrap();
    let before = opened.journal.backlog();
    assert_eq!(before.batches, 3);
    let opened = reopen(opened).await;
    let after = opened.journal.backlog();
    assert_eq!(after.batches, 3);
    // The newest entry is counted with its prefix and header after a restart.
    assert!(after.bytes.abs_diff(before.bytes) < 1024, "{before:?} {after:?}");
    opened.journal.finish_plan(opened.journal.end()).unwrap();
    assert_eq!(opened.journal.backlog().bytes, 0);
}

#[tokio::test]
async fn a_read_is_bounded_but_always_returns_one_batch() {
    let opened = open();
    for sequence in 1..=3 {
        append(&opened.journal, sequence, sequence).await.unwrap();
    }
    let read = opened.journal.read_from(JournalPosition::START, 10, 1).unwrap();
    assert_eq!((read.entries.len(), read.next), (1, JournalPosition::new(1)));
    let read = opened.journal.read_from(JournalPosition::START, 2, u64::MAX).unwrap();
    assert_eq!((read.entries.len(), read.next), (2, JournalPosition::new(2)));
}

#[tokio::test]
async fn a_damaged_entry_is_reported_and_those_around_it_are_read() {
    let opened = open();
    for sequence in 1..=3 {
        append(&opened.journal, sequence, sequence).await.unwrap();
    }
    let store = &opened.journal.shared.store;
    let position = JournalPosition::new(1);
    let mut value = store.entry(position).unwrap().unwrap().to_vec();
    *value.last_mut().unwrap() ^= 1;
    let mut transaction = Transaction::default();
    store.put_entry(&mut transaction, position, value);
    store.commit(transaction).unwrap();

    let read = opened.journal.read_from(JournalPosition::START, 10, u64::MAX).unwrap();
    let positions: Vec<_> = read.entries.iter().map(|entry| entry.position.get()).collect();
    assert_eq!(positions, [0, 2]);
    assert_eq!(read.corrupt.len(), 1);
    assert_eq!(read.corrupt[0].position, position);
    assert_eq!(opened.journal.shared.metrics.corrupt_entries.get(), 1);
    assert_eq!(read.next, JournalPosition::new(3));
}

#[tokio::test]
async fn a_spool_keeps_its_owner_until_that_is_replaced_by_name() {
    let opened = open();
    let [first, second] = [1, 2].map(|byte| RelayId::from_random([byte; 16]));
    assert_eq!(opened.journal.claim_spool(spool(), first, None).unwrap(), SpoolClaim::Granted);
    let opened = reopen(opened).await;
    assert_eq!(opened.journal.claim_spool(spool(), first, None).unwrap(), SpoolClaim::Granted);
    assert_eq!(opened.journal.claim_spool(spool(), second, None).unwrap(), SpoolClaim::OwnedBy(first));
    assert_eq!(opened.journal.claim_spool(spool(), second, Some(first)).unwrap(), SpoolClaim::Granted);
    assert_eq!(opened.journal.claim_spool(spool(), first, None).unwrap(), SpoolClaim::OwnedBy(second));
}

#[tokio::test]
async fn shutdown_commits_what_is_queued_and_refuses_what_comes_later() {
    let opened = open();
    let mut waiting = tokio::task::JoinSet::new();
    for sequence in 1..=20 {
        let journal = opened.journal.clone();
        waiting.spawn(async move { append(&journal, sequence, sequence).await });
    }
    let committer = opened.committer;
    tokio::task::spawn_blocking(|| committer.shutdown()).await.unwrap();
    let mut stored = 0;
    while let Some(appended) = waiting.join_next().await {
        match appended.unwrap() {
            Ok(Appended::Stored) => stored += 1,
            other => assert_eq!(other, Err(AppendError::Closed)),
        }
    }
    assert_eq!(read_all(&opened.journal).len(), stored, "what was answered is there, what was refused is not");
    assert_eq!(append(&opened.journal, 100, 100).await, Err(AppendError::Closed));
}

#[tokio::test]
async fn subscribers_learn_of_the_new_end() {
    let opened = open();
    let mut end = opened.journal.subscribe();
    append(&opened.journal, 1, 1).await.unwrap();
    end.changed().await.unwrap();
    assert_eq!(*end.borrow(), JournalPosition::new(1));
}

/// One step of the model test.
#[derive(Debug, Clone)]
enum Step {
    Append(u64, u64),
    Tombstone(u64, u64),
    Finish,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1_u64..40, 0_u64..4).prop_map(|(first, more)| Step::Append(first, first + more)),
        3 => (1_u64..40, 0_u64..4).prop_map(|(first, more)| Step::Tombstone(first, first + more)),
        1 => Just(Step::Finish),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// The model: the set of stored sequences, and the list of batches that wait.
    #[test]
    fn whatever_happens_each_sequence_is_stored_once(steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut opened = open();
            let mut stored = std::collections::BTreeSet::new();
            let mut waiting = Vec::new();
            for step in steps {
                match step {
                    Step::Append(first, last) | Step::Tombstone(first, last) => {
                        let is_tombstone = matches!(step, Step::Tombstone(..));
                        let known = (first..=last).filter(|sequence| stored.contains(sequence)).count() as u64;
                        let expected = match known {
                            0 => Ok(Appended::Stored),
                            all if all == last - first + 1 => Ok(Appended::Duplicate),
                            _ => Err(AppendError::Overlap),
                        };
                        if expected == Ok(Appended::Stored) {
                            stored.extend(first..=last);
                            if !is_tombstone {
                                waiting.push((first, last));
                            }
                        }
                        let answer = if is_tombstone {
                            append_tombstone(&opened.journal, first, last).await
                        } else {
                            append(&opened.journal, first, last).await
                        };
                        assert_eq!(answer, expected);
                    }
                    Step::Finish => {
                        opened.journal.finish_plan(opened.journal.end()).unwrap();
                        waiting.clear();
                    }
                    Step::Reopen => opened = reopen(opened).await,
                }
                assert_eq!(read_all(&opened.journal), waiting);
                let gapless = (1..).take_while(|sequence| stored.contains(sequence)).last().unwrap_or(0);
                assert_eq!(opened.journal.stored_up_to(spool()).unwrap(), Sequence::new(gapless));
            }
        });
    }
}

#[tokio::test]
async fn events_of_a_finished_plan_are_known_also_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let event = |byte| (picket_common::ids::ProjectId::new(1), picket_common::ids::EventId::from_random([byte; 16]));
    {
        let (journal, committer) = Journal::open(directory.path(), &JournalConfig::default()).unwrap();
        assert_eq!(journal.known_events(&[event(1)], Timestamp::now()).unwrap(), [false]);
        journal
            .finish_plan_with(journal.cursor(), &Finished { events: &[event(1)], dead_letters: &[] }, Timestamp::now())
            .unwrap();
        drop(journal);
        tokio::task::spawn_blocking(move || committer.shutdown()).await.unwrap();
    }
    let (journal, _committer) = Journal::open(directory.path(), &JournalConfig::default()).unwrap();
    assert_eq!(journal.known_events(&[event(1), event(2)], Timestamp::now()).unwrap(), [true, false]);
}

/// A waiter without an answer would hold its relay's stream, and the aggregator would look alive.
#[tokio::test]
async fn after_a_panic_of_the_commit_thread_every_append_hears_that_the_journal_is_closed() {
    let opened = open();
    // No batch begins at 0. Intake refuses such a header; the thread takes it for a bug and panics in a debug build.
    let (mut header, payload) = batch(1, 1);
    (header.first, header.last) = (Sequence::new(0), Sequence::new(0));
    let (reply, answer) = oneshot::channel();
    opened.journal.requests.send(Request::Append(AppendRequest { header, payload, epoch: None, reply })).await.unwrap();
    let others: Vec<_> = (1..50)
        .map(|sequence| {
            let journal = opened.journal.clone();
            tokio::spawn(async move { append(&journal, sequence, sequence).await })
        })
        .collect();
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, opened.journal.closed()).await.expect("the end of the thread is not seen");
    assert!(answer.await.is_err());
    for other in others {
        let answer = tokio::time::timeout(patience, other).await.expect("an append hangs").unwrap();
        assert!(matches!(answer, Err(AppendError::Closed)), "{answer:?}");
    }
    tokio::task::spawn_blocking(|| opened.committer.shutdown()).await.unwrap();
}
