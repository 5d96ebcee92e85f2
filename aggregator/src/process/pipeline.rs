//! The way of a plan's entries to a block, stage by stage.

use std::collections::{BTreeMap, HashSet};
use std::thread;

use bytes::Bytes;
use picket_common::category::DataCategory;
use picket_common::outcome::{Outcome, Reason};
use picket_common::timestamp::Timestamp;

use super::decode::{self, DecodedEvent, Ended};
use super::face::face;
use super::group::group;
use super::plan::InsertPlan;
use super::row::{event_row, timestamp_of};
use super::symbolicate::symbolicate;
use crate::events::insert::Block;
use crate::events::row::{EventRow, OutcomeRow};
use crate::issues::{Claim, IssueId};
use crate::journal::{EventKey, JournalEntry};

/// An event as a row that lacks its issue, with the claim it makes to one. The parsed event is gone by now: it takes several
/// times the memory of its text.
#[derive(Debug)]
pub(super) struct Grouped {
    key: EventKey,
    category: DataCategory,
    received_at: Timestamp,
    row: EventRow,
    json: Bytes,
    claim: Claim,
}

/// Everything of a plan, ready for its issues to be found.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) grouped: Vec<Grouped>,
    ended: Vec<Ended>,
    pub(super) unreadable_records: u64,
}

impl Prepared {
    /// Ends the events for which `keep` does not hold, in order.
    fn end_all_but(&mut self, keep: impl FnMut(&Grouped) -> bool, outcome: Outcome, reason: &'static str) {
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.grouped).into_iter().partition(keep);
        self.grouped = kept;
        self.ended.extend(gone.into_iter().map(|grouped| Ended {
            project_id: grouped.key.0,
            received_at: grouped.received_at,
            category: grouped.category,
            outcome,
            reason: Reason::Borrowed(reason),
            quantity: 1,
        }));
    }

    /// What names each event, in order.
    pub(super) fn event_keys(&self) -> Vec<EventKey> {
        self.grouped.iter().map(|grouped| grouped.key).collect()
    }

    /// The claims, in order of the events.
    pub(super) fn claims(&self) -> Vec<&Claim> {
        self.grouped.iter().map(|grouped| &grouped.claim).collect()
    }
}

/// Decodes, symbolicates and groups the entries of a plan on `threads` threads. The result is in journal order, whatever
/// the threads did.
pub(super) fn prepare(entries: &[JournalEntry], threads: usize) -> Prepared {
    let records: Vec<_> = entries
        .iter()
        .flat_map(|entry| {
            decode::records(entry).into_iter().map(|(sequence, record)| (entry.header.spool_id, sequence, record))
        })
        .collect();
    let announced: u64 = entries.iter().map(|entry| entry.header.records()).sum();
    let share = records.len().div_ceil(threads.max(1)).max(1);
    let parts: Vec<Prepared> = thread::scope(|scope| {
        let workers: Vec<_> = records
            .chunks(share)
            .map(|part| {
                scope.spawn(move || {
                    let mut prepared = Prepared::default();
                    for (spool_id, sequence, record) in part {
                        let decoded = decode::record(*spool_id, *sequence, record);
                        // Record by record, so that no more than one parsed event a thread is in memory.
                        prepared.grouped.extend(decoded.events.into_iter().map(grouped));
                        prepared.ended.extend(decoded.ended);
                    }
                    prepared
                })
            })
            .collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Prepared>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    });
    let mut all =
        Prepared { unreadable_records: announced.saturating_sub(records.len() as u64), ..Prepared::default() };
    for part in parts {
        all.grouped.extend(part.grouped);
        all.ended.extend(part.ended);
    }
    all
}

fn grouped(decoded: DecodedEvent) -> Grouped {
    let event = symbolicate(decoded).0;
    let grouping = group(&event.event);
    let happened_at = timestamp_of(&event.event, event.received_at);
    let face = face(&event.event, happened_at);
    let hashes = grouping.hashes();
    let row = event_row(&event, &face, hashes.first());
    let claim = Claim { project_id: event.project_id, hashes, face };
    Grouped {
        key: (event.project_id, event.event_id),
        category: event.category,
        received_at: event.received_at,
        row,
        json: event.json,
        claim,
    }
}

