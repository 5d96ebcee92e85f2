//! Two journals and one ledger that fails between any two steps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use picket_common::wire::BatchHeader;
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::{Journal, JournalCommitter, JournalConfig};
use super::*;

const NODES: usize = 2;
const BATCHES: u64 = 6;
const BATCH_RECORDS: u64 = 10;

/// What the nodes share.
#[derive(Debug, Default)]
struct Database {
    /// By first and last sequence.
    held: BTreeMap<(SpoolId, u64, u64), usize>,
    rounds: [(u64, Vec<Verdict>); NODES],
    epoch: u64,
}

/// What goes wrong when a node asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The question does not arrive.
    Unasked,
    /// The answer does not arrive.
    Unheard,
}

/// One node's way to the database.
#[derive(Debug)]
struct FaultyLedger {
    node: usize,
    database: Arc<Mutex<Database>>,
    /// And whether it stays so until the node is opened anew.
    fault: Arc<Mutex<Option<(Fault, bool)>>>,
}

impl FaultyLedger {
    fn judge(&self, round: &ClaimRound) -> Result<Vec<Verdict>, LedgerError> {
        let mut database = self.database.lock().unwrap();
        let (last, verdicts) = &database.rounds[self.node];
        match last.cmp(&round.number) {
            std::cmp::Ordering::Equal => return Ok(verdicts.clone()),
            std::cmp::Ordering::Greater => return Err(LedgerError::RoundIsPast { last: *last }),
            std::cmp::Ordering::Less => {}
        }
        let mut verdicts = Vec::new();
        for claim in &round.claims {
            let key = (claim.spool, claim.first.get(), claim.last.get());
            let verdict = match claim.epoch {
                Some(epoch) if epoch.get() != database.epoch => Verdict::Fenced,
                _ if database.held.contains_key(&key) => Verdict::Covered,
                _ => {
                    database.held.insert(key, self.node);
                    Verdict::Won
                }
            };
            verdicts.push(verdict);
        }
        database.rounds[self.node] = (round.number, verdicts.clone());
        Ok(verdicts)
    }
}

impl SpoolLedger for FaultyLedger {
    fn claim(&self, round: &ClaimRound) -> Result<Vec<Verdict>, LedgerError> {
        let fault = {
            let mut fault = self.fault.lock().unwrap();
            let now = *fault;
            if now.is_some_and(|(_, stays)| !stays) {
                *fault = None;
            }
            now.map(|(fault, _)| fault)
        };
        let away = || LedgerError::Away("on purpose".to_owned());
        match fault {
            None => self.judge(round),
            Some(Fault::Unasked) => Err(away()),
            Some(Fault::Unheard) => {
                self.judge(round)?;
                Err(away())
            }
        }
    }

    fn claim_spool(&self, _: SpoolId, _: RelayId, _: Option<RelayId>) -> Result<SpoolClaim, LedgerError> {
        Ok(SpoolClaim::Granted)
    }

    fn stored(&self, _: SpoolId) -> Result<(Sequence, Sequence), LedgerError> {
        Ok((Sequence::new(0), Sequence::new(0)))
    }

    fn greet(&self, _: SpoolId, _: &Lineage, _: SessionId) -> Result<Greeting, LedgerError> {
        Ok(Greeting::Welcome)
    }

    fn confirm(&self, spool: SpoolId, _: SessionId) -> Result<Option<SessionEpoch>, LedgerError> {
        self.begin_session(spool).map(Some)
    }

    fn begin_session(&self, _: SpoolId) -> Result<SessionEpoch, LedgerError> {
        let mut database = self.database.lock().unwrap();
        database.epoch += 1;
        Ok(SessionEpoch::new(database.epoch))
    }
}

struct OpenNode {
    journal: Journal,
    committer: JournalCommitter,
}

struct TestNode {
    number: usize,
    directory: TempDir,
    database: Arc<Mutex<Database>>,
    fault: Arc<Mutex<Option<(Fault, bool)>>>,
    open: Option<OpenNode>,
}

impl TestNode {
    fn new(number: usize, database: &Arc<Mutex<Database>>) -> Self {
        let (directory, database) = (tempfile::tempdir().unwrap(), Arc::clone(database));
        let mut this = Self { number, directory, database, fault: Arc::default(), open: None };
        this.reopen();
        this
    }

