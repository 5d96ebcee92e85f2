//! Forks on real files.
#![allow(clippy::unwrap_used)]

use picket_common::ids::{Sequence, SpoolId};
use picket_common::wire::lineage::SessionId;
use tempfile::TempDir;

use super::super::tests::{ALL, open, record, small};
use super::super::{Committer, Spool};
use super::{ForkPoint, FormerId};

async fn reopened(directory: &TempDir, spool: Spool, committer: Committer) -> (Spool, Committer) {
    drop(spool);
    committer.close().await;
    open(directory, &small())
}

fn ids(spool: &Spool) -> Vec<SpoolId> {
    let batches = spool.read_from(Sequence::FIRST, ALL).unwrap();
    batches.iter().map(|batch| batch.header.spool_id).collect()
}

async fn append(spool: &Spool, records: u64) {
    for number in 0..records {
        spool.append(record("x", number)).await.unwrap();
    }
}

#[tokio::test]
async fn a_fork_leaves_what_is_before_it_its_id_and_lasts() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    append(&spool, 3).await;
    let old = spool.id();
    let new = spool.fork(ForkPoint::After(Sequence::new(2)), [5; 16]).unwrap();
    append(&spool, 1).await;
    assert_eq!(ids(&spool), [old, old, new, new]);

    let (spool, _committer) = reopened(&directory, spool, committer).await;
    assert_eq!(ids(&spool), [old, old, new, new]);
    assert_eq!(spool.id(), new);
    assert_eq!(spool.former_ids(), [FormerId { spool_id: old, up_to: Sequence::new(2) }]);
    assert_eq!(spool.lineage().last_session, None);
}

#[tokio::test]
async fn what_is_stored_of_one_id_says_nothing_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    append(&spool, 3).await;
    let old = spool.id();
    let new = spool.fork(ForkPoint::After(Sequence::new(2)), [5; 16]).unwrap();
    append(&spool, 1).await;

    assert_eq!(spool.forget_stored(Sequence::new(3)).unwrap(), 1);
    assert_eq!(ids(&spool), [old, old, new]);
    assert_eq!(spool.forget_former(old, Sequence::new(1)).unwrap(), 1);
    assert_eq!(spool.former_ids().len(), 1, "one of its batches is left");
    assert_eq!(spool.forget_former(old, Sequence::new(9)).unwrap(), 1);
    assert_eq!((ids(&spool), spool.former_ids()), (vec![new], vec![]));
}

#[tokio::test]
async fn a_second_fork_before_the_first_one_changes_nothing_below_it() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    append(&spool, 3).await;
    let first = spool.id();
    spool.fork(ForkPoint::After(Sequence::new(2)), [5; 16]).unwrap();
    let last = spool.fork(ForkPoint::After(Sequence::new(1)), [6; 16]).unwrap();
    assert_eq!(ids(&spool), [first, first, last]);
}

#[tokio::test]
async fn a_fork_of_everything_leaves_no_former_id() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    append(&spool, 3).await;
    spool.fork(ForkPoint::After(Sequence::new(2)), [5; 16]).unwrap();
    let new = spool.fork(ForkPoint::Everything, [6; 16]).unwrap();
    assert_eq!((ids(&spool), spool.former_ids()), (vec![new, new, new], vec![]));
    let (spool, _committer) = reopened(&directory, spool, committer).await;
    assert_eq!((ids(&spool), spool.former_ids()), (vec![new, new, new], vec![]));
}

#[tokio::test]
async fn a_session_is_known_after_a_restart_as_that_of_another_process() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &small());
    append(&spool, 2).await;
    let session = SessionId::from_random([7; 16]);
    spool.note_session(Some(session)).unwrap();
    let lineage = spool.lineage();
    assert_eq!((lineage.last_session, lineage.is_same_process), (Some(session), true));

    let (spool, _committer) = reopened(&directory, spool, committer).await;
    let lineage = spool.lineage();
    assert_eq!((lineage.last_session, lineage.is_same_process), (Some(session), false));
    assert_eq!(lineage.mark, Sequence::new(2));
}
