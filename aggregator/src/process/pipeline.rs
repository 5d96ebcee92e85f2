//! The way of a plan's entries to a block, stage by stage.

use std::collections::{BTreeMap, HashSet};
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use bytes::Bytes;
use picket_common::category::DataCategory;
use picket_common::ids::{Sequence, SpoolId};
use picket_common::outcome::{Outcome, Reason};
use picket_common::record::Record;
use picket_common::timestamp::Timestamp;

use super::decode::{self, DecodedEvent, Ended};
use super::face::face;
use super::group::group;
use super::parts::Parts;
use super::plan::InsertPlan;
use super::row::{event_row, timestamp_of};
use super::symbolicate::symbolicate;
use crate::events::insert::Block;
use crate::events::row::{EventRow, OutcomeRow};
use crate::issues::{Claim, IssueId};
use crate::journal::{CorruptEntry, DeadLetterReason, EventKey, Form, JournalEntry, NewDeadLetter};

/// An event as a row that lacks its issue, with the claim it makes to one. The parsed event is gone by now: it takes several
/// times the memory of its text.
#[derive(Debug)]
pub(super) struct Grouped {
    /// The place of its record among all that the plan's entries announce.
    record: u64,
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
    /// What is kept of that which goes no further.
    pub(super) dead_letters: Vec<NewDeadLetter>,
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

/// A record with where it came from.
struct Located {
    /// Its place among all records that the plan's entries announce.
    place: u64,
    spool_id: SpoolId,
    sequence: Sequence,
    record: Record,
}

/// What a record came to.
type TakenApart = (Vec<Grouped>, Vec<Ended>);

/// Decodes, symbolicates and groups the entries of a plan on `threads` threads; the records that are set aside in `parts`
/// come to nothing but a dead letter and an outcome. The result is in journal order, whatever the threads did.
pub(super) fn prepare(entries: &[JournalEntry], parts: &Parts, threads: usize) -> Prepared {
    prepare_by(&take_apart, entries, parts, threads)
}

fn prepare_by(
    take_apart: &(impl Fn(&Located) -> TakenApart + Sync),
    entries: &[JournalEntry],
    parts: &Parts,
    threads: usize,
) -> Prepared {
    let mut all = Prepared::default();
    let mut records = Vec::new();
    let mut announced = 0;
    for entry in entries {
        let spool_id = entry.header.spool_id;
        let opened = decode::open(entry);
        let places = announced..;
        let located = |(place, (sequence, record))| Located { place, spool_id, sequence, record };
        records.extend(places.zip(opened.records).map(located));
        all.dead_letters.extend(opened.unreadable);
        announced += entry.header.records();
    }
    all.unreadable_records = announced.saturating_sub(records.len() as u64);
    let share = records.len().div_ceil(threads.max(1)).max(1);
    let prepared: Vec<Prepared> = thread::scope(|scope| {
        let prepare_part = |part| prepare_part(take_apart, part, parts);
        let workers: Vec<_> = records.chunks(share).map(|part| scope.spawn(move || prepare_part(part))).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Prepared>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    });
    for part in prepared {
        all.grouped.extend(part.grouped);
        all.ended.extend(part.ended);
        all.dead_letters.extend(part.dead_letters);
    }
    all
}

fn prepare_part(take_apart: &(impl Fn(&Located) -> TakenApart + Sync), records: &[Located], parts: &Parts) -> Prepared {
    let mut prepared = Prepared::default();
    // Record by record, so that no more than one parsed event a thread is in memory.
    for located in records {
        // What it touches is its own record and this result, which a panic leaves as it was.
        let taken = panic::catch_unwind(AssertUnwindSafe(|| take_apart(located)));
        match (taken, parts.refusal(located.place)) {
            (Ok((grouped, ended)), None) => {
                prepared.grouped.extend(grouped);
                prepared.ended.extend(ended);
            }
            (Ok((grouped, ended)), Some(refusal)) => {
                let events = grouped.iter().map(|grouped| (grouped.category, 1));
                let others = ended.iter().map(|ended| (ended.category, ended.quantity));
                prepared
                    .ended
                    .extend(events.chain(others).map(|(category, quantity)| set_aside(located, category, quantity)));
                prepared.dead_letters.push(dead_letter(located, DeadLetterReason::Refused, refusal.to_owned()));
            }
            (Err(_), _) => {
                let detail = "decoding it panicked; the log says where".to_owned();
                prepared.ended.push(set_aside(located, DataCategory::Default, 1));
                prepared.dead_letters.push(dead_letter(located, DeadLetterReason::Panicked, detail));
            }
        }
    }
    prepared
}

fn take_apart(located: &Located) -> TakenApart {
    let decoded = decode::record(located.spool_id, located.sequence, &located.record);
    (decoded.events.into_iter().map(|event| grouped(located.place, event)).collect(), decoded.ended)
}

fn set_aside(located: &Located, category: DataCategory, quantity: u64) -> Ended {
    let header = &located.record.header;
    Ended {
        project_id: header.project_id,
        received_at: header.received_at,
        category,
        outcome: Outcome::Dropped,
        reason: Reason::Borrowed("dead_letter"),
        quantity,
    }
}

fn dead_letter(located: &Located, reason: DeadLetterReason, detail: String) -> NewDeadLetter {
    let Located { spool_id, sequence, record, .. } = located;
    let mut bytes = Vec::with_capacity(record.encoded_len_bound());
    if record.encode_into(&mut bytes).is_err() {
        // It was read from this form, so only a bug could do it; the letter says then that there are no bytes.
        bytes.clear();
    }
    NewDeadLetter {
        reason,
        detail,
        project_id: Some(record.header.project_id),
        event_id: record.header.event_id,
        origin: Some((*spool_id, *sequence, *sequence)),
        form: Form::Records,
        raw_bytes: bytes.len() as u64,
        bytes: Bytes::from(bytes),
    }
}

/// The dead letter of a journal entry that is damaged on disk.
pub(super) fn damaged(entry: CorruptEntry) -> NewDeadLetter {
    NewDeadLetter {
        reason: DeadLetterReason::Damaged,
        detail: entry.problem,
        project_id: None,
        event_id: None,
        origin: None,
        form: Form::Entry,
        raw_bytes: 0,
        bytes: entry.bytes,
    }
}

fn grouped(record: u64, decoded: DecodedEvent) -> Grouped {
    let event = symbolicate(decoded).0;
    let grouping = group(&event.event);
    let happened_at = timestamp_of(&event.event, event.received_at);
    let face = face(&event.event, happened_at);
    let hashes = grouping.hashes();
    let row = event_row(&event, &face, hashes.first());
    let claim = Claim { project_id: event.project_id, hashes, face };
    Grouped {
        record,
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
        let Grouped { record, key: (project_id, _), category, received_at, row, json, .. } = grouped;
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
        block.records.push(record);
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
