//! Counts of outcomes that ride in the spool's commits (`docs/decisions/0009-outcomes-ride-in-the-spool.md`).
//!
//! ```text
//! Spool::count ─▸ waiting (memory) ─┐ next commit                    Seal
//! Spool::append_counted ────────────┴─▸ ledger: `outcomes` family ───────▸ record of kind outcomes, in a sealed batch
//! ```
//!
//! Invariants:
//! - what is dropped or set aside is counted in the write that does it (`store::removals`), and moved to the ledger by the next commit;
//! - a count is in exactly one of the three places. It leaves memory for the ledger, and the ledger for a record, in one synced
//!   write of the database each;
//! - [`Spool::settle`] returns after everything that was counted before is on disk;
//! - the ledger takes counts also when the spool is full: its size is bounded by [`MAX_KEYS`] and
//!   [`MAX_KEYS_OF_A_PROJECT`], whatever clients make up. Beyond, reasons become `other`, and then projects nobody: nothing is
//!   lost, only told apart less.
//!
//! What it does not do: say when to seal (the task `outcomes` does), or what an outcome is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use picket_common::ids::{ProjectId, Sequence};
use picket_common::outcome::{OutcomeCount, OutcomeKey, Reason};
use picket_common::record::{Record, RecordError};
use picket_common::timestamp::Timestamp;
use tokio::sync::oneshot;

use super::committer::Command;
use super::error::AppendError;
use super::{Spool, lock};

/// Most keys that are told apart: about 2 MB in memory, and as much on disk. Beyond it there is at most one further key an hour,
/// category and outcome.
pub(super) const MAX_KEYS: usize = 10_000;
/// Most keys of one project, so that what the clients of one make up takes nothing from the others.
pub(super) const MAX_KEYS_OF_A_PROJECT: usize = 1000;
/// Most counts in one record: about 300 KB of JSON before compression.
const MAX_COUNTS_IN_RECORD: usize = 2000;
/// The reason that stands for all that are not told apart.
const OTHER: Reason = Reason::Borrowed("other");

/// Counts added up by key, with a bound for the number of keys.
#[derive(Debug, Default)]
pub(super) struct Counts {
    totals: BTreeMap<OutcomeKey, u64>,
    keys_by_project: HashMap<ProjectId, usize>,
}

impl Counts {
    /// Adds a count under its key, or under a less exact one if there are too many; says which.
    pub(super) fn add(&mut self, count: OutcomeCount) -> OutcomeKey {
        let key = self.bounded(count.key);
        match self.totals.get_mut(&key) {
            Some(total) => *total = total.saturating_add(count.quantity),
            None => {
                if let Some(project) = key.project_id {
                    *self.keys_by_project.entry(project).or_default() += 1;
                }
                self.totals.insert(key.clone(), count.quantity);
            }
        }
        key
    }

    fn bounded(&self, mut key: OutcomeKey) -> OutcomeKey {
        if self.totals.contains_key(&key) {
            return key;
        }
        let of_project = key.project_id.and_then(|project| self.keys_by_project.get(&project)).copied().unwrap_or(0);
        if of_project >= MAX_KEYS_OF_A_PROJECT {
            key.reason = OTHER;
        }
        if self.totals.len() >= MAX_KEYS && !self.totals.contains_key(&key) {
            key = OutcomeKey { project_id: None, reason: OTHER, ..key };
        }
        key
    }

    fn remove(&mut self, key: &OutcomeKey) {
        if self.totals.remove(key).is_none() {
            return;
        }
        let Some(project) = key.project_id else { return };
        if let Some(keys) = self.keys_by_project.get_mut(&project) {
            *keys -= 1;
            if *keys == 0 {
                self.keys_by_project.remove(&project);
            }
        }
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> impl Iterator<Item = OutcomeCount> + use<> {
        std::mem::take(self).totals.into_iter().map(|(key, quantity)| OutcomeCount { key, quantity })
    }
}

/// What a commit changes in the `outcomes` family.
#[derive(Debug, Default)]
pub(super) struct LedgerChange {
    /// New totals.
    pub(super) put: Vec<(OutcomeKey, u64)>,
    /// Keys whose totals are in a record now.
    pub(super) delete: Vec<OutcomeKey>,
    /// Removals whose counts are in totals now.
    pub(super) taken_over: Vec<Sequence>,
}

/// What was lost by a removal. On disk with it, and in the ledger after the next commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemovalCounts {
    /// The first batch that was removed by it.
    pub(super) first: Sequence,
    pub(super) counts: Vec<OutcomeCount>,
}

impl LedgerChange {
    pub(super) const fn is_empty(&self) -> bool {
        self.put.is_empty() && self.delete.is_empty() && self.taken_over.is_empty()
    }
}

/// The totals that are on disk, or will be after the commit under way. The commit thread's own.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    counts: Counts,
    /// Keys whose totals are not on disk yet.
    changed: BTreeSet<OutcomeKey>,
}

impl Ledger {
    /// What the database has from before.
    pub(super) fn load(stored: impl Iterator<Item = OutcomeCount>) -> Self {
        let mut ledger = Self::default();
        for count in stored {
            ledger.counts.add(count);
        }
        ledger
    }

