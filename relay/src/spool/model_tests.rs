//! Random sequences of actions on a spool, compared with a model of what it promises.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use picket_common::config::Span;
use picket_common::ids::{ProjectId, Sequence};
use picket_common::timestamp::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;

use super::tests::{ALL, noise, open, record, records, small};
use super::*;

#[derive(Debug, Clone)]
enum Action {
    /// Append this many records at once.
    Append(u64),
    /// Append so much of one project that lanes come into use.
    Flood,
    /// Acknowledge the batch at this place among those there, if there is one.
    Acknowledge(usize),
    /// Set that batch aside.
    SetAside(usize),
    /// Forget everything up to this fraction of what was ever sealed, in percent.
    Forget(u64),
    /// Drop everything that is sealed for its age.
    Expire,
    /// Close and open again.
    Reopen,
    /// Go on with what a kill would leave.
    Crash,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1_u64..5).prop_map(Action::Append),
        1 => Just(Action::Flood),
        3 => (0_usize..6).prop_map(Action::Acknowledge),
        1 => (0_usize..6).prop_map(Action::SetAside),
        1 => (0_u64..=100).prop_map(Action::Forget),
        1 => Just(Action::Expire),
        1 => Just(Action::Reopen),
        1 => Just(Action::Crash),
    ]
}

/// What the spool must hold: every record that was answered and has not left. Which sequence a record has is the spool's to say,
/// once.
#[derive(Debug, Default)]
struct Model {
    records: BTreeSet<Bytes>,
    appended: u64,
    /// Everything that was ever read, by sequence.
    seen: BTreeMap<u64, Bytes>,
    set_aside: u64,
}

/// What is appended.
#[derive(Debug, Clone, Copy)]
enum Load {
    /// A few bytes each, of three projects in turn.
    Small,
    /// More than a backlog, of one of them.
    Flood,
}

struct Subject {
    directory: TempDir,
    config: SpoolConfig,
    open: Option<(Spool, Committer)>,
}

impl Subject {
    fn spool(&self) -> &Spool {
        &self.open.as_ref().unwrap().0
    }

    /// Everything that is sealed. Each look may be the first at a batch, and the last.
    fn read(&self, model: &mut Model) -> Vec<SealedBatch> {
        let batches = self.spool().read_from(Sequence::FIRST, ALL).unwrap();
        for batch in &batches {
            for (sequence, record) in (batch.header.first.get()..).zip(records(batch)) {
                let seen = model.seen.entry(sequence).or_insert_with(|| record.body.clone());
                assert_eq!(*seen, record.body, "sequence {sequence} was given before");
            }
        }
        batches
    }

    async fn append(&self, model: &mut Model, count: u64, load: Load) {
        let appends: Vec<_> = (0..count)
            .map(|number| {
                let number = model.appended + number;
                let (body, project) = match load {
                    Load::Small => (format!("body {number}").into_bytes(), 1 + number % 3),
                    Load::Flood => (noise(300_000, 2 * number + 1), 3),
                };
                let body = Bytes::from(body);
                let spool = self.spool().clone();
                let task = tokio::spawn({
                    let body = body.clone();
                    async move {
                        let mut record = record(body, 7);
                        record.header.project_id = ProjectId::new(project);
                        spool.append(record).await
                    }
                });
                (task, body)
            })
            .collect();
        for (task, body) in appends {
            task.await.unwrap().unwrap();
            assert!(model.records.insert(body));
        }
        model.appended += count;
    }

    fn leave(&self, model: &mut Model, place: usize, is_acknowledged: bool) {
        let batches = self.read(model);
        let Some(batch) = batches.get(place) else { return };
        let header = &batch.header;
        if is_acknowledged {
            self.spool().acknowledge(header.first, header.last).unwrap();
        } else {
            self.spool().set_aside(header.first, SetAsideReason::RefusedCorrupt, "test").unwrap();
            // A tombstone has nothing to keep.
            model.set_aside += u64::from(!header.is_tombstone);
        }
        records(batch).iter().for_each(|record| assert!(model.records.remove(&record.body)));
    }

    fn forget(&self, model: &mut Model, percent: u64) {
        let up_to = self.spool().subscribe().borrow().get() * percent / 100;
        for batch in self.read(model).iter().filter(|batch| batch.header.last.get() <= up_to) {
            records(batch).iter().for_each(|record| assert!(model.records.remove(&record.body)));
        }
        self.spool().forget_stored(Sequence::new(up_to)).unwrap();
    }

    /// Every record was received at 7 ms.
    async fn expire(&self, model: &mut Model) {
        if self.config.linger < Span::secs(1) {
            // So that nothing is sealed between the two looks below.
            let mut sealed = self.spool().subscribe();
            sealed.wait_for(|last| last.get() == model.appended).await.unwrap();
        }
        for batch in self.read(model) {
            records(&batch).iter().for_each(|record| assert!(model.records.remove(&record.body)));
        }
        self.spool().expire(Timestamp::from_millis(60_008)).unwrap();
        assert!(self.read(model).iter().all(|batch| batch.header.is_tombstone));
    }

