//! Inserts whose effect is exactly one, however often they are tried.
//!
//! A block is known by its token: `<plan id>/<table>/<partition>`. The plan is on disk before the first try, so every later
//! try has the same rows in the same order under the same token, and ClickHouse drops what it has already
//! (`insert_deduplication_token`, window of 10 000 blocks on each table and on the view's target). Asynchronous inserts are
//! switched off: they are on by default and not deduplicated.

use std::collections::BTreeMap;

use picket_common::failpoint::failpoint;
use uuid::Uuid;

use super::EventsError;
use super::row::{EventRow, OutcomeRow};
use super::tables::{EventName, Tables};

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

/// Inserts a plan's block. May be repeated until it succeeds.
///
/// # Errors
/// [`EventsError`]; some of the block may be stored then, and a repetition completes it.
pub async fn insert(tables: &impl Tables, plan: Uuid, block: &Block) -> Result<(), EventsError> {
    let all: Vec<_> = (0..block.events.len()).collect();
    // The payload first: once an event is counted it can be opened.
    let token = plan.to_string();
    for table in ["event_payloads", "events"] {
        insert_positions(tables, &token, table, block, &all).await?;
        failpoint("events::after_table");
    }
    insert_outcomes(tables, &token, plan, block).await
}

/// Inserts the block's outcomes and their stamp as one block under `token`: either all of it is there or nothing.
pub(super) async fn insert_outcomes(
    tables: &impl Tables,
    token: &str,
    plan: Uuid,
    block: &Block,
) -> Result<(), EventsError> {
    if block.outcomes.is_empty() {
        return Ok(());
    }
    tables.insert_outcomes(format!("{token}/outcomes/all"), plan, block).await
}

/// Inserts some of the block's events into one of the two tables, each partition as one block under `token`.
pub(super) async fn insert_positions(
    tables: &impl Tables,
    token: &str,
    table: &'static str,
    block: &Block,
    positions: &[usize],
) -> Result<(), EventsError> {
    for (partition, positions) in partitions(&block.events, positions) {
        tables.insert_rows(format!("{token}/{table}/{partition}"), table, block, &positions).await?;
    }
    Ok(())
}

/// What names the event at a position.
pub(super) fn key_at(block: &Block, position: usize) -> EventName {
    block.events.get(position).map(|event| (event.project_id, event.event_id)).unwrap_or_default()
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
