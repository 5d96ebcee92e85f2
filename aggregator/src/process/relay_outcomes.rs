//! Outcomes that relays report over their control streams: items that ended before they became an event.
//!
//! They are added up and inserted every few seconds, each block under a token of its own, so that a repeated insert counts
//! once. What a relay has reported and this process has not inserted yet is lost if it is killed: these counts are
//! statistics until relays keep them durably.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use picket_common::ids::RelayId;
use picket_common::timestamp::Timestamp;
use picket_common::wire::control::OutcomeCount;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;
use uuid::Uuid;

use super::pipeline::hour_of;
use crate::events::EventsStore;
use crate::events::insert::Block;
use crate::events::row::OutcomeRow;

/// How long counts are added up before they are inserted.
const PERIOD: Duration = Duration::from_secs(5);
/// Most different counts kept while ClickHouse does not answer: some megabytes. Beyond, new kinds are not counted, and a
/// warning says so.
const MAX_KINDS: usize = 50_000;

type Kind = (u64, u32, String, String, String);

/// Inserts what relays report until their sender is gone.
pub async fn run(mut reports: mpsc::Receiver<(RelayId, Vec<OutcomeCount>)>, events: Arc<EventsStore>) {
    let mut counts: BTreeMap<Kind, u64> = BTreeMap::new();
    let mut pending: Option<(Uuid, Block)> = None;
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            report = reports.recv() => match report {
                Some((_, report)) => add(&mut counts, report, Timestamp::now()),
                None => break,
            },
            _ = period.tick() => flush(&mut counts, &mut pending, &events).await,
        }
    }
    // Twice: what was pending from before, and what came since.
    flush(&mut counts, &mut pending, &events).await;
    flush(&mut counts, &mut pending, &events).await;
}

fn add(counts: &mut BTreeMap<Kind, u64>, report: Vec<OutcomeCount>, now: Timestamp) {
    for count in report {
        let project = count.project_id.map_or(0, picket_common::ids::ProjectId::get);
        let kind = (
            project,
            hour_of(now),
            count.category.as_str().to_owned(),
            count.outcome.as_str().to_owned(),
            count.reason.chars().take(100).collect(),
        );
        if counts.len() >= MAX_KINDS && !counts.contains_key(&kind) {
            warn!(kinds = MAX_KINDS, "too many kinds of outcomes wait for ClickHouse, one was not counted");
            continue;
        }
        let total = counts.entry(kind).or_default();
        *total = total.saturating_add(count.quantity);
    }
}

/// Inserts the block that failed before, under its own token; else what has been added up.
async fn flush(counts: &mut BTreeMap<Kind, u64>, pending: &mut Option<(Uuid, Block)>, events: &EventsStore) {
    if pending.is_none() && !counts.is_empty() {
        let row = |((project_id, hour, category, outcome, reason), quantity)| OutcomeRow {
            project_id,
            hour,
            category,
            outcome,
            reason,
            quantity,
        };
        let outcomes = std::mem::take(counts).into_iter().map(row).collect();
        *pending = Some((Uuid::new_v4(), Block { outcomes, ..Block::default() }));
    }
    let Some((token, block)) = pending else { return };
    match events.insert(*token, block).await {
        Ok(()) => *pending = None,
        Err(error) => warn!(%error, "inserting outcomes of relays failed, trying again"),
    }
}
