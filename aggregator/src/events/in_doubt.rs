//! Inserts in doubt: a plan whose insert was begun by a process that is gone, or whose answer was lost.
//!
//! Repeating it under the same token is not enough. ClickHouse writes the token to its log *before* it makes the part visible,
//! and writes a part of `events` apart from the part of `issue_hourly` that the view makes of it. A process that is killed in
//! between leaves a token without its rows, or rows without their counts, and every repetition is then dropped as known. So
//! after the repetition the rows are looked for, and what is missing is added under a token of its own:
//!
//! ```text
//! rows missing? insert them under the plan's tokens ▸ still missing? insert them anew ▸ hours that disagree? count them anew
//! ```
//!
//! It asks before it inserts, because a token protects only as long as ClickHouse remembers it: other writers may have inserted
//! more blocks than the window since. An insert that is still on its way has the plan's token, as the repetition has.
//!
//! Each step may itself be cut off and repeated, and has limited time. Only plans in doubt come here: it reads the ids of a
//! partition. Rows of `outcomes` are added up, so there each plan has a stamp to look for ([`OutcomeRow::stamp`]), for as long as
//! stamps are kept.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clickhouse::Row;
use picket_common::timestamp::Timestamp;
use serde::Deserialize;
use tracing::warn;
use uuid::Uuid;

use super::insert::Block;
use super::row::{EventRow, OutcomeRow};
use super::{EventsError, EventsStore, within};

/// A server may still be about to show the rows of an insert whose answer was lost: between token and part lies a rename.
const SETTLE: Duration = Duration::from_secs(1);
/// Longest time for a look at the tables.
const LOOK_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time for counting hours anew; rewriting the parts of `issue_hourly` is the most of it.
const RECOUNT_TIMEOUT: Duration = Duration::from_secs(900);
/// How far ahead of its receipt an event may claim to have happened; see `process/row.rs`.
const AHEAD_MILLIS: i64 = 60_000;
const DAY_MILLIS: i64 = 24 * 3_600_000;
/// How long after its plan was made a stamp is sure to be there: a day less than the schema keeps it.
const STAMP_MILLIS: i64 = 13 * DAY_MILLIS;
/// Ids in one query.
const CHUNK: usize = 5_000;

/// An hour of an issue, in seconds since the epoch.
type IssueHour = (u64, u64, u32);

#[derive(Debug, Row, Deserialize)]
struct Found {
    project_id: u64,
    #[serde(with = "clickhouse::serde::uuid")]
    event_id: Uuid,
}

#[derive(Debug, Row, Deserialize)]
struct HourCount {
    project_id: u64,
    issue_id: u64,
    hour: u32,
    events: u64,
}

impl EventsStore {
    /// Carries a plan's block to its end although an earlier try may have got anywhere.
    ///
    /// # Errors
    /// [`EventsError`]; to be repeated then.
    pub async fn insert_in_doubt(&self, plan: Uuid, block: &Block, now: Timestamp) -> Result<(), EventsError> {
        self.insert_lacking(plan, &plan.to_string(), block, &all_of(block), now).await?;
        self.finish_in_doubt(plan, block, now).await
    }

    /// Inserts the rows of those events whose records are in `records`, where the tables lack them; returns how many events that
    /// are. For a plan that is carried out in parts: a whole that was refused may be stored in some tables and partitions.
    ///
    /// # Errors
    /// [`EventsError`]; to be repeated then, or cut in smaller parts.
    pub async fn insert_part(
        &self,
        plan: Uuid,
        records: Range<u64>,
        block: &Block,
        now: Timestamp,
    ) -> Result<usize, EventsError> {
        let token = format!("{plan}/{}-{}", records.start, records.end);
        let is_in_part = |position: &usize| block.records.get(*position).is_some_and(|record| records.contains(record));
        let positions: Vec<_> = all_of(block).into_iter().filter(is_in_part).collect();
        self.insert_lacking(plan, &token, block, &positions, now).await?;
        Ok(positions.len())
    }

    /// After the rows of a plan whose block may be stored in part: its outcomes, and the counts of hours that disagree.
    ///
    /// # Errors
    /// [`EventsError`]; to be repeated then.
    pub async fn finish_in_doubt(&self, plan: Uuid, block: &Block, now: Timestamp) -> Result<(), EventsError> {
        if block.outcomes.is_empty() || !within(LOOK_TIMEOUT, self.has_stamp(plan, block)).await? {
            self.insert_outcomes(&plan.to_string(), plan, block).await?;
            self.add_missing_outcomes(plan, block, now).await?;
        }
        within(RECOUNT_TIMEOUT, self.recount_hours(plan, block, now)).await
    }

