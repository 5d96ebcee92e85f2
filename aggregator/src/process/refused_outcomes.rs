//! Rows of the books that ClickHouse refuses: set aside like events, as a record of counts that a replay reads.
//!
//! A row of `outcomes` adds up many records, so no record is at fault. The row becomes a record of the kind in which relays send
//! their counts: replayed, it makes the same row again, in a plan of its own.

use bytes::Bytes;
use picket_common::category::DataCategory;
use picket_common::ids::{ProjectId, Sequence, SpoolId};
use picket_common::outcome::{Outcome, OutcomeCount, OutcomeKey, Reason};
use picket_common::record::Record;
use picket_common::timestamp::Timestamp;

use super::decode::NOBODY;
use super::parts::Parts;
use crate::events::row::OutcomeRow;
use crate::journal::{DeadLetterReason, Form, JournalEntry, NewDeadLetter};

/// Under which sequence a row can be appended again: that of the plan's first record, which is noted already. `None` where
/// nothing of the plan can be read.
pub(super) fn origin(entries: &[JournalEntry]) -> Option<(SpoolId, Sequence)> {
    entries.first().map(|entry| (entry.header.spool_id, entry.header.first))
}

/// The dead letters of the rows that are set aside in `parts`.
pub(super) fn dead_letters(
    rows: &[OutcomeRow],
    parts: &Parts,
    origin: Option<(SpoolId, Sequence)>,
) -> Vec<NewDeadLetter> {
    let letter = |(row, place): (&OutcomeRow, u64)| Some(dead_letter(row, parts.refusal(place)?, origin));
    rows.iter().zip(0..).filter_map(letter).collect()
}

fn dead_letter(row: &OutcomeRow, refusal: &str, origin: Option<(SpoolId, Sequence)>) -> NewDeadLetter {
    let bytes = record(row).unwrap_or_default();
    NewDeadLetter {
        reason: DeadLetterReason::Refused,
        detail: refusal.to_owned(),
        project_id: Some(ProjectId::new(row.project_id)),
        event_id: None,
        origin: origin.map(|(spool_id, sequence)| (spool_id, sequence, sequence)),
        form: Form::Records,
        raw_bytes: bytes.len() as u64,
        bytes,
    }
}

/// The row as relays send counts. `None` for a word that no count of ours has, which only a bug could bring about; the letter says
/// then that there are no bytes.
fn record(row: &OutcomeRow) -> Option<Bytes> {
    let project_id = ProjectId::new(row.project_id);
    let hour = Timestamp::from_millis(u64::from(row.hour) * 1000);
    let key = OutcomeKey {
        hour,
        project_id: (project_id != NOBODY).then_some(project_id),
        category: DataCategory::from_name(&row.category)?,
        outcome: outcome(&row.outcome)?,
        reason: Reason::Owned(row.reason.clone()),
    };
    let record = Record::of_outcomes(&[OutcomeCount { key, quantity: row.quantity }], hour).ok()?;
    let mut bytes = Vec::with_capacity(record.encoded_len_bound());
    record.encode_into(&mut bytes).ok()?;
    Some(bytes.into())
}

fn outcome(name: &str) -> Option<Outcome> {
    serde_json::from_value(serde_json::Value::from(name)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use picket_common::record::RecordReader;

    use super::*;
    use crate::process::decode;

    fn row(project_id: u64, outcome: &str, reason: &str, quantity: u64) -> OutcomeRow {
        let (category, outcome, reason) = ("error".to_owned(), outcome.to_owned(), reason.to_owned());
        OutcomeRow { project_id, hour: 7_200, category, outcome, reason, quantity }
    }

    #[test]
    fn a_refused_row_is_kept_as_counts_that_are_read_back_as_the_same_row() {
        let rows = [row(3, "accepted", "", 17), row(0, "dropped", "dead_letter", 1), row(3, "client_discard", "x", 5)];
        let mut parts = Parts::begin(3);
        // In halves: the first row, then the others, each of which is refused by itself.
        parts.refused("no");
        parts.stored();
        parts.refused("no");
        parts.refused("not this");
        parts.refused("nor this");
        let spool = SpoolId::from_random([7; 16]);
        let letters = dead_letters(&rows, &parts, Some((spool, Sequence::new(9))));
        let said: Vec<_> = letters.iter().map(|letter| (letter.project_id, letter.detail.as_str())).collect();
        assert_eq!(said, [(Some(NOBODY), "not this"), (Some(ProjectId::new(3)), "nor this")]);
        for (letter, row) in letters.iter().zip(&rows[1..]) {
            assert_eq!(letter.origin, Some((spool, Sequence::new(9), Sequence::new(9))));
            let record = RecordReader::new(letter.bytes.clone()).next().unwrap().unwrap();
            let [ended] = &decode::record(spool, Sequence::new(9), &record).ended[..] else { panic!("one row") };
            let back = (ended.project_id.get(), ended.received_at.as_seconds(), ended.category.as_str());
            assert_eq!(back, (row.project_id, 7_200, "error"));
            let back = (ended.outcome.as_str(), &*ended.reason, ended.quantity);
            assert_eq!(back, (row.outcome.as_str(), row.reason.as_str(), row.quantity));
        }
    }
}
