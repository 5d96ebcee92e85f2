//! Insert plans: which journal entries one block is made of.

use std::collections::BTreeMap;

use picket_common::ids::ProjectId;
use picket_common::project_config::ConfigSnapshot;
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::config::ProcessConfig;
use super::parts::Parts;
use crate::journal::{JournalEntry, JournalPosition};

/// A range of the journal that is inserted as one block per table and partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InsertPlan {
    /// First part of the deduplication tokens; never used by another plan.
    pub id: Uuid,
    /// First entry.
    first: u64,
    /// One past the last entry: the cursor when the plan is finished.
    end: u64,
    /// When it was made: decides which event ids count as known, however late the plan is carried out.
    made_at: Timestamp,
    /// The projects there are and how many days they keep events. Part of the plan, because it decides the partition of a
    /// row and so its token: a setting changed between two tries must not make a second block of the same events.
    retention: BTreeMap<ProjectId, u16>,
    /// How far the search for what ClickHouse refuses has come; none where it refuses nothing.
    #[serde(default, skip_serializing_if = "Parts::is_empty")]
    pub(super) parts: Parts,
    /// The same among the rows of the books that the plan makes; begun when those of the events are stored, so that these rows
    /// stay the same.
    #[serde(default, skip_serializing_if = "Parts::is_empty")]
    pub(super) outcome_parts: Parts,
}

impl InsertPlan {
    /// Plans the entries from `first` up to `end` under the projects' present settings.
    #[must_use]
    pub fn new(
        id: Uuid,
        first: JournalPosition,
        end: JournalPosition,
        projects: &ConfigSnapshot,
        made_at: Timestamp,
    ) -> Self {
        let retention = projects.projects.iter().map(|project| (project.id, project.settings.retention_days)).collect();
        Self {
            id,
            first: first.get(),
            end: end.get(),
            made_at,
            retention,
            parts: Parts::default(),
            outcome_parts: Parts::default(),
        }
    }

    /// Whether ClickHouse has refused none of it so far.
    pub(super) const fn is_whole(&self) -> bool {
        self.parts.is_empty() && self.outcome_parts.is_empty()
    }

    /// When it was made.
    #[must_use]
    pub const fn made_at(&self) -> Timestamp {
        self.made_at
    }

    /// How many days a project keeps events; `None` if there is no such project.
    #[must_use]
    pub fn retention_days(&self, project: ProjectId) -> Option<u16> {
        self.retention.get(&project).copied()
    }

    /// First entry.
    #[must_use]
    pub const fn first(&self) -> JournalPosition {
        JournalPosition::new(self.first)
    }

    /// One past the last entry.
    #[must_use]
    pub const fn end(&self) -> JournalPosition {
        JournalPosition::new(self.end)
    }

    /// How many positions it covers.
    #[must_use]
    pub fn positions(&self) -> usize {
        usize::try_from(self.end.saturating_sub(self.first)).unwrap_or(usize::MAX)
    }

    /// The form in which the journal keeps it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain fields always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads [`Self::to_bytes`].
    ///
    /// # Errors
    /// What the JSON parser says.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// Where a plan that begins with these entries ends: within the limits of the configuration, with at least one entry.
/// `None` if there is no entry.
pub(super) fn end_of(entries: &[JournalEntry], config: &ProcessConfig) -> Option<JournalPosition> {
    let mut size = Size::default();
    let mut end = None;
    for entry in entries {
        size.add(&entry.header);
        if end.is_some() && !size.fits(config) {
            break;
        }
        end = Some(entry.position.next());
    }
    end
}

/// Whether a block of these entries is as large as the configuration lets it be.
pub(super) fn is_full(entries: &[JournalEntry], config: &ProcessConfig) -> bool {
    let mut size = Size::default();
    entries.iter().for_each(|entry| size.add(&entry.header));
    !size.fits(config)
}

#[derive(Default)]
struct Size {
    records: u64,
    bytes: u64,
}

impl Size {
    const fn add(&mut self, header: &BatchHeader) {
        self.records = self.records.saturating_add(header.records());
        self.bytes = self.bytes.saturating_add(header.raw_bytes);
    }

    fn fits(&self, config: &ProcessConfig) -> bool {
        self.records <= config.max_insert_records && self.bytes <= config.max_insert_bytes.as_u64()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;
    use picket_common::config::ByteSize;
    use picket_common::ids::{Sequence, SpoolId};

    fn entry(position: u64, records: u64, raw_bytes: u64) -> JournalEntry {
        let header = BatchHeader {
            spool_id: SpoolId::from_random([0; 16]),
            first: Sequence::FIRST,
            last: Sequence::new(records),
            raw_bytes,
            payload_bytes: 0,
            crc32c: 0,
            is_tombstone: false,
        };
        JournalEntry { position: JournalPosition::new(position), header, payload: Bytes::new(), is_replay: false }
    }

    #[test]
    fn a_plan_ends_before_the_entry_that_would_exceed_a_limit_but_has_at_least_one() {
        let config =
            ProcessConfig { max_insert_records: 10, max_insert_bytes: ByteSize::mib(1), ..ProcessConfig::default() };
        let end = |entries: &[JournalEntry]| end_of(entries, &config).map(JournalPosition::get);
        assert_eq!(end(&[]), None);
        assert_eq!(end(&[entry(5, 4, 1), entry(6, 6, 1), entry(7, 1, 1)]), Some(7));
        assert_eq!(end(&[entry(5, 1, 1 << 20), entry(9, 1, 1)]), Some(6));
        assert_eq!(end(&[entry(5, 99, 1 << 30), entry(6, 1, 1)]), Some(6));
    }

    #[test]
    fn a_plan_round_trips() {
        let plan = InsertPlan::new(
            Uuid::from_u128(7),
            JournalPosition::new(3),
            JournalPosition::new(9),
            &ConfigSnapshot::default(),
            Timestamp::from_millis(5),
        );
        assert_eq!(InsertPlan::from_bytes(&plan.to_bytes()).unwrap(), plan);
        assert_eq!(plan.positions(), 6);
    }
}
