//! Parts of a plan whose block ClickHouse refuses: how the record that it refuses is found, and set aside.
//!
//! ```text
//! whole plan  ├───────────────────── refused (three times) ─────────────────────┤
//! in halves   ├──── stored ────┤├──── refused ────┤
//!                               ├ stored ┤├refused┤├──────── open ──────────────┤
//!                                          └ one record: set aside
//! ```
//!
//! Invariants (the reasoning is in `docs/decisions/0015-dead-letters.md`):
//! - parts cover every record of the plan once, in order; a record is named by its place among the records that the plan's entries
//!   announce, which no later version of the decoder moves;
//! - parts are part of the plan: a part is cut, or a record set aside, durably *before* anything is inserted by it;
//! - rows of a part are inserted only where the table lacks them, because the block of the whole may be stored in some tables
//!   and partitions already;
//! - outcomes are inserted once no part is open, and never before: they count what was set aside.

use serde::{Deserialize, Serialize};

/// How a part stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PartState {
    /// Some of its rows may be missing.
    Open,
    /// Its rows are stored.
    Stored,
    /// One record that ClickHouse refuses, and what it said.
    Refused(String),
}

/// Records of a plan, by their place among all that its entries announce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// The first record.
    pub(super) first: u64,
    /// One past the last.
    pub(super) end: u64,
    pub(super) state: PartState,
}

/// The parts of a plan in order; none while it is inserted as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Parts(Vec<Part>);

/// What became of a part that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its halves are tried.
    InHalves,
    /// It was one record.
    SetAside,
}

// === impl Parts ===

impl Parts {
    /// Whether the plan is inserted as a whole.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins with one part of all records.
    pub(super) fn begin(records: u64) -> Self {
        Self(vec![Part { first: 0, end: records, state: PartState::Open }])
    }

    /// The first part that is open.
    pub(super) fn first_open(&self) -> Option<&Part> {
        self.0.iter().find(|part| part.state == PartState::Open)
    }

    /// Notes that the first open part is stored.
    pub(super) fn stored(&mut self) {
        if let Some(part) = self.0.iter_mut().find(|part| part.state == PartState::Open) {
            part.state = PartState::Stored;
        }
    }

    /// Notes that the first open part was refused: cuts it in half, or sets its one record aside.
    pub(super) fn refused(&mut self, said: &str) -> Cut {
        let Some(at) = self.0.iter().position(|part| part.state == PartState::Open) else { return Cut::SetAside };
        let Part { first, end, .. } = self.0[at];
        if end - first <= 1 {
            self.0[at].state = PartState::Refused(said.to_owned());
            return Cut::SetAside;
        }
        let middle = first + (end - first) / 2;
        let halves = [(first, middle), (middle, end)];
        self.0.splice(at..=at, halves.map(|(first, end)| Part { first, end, state: PartState::Open }));
        Cut::InHalves
    }

    /// What ClickHouse said of a record that is set aside.
    pub(super) fn refusal(&self, record: u64) -> Option<&str> {
        let after = self.0.partition_point(|part| part.first <= record);
        match self.0.get(after.checked_sub(1)?)? {
            Part { end, state: PartState::Refused(said), .. } if record < *end => Some(said),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Carries a plan out against a table that refuses these records; what it takes, and how often it was asked.
    fn carry_out(records: u64, poison: &BTreeSet<u64>) -> (Parts, Vec<u64>, usize) {
        let (mut parts, mut table, mut tries) = (Parts::begin(records), Vec::new(), 0);
        while let Some(part) = parts.first_open().cloned() {
            tries += 1;
            if poison.range(part.first..part.end).next().is_some() {
                parts.refused("no");
            } else {
                table.extend(part.first..part.end);
                parts.stored();
            }
        }
        (parts, table, tries)
    }

    #[test]
    fn one_record_among_many_is_found_in_few_tries() {
        let (parts, table, tries) = carry_out(20_000, &BTreeSet::from([13_337]));
        assert_eq!((parts.refusal(13_337), table.len()), (Some("no"), 19_999));
        assert!(tries <= 2 * 15 + 1, "{tries}");
    }

    proptest! {
        #[test]
        fn every_record_is_stored_once_or_set_aside_and_only_those_that_are_refused_are(
            records in 1_u64..200,
            poison in proptest::collection::btree_set(0_u64..200, 0..8),
        ) {
            let (parts, table, _) = carry_out(records, &poison);
            let expected: Vec<u64> = (0..records).filter(|record| !poison.contains(record)).collect();
            prop_assert_eq!(table, expected);
            for record in 0..records {
                prop_assert_eq!(parts.refusal(record).is_some(), poison.contains(&record));
            }
        }
    }
}
