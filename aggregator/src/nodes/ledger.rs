//! The ledger of claims in the shared database ([`SpoolLedger`]).
//!
//! ```text
//! nodes         round, verdicts         a node's last round of claims, so that asking again gives the same answer
//! spools        owner, epoch, sessions, stored_up_to, ranges_above
//! spool_ranges  spool, first ──▶ last   what is held above stored_up_to
//! ```
//!
//! Invariants:
//! - a round and its verdicts are one transaction: what a node has won and that it was told so are there both or neither;
//! - a spool's row is locked by whoever changes anything of the spool; a round locks its node's row first and then its spools'
//!   in the order of their ids, so that rounds wait for each other and never in a circle;
//! - of the ranges only those around a claim are read, however many there are (`journal::stored_ranges`).
//!
//! A statement that takes longer than [`PATIENCE`] counts as unanswered. It is driven from here, so it ends with its connection; only
//! its commit may still happen, and the next try of the same round waits for the node's row and finds it.

use std::collections::BTreeMap;
use std::time::Duration;

use picket_common::ids::{RelayId, Sequence, SpoolId};
use picket_common::wire::lineage::{Greeting, Lineage, SessionBook, SessionId};
use sqlx::Row;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::NodeId;
use crate::database::{Connection, Database};
use crate::journal::{
    ClaimRound, Coverage, JournalError, LedgerError, MAX_GAPS, NoteError, RangeChanges, RangeClaim, RangesOnDisk,
    SessionEpoch, SpoolClaim, SpoolLedger, SpoolRanges, Verdict,
};

/// Longest time for a transaction: rounds of other nodes are waited for, and the database may have to be found again.
const PATIENCE: Duration = Duration::from_secs(15);

/// The claims of one node in the database that all share.
#[derive(Debug)]
pub struct SqlLedger {
    database: Database,
    node: NodeId,
    /// Of this process.
    incarnation: String,
    runtime: Handle,
    /// Most ranges above a spool's mark: [`MAX_GAPS`], but in tests.
    max_gaps: u64,
}

/// A spool's row.
#[derive(Debug)]
struct SpoolRow {
    owner: String,
    epoch: i64,
    sessions: String,
    stored_up_to: i64,
    ranges_above: i64,
}

/// What of a spool's ranges was read: those around the claims of a round.
#[derive(Debug, Default)]
struct FetchedRanges {
    stored_up_to: u64,
    ranges_above: u64,
    around: BTreeMap<u64, u64>,
}

// === impl SqlLedger ===

impl SqlLedger {
    /// A ledger for the node, which must be registered. Its methods block on `runtime`, so they must not be called on its threads.
    #[must_use]
    pub fn new(database: &Database, node: NodeId, incarnation: &str, runtime: Handle) -> Self {
        let incarnation = incarnation.to_owned();
        Self { database: database.clone(), node, incarnation, runtime, max_gaps: MAX_GAPS }
    }

    fn block_on<T>(&self, work: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
        let unanswered = |_| LedgerError::Away(format!("no answer within {} s", PATIENCE.as_secs()));
        self.runtime.block_on(async { timeout(PATIENCE, work).await.map_err(unanswered)? })
    }

    async fn judge_round(&self, round: &ClaimRound) -> Result<Vec<Verdict>, LedgerError> {
        let mut transaction = self.database.begin_rows().await?;
        if let Some(verdicts) = self.judged_before(&mut transaction, round.number).await? {
            return Ok(verdicts);
        }
        let mut verdicts = vec![Verdict::Fenced; round.claims.len()];
        let mut by_spool: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, claim) in round.claims.iter().enumerate() {
            by_spool.entry(claim.spool.to_string()).or_default().push(place);
        }
        for (spool, places) in by_spool {
            let row = self.lock_spool(&mut transaction, &spool).await?;
            let claims: Vec<_> = places.iter().filter_map(|&place| round.claims.get(place)).collect();
            let judged = self.judge_spool(&mut transaction, &spool, &row, &claims).await?;
            for (place, verdict) in places.into_iter().zip(judged) {
                verdicts[place] = verdict;
            }
        }
        sqlx::query("UPDATE nodes SET round = $1, verdicts = $2 WHERE id = $3")
            .bind(to_sql(round.number)?)
            .bind(serde_json::to_string(&verdicts).map_err(|error| damaged("verdicts", &error))?)
            .bind(self.node.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(verdicts)
    }

