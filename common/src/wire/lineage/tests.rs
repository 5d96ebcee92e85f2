//! Directories that are copied, opened, filled and connected in any order, against what must hold whatever the order was.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::*;

type Content = u32;
/// An id of a spool; random in the real world.
type Spool = u32;

/// A spool's directory, as it is on disk.
#[derive(Debug, Clone)]
struct Directory {
    spool: Spool,
    /// The id that records up to a sequence keep, from forks before.
    former: Vec<(Sequence, Spool)>,
    last_session: Option<SessionId>,
    mark: Option<Sequence>,
    records: Vec<Content>,
    /// Sequences that were acknowledged.
    gone: HashSet<usize>,
    process: Option<Process>,
}

#[derive(Debug, Clone, Default)]
struct Process {
    had: Option<SessionId>,
}

#[derive(Debug, Default)]
struct World {
    directories: Vec<Directory>,
    books: HashMap<Spool, SessionBook>,
    /// What the aggregator has.
    stored: BTreeMap<(Spool, usize), Content>,
    next_content: Content,
    next_spool: Spool,
    next_session: u8,
    forks: u32,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Append(usize),
    Restart(usize),
    Copy(usize),
    /// A session that ends after Hello, after the relay wrote it down, or after so many batches were sent.
    Connect(usize, Cut),
    /// Two that are greeted at once, write down what they are offered, and confirm it one after the other.
    ConnectAtOnce(usize, usize),
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    BeforeWelcome,
    BeforeConfirm,
    AfterBatches(usize),
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        world.directories.push(Directory {
            spool: 0,
            former: Vec::new(),
            last_session: None,
            mark: None,
            records: Vec::new(),
            gone: HashSet::new(),
            process: None,
        });
        world.next_spool = 1;
        world.open(0);
        world
    }

    fn open(&mut self, at: usize) {
        let directory = &mut self.directories[at];
        let sealed = Sequence::new(directory.records.len() as u64);
        directory.mark.get_or_insert(sealed);
        directory.process = Some(Process::default());
    }

    fn step(&mut self, step: Step) {
        let count = self.directories.len();
        match step {
            Step::Append(at) => {
                self.directories[at % count].records.push(self.next_content);
                self.next_content += 1;
            }
            Step::Restart(at) => self.open(at % count),
            Step::Copy(at) if count < 4 => {
                let copy = self.directories[at % count].clone();
                self.directories.push(copy);
                self.open(count);
            }
            Step::Copy(_) => {}
            Step::Connect(at, cut) => self.connect(at % count, cut),
            Step::ConnectAtOnce(one, other) => self.connect_at_once(one % count, other % count),
        }
    }

    fn connect(&mut self, at: usize, cut: Cut) {
        match self.greet(at) {
            (_, Greeting::Forked { at: fork }) => self.fork(at, fork),
            (session, Greeting::Welcome) => self.talk(at, session, cut),
        }
    }

    fn greet(&mut self, at: usize) -> (SessionId, Greeting) {
        let directory = &self.directories[at];
        let process = directory.process.as_ref().unwrap();
        let lineage = Lineage {
            last_session: directory.last_session,
            is_same_process: directory.last_session.is_some() && process.had == directory.last_session,
            mark: directory.mark.unwrap_or(Sequence::new(0)),
        };
        self.next_session = self.next_session.wrapping_add(1);
        let session = SessionId::from_random([self.next_session; 16]);
        (session, self.books.entry(directory.spool).or_default().greet(&lineage, session))
    }

    fn connect_at_once(&mut self, one: usize, other: usize) {
        if self.directories[one].spool != self.directories[other].spool {
            return;
        }
        let offers = [one, other].map(|at| (at, self.greet(at)));
        for (at, (session, greeting)) in offers {
            match greeting {
                Greeting::Forked { at: fork } => self.fork(at, fork),
                Greeting::Welcome => self.note(at, session),
            }
        }
        for (at, (session, greeting)) in offers {
            let spool = self.directories[at].spool;
            if greeting == Greeting::Welcome && self.books.get_mut(&spool).unwrap().confirm(session) {
                self.send(at, usize::MAX);
            }
        }
    }

    fn fork(&mut self, at: usize, fork: Sequence) {
        self.forks += 1;
        let directory = &mut self.directories[at];
        directory.former.push((fork, directory.spool));
        directory.spool = self.next_spool;
        directory.last_session = None;
        self.next_spool += 1;
    }

    fn talk(&mut self, at: usize, session: SessionId, cut: Cut) {
        if matches!(cut, Cut::BeforeWelcome) {
            return;
        }
        self.note(at, session);
        let Cut::AfterBatches(batches) = cut else { return };
        let spool = self.directories[at].spool;
        assert!(self.books.get_mut(&spool).unwrap().confirm(session), "the session was offered");
        self.send(at, batches);
    }

    fn note(&mut self, at: usize, session: SessionId) {
        let directory = &mut self.directories[at];
        directory.last_session = Some(session);
        directory.process.as_mut().unwrap().had = Some(session);
        directory.mark = None;
    }

    fn send(&mut self, at: usize, batches: usize) {
        let directory = &mut self.directories[at];
        let waiting: Vec<_> = (0..directory.records.len()).filter(|record| !directory.gone.contains(record)).collect();
        for record in waiting.into_iter().take(batches) {
            let sequence = Sequence::new(record as u64 + 1);
            let former = directory.former.iter().find(|(up_to, _)| sequence <= *up_to);
            let spool = former.map_or(directory.spool, |(_, spool)| *spool);
            let content = directory.records[record];
            let stored = *self.stored.entry((spool, record)).or_insert(content);
            assert_eq!(stored, content, "record {record} of spool {spool} was taken for another: it is lost");
            directory.gone.insert(record);
        }
    }

    fn contents_stored_twice(&self) -> usize {
        let distinct: HashSet<_> = self.stored.values().collect();
        self.stored.len() - distinct.len()
    }
}