/// Counts what is lost: records that can't be read, and those of journal entries that are damaged on disk. Whose they were is
/// not known, nor what; when they were received neither, so the plan's own time stands for it.
pub(super) fn count_lost(prepared: &mut Prepared, damaged_records: u64, plan: &InsertPlan) {
    for (quantity, reason) in
        [(prepared.unreadable_records, "unreadable_record"), (damaged_records, "journal_entry_damaged")]
    {
        if quantity == 0 {
            continue;
        }
        prepared.ended.push(Ended {
            project_id: decode::NOBODY,
            received_at: plan.made_at(),
            category: DataCategory::Default,
            outcome: Outcome::Dropped,
            reason: Reason::Borrowed(reason),
            quantity,
        });
    }
}

/// Takes out the events of projects that are gone; they end as outcomes.
pub(super) fn drop_unknown_projects(prepared: &mut Prepared, plan: &InsertPlan) {
    let is_known = |grouped: &Grouped| plan.retention_days(grouped.key.0).is_some();
    prepared.end_all_but(is_known, Outcome::Dropped, "project_id");
}

/// Takes out events that were stored before, or stand in the plan twice: an SDK that did not see the answer sends again.
/// `known` tells which were stored before, in order of the events.
pub(super) fn drop_duplicates(prepared: &mut Prepared, known: &[bool]) {
    let mut known = known.iter();
    let mut seen: HashSet<EventKey> = HashSet::with_capacity(prepared.grouped.len());
    let is_first = |grouped: &Grouped| {
        let is_known = known.next().copied().unwrap_or(false);
        seen.insert(grouped.key) && !is_known
    };
    prepared.end_all_but(is_first, Outcome::Invalid, "duplicate");
}

/// Makes the block. `issues` are those of the claims, in order.
pub(super) fn block(prepared: Prepared, issues: &[IssueId], plan: &InsertPlan) -> Block {
    let mut block = Block::default();
    let mut outcomes = Outcomes::default();
    for (grouped, issue) in prepared.grouped.into_iter().zip(issues) {
        let Grouped { key: (project_id, _), category, received_at, row, json, .. } = grouped;
        // Unknown projects were taken out before.
        let Some(retention_days) = plan.retention_days(project_id) else { continue };
        outcomes.add(&Ended {
            project_id,
            received_at,
            category,
            outcome: Outcome::Accepted,
            reason: Reason::Borrowed(""),
            quantity: 1,
        });
        block.events.push(EventRow { issue_id: issue.as_u64(), retention_days, ..row });
        block.payloads.push(json);
    }
    prepared.ended.iter().for_each(|ended| outcomes.add(ended));
    block.outcomes = outcomes.into_rows();
    block.made_in_hour = hour_of(plan.made_at());
    block
}

/// Outcomes added up by what makes a row; a sorted map, because the block of a replay must be the same.
#[derive(Default)]
struct Outcomes(BTreeMap<OutcomeIdentity, u64>);

/// Project, hour, category, outcome, reason.
type OutcomeIdentity = (u64, u32, &'static str, &'static str, Reason);

impl Outcomes {
    fn add(&mut self, ended: &Ended) {
        let key = (
            ended.project_id.get(),
            hour_of(ended.received_at),
            ended.category.as_str(),
            ended.outcome.as_str(),
            ended.reason.clone(),
        );
        let total = self.0.entry(key).or_default();
        *total = total.saturating_add(ended.quantity);
    }

    fn into_rows(self) -> Vec<OutcomeRow> {
        let row = |((project_id, hour, category, outcome, reason), quantity): (OutcomeIdentity, u64)| OutcomeRow {
            project_id,
            hour,
            category: category.to_owned(),
            outcome: outcome.to_owned(),
            reason: reason.into_owned(),
            quantity,
        };
        self.0.into_iter().map(row).collect()
    }
}

/// The start of the hour in seconds since the epoch; ClickHouse's `DateTime` ends in 2106.
pub(super) fn hour_of(at: Timestamp) -> u32 {
    u32::try_from(at.as_seconds() / 3600 * 3600).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