    /// As after a kill: nothing that is not on disk is known any more.
    fn reopen(&mut self) {
        self.reopen_to(None);
    }

    fn reopen_to(&mut self, fault: Option<(Fault, bool)>) {
        if let Some(OpenNode { journal, committer }) = self.open.take() {
            drop(journal);
            committer.shutdown();
        }
        *self.fault.lock().unwrap() = fault;
        let ledger =
            FaultyLedger { node: self.number, database: Arc::clone(&self.database), fault: Arc::clone(&self.fault) };
        let (journal, committer) =
            Journal::open_shared(self.directory.path(), &JournalConfig::default(), Arc::new(ledger)).unwrap();
        self.open = Some(OpenNode { journal, committer });
    }

    fn journal(&self) -> &Journal {
        &self.open.as_ref().unwrap().journal
    }

    fn append(&self, spool: SpoolId, batch: u64, epoch: Option<SessionEpoch>) -> Result<Appended, AppendError> {
        let payload = Bytes::from(format!("batch {batch}"));
        let header = BatchHeader {
            spool_id: spool,
            first: Sequence::new(batch * BATCH_RECORDS + 1),
            last: Sequence::new((batch + 1) * BATCH_RECORDS),
            raw_bytes: 100,
            payload_bytes: payload.len() as u64,
            crc32c: crc32c::crc32c(&payload),
            is_tombstone: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.journal().append_in(epoch, header, payload))
    }

    /// The ranges that the worker would process.
    fn readable(&self) -> Vec<(SpoolId, u64, u64)> {
        let read = self.journal().read_from(JournalPosition::START, usize::MAX, u64::MAX).unwrap();
        let range = |entry: &super::super::JournalEntry| {
            (entry.header.spool_id, entry.header.first.get(), entry.header.last.get())
        };
        read.entries.iter().map(range).collect()
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Append { node: usize, batch: u64 },
    Break { node: usize, fault: Fault, stays: bool },
    Reopen { node: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    let fault = prop_oneof![Just(Fault::Unasked), Just(Fault::Unheard)];
    prop_oneof![
        5 => (node.clone(), 0..BATCHES).prop_map(|(node, batch)| Step::Append { node, batch }),
        2 => (node.clone(), fault, any::<bool>()).prop_map(|(node, fault, stays)| Step::Break { node, fault, stays }),
        1 => node.prop_map(|node| Step::Reopen { node }),
    ]
}

fn spool(number: u8) -> SpoolId {
    SpoolId::from_random([number; 16])
}

/// What is readable at a node is what it holds.
fn check_readable(node: &TestNode) {
    let readable = node.readable();
    for range in &readable {
        let holder = node.database.lock().unwrap().held.get(range).copied();
        assert_eq!(holder, Some(node.number), "{range:?} can be read at a node that does not hold it");
    }
    let mut once = readable.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), readable.len(), "a range can be read twice: {readable:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn each_batch_is_held_by_one_node_whatever_fails_between_the_steps(steps in proptest::collection::vec(step(), 1..30)) {
        let database = Arc::<Mutex<Database>>::default();
        let mut nodes: Vec<_> = (0..NODES).map(|number| TestNode::new(number, &database)).collect();
        let mut acknowledged = Vec::new();
        for step in steps {
            match step {
                Step::Append { node, batch } => {
                    if nodes[node].append(spool(1), batch, None).is_ok() {
                        acknowledged.push((spool(1), batch * BATCH_RECORDS + 1, (batch + 1) * BATCH_RECORDS));
                    }
                    check_readable(&nodes[node]);
                }
                Step::Break { node, fault, stays } => *nodes[node].fault.lock().unwrap() = Some((fault, stays)),
                Step::Reopen { node } => nodes[node].reopen(),
            }
        }
        for node in &mut nodes {
            node.reopen();
            // Answered only once what was open before is settled.
            let probe = 100 + node.number as u8;
            prop_assert_eq!(node.append(spool(probe), 0, None), Ok(Appended::Stored));
            check_readable(node);
        }
        let held = database.lock().unwrap().held.clone();
        for range in acknowledged {
            prop_assert!(held.contains_key(&range), "{:?} was acknowledged and nobody holds it", range);
        }
        for (range, &node) in &held {
            prop_assert!(nodes[node].readable().contains(range), "{:?} is lost at node {}", range, node);
        }
    }
}

