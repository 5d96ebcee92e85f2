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
//! Rows that are missing even then (the server was killed again, over the second token) are inserted anew by the next try.
//!
//! It asks before it inserts, because a token protects only as long as ClickHouse remembers it: other writers may have inserted
//! more blocks than the window since. An insert that is still on its way has the plan's token, as the repetition has.
//!
//! Each step may itself be cut off and repeated, and has limited time. Only plans in doubt come here: it reads the ids of a
//! partition. Rows of `outcomes` are added up, so there each plan has a stamp to look for (`OutcomeRow::stamp`), for as long as
//! stamps are kept.

use std::ops::Range;

use picket_common::timestamp::Timestamp;
use tracing::warn;
use uuid::Uuid;

use super::EventsError;
use super::insert::{Block, insert_outcomes, insert_positions, key_at};
use super::tables::Tables;

/// How long after its plan was made a stamp is sure to be there: a day less than the schema keeps it.
const STAMP_MILLIS: i64 = 13 * 24 * 3_600_000;

/// Carries a plan's block to its end although an earlier try may have got anywhere.
///
/// # Errors
/// [`EventsError`]; to be repeated then.
pub async fn insert_in_doubt(
    tables: &impl Tables,
    plan: Uuid,
    block: &Block,
    now: Timestamp,
) -> Result<(), EventsError> {
    insert_rows_in_doubt(tables, plan, block, now).await?;
    finish_outcomes(tables, plan, block, now).await?;
    tables.recount_hours(plan, block, now).await
}

/// The rows of the block's events, where the tables lack them, and nothing else.
///
/// # Errors
/// [`EventsError`]; to be repeated then.
pub async fn insert_rows_in_doubt(
    tables: &impl Tables,
    plan: Uuid,
    block: &Block,
    now: Timestamp,
) -> Result<(), EventsError> {
    insert_lacking(tables, plan, &plan.to_string(), block, &all_of(block), now).await
}

/// Inserts the rows of those events whose records are in `records`, where the tables lack them; returns how many events that
/// are. For a plan that is carried out in parts: a whole that was refused may be stored in some tables and partitions.
///
/// # Errors
/// [`EventsError`]; to be repeated then, or cut in smaller parts.
pub async fn insert_part(
    tables: &impl Tables,
    plan: Uuid,
    records: Range<u64>,
    block: &Block,
    now: Timestamp,
) -> Result<usize, EventsError> {
    let token = format!("{plan}/{}-{}", records.start, records.end);
    let is_in_part = |position: &usize| block.records.get(*position).is_some_and(|record| records.contains(record));
    let positions: Vec<_> = all_of(block).into_iter().filter(is_in_part).collect();
    insert_lacking(tables, plan, &token, block, &positions, now).await?;
    Ok(positions.len())
}

/// The outcomes of a plan whose block may be stored in part, once its rows are there. The hours that it touches may need to be
/// counted anew after that ([`Tables::recount_hours`]).
///
/// # Errors
/// [`EventsError`]; to be repeated then.
pub async fn finish_outcomes(
    tables: &impl Tables,
    plan: Uuid,
    block: &Block,
    now: Timestamp,
) -> Result<(), EventsError> {
    if block.outcomes.is_empty() || !tables.has_stamp(plan, block).await? {
        if !tables.is_second_token_in_doubt(plan) {
            insert_outcomes(tables, &plan.to_string(), plan, block).await?;
        }
        add_missing_outcomes(tables, plan, block, now).await?;
    }
    Ok(())
}