    pub(super) fn add(&mut self, count: OutcomeCount) {
        let key = self.counts.add(count);
        self.changed.insert(key);
    }

    /// How many counts are in no record yet.
    pub(super) fn len(&self) -> usize {
        self.counts.totals.len()
    }

    /// Takes the oldest counts out and makes a record of them, if there are any.
    pub(super) fn seal(&mut self, at: Timestamp, change: &mut LedgerChange) -> Result<Option<Record>, RecordError> {
        let count = |(key, quantity): (&OutcomeKey, &u64)| OutcomeCount { key: key.clone(), quantity: *quantity };
        let sealed: Vec<_> = self.counts.totals.iter().take(MAX_COUNTS_IN_RECORD).map(count).collect();
        if sealed.is_empty() {
            return Ok(None);
        }
        let record = Record::of_outcomes(&sealed, at)?;
        for OutcomeCount { key, .. } in sealed {
            self.counts.remove(&key);
            self.changed.remove(&key);
            change.delete.push(key);
        }
        Ok(Some(record))
    }

    /// What the next commit has to write.
    pub(super) fn take_changed(&mut self, change: &mut LedgerChange) {
        for key in std::mem::take(&mut self.changed) {
            let total = self.counts.totals.get(&key).copied().unwrap_or(0);
            change.put.push((key, total));
        }
    }
}

impl Spool {
    /// Counts; on disk with the next commit, which [`Self::settle`] waits for and [`Self::seal_counts`] brings about.
    pub fn count(&self, counts: impl IntoIterator<Item = OutcomeCount>) {
        let mut waiting = lock(&self.shared.waiting);
        for count in counts {
            waiting.add(count);
        }
    }

    /// Waits until everything that was counted before is on disk. One fsync serves all who wait.
    ///
    /// # Errors
    /// [`AppendError`] if the spool is closed or has failed; the counts may be lost then.
    pub async fn settle(&self) -> Result<(), AppendError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Command::Settle(reply)).await.map_err(|_| self.refusal())?;
        answer.await.map_err(|_| self.refusal())
    }

    /// How many counts are in no batch yet.
    #[must_use]
    pub fn counts_waiting(&self) -> u64 {
        let waiting = lock(&self.shared.waiting).totals.len() + lock(&self.shared.removed).len();
        (self.shared.ledger_length.load(Ordering::Relaxed) + waiting) as u64
    }

    /// Puts what was counted into a batch, so that it is sent. Does nothing where nothing was; writes the counts to disk and
    /// leaves them there while the spool is full.
    ///
    /// # Errors
    /// [`AppendError`] if the spool is closed or has failed.
    pub async fn seal_counts(&self, at: Timestamp) -> Result<(), AppendError> {
        self.queue.send(Command::Seal(at)).await.map_err(|_| self.refusal())
    }

    /// What was counted and is in no record yet.
    #[cfg(test)]
    pub(crate) fn counted(&self) -> Vec<OutcomeCount> {
        let mut counts = Counts::default();
        let store = self.shared.store().expect("it is open");
        for count in store.outcomes().unwrap_or_default() {
            counts.add(count);
        }
        for removal in store.counts_of_removals().unwrap_or_default() {
            removal.counts.into_iter().for_each(|count| drop(counts.add(count)));
        }
        for (key, quantity) in &lock(&self.shared.waiting).totals {
            counts.add(OutcomeCount { key: key.clone(), quantity: *quantity });
        }
        counts.take().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_common::category::DataCategory;
    use picket_common::outcome::Outcome;

    fn count(project: u64, reason: String) -> OutcomeCount {
        let key = OutcomeKey {
            hour: Timestamp::EPOCH,
            project_id: Some(ProjectId::new(project)),
            category: DataCategory::Error,
            outcome: Outcome::Invalid,
            reason: Reason::Owned(reason),
        };
        OutcomeCount { key, quantity: 1 }
    }

    #[test]
    fn reasons_that_one_project_makes_up_take_nothing_from_the_others() {
        let mut counts = Counts::default();
        for number in 0..5000 {
            counts.add(count(1, format!("made-up-{number}")));
        }
        assert_eq!(counts.totals.len(), MAX_KEYS_OF_A_PROJECT + 1);
        assert_eq!(counts.add(count(2, "cors".to_owned())), count(2, "cors".to_owned()).key);
        assert_eq!(counts.take().map(|count| count.quantity).sum::<u64>(), 5001);
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_nothing_is_lost() {
        let mut ledger = Ledger::default();
        for project in 0..20_000 {
            ledger.add(count(project, "cors".to_owned()));
        }
        assert_eq!(ledger.counts.totals.len(), MAX_KEYS + 1);
        let mut change = LedgerChange::default();
        let mut sealed = 0;
        while let Ok(Some(record)) = ledger.seal(Timestamp::EPOCH, &mut change) {
            let counts: Vec<OutcomeCount> = serde_json::from_slice(&record.body).unwrap_or_default();
            assert!(counts.len() <= MAX_COUNTS_IN_RECORD);
            sealed += counts.iter().map(|count| count.quantity).sum::<u64>();
        }
        assert_eq!((sealed, ledger.counts.totals.is_empty(), ledger.counts.keys_by_project.len()), (20_000, true, 0));
    }
}
