//! Claims: how several nodes with a journal each agree on which of them holds a sequence.
//!
//! Where a node is alone, its stored ranges decide, in the write that stores a batch. Where several share a database, a
//! [`SpoolLedger`] there decides, and a batch is on this node's disk before it is claimed:
//!
//! ```text
//! 1 entries, and the round that will claim them ──▶ RocksDB, synced        nobody reads the entries yet
//! 2 the round                                   ──▶ ledger, one transaction ──▶ a verdict for each claim
//! 3 lost entries go, the round is settled       ──▶ RocksDB, not synced     the others can be read; answers go out
//! ```
//!
//! Invariants:
//! - what a node has won is on its disk: a batch that any node acknowledges, as new or as known, is held by exactly one journal,
//!   or was already finished there;
//! - a node has one round at most that is not settled, and begins no other before: the ledger remembers the verdicts of each
//!   node's last round, so a round that was cut off anywhere is asked again and gets the same verdicts;
//! - an entry is read only once its round is settled. A crash after 3 may forget that it was: the next open settles it again,
//!   and the next synced write makes it durable.
//!
//! While the ledger can't be asked, batches are refused (their relays keep them) and the round is asked again until it is settled.
//! What it does not do: know what the ledger is made of.

use std::fmt::Debug;
use std::sync::atomic::Ordering;

use picket_common::failpoint::failpoint;
use picket_common::ids::{RelayId, Sequence, SpoolId};
use picket_common::wire::lineage::{Greeting, Lineage, SessionId};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::committer::AppendRequest;
use super::entry::{self, Source};
use super::shared::Shared;
use super::store::Transaction;
use super::{AppendError, Appended, JournalError, JournalPosition, SpoolClaim};

/// Names the session of a spool that may claim for it; each new session has a greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionEpoch(u64);

impl SessionEpoch {
    /// Wraps a number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Sequences that a node has on its disk and wants to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeClaim {
    /// Whose.
    pub spool: SpoolId,
    /// The first.
    pub first: Sequence,
    /// The last.
    pub last: Sequence,
    /// The session that they came in; none where it is not fenced.
    pub epoch: Option<SessionEpoch>,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The node holds the range.
    Won,
    /// All of it is held already.
    Covered,
    /// Some of it is held already and some is not.
    Overlap,
    /// It would leave more gaps than a spool may have.
    TooManyGaps,
    /// Its session is over: the spool has a later one, here or at another node.
    Fenced,
}

/// The claims of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRound {
    /// Counts the node's rounds.
    pub number: u64,
    /// In order: an earlier one is judged first.
    pub claims: Vec<RangeClaim>,
}

/// Why the ledger gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It can't be asked, or did not answer in time. What was asked may have been done.
    #[error("the database that the nodes share did not answer: {0}")]
    Away(String),
    /// It has a later round of this node: the journal here is older than what it knows.
    #[error("the database knows round {last} of this node already")]
    RoundIsPast {
        /// The node's last round there.
        last: u64,
    },
    /// Another process goes by this node's identity.
    #[error(
        "another process uses this node's identity: was the data directory copied? Give the copy a journal of its own"
    )]
    Impostor,
}

/// Where the nodes of an installation agree who holds what, and which session a spool has. Every method is one transaction,
/// durable when it returns, and blocks.
pub trait SpoolLedger: Debug + Send + Sync {
    /// Judges a round of this node's claims; the same verdicts again where it was judged before.
    ///
    /// # Errors
    /// [`LedgerError`]; then it may have been judged all the same.
    fn claim(&self, round: &ClaimRound) -> Result<Vec<Verdict>, LedgerError>;

    /// As [`super::Journal::claim_spool`].
    ///
    /// # Errors
    /// [`LedgerError`].
    fn claim_spool(&self, spool: SpoolId, relay: RelayId, replaces: Option<RelayId>)
    -> Result<SpoolClaim, LedgerError>;

    /// Up to where all of a spool is held by any node, and the highest sequence of it that is.
    ///
    /// # Errors
    /// [`LedgerError`].
    fn stored(&self, spool: SpoolId) -> Result<(Sequence, Sequence), LedgerError>;

    /// As [`super::Journal::greet_spool`].
    ///
    /// # Errors
    /// [`LedgerError`].
    fn greet(&self, spool: SpoolId, lineage: &Lineage, session: SessionId) -> Result<Greeting, LedgerError>;

    /// As [`super::Journal::confirm_session`].
    ///
    /// # Errors
    /// [`LedgerError`].
    fn confirm(&self, spool: SpoolId, session: SessionId) -> Result<Option<SessionEpoch>, LedgerError>;

    /// As [`super::Journal::begin_session`].
    ///
    /// # Errors
    /// [`LedgerError`].
    fn begin_session(&self, spool: SpoolId) -> Result<SessionEpoch, LedgerError>;
}

/// A round as it is kept on disk until it is settled; after that only its number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct KeptRound {
    pub(super) number: u64,
    claims: Vec<KeptClaim>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct KeptClaim {
    #[serde(flatten)]
    range: RangeClaim,
    /// Where its entry is; none of a tombstone.
    position: Option<JournalPosition>,
}

// === impl KeptRound ===

impl KeptRound {
    pub(super) const fn is_settled(&self) -> bool {
        self.claims.is_empty()
    }

    /// Where its entries begin: nothing from there on may be read.
    pub(super) fn begins_at(&self) -> Option<JournalPosition> {
        self.claims.iter().filter_map(|claim| claim.position).min()
    }