/// Those of the block's outcomes that are in `rows`, as one block with a stamp of its own. For a plan whose outcomes were refused
/// as one: nothing of them is stored but by parts.
///
/// # Errors
/// [`EventsError`]; to be repeated then, or cut in smaller parts.
pub async fn insert_outcome_part(
    tables: &impl Tables,
    plan: Uuid,
    rows: Range<u64>,
    block: &Block,
    now: Timestamp,
) -> Result<(), EventsError> {
    // Tokens and stamp are those of a plan that has this name, which no other part and no plan has: it is random but for these.
    let name = Uuid::from_u128(plan.as_u128() ^ (u128::from(rows.start) << 64) ^ u128::from(rows.end));
    let bound = |row: u64| usize::try_from(row).unwrap_or(usize::MAX);
    let outcomes = block.outcomes.get(bound(rows.start)..bound(rows.end)).unwrap_or_default().to_vec();
    let part = Block { outcomes, made_in_hour: block.made_in_hour, ..Block::default() };
    finish_outcomes(tables, name, &part, now).await
}

/// Inserts what the tables lack of some of the block's events under `token`. Asks first: a token that ClickHouse has
/// forgotten, because more blocks than its window came in between, would let the rows in a second time.
async fn insert_lacking(
    tables: &impl Tables,
    plan: Uuid,
    token: &str,
    block: &Block,
    positions: &[usize],
    now: Timestamp,
) -> Result<(), EventsError> {
    for table in ["event_payloads", "events"] {
        let missing = tables.missing(table, block, positions, now).await?;
        let lacking: Vec<_> = positions.iter().copied().filter(|&at| missing.contains(&key_at(block, at))).collect();
        // One under a second token may be at work still, and would find the rows of another token there.
        if !tables.is_second_token_in_doubt(plan) {
            insert_positions(tables, token, table, block, &lacking).await?;
        }
        add_missing(tables, plan, table, block, positions, now).await?;
    }
    Ok(())
}

/// Adds the rows that a table lacks although their token is known, under a second token.
async fn add_missing(
    tables: &impl Tables,
    plan: Uuid,
    table: &'static str,
    block: &Block,
    positions: &[usize],
    now: Timestamp,
) -> Result<(), EventsError> {
    if tables.missing(table, block, positions, now).await?.is_empty() {
        return Ok(());
    }
    tables.settle().await;
    let missing = tables.missing(table, block, positions, now).await?;
    if missing.is_empty() {
        return Ok(());
    }
    warn!(%plan, table, rows = missing.len(), "an interrupted insert left its token without its rows, adding them");
    let positions: Vec<_> = positions.iter().copied().filter(|&at| missing.contains(&key_at(block, at))).collect();
    answered(tables, insert_positions(tables, &tables.second_token(plan), table, block, &positions).await)?;
    // A server that was killed once more has left that token without rows too: the next try takes another.
    match tables.missing(table, block, &positions, now).await?.len() {
        0 => Ok(()),
        rows => Err(EventsError::StillMissing { table, rows }),
    }
}

/// Adds the outcomes if their stamp is not there although their token is known, under a second token.
async fn add_missing_outcomes(
    tables: &impl Tables,
    plan: Uuid,
    block: &Block,
    now: Timestamp,
) -> Result<(), EventsError> {
    let made_at = i64::from(block.made_in_hour) * 1000;
    let may_be_expired = made_at + STAMP_MILLIS < now.as_i64();
    if block.outcomes.is_empty() || may_be_expired || tables.has_stamp(plan, block).await? {
        return Ok(());
    }
    tables.settle().await;
    if tables.has_stamp(plan, block).await? {
        return Ok(());
    }
    warn!(%plan, rows = block.outcomes.len(), "an interrupted insert left its token without its outcomes, adding them");
    answered(tables, insert_outcomes(tables, &tables.second_token(plan), plan, block).await)?;
    match tables.has_stamp(plan, block).await? {
        true => Ok(()),
        false => Err(EventsError::StillMissing { table: "outcomes", rows: block.outcomes.len() }),
    }
}

/// Notes that nothing is at work under the second token any more, where that is certain: a refusal is an answer too.
fn answered(tables: &impl Tables, inserted: Result<(), EventsError>) -> Result<(), EventsError> {
    if inserted.as_ref().map_or_else(|error| error.refused_rows().is_some(), |()| true) {
        tables.second_token_used();
    }
    inserted
}

fn all_of(block: &Block) -> Vec<usize> {
    (0..block.events.len()).collect()
}
