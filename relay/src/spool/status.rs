//! How a spool stands, as `picket-relay status` and `picket-relay spool status` tell it.

use std::fmt::Write as _;

use picket_common::config::{ByteSize, Span};
use picket_common::ids::{ProjectId, SpoolId};
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use super::lineage::FormerId;
use super::recover::FORMAT_VERSION;
use super::{Spool, lock};

/// How full the spool is, and who it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// The id that new batches have; another one after the data directory was copied or turned back.
    pub id: SpoolId,
    /// The ids that batches from before that still have.
    #[serde(default)]
    pub former_ids: Vec<FormerId>,
    /// The format of the files.
    #[serde(default)]
    pub format_version: u32,
    /// Batches that no aggregator has acknowledged, those that still grow and tombstones included.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// `spool.max_bytes`, in bytes.
    pub budget_bytes: u64,
    /// When the oldest of them was received.
    pub oldest_received_at: Option<Timestamp>,
    /// Who has how many batches.
    #[serde(default)]
    pub lanes: Vec<LaneUsage>,
    /// Batches set aside as damaged or refused.
    pub quarantined_batches: u64,
    /// What they take on disk.
    #[serde(default)]
    pub quarantined_bytes: u64,
    /// What the file system has left; absent where it does not say.
    #[serde(default)]
    pub free_disk_bytes: Option<u64>,
    /// `spool.min_free_bytes`, in bytes.
    #[serde(default)]
    pub min_free_bytes: u64,
    /// Whether a new record would be taken.
    pub has_room: bool,
}

/// How many batches wait in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneUsage {
    /// The project that has batches of its own; all others where absent.
    pub project: Option<ProjectId>,
    /// Its batches.
    pub batches: u64,
}

impl Spool {
    /// How it stands. Asks the file system.
    #[must_use]
    pub fn status(&self) -> SpoolStatus {
        let usage = self.usage();
        let lanes = lock(&self.shared.counters).lanes.usage();
        SpoolStatus {
            id: self.id(),
            former_ids: self.former_ids(),
            format_version: FORMAT_VERSION,
            batches: usage.batches,
            records: usage.records,
            bytes: usage.bytes,
            budget_bytes: usage.budget.as_u64(),
            oldest_received_at: usage.oldest_received_at,
            lanes,
            quarantined_batches: usage.quarantined_batches,
            quarantined_bytes: usage.quarantined_bytes,
            free_disk_bytes: self.shared.guard.free_bytes(),
            min_free_bytes: self.shared.config.min_free_bytes.as_u64(),
            has_room: self.has_room(),
        }
    }
}

impl SpoolStatus {
    /// One line for people.
    #[must_use]
    pub fn line(&self, now: Timestamp) -> String {
        let used = ByteSize::bytes(self.bytes);
        let budget = ByteSize::bytes(self.budget_bytes);
        let mut line = format!("{} records in {} batches, {used} of {budget}", self.records, self.batches);
        if let Some(oldest) = self.oldest_received_at {
            // In whole seconds; nobody reads more.
            let _ = write!(line, ", oldest {} old", Span::secs(now.since(oldest).as_secs()));
        }
        if self.quarantined_batches > 0 {
            let _ = write!(line, ", {} batches set aside", self.quarantined_batches);
        }
        if !self.has_room {
            line.push_str(", FULL");
        }
        line
    }
}