    /// The verdicts of a round that was judged before; locks the node's row.
    async fn judged_before(
        &self,
        connection: &mut Connection,
        number: u64,
    ) -> Result<Option<Vec<Verdict>>, LedgerError> {
        let query =
            format!("SELECT incarnation, round, verdicts FROM nodes WHERE id = $1{}", self.database.for_update());
        let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(self.node.to_string()).fetch_one(connection).await?;
        let (incarnation, last, verdicts): (String, i64, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let last = last.unsigned_abs();
        if incarnation != self.incarnation {
            return Err(LedgerError::Impostor);
        }
        match last.cmp(&number) {
            std::cmp::Ordering::Less => Ok(None),
            std::cmp::Ordering::Equal => {
                serde_json::from_str(&verdicts).map(Some).map_err(|error| damaged("verdicts", &error))
            }
            std::cmp::Ordering::Greater => Err(LedgerError::RoundIsPast { last }),
        }
    }

    /// Judges the claims on one spool, in order, and writes what they change.
    async fn judge_spool(
        &self,
        connection: &mut Connection,
        spool: &str,
        row: &SpoolRow,
        claims: &[&RangeClaim],
    ) -> Result<Vec<Verdict>, LedgerError> {
        let mut fetched = FetchedRanges {
            stored_up_to: row.stored_up_to.unsigned_abs(),
            ranges_above: row.ranges_above.unsigned_abs(),
            around: BTreeMap::new(),
        };
        let is_fenced = |claim: &RangeClaim| claim.epoch.is_some_and(|epoch| epoch.get() != row.epoch.unsigned_abs());
        for claim in claims.iter().filter(|claim| !is_fenced(claim)) {
            fetched.fetch(connection, spool, claim).await?;
        }
        let mut ranges = SpoolRanges::read(fetched, self.max_gaps).map_err(|error| damaged("ranges", &error))?;
        let judge = |claim: &&RangeClaim| match is_fenced(claim) {
            true => Ok(Verdict::Fenced),
            false => judge(&mut ranges, claim),
        };
        let verdicts = claims.iter().map(judge).collect::<Result<_, _>>()?;
        write_ranges(connection, spool, &ranges.changes()).await?;
        Ok(verdicts)
    }

    /// The row of a spool, made where there is none, and locked.
    async fn lock_spool(&self, connection: &mut Connection, spool: &str) -> Result<SpoolRow, LedgerError> {
        sqlx::query("INSERT INTO spools (id) VALUES ($1) ON CONFLICT (id) DO NOTHING")
            .bind(spool)
            .execute(&mut *connection)
            .await?;
        let query = format!(
            "SELECT owner, epoch, sessions, stored_up_to, ranges_above FROM spools WHERE id = $1{}",
            self.database.for_update()
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(spool).fetch_one(connection).await?;
        Ok(SpoolRow {
            owner: row.try_get(0)?,
            epoch: row.try_get(1)?,
            sessions: row.try_get(2)?,
            stored_up_to: row.try_get(3)?,
            ranges_above: row.try_get(4)?,
        })
    }

    /// Begins a session within the caller's transaction: earlier ones are fenced.
    async fn next_epoch(connection: &mut Connection, spool: &str) -> Result<SessionEpoch, LedgerError> {
        let epoch: i64 = sqlx::query_scalar("UPDATE spools SET epoch = epoch + 1 WHERE id = $1 RETURNING epoch")
            .bind(spool)
            .fetch_one(connection)
            .await?;
        Ok(SessionEpoch::new(epoch.unsigned_abs()))
    }
}

impl SpoolLedger for SqlLedger {
    fn claim(&self, round: &ClaimRound) -> Result<Vec<Verdict>, LedgerError> {
        self.block_on(self.judge_round(round))
    }

    fn claim_spool(
        &self,
        spool: SpoolId,
        relay: RelayId,
        replaces: Option<RelayId>,
    ) -> Result<SpoolClaim, LedgerError> {
        self.block_on(async {
            let (spool, relay) = (spool.to_string(), relay.to_string());
            let mut transaction = self.database.begin_rows().await?;
            let row = self.lock_spool(&mut transaction, &spool).await?;
            if row.owner == relay {
                return Ok(SpoolClaim::Granted);
            }
            if !row.owner.is_empty() {
                let owner = row.owner.parse().map_err(|error| damaged("owner", &error))?;
                if replaces != Some(owner) {
                    return Ok(SpoolClaim::OwnedBy(owner));
                }
            }
            sqlx::query("UPDATE spools SET owner = $1 WHERE id = $2")
                .bind(relay)
                .bind(spool)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(SpoolClaim::Granted)
        })
    }

    fn stored(&self, spool: SpoolId) -> Result<(Sequence, Sequence), LedgerError> {
        self.block_on(async {
            // One statement, so that both are of one moment.
            let row = sqlx::query(
                "SELECT stored_up_to, (SELECT MAX(last) FROM spool_ranges WHERE spool_id = $1) FROM spools WHERE id = $1",
            )
            .bind(spool.to_string())
            .fetch_optional(self.database.pool())
            .await?;
            let Some(row) = row else { return Ok((Sequence::new(0), Sequence::new(0))) };
            let up_to = row.try_get::<i64, _>(0)?.unsigned_abs();
            let highest = row.try_get::<Option<i64>, _>(1)?.map_or(up_to, i64::unsigned_abs);
            Ok((Sequence::new(up_to), Sequence::new(highest)))
        })
    }

    fn greet(&self, spool: SpoolId, lineage: &Lineage, session: SessionId) -> Result<Greeting, LedgerError> {
        self.block_on(async {
            let spool = spool.to_string();
            let mut transaction = self.database.begin_rows().await?;
            let row = self.lock_spool(&mut transaction, &spool).await?;
            let mut book = read_book(&row.sessions)?;
            let greeting = book.greet(lineage, session);
            write_book(&mut transaction, &spool, &book).await?;
            transaction.commit().await?;
            Ok(greeting)
        })
    }

    fn confirm(&self, spool: SpoolId, session: SessionId) -> Result<Option<SessionEpoch>, LedgerError> {
        self.block_on(async {
            let spool = spool.to_string();
            let mut transaction = self.database.begin_rows().await?;
            let row = self.lock_spool(&mut transaction, &spool).await?;
            let mut book = read_book(&row.sessions)?;
            if !book.confirm(session) {
                return Ok(None);
            }
            write_book(&mut transaction, &spool, &book).await?;
            let epoch = Self::next_epoch(&mut transaction, &spool).await?;
            transaction.commit().await?;
            Ok(Some(epoch))
        })
    }

    fn begin_session(&self, spool: SpoolId) -> Result<SessionEpoch, LedgerError> {
        self.block_on(async {
            let spool = spool.to_string();
            let mut transaction = self.database.begin_rows().await?;
            let _locked = self.lock_spool(&mut transaction, &spool).await?;
            let epoch = Self::next_epoch(&mut transaction, &spool).await?;
            transaction.commit().await?;
            Ok(epoch)
        })
    }
}

// === impl FetchedRanges ===

impl FetchedRanges {
    /// Reads the ranges that a claim may cover, touch or lie in: the last two that begin at or before its end, or right behind it.
    async fn fetch(&mut self, connection: &mut Connection, spool: &str, claim: &RangeClaim) -> Result<(), LedgerError> {
        // One that is too large for the database is refused.
        let Ok(last) = i64::try_from(claim.last.get()) else { return Ok(()) };
        if self.ranges_above == 0 || claim.last.get() <= self.stored_up_to {
            return Ok(());
        }
        let rows = sqlx::query(
            "SELECT first, last FROM spool_ranges WHERE spool_id = $1 AND first <= $2 ORDER BY first DESC LIMIT 2",
        )
        .bind(spool)
        .bind(last.saturating_add(1))
        .fetch_all(connection)
        .await?;
        for row in rows {
            let (first, last): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            self.around.insert(first.unsigned_abs(), last.unsigned_abs());
        }
        Ok(())
    }
}

impl RangesOnDisk for FetchedRanges {
    fn beginning_at(&self, first: u64) -> Result<Option<u64>, JournalError> {
        // The range that begins the spool is its mark.
        Ok(match first {
            1 => (self.stored_up_to > 0).then_some(self.stored_up_to),
            _ => self.around.get(&first).copied(),
        })
    }

    fn last_beginning_in(&self, after: u64, at_most: u64) -> Result<Option<(u64, u64)>, JournalError> {
        let after = after.saturating_add(1);
        if after > at_most {
            return Ok(None);
        }
        Ok(self.around.range(after..=at_most).next_back().map(|(&first, &last)| (first, last)))
    }

    fn above_mark(&self) -> Result<u64, JournalError> {
        Ok(self.ranges_above)
    }
}

fn judge(ranges: &mut SpoolRanges<FetchedRanges>, claim: &RangeClaim) -> Result<Verdict, LedgerError> {
    if i64::try_from(claim.last.get()).is_err() {
        // No spool counts so far; such a sequence is made up, and the database has no place for it.
        return Ok(Verdict::TooManyGaps);
    }
    let unreadable = |error: JournalError| damaged("ranges", &error);
    match ranges.coverage(claim.first, claim.last).map_err(unreadable)? {
        Coverage::Stored => return Ok(Verdict::Covered),
        Coverage::Partial => return Ok(Verdict::Overlap),
        Coverage::New => {}
    }
    match ranges.note(claim.first, claim.last) {
        Ok(()) => Ok(Verdict::Won),
        Err(NoteError::TooManyGaps) => Ok(Verdict::TooManyGaps),
        Err(NoteError::Journal(error)) => Err(unreadable(error)),
    }
}

async fn write_ranges(connection: &mut Connection, spool: &str, changes: &RangeChanges<'_>) -> Result<(), LedgerError> {
    for first in changes.gone {
        sqlx::query("DELETE FROM spool_ranges WHERE spool_id = $1 AND first = $2")
            .bind(spool)
            .bind(to_sql(*first)?)
            .execute(&mut *connection)
            .await?;
    }
    for (&first, &last) in changes.put.iter().filter(|&(&first, _)| first != 1) {
        sqlx::query(
            "INSERT INTO spool_ranges (spool_id, first, last) VALUES ($1, $2, $3)
             ON CONFLICT (spool_id, first) DO UPDATE SET last = excluded.last",
        )
        .bind(spool)
        .bind(to_sql(first)?)
        .bind(to_sql(last)?)
        .execute(&mut *connection)
        .await?;
    }
    let mark = changes.put.get(&1).map(|&mark| to_sql(mark)).transpose()?;
    let above = changes.above_mark.map(to_sql).transpose()?;
    if mark.is_none() && above.is_none() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE spools SET stored_up_to = COALESCE($1, stored_up_to), ranges_above = COALESCE($2, ranges_above) WHERE id = $3",
    )
    .bind(mark)
    .bind(above)
    .bind(spool)
    .execute(connection)
    .await?;
    Ok(())
}

fn read_book(json: &str) -> Result<SessionBook, LedgerError> {
    if json.is_empty() {
        return Ok(SessionBook::default());
    }
    serde_json::from_str(json).map_err(|error| damaged("sessions", &error))
}

async fn write_book(connection: &mut Connection, spool: &str, book: &SessionBook) -> Result<(), LedgerError> {
    let json = serde_json::to_string(book).map_err(|error| damaged("sessions", &error))?;
    sqlx::query("UPDATE spools SET sessions = $1 WHERE id = $2").bind(json).bind(spool).execute(connection).await?;
    Ok(())
}

/// Sequences and counts fit: what does not is refused before.
fn to_sql(number: u64) -> Result<i64, LedgerError> {
    i64::try_from(number).map_err(|error| damaged("numbers", &error))
}

/// The database holds something that this program never wrote.
fn damaged(what: &str, problem: &dyn std::fmt::Display) -> LedgerError {
    LedgerError::Away(format!("its {what} can't be read: {problem}"))
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Away(error.to_string())
    }
}

#[cfg(test)]
mod tests;
