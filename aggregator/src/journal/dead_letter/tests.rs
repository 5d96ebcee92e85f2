#![allow(clippy::unwrap_used)]
use picket_common::config::ByteSize;
use tempfile::TempDir;

use super::super::{Finished, JournalCommitter, JournalConfig};
use super::*;

struct Opened {
    journal: Journal,
    _committer: JournalCommitter,
    directory: TempDir,
}

fn config(max_bytes: u64) -> JournalConfig {
    JournalConfig { dead_letter_max_bytes: ByteSize::bytes(max_bytes), ..JournalConfig::default() }
}

fn open_in(directory: TempDir, max_bytes: u64) -> Opened {
    let (journal, committer) = Journal::open(directory.path(), &config(max_bytes)).unwrap();
    Opened { journal, _committer: committer, directory }
}

fn open() -> Opened {
    open_in(tempfile::tempdir().unwrap(), 1 << 20)
}

fn reopen(opened: Opened) -> Opened {
    let Opened { journal, _committer, directory } = opened;
    drop(journal);
    drop(_committer);
    open_in(directory, 1 << 20)
}

fn letter(bytes: &'static [u8]) -> NewDeadLetter {
    NewDeadLetter {
        reason: DeadLetterReason::Refused,
        detail: "type mismatch".to_owned(),
        project_id: Some(ProjectId::new(3)),
        event_id: Some(EventId::from_random([4; 16])),
        origin: Some((SpoolId::from_random([7; 16]), Sequence::new(5), Sequence::new(5))),
        form: Form::Records,
        raw_bytes: bytes.len() as u64,
        bytes: Bytes::from_static(bytes),
    }
}

fn set_aside(journal: &Journal, letters: &[NewDeadLetter]) {
    let finished = Finished { events: &[], dead_letters: letters };
    journal.finish_plan_with(journal.cursor(), &finished, Timestamp::EPOCH).unwrap();
}

fn ids(journal: &Journal) -> Vec<u64> {
    journal.dead_letters(100).unwrap().iter().map(|letter| letter.id).collect()
}

#[test]
fn a_dead_letter_is_there_with_its_bytes_after_reopening_and_its_id_is_not_used_again() {
    let opened = open();
    set_aside(&opened.journal, &[letter(b"one"), letter(b"two")]);
    let opened = reopen(opened);
    assert_eq!(opened.journal.dead_letter_totals(), DeadLetterTotals { count: 2, bytes: 6 });
    let (found, bytes) = opened.journal.dead_letter(2).unwrap().unwrap();
    assert_eq!(
        (found.reason, found.project_id, &bytes[..]),
        (DeadLetterReason::Refused, letter(b"").project_id, &b"two"[..])
    );
    assert!(opened.journal.drop_dead_letter(2).unwrap());
    assert!(!opened.journal.drop_dead_letter(2).unwrap());
    let opened = reopen(opened);
    set_aside(&opened.journal, &[letter(b"three")]);
    assert_eq!(ids(&opened.journal), [1, 3]);
    assert_eq!(opened.journal.dead_letter_totals(), DeadLetterTotals { count: 2, bytes: 8 });
}

#[test]
fn beyond_the_budget_the_oldest_go_and_what_is_larger_keeps_no_bytes() {
    let opened = open_in(tempfile::tempdir().unwrap(), 10);
    set_aside(&opened.journal, &[letter(b"four"), letter(b"five")]);
    set_aside(&opened.journal, &[letter(b"six"), letter(b"seven")]);
    assert_eq!(ids(&opened.journal), [3, 4]);
    set_aside(&opened.journal, &[letter(b"eleven bytes")]);
    assert_eq!(ids(&opened.journal), [3, 4, 5]);
    assert_eq!(opened.journal.dead_letter(5).unwrap().unwrap().0.bytes, 0);
    set_aside(&opened.journal, &[letter(b"aaaaaa"), letter(b"bbbbbb"), letter(b"cccccc")]);
    assert_eq!(ids(&opened.journal), [8], "a plan's own go too");
    assert_eq!(opened.journal.dead_letter_totals(), DeadLetterTotals { count: 1, bytes: 6 });
    assert_eq!(opened.journal.shared.metrics.dead_letters_evicted.get(), 7);
}

#[tokio::test]
async fn a_replayed_dead_letter_is_a_batch_again_under_its_sequence_and_gone_from_the_letters() {
    let opened = open();
    set_aside(&opened.journal, &[letter(b"a record")]);
    let position = opened.journal.replay_dead_letter(1).await.unwrap();
    assert!(matches!(opened.journal.replay_dead_letter(1).await, Err(ReplayError::NotFound(1))));
    let opened = reopen(opened);
    assert_eq!(ids(&opened.journal), [] as [u64; 0]);
    let read = opened.journal.read_from(position, 1, u64::MAX).unwrap();
    let entry = &read.entries[0];
    assert!(entry.is_replay);
    assert_eq!((entry.header.first, entry.header.last), (Sequence::new(5), Sequence::new(5)));
    assert_eq!(zstd::bulk::decompress(&entry.payload, 100).unwrap(), b"a record");
}

#[tokio::test]
async fn what_is_no_batch_is_not_replayed_and_stays() {
    let opened = open();
    let damaged = NewDeadLetter { form: Form::Entry, ..letter(b"x") };
    let nobodys = NewDeadLetter { origin: None, ..letter(b"x") };
    set_aside(&opened.journal, &[damaged, nobodys, letter(b"")]);
    for id in 1..=3 {
        let refused = opened.journal.replay_dead_letter(id).await;
        assert!(matches!(refused, Err(ReplayError::NoBatch { .. })), "{refused:?}");
    }
    assert_eq!(ids(&opened.journal), [1, 2, 3]);
}