fn a_step() -> impl Strategy<Value = Step> {
    let cut = prop_oneof![
        1 => Just(Cut::BeforeWelcome),
        1 => Just(Cut::BeforeConfirm),
        6 => (0_usize..6).prop_map(Cut::AfterBatches),
    ];
    prop_oneof![
        4 => (0_usize..4).prop_map(Step::Append),
        1 => (0_usize..4).prop_map(Step::Restart),
        1 => (0_usize..4).prop_map(Step::Copy),
        1 => ((0_usize..4), (0_usize..4)).prop_map(|(one, other)| Step::ConnectAtOnce(one, other)),
        4 => ((0_usize..4), cut).prop_map(|(at, cut)| Step::Connect(at, cut)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn whatever_is_copied_no_record_is_taken_for_another(steps in proptest::collection::vec(a_step(), 1..40)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
    }
}

fn run(steps: &[Step]) -> World {
    let mut world = World::new();
    for &step in steps {
        world.step(step);
    }
    world
}

const ALL: Cut = Cut::AfterBatches(99);

#[test]
fn a_spool_that_only_reconnects_never_forks() {
    let world = run(&[
        Step::Connect(0, Cut::BeforeWelcome),
        Step::Append(0),
        Step::Connect(0, Cut::BeforeConfirm),
        Step::Restart(0),
        Step::Connect(0, ALL),
        Step::Restart(0),
        Step::Append(0),
        Step::Connect(0, Cut::BeforeWelcome),
        Step::Connect(0, ALL),
    ]);
    assert_eq!((world.forks, world.stored.len()), (0, 2));
}

#[test]
fn of_a_copy_and_its_running_original_each_sends_its_own_and_what_they_share_counts_once() {
    // Original and copy share records 0 and 1, and then go ways of their own; either may come first.
    for order in [[0, 1], [1, 0]] {
        let world = run(&[
            Step::Connect(0, ALL),
            Step::Append(0),
            Step::Append(0),
            Step::Copy(0),
            Step::Append(0),
            Step::Append(1),
            Step::Connect(order[0], ALL),
            Step::Connect(order[1], ALL),
            Step::Connect(order[1], ALL),
            Step::Connect(order[0], ALL),
        ]);
        assert_eq!(world.forks, 1, "{order:?}");
        assert_eq!((world.stored.len(), world.contents_stored_twice()), (4, 0), "{order:?}");
    }
}

#[test]
fn a_copy_that_is_greeted_at_the_same_instant_as_its_original_forks_where_they_parted() {
    let world = run(&[
        Step::Connect(0, ALL),
        Step::Append(0),
        Step::Append(0),
        Step::Copy(0),
        Step::Append(0),
        Step::Append(1),
        Step::ConnectAtOnce(0, 1),
        Step::Connect(0, ALL),
        Step::Connect(0, ALL),
    ]);
    assert_eq!((world.forks, world.stored.len(), world.contents_stored_twice()), (1, 4, 0));
}

#[test]
fn a_snapshot_that_was_turned_back_sends_what_is_new_and_nothing_twice() {
    let world = run(&[
        Step::Connect(0, ALL),
        Step::Append(0),
        // The snapshot, turned back after the original went on and was acknowledged.
        Step::Copy(0),
        Step::Append(0),
        Step::Connect(0, ALL),
        Step::Append(1),
        Step::Connect(1, ALL),
        Step::Connect(1, ALL),
    ]);
    assert_eq!((world.forks, world.stored.len(), world.contents_stored_twice()), (1, 3, 0));
}

#[test]
fn a_copy_older_than_all_that_is_remembered_sends_everything_under_a_new_id() {
    let mut steps = vec![Step::Append(0), Step::Connect(0, ALL), Step::Copy(0)];
    steps.extend([Step::Connect(0, ALL); REMEMBERED_SESSIONS + 1]);
    steps.extend([Step::Append(1), Step::Connect(1, ALL), Step::Connect(1, ALL)]);
    let world = run(&steps);
    assert_eq!((world.forks, world.stored.len()), (1, 2));
}

#[test]
fn a_session_that_was_not_offered_is_not_confirmed() {
    let mut book = SessionBook::default();
    let lineage = Lineage { last_session: None, is_same_process: false, mark: Sequence::new(0) };
    let (first, second) = (SessionId::from_random([1; 16]), SessionId::from_random([2; 16]));
    assert_eq!(book.greet(&lineage, first), Greeting::Welcome);
    assert!(!book.confirm(second));
    assert!(book.confirm(first) && book.confirm(first));
}
