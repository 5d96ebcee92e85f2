//! The ledger on a real database against a model of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use picket_common::timestamp::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::super::{Engine, Node};
use super::*;

const NODES: usize = 2;
const FEW_GAPS: u64 = 4;

struct Shared {
    _directory: TempDir,
    runtime: Runtime,
    database: Database,
    ledgers: Vec<SqlLedger>,
}

fn node(number: usize) -> NodeId {
    NodeId::from_number(number as u128 + 1)
}

fn register(runtime: &Runtime, database: &Database, number: usize) -> SqlLedger {
    let registered = Node::register(database, node(number), "127.0.0.1:7443", Engine::Server, Timestamp::EPOCH);
    let mut ledger = runtime.block_on(registered).unwrap().ledger(runtime.handle().clone());
    ledger.max_gaps = FEW_GAPS;
    ledger
}

fn shared() -> Shared {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let database = runtime.block_on(Database::open(&directory.path().join("picket.db"))).unwrap();
    let ledgers = (0..NODES).map(|number| register(&runtime, &database, number)).collect();
    Shared { _directory: directory, runtime, database, ledgers }
}

fn spool(number: u8) -> SpoolId {
    SpoolId::from_random([number; 16])
}

fn claim(first: u64, last: u64) -> RangeClaim {
    RangeClaim { spool: spool(1), first: Sequence::new(first), last: Sequence::new(last), epoch: None }
}

fn round(number: u64, claims: &[RangeClaim]) -> ClaimRound {
    ClaimRound { number, claims: claims.to_vec() }
}

/// Which sequences are held, one by one.
#[derive(Default)]
struct Model {
    held: BTreeMap<u64, usize>,
}

impl Model {
    fn judge(&mut self, node: usize, first: u64, last: u64) -> Verdict {
        let held = (first..=last).filter(|sequence| self.held.contains_key(sequence)).count() as u64;
        match held {
            0 => {}
            all if all == last - first + 1 => return Verdict::Covered,
            _ => return Verdict::Overlap,
        }
        let before = self.gaps();
        self.held.extend((first..=last).map(|sequence| (sequence, node)));
        if self.gaps() > FEW_GAPS && self.gaps() > before {
            self.held.retain(|sequence, _| !(first..=last).contains(sequence));
            return Verdict::TooManyGaps;
        }
        Verdict::Won
    }

    /// Ranges above the one that begins at 1.
    fn gaps(&self) -> u64 {
        self.held.keys().filter(|&&sequence| sequence != 1 && !self.held.contains_key(&(sequence - 1))).count() as u64
    }