#[test]
fn a_batch_that_another_node_holds_is_a_duplicate_and_leaves_no_entry() {
    let database = Arc::<Mutex<Database>>::default();
    let nodes: Vec<_> = (0..NODES).map(|number| TestNode::new(number, &database)).collect();
    assert_eq!(nodes[0].append(spool(1), 0, None), Ok(Appended::Stored));
    assert_eq!(nodes[1].append(spool(1), 0, None), Ok(Appended::Duplicate));
    assert_eq!(nodes[1].append(spool(1), 1, None), Ok(Appended::Stored));
    assert_eq!((nodes[0].readable().len(), nodes[1].readable()), (1, vec![(spool(1), 11, 20)]));
}

#[test]
fn a_batch_of_an_earlier_session_is_not_stored() {
    let database = Arc::<Mutex<Database>>::default();
    let nodes: Vec<_> = (0..NODES).map(|number| TestNode::new(number, &database)).collect();
    let earlier = nodes[0].journal().begin_session(spool(1)).unwrap();
    assert_eq!(nodes[0].append(spool(1), 0, Some(earlier)), Ok(Appended::Stored));
    let later = nodes[1].journal().begin_session(spool(1)).unwrap();
    assert_eq!(nodes[0].append(spool(1), 1, Some(earlier)), Err(AppendError::Fenced));
    assert_eq!(nodes[0].readable().len(), 1);
    assert_eq!(nodes[1].append(spool(1), 1, Some(later)), Ok(Appended::Stored));
}

#[test]
fn what_was_claimed_before_a_crash_is_readable_after_it_without_a_new_batch() {
    let database = Arc::<Mutex<Database>>::default();
    let mut node = TestNode::new(0, &database);
    *node.fault.lock().unwrap() = Some((Fault::Unheard, true));
    assert!(matches!(node.append(spool(1), 0, None), Err(AppendError::Failed(_))));
    assert_eq!(node.readable(), [], "nobody knows yet whose it is");
    node.reopen();
    let mut end = node.journal().subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let settled = end.wait_for(|end| *end > JournalPosition::START);
    runtime.block_on(async {
        tokio::time::timeout(std::time::Duration::from_secs(10), settled).await.unwrap().unwrap();
    });
    assert_eq!(node.readable(), [(spool(1), 1, 10)]);
}

#[test]
fn what_was_cut_off_stays_unread_after_a_crash_while_the_database_is_away() {
    let database = Arc::<Mutex<Database>>::default();
    let nodes = [TestNode::new(0, &database), TestNode::new(1, &database)];
    let [mut node, other] = nodes;
    *node.fault.lock().unwrap() = Some((Fault::Unasked, true));
    assert!(matches!(node.append(spool(1), 0, None), Err(AppendError::Failed(_))));
    // The relay goes to the other node with it.
    assert_eq!(other.append(spool(1), 0, None), Ok(Appended::Stored));
    node.reopen_to(Some((Fault::Unasked, true)));
    assert_eq!(node.readable(), []);
    assert!(
        matches!(node.append(spool(1), 1, None), Err(AppendError::Failed(_))),
        "nothing is taken before it is settled"
    );
    assert_eq!(node.readable(), []);
    node.reopen();
    assert_eq!(node.append(spool(1), 1, None), Ok(Appended::Stored));
    assert_eq!((node.readable(), other.readable()), (vec![(spool(1), 11, 20)], vec![(spool(1), 1, 10)]));
}

#[test]
fn a_journal_older_than_the_database_goes_on_after_its_last_round() {
    let database = Arc::<Mutex<Database>>::default();
    database.lock().unwrap().rounds[0] = (7, Vec::new());
    let node = TestNode::new(0, &database);
    assert!(matches!(node.append(spool(1), 0, None), Err(AppendError::Failed(_))));
    assert_eq!(node.append(spool(1), 0, None), Ok(Appended::Duplicate), "it was settled meanwhile");
    assert_eq!(node.append(spool(1), 1, None), Ok(Appended::Stored));
    assert_eq!(node.readable().len(), 2);
}
