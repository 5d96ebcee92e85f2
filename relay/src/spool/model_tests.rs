//! Random sequences of actions on a spool, compared with a model of what it promises.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bytes::Bytes;
use picket_common::ids::Sequence;
use proptest::prelude::*;
use tempfile::TempDir;

use super::tests::{ALL, open, record, records, small};
use super::*;

#[derive(Debug, Clone)]
enum Action {
    /// Append this many records at once.
    Append(usize),
    /// Acknowledge the batch at this place among those there, if there is one.
    Acknowledge(usize),
    /// Set that batch aside.
    SetAside(usize),
    /// Forget everything up to this fraction of what was ever sealed, in percent.
    Forget(u64),
    /// Close and open again.
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1_usize..5).prop_map(Action::Append),
        3 => (0_usize..6).prop_map(Action::Acknowledge),
        1 => (0_usize..6).prop_map(Action::SetAside),
        1 => (0_u64..=100).prop_map(Action::Forget),
        1 => Just(Action::Reopen),
    ]
}

/// What the spool must hold: every record that was answered and has not left, by sequence.
#[derive(Debug, Default)]
struct Model {
    records: BTreeMap<u64, Bytes>,
    next: u64,
    set_aside: u64,
}

struct Subject {
    directory: TempDir,
    open: Option<(Spool, Committer)>,
}

impl Subject {
    fn spool(&self) -> &Spool {
        &self.open.as_ref().unwrap().0
    }

    async fn append(&self, model: &mut Model, count: usize) {
        let appends: Vec<_> = (0..count)
            .map(|number| {
                let body = Bytes::from(format!("body {number} of {}", model.next));
                let spool = self.spool().clone();
                let task = tokio::spawn({
                    let body = body.clone();
                    async move { spool.append(record(body, 7)).await }
                });
                (task, body)
            })
            .collect();
        for (task, body) in appends {
            let sequence = task.await.unwrap().unwrap().get();
            assert!(sequence > model.next - 1, "sequence {sequence} was given before");
            assert!(model.records.insert(sequence, body).is_none());
        }
        model.next += count as u64;
    }

    fn leave(&self, model: &mut Model, place: usize, is_acknowledged: bool) {
        let batches = self.spool().read_from(Sequence::FIRST, ALL).unwrap();
        let Some(header) = batches.get(place).map(|batch| &batch.header) else { return };
        if is_acknowledged {
            self.spool().acknowledge(header.first, header.last).unwrap();
        } else {
            self.spool().set_aside(header.first, SetAsideReason::RefusedCorrupt, "test").unwrap();
            model.set_aside += 1;
        }
        model.records.retain(|sequence, _| !(header.first.get()..=header.last.get()).contains(sequence));
    }

    fn forget(&self, model: &mut Model, percent: u64) {
        let up_to = (model.next - 1) * percent / 100;
        for batch in self.spool().read_from(Sequence::FIRST, ALL).unwrap() {
            let header = batch.header;
            if header.last.get() <= up_to {
                model.records.retain(|sequence, _| !(header.first.get()..=header.last.get()).contains(sequence));
            }
        }
        self.spool().forget_stored(Sequence::new(up_to)).unwrap();
    }

    async fn reopen(&mut self) {
        let (spool, committer) = self.open.take().unwrap();
        drop(spool);
        committer.close().await;
        self.open = Some(open(&self.directory, &small()));
    }

    fn compare(&self, model: &Model) {
        let mut found = BTreeMap::new();
        for batch in self.spool().read_from(Sequence::FIRST, ALL).unwrap() {
            for (sequence, record) in (batch.header.first.get()..).zip(records(&batch)) {
                found.insert(sequence, record.body);
            }
        }
        assert_eq!(found, model.records);
        let usage = self.spool().usage();
        assert_eq!(usage.records, model.records.len() as u64);
        assert_eq!(usage.quarantined_batches, model.set_aside);
        assert_eq!(usage.oldest_received_at.is_some(), !model.records.is_empty());
        assert_eq!(*self.spool().subscribe().borrow(), Sequence::new(model.next - 1));
    }
}

async fn play(actions: Vec<Action>) {
    let directory = tempfile::tempdir().unwrap();
    let opened = open(&directory, &small());
    let mut subject = Subject { directory, open: Some(opened) };
    let mut model = Model { next: 1, ..Model::default() };
    for action in actions {
        match action {
            Action::Append(count) => subject.append(&mut model, count).await,
            Action::Acknowledge(place) => subject.leave(&mut model, place, true),
            Action::SetAside(place) => subject.leave(&mut model, place, false),
            Action::Forget(percent) => subject.forget(&mut model, percent),
            Action::Reopen => subject.reopen().await,
        }
        subject.compare(&model);
    }
}

proptest! {
    // Each case opens databases and waits for real fsyncs.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_spool_holds_what_was_answered_and_has_not_left(actions in proptest::collection::vec(action(), 1..25)) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(play(actions));
    }
}