    fn up_to(&self) -> u64 {
        (1..).take_while(|sequence| self.held.contains_key(sequence)).count() as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn rounds_of_two_nodes_are_judged_as_one_list_would_be(
        rounds in proptest::collection::vec(
            (0..NODES, proptest::collection::vec((1_u64..40, 0_u64..6), 1..5), any::<bool>()), 1..25)
    ) {
        let shared = shared();
        let mut model = Model::default();
        let mut numbers = [0_u64; NODES];
        for (node, ranges, asks_again) in rounds {
            numbers[node] += 1;
            let claims: Vec<_> = ranges.iter().map(|&(first, more)| claim(first, first + more)).collect();
            let round = round(numbers[node], &claims);
            let verdicts = shared.ledgers[node].claim(&round).unwrap();
            let expected: Vec<_> =
                ranges.iter().map(|&(first, more)| model.judge(node, first, first + more)).collect();
            prop_assert_eq!(&verdicts, &expected);
            if asks_again {
                prop_assert_eq!(shared.ledgers[node].claim(&round).unwrap(), verdicts);
            }
            let (up_to, highest) = shared.ledgers[1 - node].stored(spool(1)).unwrap();
            prop_assert_eq!(up_to.get(), model.up_to());
            prop_assert_eq!(highest.get(), model.held.keys().next_back().copied().unwrap_or(0));
        }
    }
}

#[test]
fn a_later_session_fences_the_earlier_at_every_node_and_no_former_id() {
    let shared = shared();
    let [one, other] = &shared.ledgers[..] else { panic!("two nodes") };
    let session = |number| SessionId::from_random([number; 16]);
    let hello = |last_session| Lineage { last_session, is_same_process: false, mark: Sequence::new(7) };
    assert_eq!(one.greet(spool(1), &hello(None), session(1)).unwrap(), Greeting::Welcome);
    assert_eq!(one.confirm(spool(1), session(9)).unwrap(), None, "it was not offered");
    let earlier = one.confirm(spool(1), session(1)).unwrap().unwrap();
    // The relay moves: the other node knows the session that it had here, and a copy of the directory is found there.
    assert_eq!(other.greet(spool(1), &hello(None), session(2)).unwrap(), Greeting::Forked { at: Sequence::new(7) });
    assert_eq!(other.greet(spool(1), &hello(Some(session(1))), session(2)).unwrap(), Greeting::Welcome);
    let fenced = |epoch| RangeClaim { epoch: Some(epoch), ..claim(1, 10) };
    assert_eq!(
        one.claim(&round(1, &[fenced(earlier)])).unwrap(),
        [Verdict::Won],
        "the new session is not confirmed yet"
    );
    let later = other.confirm(spool(1), session(2)).unwrap().unwrap();
    assert!(later > earlier);
    let more = |epoch| RangeClaim { epoch, ..claim(11, 20) };
    assert_eq!(one.claim(&round(2, &[more(Some(earlier))])).unwrap(), [Verdict::Fenced]);
    assert_eq!(other.claim(&round(1, &[fenced(later), more(Some(later))])).unwrap(), [Verdict::Covered, Verdict::Won]);
    assert_eq!(one.claim(&round(3, &[more(None)])).unwrap(), [Verdict::Covered]);
    assert!(other.begin_session(spool(1)).unwrap() > later);
}

#[test]
fn a_spool_has_one_owner_at_all_nodes() {
    let shared = shared();
    let [one, other] = &shared.ledgers[..] else { panic!("two nodes") };
    let relay = |number| RelayId::from_random([number; 16]);
    assert_eq!(one.claim_spool(spool(1), relay(1), None).unwrap(), SpoolClaim::Granted);
    assert_eq!(other.claim_spool(spool(1), relay(2), None).unwrap(), SpoolClaim::OwnedBy(relay(1)));
    assert_eq!(other.claim_spool(spool(1), relay(1), None).unwrap(), SpoolClaim::Granted);
    assert_eq!(other.claim_spool(spool(1), relay(2), Some(relay(1))).unwrap(), SpoolClaim::Granted);
    assert_eq!(one.claim_spool(spool(1), relay(1), None).unwrap(), SpoolClaim::OwnedBy(relay(2)));
}

#[test]
fn a_process_whose_node_was_taken_over_claims_nothing() {
    let shared = shared();
    let former = &shared.ledgers[0];
    assert_eq!(former.claim(&round(1, &[claim(1, 5)])).unwrap(), [Verdict::Won]);
    let present = register(&shared.runtime, &shared.database, 0);
    assert!(matches!(former.claim(&round(2, &[claim(6, 9)])), Err(LedgerError::Impostor)));
    assert_eq!(present.claim(&round(1, &[claim(1, 5)])).unwrap(), [Verdict::Won], "its last round is known still");
    assert!(matches!(present.claim(&round(0, &[claim(6, 9)])), Err(LedgerError::RoundIsPast { last: 1 })));
    assert_eq!(present.claim(&round(2, &[claim(6, 9)])).unwrap(), [Verdict::Won]);
}

#[test]
fn a_sequence_that_no_spool_can_have_is_refused_and_the_rest_of_its_round_is_not() {
    let shared = shared();
    let claims = [claim(5, 6), claim(u64::MAX - 1, u64::MAX), claim(1, 4)];
    let verdicts = shared.ledgers[0].claim(&round(1, &claims)).unwrap();
    assert_eq!(verdicts, [Verdict::Won, Verdict::TooManyGaps, Verdict::Won]);
}
