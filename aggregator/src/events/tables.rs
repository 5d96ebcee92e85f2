//! What inserts need of ClickHouse's tables, and how it is asked of a server.
//!
//! Which block is inserted when, under which token, is decided above ([`super::insert`], [`super::in_doubt`]); here it is carried out.
//! `tests/simulation` has tables of its own that forget tokens, lose answers and are killed between a token and its rows.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use clickhouse::{Client, Row, RowOwned, RowWrite};
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use super::insert::{Block, key_at};
use super::row::{EventRow, OutcomeRow, PayloadRow};
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
/// Ids in one query.
const CHUNK: usize = 5_000;

/// An event within its project.
pub type EventName = (u64, Uuid);

/// An hour of an issue, in seconds since the epoch.
type IssueHour = (u64, u64, u32);

/// The tables of one store. Each insert is one block: all of it is stored, or nothing, and it is dropped as known where its token is.
/// After an error it may have been stored or not.
pub trait Tables: Send + Sync {
    /// Inserts some of the block's events, all of one partition, into `events` or `event_payloads`.
    fn insert_rows(
        &self,
        token: String,
        table: &'static str,
        block: &Block,
        positions: &[usize],
    ) -> impl Future<Output = Result<(), EventsError>> + Send;

    /// Inserts the block's outcomes and the plan's stamp.
    fn insert_outcomes(
        &self,
        token: String,
        plan: Uuid,
        block: &Block,
    ) -> impl Future<Output = Result<(), EventsError>> + Send;

    /// Whether the plan's stamp is there.
    fn has_stamp(&self, plan: Uuid, block: &Block) -> impl Future<Output = Result<bool, EventsError>> + Send;

    /// Those of some of the block's events that a table lacks. Those past their retention are meant to be gone.
    fn missing(
        &self,
        table: &'static str,
        block: &Block,
        positions: &[usize],
        now: Timestamp,
    ) -> impl Future<Output = Result<HashSet<EventName>, EventsError>> + Send;

    /// Makes the counts of the hours that the block touches agree with the events.
    fn recount_hours(
        &self,
        plan: Uuid,
        block: &Block,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), EventsError>> + Send;

    /// A token that the plan's own tokens are none of: the same until an insert under it was answered, because one that timed out may
    /// still be at work.
    fn second_token(&self, plan: Uuid) -> String;

    /// The inserts under the second token were answered.
    fn second_token_used(&self);

    /// Whether the plan's second token was asked for and its inserts were not all answered.
    fn is_second_token_in_doubt(&self, plan: Uuid) -> bool;

    /// Waits until a server shows what it has taken, if it will.
    fn settle(&self) -> impl Future<Output = ()> + Send;
}

impl Tables for EventsStore {
    async fn insert_rows(
        &self,
        token: String,
        table: &'static str,
        block: &Block,
        positions: &[usize],
    ) -> Result<(), EventsError> {
        let client = self.with_token(token);
        let insert = async {
            if table == "event_payloads" {
                return insert_payloads(&client, block, positions).await;
            }
            let rows = positions.iter().filter_map(|&position| block.events.get(position));
            insert_all(&client, table, rows).await
        };
        within(self.insert_timeout, insert).await
    }

    async fn insert_outcomes(&self, token: String, plan: Uuid, block: &Block) -> Result<(), EventsError> {
        let client = self.with_token(token);
        let stamp = OutcomeRow::stamp(plan, block.made_in_hour);
        let rows = block.outcomes.iter().chain([&stamp]);
        within(self.insert_timeout, insert_all(&client, "outcomes", rows)).await
    }

    async fn has_stamp(&self, plan: Uuid, block: &Block) -> Result<bool, EventsError> {
        within(LOOK_TIMEOUT, self.look_for_stamp(plan, block)).await
    }

    async fn missing(
        &self,
        table: &'static str,
        block: &Block,
        positions: &[usize],
        now: Timestamp,
    ) -> Result<HashSet<EventName>, EventsError> {
        within(LOOK_TIMEOUT, self.look_for_missing(table, block, positions, now)).await
    }

    async fn recount_hours(&self, plan: Uuid, block: &Block, now: Timestamp) -> Result<(), EventsError> {
        within(RECOUNT_TIMEOUT, self.count_anew(plan, block, now)).await
    }

    fn second_token(&self, plan: Uuid) -> String {
        *self.second_token_in_doubt() = Some(plan);
        let turn = self.second_tokens.load(Ordering::Relaxed);
        format!("{plan}/{}-{turn}", self.instance)
    }

    fn second_token_used(&self) {
        self.second_tokens.fetch_add(1, Ordering::Relaxed);
        *self.second_token_in_doubt() = None;
    }

    fn is_second_token_in_doubt(&self, plan: Uuid) -> bool {
        *self.second_token_in_doubt() == Some(plan)
    }

    async fn settle(&self) {
        tokio::time::sleep(SETTLE).await;
    }
}

impl EventsStore {
    fn second_token_in_doubt(&self) -> MutexGuard<'_, Option<Uuid>> {
        // Held for one assignment or comparison.
        self.second_token_in_doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_token(&self, token: String) -> Client {
        self.client.clone().with_setting("insert_deduplication_token", token)
    }

    async fn look_for_stamp(&self, plan: Uuid, block: &Block) -> Result<bool, EventsError> {
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

    async fn look_for_missing(
        &self,
        table: &str,
        block: &Block,
        positions: &[usize],
        now: Timestamp,
    ) -> Result<HashSet<EventName>, EventsError> {
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

    /// Hours that may hold expired events are left alone: their
    /// counts are of all time, the events are not.
    async fn count_anew(&self, plan: Uuid, block: &Block, now: Timestamp) -> Result<(), EventsError> {
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

async fn insert_all<'a, T>(client: &Client, table: &str, rows: impl Iterator<Item = &'a T>) -> Result<(), EventsError>
where
    T: RowOwned + RowWrite + Row + Serialize + 'a,
{
    let mut insert = client.insert::<T>(table).await.map_err(EventsError::insert(table))?;
    for row in rows {
        insert.write(row).await.map_err(EventsError::insert(table))?;
    }
    insert.end().await.map_err(EventsError::insert(table))
}

async fn insert_payloads(client: &Client, block: &Block, positions: &[usize]) -> Result<(), EventsError> {
    let failed = EventsError::insert("event_payloads");
    let mut insert = client.insert::<PayloadRow<'_>>("event_payloads").await.map_err(&failed)?;
    for &position in positions {
        let (Some(event), Some(json)) = (block.events.get(position), block.payloads.get(position)) else {
            continue;
        };
        let row = PayloadRow {
            project_id: event.project_id,
            issue_id: event.issue_id,
            timestamp: event.timestamp,
            event_id: event.event_id,
            received_at: event.received_at,
            retention_days: event.retention_days,
            // Parsed as JSON before, so it is UTF-8.
            json: std::str::from_utf8(json).unwrap_or_default(),
        };
        insert.write(&row).await.map_err(&failed)?;
    }
    insert.end().await.map_err(&failed)
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