    /// Inserts what the tables lack of some of the block's events under `token`. Asks first: a token that ClickHouse has
    /// forgotten, because more blocks than its window came in between, would let the rows in a second time.
    async fn insert_lacking(
        &self,
        plan: Uuid,
        token: &str,
        block: &Block,
        positions: &[usize],
        now: Timestamp,
    ) -> Result<(), EventsError> {
        for table in ["event_payloads", "events"] {
            let missing = within(LOOK_TIMEOUT, self.missing(table, block, positions, now)).await?;
            let lacking: Vec<_> =
                positions.iter().copied().filter(|&at| missing.contains(&key_at(block, at))).collect();
            self.insert_positions(token, table, block, &lacking).await?;
            self.add_missing(plan, table, block, positions, now).await?;
        }
        Ok(())
    }

    /// Adds the rows that a table lacks although their token is known, under a second token.
    async fn add_missing(
        &self,
        plan: Uuid,
        table: &'static str,
        block: &Block,
        positions: &[usize],
        now: Timestamp,
    ) -> Result<(), EventsError> {
        if within(LOOK_TIMEOUT, self.missing(table, block, positions, now)).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(SETTLE).await;
        let missing = within(LOOK_TIMEOUT, self.missing(table, block, positions, now)).await?;
        if missing.is_empty() {
            return Ok(());
        }
        warn!(%plan, table, rows = missing.len(), "an interrupted insert left its token without its rows, adding them");
        let positions: Vec<_> = positions.iter().copied().filter(|&at| missing.contains(&key_at(block, at))).collect();
        self.insert_positions(&self.second_token(plan), table, block, &positions).await?;
        self.second_tokens.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Adds the outcomes if their stamp is not there although their token is known, under a second token.
    async fn add_missing_outcomes(&self, plan: Uuid, block: &Block, now: Timestamp) -> Result<(), EventsError> {
        let made_at = i64::from(block.made_in_hour) * 1000;
        let may_be_expired = made_at + STAMP_MILLIS < now.as_i64();
        if block.outcomes.is_empty() || may_be_expired || within(LOOK_TIMEOUT, self.has_stamp(plan, block)).await? {
            return Ok(());
        }
        tokio::time::sleep(SETTLE).await;
        if within(LOOK_TIMEOUT, self.has_stamp(plan, block)).await? {
            return Ok(());
        }
        warn!(%plan, rows = block.outcomes.len(), "an interrupted insert left its token without its outcomes, adding them");
        self.insert_outcomes(&self.second_token(plan), plan, block).await?;
        self.second_tokens.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn has_stamp(&self, plan: Uuid, block: &Block) -> Result<bool, EventsError> {
        let found: u64 = self
            .client
            .query(
                "SELECT count() FROM outcomes
                 WHERE project_id = 0 AND toUnixTimestamp(hour) = ? AND outcome = ? AND reason = ?",
            )
            .bind(block.made_in_hour)
            .bind(OutcomeRow::STAMP)
            .bind(plan.to_string())
            .fetch_one()
            .await?;
        Ok(found > 0)
    }

    /// The same until an insert under it was answered: one that timed out may still be at work.
    fn second_token(&self, plan: Uuid) -> String {
        let turn = self.second_tokens.load(Ordering::Relaxed);
        format!("{plan}/{}-{turn}", self.instance)
    }

    /// Those of some of the block's events that a table lacks. Those past their retention are meant to be gone.
    async fn missing(
        &self,
        table: &str,
        block: &Block,
        positions: &[usize],
        now: Timestamp,
    ) -> Result<HashSet<(u64, Uuid)>, EventsError> {
        let is_kept =
            |at: &usize| block.events.get(*at).is_some_and(|event| expiry(event, event.received_at) > now.as_i64());
        let mut missing: HashSet<_> = positions.iter().copied().filter(is_kept).map(|at| key_at(block, at)).collect();
        for positions in positions.chunks(CHUNK) {
            let events: Vec<_> = positions.iter().filter_map(|&at| block.events.get(at)).collect();
            let ids: Vec<String> = events.iter().map(|event| event.event_id.to_string()).collect();
            let received = || events.iter().map(|event| event.received_at);
            let found: Vec<Found> = self
                .client
                .query(&format!(
                    "SELECT project_id, event_id FROM {table}
                     WHERE received_at BETWEEN fromUnixTimestamp64Milli(?, 'UTC') AND fromUnixTimestamp64Milli(?, 'UTC')
                     AND event_id IN (SELECT toUUID(arrayJoin(?)))"
                ))
                .bind(received().min().unwrap_or_default())
                .bind(received().max().unwrap_or_default())
                .bind(ids)
                .fetch_all()
                .await?;
            for row in found {
                missing.remove(&(row.project_id, row.event_id));
            }
        }
        Ok(missing)
    }

    /// Makes the hours that the block touches agree with the events. Hours that may hold expired events are left alone: their
    /// counts are of all time, the events are not.
    async fn recount_hours(&self, plan: Uuid, block: &Block, now: Timestamp) -> Result<(), EventsError> {
        let is_whole = |event: &&EventRow| {
            let hour_began = i64::from(hour_of_millis(event.timestamp)) * 1000;
            expiry(event, hour_began - AHEAD_MILLIS) > now.as_i64()
        };
        let hour = |event: &EventRow| (event.project_id, event.issue_id, hour_of_millis(event.timestamp));
        let touched: BTreeSet<IssueHour> = block.events.iter().filter(is_whole).map(hour).collect();
        let touched: Vec<_> = touched.into_iter().collect();
        for hours in touched.chunks(CHUNK) {
            let wrong = self.wrong_hours(hours).await?;
            if wrong.is_empty() {
                continue;
            }
            warn!(%plan, hours = wrong.len(), "an interrupted insert left counts that disagree with its events, counting anew");
            // Cut off between the two, the hours are missing; the plan is still pending then and comes here again.
            for statement in [STOP_DELETING, DELETE_HOURS, COUNT_HOURS] {
                let client = self.client.clone().with_setting("insert_deduplicate", "0");
                client.query(&statement.replace("{hours}", &tuples(&wrong))).execute().await?;
            }
            let still_wrong = self.wrong_hours(&wrong).await?.len();
            if still_wrong > 0 {
                return Err(EventsError::Recount { hours: still_wrong });
            }
        }
        Ok(())
    }

    async fn wrong_hours(&self, hours: &[IssueHour]) -> Result<Vec<IssueHour>, EventsError> {
        let counted = self.hour_counts(HOURS_COUNTED, hours).await?;
        let stored = self.hour_counts(HOURS_STORED, hours).await?;
        let wrong: BTreeSet<_> = stored.symmetric_difference(&counted).map(|&(hour, _)| hour).collect();
        Ok(wrong.into_iter().collect())
    }

    async fn hour_counts(&self, query: &str, hours: &[IssueHour]) -> Result<HashSet<(IssueHour, u64)>, EventsError> {
        let rows: Vec<HourCount> = self.client.query(&query.replace("{hours}", &tuples(hours))).fetch_all().await?;
        Ok(rows.into_iter().map(|row| ((row.project_id, row.issue_id, row.hour), row.events)).collect())
    }
}

const HOURS_COUNTED: &str = "SELECT project_id, issue_id, hour, sum(count) AS events FROM issue_hourly
    WHERE (project_id, issue_id, toUnixTimestamp(hour)) IN ({hours}) GROUP BY project_id, issue_id, hour";

const HOURS_STORED: &str =
    "SELECT project_id, issue_id, toStartOfHour(toDateTime(timestamp, 'UTC')) AS hour, count() AS events
    FROM events WHERE (project_id, issue_id, toUnixTimestamp(toStartOfHour(toDateTime(timestamp, 'UTC')))) IN ({hours})
    GROUP BY project_id, issue_id, hour";

// One that an earlier try began and did not see through would run beside ours.
const STOP_DELETING: &str =
    "KILL MUTATION WHERE database = currentDatabase() AND table = 'issue_hourly' AND NOT is_done SYNC";

const DELETE_HOURS: &str = "ALTER TABLE issue_hourly DELETE
    WHERE (project_id, issue_id, toUnixTimestamp(hour)) IN ({hours}) SETTINGS mutations_sync = 2";

// As the view counts them.
const COUNT_HOURS: &str = "INSERT INTO issue_hourly
    SELECT project_id, issue_id, toStartOfHour(toDateTime(timestamp, 'UTC')) AS hour, count(),
        uniqState(if(user = '', NULL, cityHash64(user))), min(timestamp), max(timestamp)
    FROM events WHERE (project_id, issue_id, toUnixTimestamp(toStartOfHour(toDateTime(timestamp, 'UTC')))) IN ({hours})
    GROUP BY project_id, issue_id, hour";

fn all_of(block: &Block) -> Vec<usize> {
    (0..block.events.len()).collect()
}

fn key_at(block: &Block, position: usize) -> (u64, Uuid) {
    block.events.get(position).map(|event| (event.project_id, event.event_id)).unwrap_or_default()
}

/// When an event that was received at `received_at` is past its retention.
fn expiry(event: &EventRow, received_at: i64) -> i64 {
    received_at + i64::from(event.retention_days) * DAY_MILLIS
}

fn hour_of_millis(millis: i64) -> u32 {
    u32::try_from(millis.div_euclid(3_600_000) * 3600).unwrap_or(0)
}

/// Numbers only, so that nothing of an event gets into the text of a query.
fn tuples(hours: &[IssueHour]) -> String {
    let tuple = |(project, issue, hour): &IssueHour| format!("({project},{issue},{hour})");
    hours.iter().map(tuple).collect::<Vec<_>>().join(",")
}