    async fn reopen(&mut self) {
        let (spool, committer) = self.open.take().unwrap();
        drop(spool);
        committer.close().await;
        self.open = Some(open(&self.directory, &self.config));
    }

    /// A copy of the files as they are. RocksDB may delete one meanwhile that it needs no more; then what refers to it was replaced
    /// as well, and the copying begins anew.
    fn copied(&self) -> TempDir {
        let from = self.directory.path().join("spool");
        loop {
            let copy = tempfile::tempdir().unwrap();
            let to = copy.path().join("spool");
            std::fs::create_dir(&to).unwrap();
            let names = std::fs::read_dir(&from).unwrap().map(|file| file.unwrap().file_name());
            let copied: std::io::Result<Vec<u64>> =
                names.map(|name| std::fs::copy(from.join(&name), to.join(&name))).collect();
            match copied {
                Ok(_) => return copy,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Goes on with a copy of the files as they are: nothing was closed or sealed.
    async fn crash(&mut self) {
        let copy = self.copied();
        let (spool, committer) = self.open.take().unwrap();
        drop(spool);
        committer.close().await;
        self.directory = copy;
        self.open = Some(open(&self.directory, &self.config));
    }

    /// What a reader gets that takes the lanes in turn: the same batches, each project's records in their order.
    fn compare_turns(&self, batches: &[SealedBatch]) {
        let mut cursor = ReadCursor::default();
        let mut in_turn = self.spool().read_next(&mut cursor, ALL).unwrap();
        let mut last: BTreeMap<ProjectId, u64> = BTreeMap::new();
        for batch in &in_turn {
            for (sequence, record) in (batch.header.first.get()..).zip(records(batch)) {
                let before = last.insert(record.header.project_id, sequence);
                assert!(before.is_none_or(|before| before < sequence), "{sequence} is read after {before:?}");
            }
        }
        in_turn.sort_by_key(|batch| batch.header.first);
        in_turn.retain(|batch| batches.last().is_some_and(|last| batch.header.first <= last.header.first));
        assert_eq!(in_turn, batches);
    }

    fn compare(&self, model: &mut Model) {
        // Looked at between two seals.
        let (end, batches) = loop {
            let end = *self.spool().subscribe().borrow();
            let batches = self.read(model);
            if *self.spool().subscribe().borrow() == end {
                break (end.get(), batches);
            }
        };
        self.compare_turns(&batches);
        let mut found = BTreeSet::new();
        for batch in batches {
            records(&batch).into_iter().for_each(|record| assert!(found.insert(record.body)));
        }
        let usage = self.spool().usage();
        assert_eq!(usage.records, model.records.len() as u64);
        assert!(found.is_subset(&model.records));
        assert_eq!(model.records.len() - found.len(), usize::try_from(model.appended - end).unwrap());
        assert!(model.seen.keys().copied().eq(1..=end), "sequences have no gaps");
        assert_eq!(usage.quarantined_batches, model.set_aside);
        assert_eq!(usage.oldest_received_at.is_some(), !model.records.is_empty());
    }
}

async fn play(actions: Vec<Action>, config: SpoolConfig) {
    let directory = tempfile::tempdir().unwrap();
    let opened = open(&directory, &config);
    let mut subject = Subject { directory, config, open: Some(opened) };
    let mut model = Model::default();
    for action in actions {
        match action {
            Action::Append(count) => subject.append(&mut model, count, Load::Small).await,
            Action::Flood => subject.append(&mut model, 8, Load::Flood).await,
            Action::Acknowledge(place) => subject.leave(&mut model, place, true),
            Action::SetAside(place) => subject.leave(&mut model, place, false),
            Action::Forget(percent) => subject.forget(&mut model, percent),
            Action::Expire => subject.expire(&mut model).await,
            Action::Reopen => subject.reopen().await,
            Action::Crash => subject.crash().await,
        }
        subject.compare(&mut model);
    }
    subject.reopen().await;
    subject.compare(&mut model);
    assert_eq!(subject.spool().subscribe().borrow().get(), model.appended);
}

/// Batches of one commit; batches that only fullness seals, or closing; batches that may be sealed at any moment.
fn config() -> impl Strategy<Value = SpoolConfig> {
    prop_oneof![Just((0, 512)), Just((10_000, 4)), Just((2, 4))].prop_map(|(linger, batch_records)| SpoolConfig {
        linger: Span::millis(linger),
        batch_records,
        max_age: Span::secs(60),
        ..small()
    })
}

proptest! {
    // Each case opens databases and waits for real fsyncs.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_spool_holds_what_was_answered_and_has_not_left(
        actions in proptest::collection::vec(action(), 1..25),
        config in config(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(actions, config));
    }
}
