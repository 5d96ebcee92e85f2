//! Inserts in doubt: a plan whose insert was begun by a process that is gone, or whose answer was lost.
//!
//! Repeating it under the same token is not enough. ClickHouse writes the token to its log *before* it makes the part visible,
//! and writes a part of `events` apart from the part of `issue_hourly` that the view makes of it. A process that is killed in
//! between leaves a token without its rows, or rows without their counts, and every repetition is then dropped as known. So
//! after the repetition the rows are looked for, and what is missing is added under a token of its own:
//!
//! ```text
//! insert under the plan's tokens ▸ rows missing? insert them anew ▸ hours that disagree with the events? count them anew
//! ```
//!
//! Each step may itself be cut off and repeated. Only plans in doubt come here: it reads the ids of a partition.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;
use tracing::warn;
use uuid::Uuid;

use super::insert::Block;
use super::{EventsError, EventsStore};

/// A server may still be at work on an insert whose answer was lost; its rows appear within this time or not at all.
const SETTLE: Duration = Duration::from_secs(1);
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
    pub async fn insert_in_doubt(&self, plan: Uuid, block: &Block) -> Result<(), EventsError> {
        self.insert(plan, block).await?;
        for table in ["event_payloads", "events"] {
            if self.missing(table, block).await?.is_empty() {
                continue;
            }
            tokio::time::sleep(SETTLE).await;
            let missing = self.missing(table, block).await?;
            if missing.is_empty() {
                continue;
            }
            warn!(%plan, table, rows = missing.len(), "an interrupted insert left its token without its rows, adding them");
            let positions: Vec<_> =
                (0..block.events.len()).filter(|&at| missing.contains(&key_at(block, at))).collect();
            self.insert_positions(Uuid::new_v4(), table, block, &positions).await?;
        }
        self.recount_hours(plan, block).await
    }

    /// The events of the block that a table lacks.
    async fn missing(&self, table: &str, block: &Block) -> Result<HashSet<(u64, Uuid)>, EventsError> {
        let mut missing: HashSet<_> = (0..block.events.len()).map(|at| key_at(block, at)).collect();
        for events in block.events.chunks(CHUNK) {
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

    /// Makes the hours that the block touches agree with the events.
    async fn recount_hours(&self, plan: Uuid, block: &Block) -> Result<(), EventsError> {
        let touched: BTreeSet<IssueHour> = block
            .events
            .iter()
            .map(|event| (event.project_id, event.issue_id, hour_of_millis(event.timestamp)))
            .collect();
        let touched: Vec<_> = touched.into_iter().collect();
        for hours in touched.chunks(CHUNK) {
            let counted = self.hour_counts(HOURS_COUNTED, hours).await?;
            let stored = self.hour_counts(HOURS_STORED, hours).await?;
            let wrong: Vec<_> = stored.symmetric_difference(&counted).map(|&(hour, _)| hour).collect();
            let wrong: Vec<_> = wrong.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            if wrong.is_empty() {
                continue;
            }
            warn!(%plan, hours = wrong.len(), "an interrupted insert left counts that disagree with its events, counting anew");
            // Cut off between the two, the hours are missing; the plan is still pending then and comes here again.
            for statement in [DELETE_HOURS, COUNT_HOURS] {
                self.client.query(&statement.replace("{hours}", &tuples(&wrong))).execute().await?;
            }
        }
        Ok(())
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

const DELETE_HOURS: &str = "ALTER TABLE issue_hourly DELETE
    WHERE (project_id, issue_id, toUnixTimestamp(hour)) IN ({hours}) SETTINGS mutations_sync = 2";

// As the view counts them.
const COUNT_HOURS: &str = "INSERT INTO issue_hourly
    SELECT project_id, issue_id, toStartOfHour(toDateTime(timestamp, 'UTC')) AS hour, count(),
        uniqState(if(user = '', NULL, cityHash64(user))), min(timestamp), max(timestamp)
    FROM events WHERE (project_id, issue_id, toUnixTimestamp(toStartOfHour(toDateTime(timestamp, 'UTC')))) IN ({hours})
    GROUP BY project_id, issue_id, hour";

fn key_at(block: &Block, position: usize) -> (u64, Uuid) {
    block.events.get(position).map(|event| (event.project_id, event.event_id)).unwrap_or_default()
}

fn hour_of_millis(millis: i64) -> u32 {
    u32::try_from(millis.div_euclid(3_600_000) * 3600).unwrap_or(0)
}

/// Numbers only, so that nothing of an event gets into the text of a query.
fn tuples(hours: &[IssueHour]) -> String {
    let tuple = |(project, issue, hour): &IssueHour| format!("({project},{issue},{hour})");
    hours.iter().map(tuple).collect::<Vec<_>>().join(",")
}