    fn to_claim(&self) -> ClaimRound {
        ClaimRound { number: self.number, claims: self.claims.iter().map(|claim| claim.range).collect() }
    }
}

/// Settles the round that is kept, if it is not settled.
pub(super) fn settle(shared: &Shared, ledger: &dyn SpoolLedger) -> Result<(), JournalError> {
    shared.heal()?;
    if !shared.is_unsettled.load(Ordering::Acquire) {
        return Ok(());
    }
    let mut kept = shared.store.kept_round()?;
    if !kept.is_settled() {
        let verdicts = match ledger.claim(&kept.to_claim()) {
            Err(LedgerError::RoundIsPast { last }) => {
                warn!(round = kept.number, last, "the journal is older than what the database knows of this node");
                kept.number = last + 1;
                let mut transaction = Transaction::default();
                shared.store.put_kept_round(&mut transaction, &kept)?;
                shared.store.commit(transaction)?;
                ledger.claim(&kept.to_claim())?
            }
            answered => answered?,
        };
        info!(round = kept.number, claims = kept.claims.len(), "a round of claims that was cut off is settled");
        finish(shared, &kept, &verdicts)?;
    }
    shared.is_unsettled.store(false, Ordering::Release);
    Ok(())
}

/// Step 3: what was lost goes, what was won can be read.
fn finish(shared: &Shared, kept: &KeptRound, verdicts: &[Verdict]) -> Result<(), JournalError> {
    if verdicts.len() != kept.claims.len() {
        return Err(LedgerError::Away("it gave another number of verdicts than it was asked for".to_owned()).into());
    }
    let mut transaction = Transaction::default();
    for (claim, verdict) in kept.claims.iter().zip(verdicts) {
        if let (Some(position), false) = (claim.position, *verdict == Verdict::Won) {
            shared.store.put_deleted_entry(&mut transaction, position);
        }
    }
    shared.store.put_kept_round(&mut transaction, &KeptRound { number: kept.number, claims: Vec::new() })?;
    shared.store.write_lazily(transaction)?;
    shared.publish_reserved();
    Ok(())
}

/// Stores a group of batches and claims them; the answers, in order.
pub(super) fn commit_group(
    shared: &Shared,
    ledger: &dyn SpoolLedger,
    group: &[AppendRequest],
) -> Result<Vec<Result<Appended, AppendError>>, JournalError> {
    shared.heal()?;
    let last = shared.store.kept_round()?;
    if !last.is_settled() {
        // It was, and the database was opened anew since.
        return Err(JournalError::Unsettled);
    }
    let mut kept = KeptRound { number: last.number + 1, claims: Vec::with_capacity(group.len()) };
    let mut transaction = Transaction::default();
    let (mut end, mut bytes) = (shared.reserved_end(), 0);
    // Which claim answers a request, or why there is none.
    let mut asked = Vec::with_capacity(group.len());
    for request in group {
        let header = &request.header;
        let size = request.payload.len() as u64;
        if !header.is_tombstone && shared.backlog().bytes + bytes + size > shared.max_bytes {
            asked.push(Err(AppendError::Full));
            continue;
        }
        let range = RangeClaim { spool: header.spool_id, first: header.first, last: header.last, epoch: request.epoch };
        let position = (!header.is_tombstone).then_some(end);
        if let Some(position) = position {
            let value = entry::encode(Source::Relay, shared.appended_bytes() + bytes, header, &request.payload)
                .map_err(|_| JournalError::State("entries"))?;
            shared.store.put_entry(&mut transaction, position, value);
            end = position.next();
            bytes += size;
        }
        asked.push(Ok(kept.claims.len()));
        kept.claims.push(KeptClaim { range, position });
    }
    let verdicts = if kept.is_settled() { Vec::new() } else { hold(shared, ledger, transaction, &kept, (end, bytes))? };
    let answer = |claim: usize| verdicts.get(claim).map_or(Err(AppendError::Closed), |verdict| answer_to(*verdict));
    Ok(asked.into_iter().map(|asked| asked.and_then(answer)).collect())
}

/// The three steps.
fn hold(
    shared: &Shared,
    ledger: &dyn SpoolLedger,
    mut transaction: Transaction,
    kept: &KeptRound,
    (end, bytes): (JournalPosition, u64),
) -> Result<Vec<Verdict>, JournalError> {
    shared.store.put_kept_round(&mut transaction, kept)?;
    // Also where the write fails: it may be in the log all the same.
    shared.is_unsettled.store(true, Ordering::Release);
    shared.reserve(end);
    fail::fail_point!("journal::before_commit", |_| Err(JournalError::Failpoint));
    shared.store.commit(transaction)?;
    shared.note_appended(bytes);
    failpoint("journal::after_write_before_claim");
    let verdicts = ledger.claim(&kept.to_claim()).inspect_err(|failure| {
        if matches!(failure, LedgerError::Impostor) {
            error!(%failure, "no batches are taken");
        }
    })?;
    failpoint("journal::after_claim_before_settled");
    finish(shared, kept, &verdicts)?;
    shared.is_unsettled.store(false, Ordering::Release);
    Ok(verdicts)
}

fn answer_to(verdict: Verdict) -> Result<Appended, AppendError> {
    match verdict {
        Verdict::Won => Ok(Appended::Stored),
        Verdict::Covered => Ok(Appended::Duplicate),
        Verdict::Overlap => Err(AppendError::Overlap),
        Verdict::TooManyGaps => Err(AppendError::TooManyGaps),
        Verdict::Fenced => Err(AppendError::Fenced),
    }
}

#[cfg(test)]
mod tests;
