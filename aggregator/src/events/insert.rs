//! Inserts whose effect is exactly one, however often they are tried.
//!
//! A block is known by its token: `<plan id>/<table>/<partition>`. The plan is on disk before the first try, so every later
//! try has the same rows in the same order under the same token, and ClickHouse drops what it has already
//! (`insert_deduplication_token`, window of 10 000 blocks on each table and on the view's target). Asynchronous inserts are
//! switched off: they are on by default and not deduplicated.

use std::collections::BTreeMap;

use clickhouse::{Client, Row, RowOwned, RowWrite};
use picket_common::failpoint::failpoint;
use serde::Serialize;
use uuid::Uuid;

use super::row::{EventRow, OutcomeRow, PayloadRow};
use super::{EventsError, EventsStore, within};

/// Rows of one plan. Order is part of the block, so it must be the same at each try.
#[derive(Debug, Default)]
pub struct Block {
    /// Rows of `events`, in journal order.
    pub events: Vec<EventRow>,
    /// The JSON of each event, in the same order.
    pub payloads: Vec<bytes::Bytes>,
    /// The place of each event's record in its plan, in the same order: ascending.
    pub records: Vec<u64>,
    /// Rows of `outcomes`, sorted.
    pub outcomes: Vec<OutcomeRow>,
    /// The hour in which the plan was made, in seconds since the epoch: what its stamp is kept by.
    pub made_in_hour: u32,
}

impl EventsStore {
    /// Inserts a plan's block. May be repeated until it succeeds.
    ///
    /// # Errors
    /// [`EventsError`]; some of the block may be stored then, and a repetition completes it.
    pub async fn insert(&self, plan: Uuid, block: &Block) -> Result<(), EventsError> {
        let all: Vec<_> = (0..block.events.len()).collect();
        // The payload first: once an event is counted it can be opened.
        let token = plan.to_string();
        for table in ["event_payloads", "events"] {
            self.insert_positions(&token, table, block, &all).await?;
            failpoint("events::after_table");
        }
        self.insert_outcomes(&token, plan, block).await
    }

    /// Inserts the block's outcomes and their stamp as one block under `token`: either all of it is there or nothing.
    pub(super) async fn insert_outcomes(&self, token: &str, plan: Uuid, block: &Block) -> Result<(), EventsError> {
        if block.outcomes.is_empty() {
            return Ok(());
        }
        let client = self.with_token(token, "outcomes", "all");
        let stamp = OutcomeRow::stamp(plan, block.made_in_hour);
        let rows = block.outcomes.iter().chain([&stamp]);
        within(self.insert_timeout, insert_rows(&client, "outcomes", rows)).await
    }

    /// Inserts some of the block's events into one of the two tables, each partition as one block under `token`.
    pub(super) async fn insert_positions(
        &self,
        token: &str,
        table: &'static str,
        block: &Block,
        positions: &[usize],
    ) -> Result<(), EventsError> {
        for (partition, positions) in partitions(&block.events, positions) {
            let client = self.with_token(token, table, &partition);
            let insert = async {
                if table == "event_payloads" {
                    return insert_payloads(&client, block, &positions).await;
                }
                let rows = positions.iter().filter_map(|&position| block.events.get(position));
                insert_rows(&client, table, rows).await
            };
            within(self.insert_timeout, insert).await?;
        }
        Ok(())
    }

    fn with_token(&self, token: &str, table: &str, partition: &str) -> Client {
        self.client.clone().with_setting("insert_deduplication_token", format!("{token}/{table}/{partition}"))
    }
}

/// Positions of the events by the partition they belong to, as the tables' `PARTITION BY` says: retention and week.
fn partitions(events: &[EventRow], positions: &[usize]) -> BTreeMap<String, Vec<usize>> {
    const WEEK_MILLIS: i64 = 7 * 24 * 3600 * 1000;
    // The epoch was a Thursday; shifted by three days, weeks start on Monday.
    const MONDAY_SHIFT: i64 = 3 * 24 * 3600 * 1000;
    let mut partitions: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for &position in positions {
        let Some(event) = events.get(position) else { continue };
        let week = (event.received_at + MONDAY_SHIFT).div_euclid(WEEK_MILLIS);
        partitions.entry(format!("{}-{week}", event.retention_days)).or_default().push(position);
    }
    partitions
}

async fn insert_rows<'a, T>(client: &Client, table: &str, rows: impl Iterator<Item = &'a T>) -> Result<(), EventsError>
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

#[cfg(test)]
mod tests {
    use super::partitions;
    use crate::events::row::EventRow;

    fn event(received_at: i64, retention_days: u16) -> EventRow {
        EventRow { received_at, retention_days, ..EventRow::default() }
    }

    #[test]
    fn a_block_is_cut_where_the_week_or_the_retention_changes() {
        // Sunday 2026-11-22T23:59:59.999Z and the Monday after it.
        let sunday = 1_795_391_999_999;
        let events = [event(sunday, 90), event(sunday + 1, 90), event(sunday - 1, 90), event(sunday, 30)];
        let found = partitions(&events, &[0, 1, 2, 3]);
        let groups: Vec<_> = found.into_values().collect();
        assert_eq!(groups, [vec![3], vec![0, 2], vec![1]]);
    }
}
