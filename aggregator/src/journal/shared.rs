//! What the commit thread and the readers share: the store, and where things stand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use picket_common::ids::SpoolId;
use tokio::sync::watch;
use tracing::warn;

use super::claims::SpoolLedger;
use super::dead_letter::{DeadLetter, DeadLetterTotals, NewDeadLetter};
use super::metrics::JournalMetrics;
use super::store::{Recovered, SetAside, SpoolOnDisk, Store};
use super::stored_ranges::SpoolRanges;
use super::{Backlog, JournalError, JournalPosition, lock};

/// Least time between two tries to open the database anew: each closes it for those who read.
const HEAL_PAUSE: Duration = Duration::from_secs(1);

/// What the commit thread and the readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) max_bytes: u64,
    /// Most gaps of a spool: [`MAX_GAPS`], but in tests.
    pub(super) max_gaps: u64,
    pub(super) dead_letter_max_bytes: u64,
    /// What the nodes share; none where this one is alone.
    pub(super) ledger: Option<Arc<dyn SpoolLedger>>,
    /// The last round of claims may be unsettled.
    pub(super) is_unsettled: AtomicBool,
    pub(super) metrics: JournalMetrics,
    /// When the database was last opened anew.
    pub(super) last_heal: Mutex<Option<Instant>>,
    /// As on disk.
    pub(super) dead_letters: Mutex<DeadLetterTotals>,
    pub(super) progress: Mutex<Progress>,
    /// Serialises writers of plan, cursor and spool owners, which read before they write.
    pub(super) state_writes: Mutex<()>,
    pub(super) end: watch::Sender<JournalPosition>,
}

/// Where things stand; the same as on disk, except `reserved`.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) cursor: JournalPosition,
    pub(super) end: JournalPosition,
    /// The next position to use: beyond `end` by the positions of failed commits.
    pub(super) reserved: JournalPosition,
    pub(super) appended_bytes: u64,
    pub(super) finished_bytes: u64,
}

// === impl Shared ===

impl Shared {
    /// Opens the database anew if a write has failed; at most once in [`HEAL_PAUSE`]. To be called before a write, off the
    /// asynchronous threads.
    pub(super) fn heal(&self) -> Result<(), JournalError> {
        if !self.store.is_broken() {
            return Ok(());
        }
        let mut last_try = lock(&self.last_heal);
        if !self.store.is_broken() {
            return Ok(());
        }
        if last_try.is_some_and(|at| at.elapsed() < HEAL_PAUSE) {
            return Err(JournalError::Closed { directory: self.store.directory().to_owned() });
        }
        let healed = self.store.heal();
        *last_try = Some(Instant::now());
        let Recovered { cursor, end, reserved, finished_bytes, appended_bytes } = healed?;
        self.is_unsettled.store(self.ledger.is_some(), Ordering::Release);
        {
            let mut progress = lock(&self.progress);
            let reserved = progress.reserved.max(reserved);
            let mut next = Progress { cursor, end, reserved, appended_bytes, finished_bytes };
            // Who wrote to the new database before this knew where it stood is further by now. A round of claims is not: its
            // end moves when it is settled.
            if self.ledger.is_none() && progress.end > end {
                (next.end, next.appended_bytes) = (progress.end, progress.appended_bytes);
            }
            if progress.cursor > cursor {
                (next.cursor, next.finished_bytes) = (progress.cursor, progress.finished_bytes);
            }
            *progress = next;
        }
        self.show_backlog();
        let end = lock(&self.progress).end;
        self.end.send_replace(end);
        self.metrics.reopened.inc();
        warn!(%cursor, %end, "the journal was opened anew after a write that failed");
        Ok(())
    }

    pub(super) fn stored_ranges(&self, spool: SpoolId) -> Result<SpoolRanges<SpoolOnDisk<'_>>, JournalError> {
        self.store.stored_ranges(spool, self.max_gaps)
    }

    pub(super) fn backlog(&self) -> Backlog {
        let progress = lock(&self.progress);
        Backlog {
            batches: progress.end.get() - progress.cursor.get(),
            bytes: progress.appended_bytes.saturating_sub(progress.finished_bytes),
            max_bytes: self.max_bytes,
        }
    }

    pub(super) fn count_dead_letters(&self, letters: &[NewDeadLetter], set_aside: &SetAside) {
        for letter in letters {
            self.metrics.dead_letters_set_aside.get_or_create(&[("reason", letter.reason.as_str())]).inc();
        }
        self.metrics.dead_letters_evicted.inc_by(set_aside.evicted);
        *lock(&self.dead_letters) = set_aside.totals;
        self.show_dead_letters(set_aside.totals);
        warn!(
            set_aside = letters.len(),
            evicted = set_aside.evicted,
            kept = set_aside.totals.count,
            "set aside as dead letters; see picket-aggregator dead-letter list"
        );
    }

    /// One was dropped or replayed.
    pub(super) fn forget_dead_letter(&self, letter: &DeadLetter) {
        let totals = {
            let mut totals = lock(&self.dead_letters);
            totals.count = totals.count.saturating_sub(1);
            totals.bytes = totals.bytes.saturating_sub(letter.bytes);
            *totals
        };
        self.show_dead_letters(totals);
    }

    pub(super) fn show_dead_letters(&self, totals: DeadLetterTotals) {
        self.metrics.dead_letters.set(totals.count);
        self.metrics.dead_letter_bytes.set(totals.bytes);
    }

    pub(super) fn show_backlog(&self) {
        let backlog = self.backlog();
        self.metrics.backlog_batches.set(backlog.batches);
        self.metrics.backlog_bytes.set(backlog.bytes);
    }

    pub(super) fn appended_bytes(&self) -> u64 {
        lock(&self.progress).appended_bytes
    }

    pub(super) fn reserved_end(&self) -> JournalPosition {
        lock(&self.progress).reserved
    }

    /// Before a commit: its positions are used up, whether it succeeds or not.
    pub(super) fn reserve(&self, end: JournalPosition) {
        lock(&self.progress).reserved = end;
    }

    /// After a commit: its entries can be read.
    pub(super) fn publish(&self, end: JournalPosition, bytes: u64) {
        {
            let mut progress = lock(&self.progress);
            debug_assert!(progress.end <= end && end <= progress.reserved, "positions are published as reserved");
            progress.end = end;
            progress.appended_bytes += bytes;
        }
        self.show_backlog();
        self.end.send_replace(end);
    }

    /// Entries were written that may not be read yet.
    pub(super) fn note_appended(&self, bytes: u64) {
        lock(&self.progress).appended_bytes += bytes;
        self.show_backlog();
    }

    /// All that was written can be read.
    pub(super) fn publish_reserved(&self) {
        let end = {
            let mut progress = lock(&self.progress);
            progress.end = progress.reserved;
            progress.end
        };
        self.show_backlog();
        self.end.send_replace(end);
    }
}
