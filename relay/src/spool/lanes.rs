//! Lanes: which batches may overtake which, so that a project with a long backlog does not hold back the others.
//!
//! While little waits to be sent all records share one lane, and go in the order in which they came. While much waits, the records
//! of a project that makes up much of what comes go into batches of their own, in a lane of their own. A reader takes from the
//! lanes in turn, by bytes ([`super::reader`]), and keeps the order within each.
//!
//! Invariants:
//! - one project's records are read in their order, the chunks of a blob before the record that names them: a project stays in its
//!   lane until nothing of it is left there, and its lane waits for what it had put into the shared one before;
//! - there are never more than [`MAX_OWN_LANES`], and the table of shares is bounded, whatever projects there are.
//!
//! What it does not do: read or write. The commit thread asks, the reader is told what there is.

use std::collections::{BTreeMap, HashMap};

use picket_common::ids::{ProjectId, Sequence};
use serde::{Deserialize, Serialize};

use super::status::LaneUsage;

/// Projects get lanes of their own while so many stored bytes wait: about twenty batches of 1 MiB of events, which a link that is
/// well has in flight for a fraction of a second.
pub(super) const LANES_FROM_BYTES: u64 = 2 * 1024 * 1024;
/// Most lanes beside the shared one. At most three projects can have over a quarter of what comes at any time; the others are of
/// some that had, and are not drained yet. Each costs a compression context, about 2 MB at level 1.
pub(super) const MAX_OWN_LANES: usize = 7;
/// Projects told apart. A share is off by one part in so many at most.
const MAX_SHARES: usize = 64;
/// The shares are those of about this many raw bytes that came last: some seconds at full speed, minutes at a few events a second.
const REMEMBERED_BYTES: u64 = 32 * 1024 * 1024;
/// Over one part in so many of what came lately a project has a lane of its own.
const NOISY_PART: u64 = 4;

/// A lane: the shared one, or a project's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Lane(u64);

impl Lane {
    /// That of everybody without one of their own. No project has the id 0.
    pub(super) const SHARED: Self = Self(0);

    pub(super) const fn of(project: ProjectId) -> Self {
        Self(project.get())
    }

    /// Whether it is the shared one, which headers need not mention.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) const fn is_shared(&self) -> bool {
        self.0 == Self::SHARED.0
    }

    /// Whose own it is; `None` for the shared one.
    pub(super) const fn project(self) -> Option<ProjectId> {
        if self.is_shared() { None } else { Some(ProjectId::new(self.0)) }
    }

    /// That of a key in the family of lanes.
    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        key.first_chunk().map(|lane| Self(u64::from_be_bytes(*lane)))
    }

    /// The one with the next number, whether it is in use or not.
    pub(super) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The key of the batch that begins with `first`: lane, then sequence, both big endian.
    pub(super) fn key(self, first: Sequence) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.0.to_be_bytes());
        key[8..].copy_from_slice(&first.to_key());
        key
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How many sealed batches each lane has that are not acknowledged. A lane without any is not there.
#[derive(Debug, Clone, Default)]
pub(super) struct LaneTable {
    batches: BTreeMap<Lane, u64>,
}

impl LaneTable {
    pub(super) fn add(&mut self, lane: Lane) {
        *self.batches.entry(lane).or_default() += 1;
    }

    pub(super) fn subtract(&mut self, lane: Lane) {
        let Some(batches) = self.batches.get_mut(&lane) else { return };
        *batches = batches.saturating_sub(1);
        if *batches == 0 {
            self.batches.remove(&lane);
        }
    }

    /// How many batches each has, for people.
    pub(super) fn usage(&self) -> Vec<LaneUsage> {
        let usage = |(lane, &batches): (&Lane, &u64)| LaneUsage { project: lane.project(), batches };
        self.batches.iter().map(usage).collect()
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = Lane> + '_ {
        self.batches.keys().copied()
    }
}

/// Who makes up how much of what came lately. Counts as Misra and Gries do ("Finding repeated elements", 1982), so that a project
/// with a large share can't be missed however many small ones there are.
#[derive(Debug, Default)]
pub(super) struct Shares {
    bytes: HashMap<ProjectId, u64>,
    total: u64,
}

impl Shares {
    /// A record of so many raw bytes came.
    pub(super) fn add(&mut self, project: ProjectId, bytes: u64) {
        self.total += bytes;
        if self.bytes.len() < MAX_SHARES || self.bytes.contains_key(&project) {
            *self.bytes.entry(project).or_default() += bytes;
        } else {
            self.take_from_all(project, bytes);
        }
        if self.total > 2 * REMEMBERED_BYTES {
            self.total /= 2;
            self.bytes.values_mut().for_each(|share| *share /= 2);
            self.bytes.retain(|_, share| *share > 0);
        }
    }

    fn take_from_all(&mut self, project: ProjectId, bytes: u64) {
        let least = self.bytes.values().copied().min().unwrap_or(0).min(bytes);
        self.bytes.values_mut().for_each(|share| *share -= least);
        self.bytes.retain(|_, share| *share > 0);
        if bytes > least && self.bytes.len() < MAX_SHARES {
            self.bytes.insert(project, bytes - least);
        }
    }

    /// Whether the project has so much of what came lately that it gets a lane of its own.
    pub(super) fn is_noisy(&self, project: ProjectId) -> bool {
        let share = self.bytes.get(&project).copied().unwrap_or(0);
        share.saturating_mul(NOISY_PART) > self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(number: u64) -> ProjectId {
        ProjectId::new(number)
    }

    #[test]
    fn over_a_quarter_of_what_came_lately_is_noisy() {
        let mut shares = Shares::default();
        for _ in 0..1000 {
            shares.add(project(1), 260);
            shares.add(project(2), 250);
            shares.add(project(3), 490);
        }
        assert_eq!([1, 2, 3, 4].map(|number| shares.is_noisy(project(number))), [true, false, true, false]);
    }

    #[test]
    fn what_came_long_ago_counts_for_nothing() {
        let mut shares = Shares::default();
        shares.add(project(1), REMEMBERED_BYTES);
        for _ in 0..100 {
            shares.add(project(2), REMEMBERED_BYTES / 10);
        }
        assert!(!shares.is_noisy(project(1)));
        assert!(shares.is_noisy(project(2)));
    }

    #[test]
    fn a_noisy_project_stands_out_among_more_small_ones_than_are_told_apart() {
        let mut shares = Shares::default();
        for number in 0..20_000 {
            shares.add(project(1), 40);
            shares.add(project(number + 2), 60);
        }
        assert!(shares.is_noisy(project(1)));
        assert!(shares.bytes.len() <= MAX_SHARES);
        assert!(!shares.is_noisy(project(19_999)));
    }
}
