//! Whether the spool can write, and what it does while it can't: opens its database anew, in place.
//!
//! After a write that failed RocksDB takes no other, and nobody may trust what is in memory: a kernel drops the dirty pages of a failed
//! fsync, so a second one that succeeds proves nothing. So the commit thread closes the database and opens it again, at once and then
//! every [`MEND_PAUSE`]. An opening reads the log and writes what it found to new, synced files: what was answered before is there, and
//! the write that failed is there as a whole or not at all. Its clients heard 503 in either case.
//!
//! Invariants:
//! - the old database is closed before the new one is opened; whoever uses it at that moment finishes first (every use is short);
//! - a new one is shown to others only after a synced write to it succeeded;
//! - in between every append is refused at once, and reads and deletions say why they can't be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use picket_common::ids::Sequence;
use tokio::sync::Notify;

use super::counts::Ledger;
use super::error::SpoolError;
use super::frames::Frames;
use super::recover::{Recovered, recover};
use super::removal::Removal;
use super::store::{STATE_FORMAT, Store};
use super::usage::Counters;
use super::{Shared, lock};

/// Between two tries to open the database anew. Each reads the log, 64 MiB at most.
pub(super) const MEND_PAUSE: Duration = Duration::from_secs(1);
/// How often a database that is being closed is looked at.
const CLOSE_POLL: Duration = Duration::from_millis(1);

/// Whether the spool can write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Well,
    /// A write failed; it is tried to open the database anew.
    Broken(Arc<str>),
    /// For good: the process has to start anew.
    Failed(Arc<str>),
}

impl Condition {
    /// Why nothing is taken now.
    pub(super) fn problem(&self) -> Option<Arc<str>> {
        match self {
            Self::Well => None,
            Self::Broken(reason) | Self::Failed(reason) => Some(Arc::clone(reason)),
        }
    }
}

/// Says that a write failed, whoever wrote, and wakes the commit thread for it.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    is_raised: AtomicBool,
    raised: Notify,
}

impl Alarm {
    pub(super) fn raise(&self) {
        self.is_raised.store(true, Ordering::Release);
        self.raised.notify_one();
    }

    pub(super) fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::Acquire)
    }

    fn clear(&self) {
        self.is_raised.store(false, Ordering::Release);
    }

    /// Waits until it is raised.
    pub(super) async fn wait(&self) {
        while !self.is_raised() {
            self.raised.notified().await;
        }
    }
}

/// What the commit thread goes on with after the database was opened anew.
pub(super) struct Mended {
    pub(super) frames: Frames,
    pub(super) ledger: Ledger,
    pub(super) store: Arc<Store>,
}

impl Shared {
    /// The database, for one operation; nobody keeps it.
    ///
    /// # Errors
    /// [`SpoolError::Failed`] while it is opened anew.
    pub(super) fn store(&self) -> Result<Arc<Store>, SpoolError> {
        let store = lock(&self.store).clone();
        store.ok_or_else(|| {
            SpoolError::Failed(self.condition.borrow().problem().unwrap_or_else(|| "it is closed".into()))
        })
    }

    /// Nothing is taken from here on until [`Self::mend`].
    pub(super) fn break_off(&self, reason: &Arc<str>) {
        tracing::error!(
            %reason, directory = %self.directory.display(),
            "the spool can't write, requests are answered 503 until its database was opened anew; check the disk's free space and health"
        );
        self.metrics.failed_writes.inc();
        self.condition.send_replace(Condition::Broken(Arc::clone(reason)));
    }

    /// Opens the database anew. On the commit thread.
    ///
    /// # Errors
    /// [`SpoolError`] if it can't be opened or written yet.
    pub(super) fn mend(&self) -> Result<Mended, SpoolError> {
        let former = lock(&self.store).take();
        if let Some(former) = former {
            // Nobody gets it any more, and each use is short.
            while Arc::strong_count(&former) > 1 {
                std::thread::sleep(CLOSE_POLL);
            }
        }
        let store = Store::open(&self.directory, &self.config, Arc::clone(&self.alarm))?;
        let mended = self.take_up(store)?;
        // Before anyone has the store: a write of theirs that fails must be heard.
        self.alarm.clear();
        *lock(&self.store) = Some(Arc::clone(&mended.store));
        // Before it is shown: who sees the one must see the other.
        self.metrics.reopened.inc();
        self.condition.send_replace(Condition::Well);
        let usage = lock(&self.counters).records;
        tracing::warn!(
            records = usage,
            "the spool's database was opened anew after a write that failed, and takes requests again"
        );
        Ok(mended)
    }

    /// Finds where the opened database stands, as the first opening does, and shows that it can write.
    fn take_up(&self, store: Store) -> Result<Mended, SpoolError> {
        let gone =
            |problem: &str| SpoolError::Damaged { directory: self.directory.clone(), problem: problem.to_owned() };
        if store.state(STATE_FORMAT)?.is_none() {
            return Err(gone("its files are gone"));
        }
        let Recovered { id, next, frames, .. } = recover(&store, &self.directory, [0; 16])?;
        if id != lock(&self.identity).current() {
            return Err(gone("it has the id of another spool"));
        }
        let committed = Sequence::new(next.get() - 1);
        self.committed.send_replace(committed);
        let entered = self.recount(&store, committed)?;
        let frames = Frames::new(&self.config, frames, next, entered)?;
        let ledger = Ledger::load(store.outcomes()?.into_iter());
        store.prove_that_it_writes()?;
        Ok(Mended { frames, ledger, store: Arc::new(store) })
    }

    /// Counts anew what is there. Nobody deletes meanwhile, for want of a database.
    fn recount(
        &self,
        store: &Store,
        committed: Sequence,
    ) -> Result<BTreeMap<super::lanes::Lane, Sequence>, SpoolError> {
        let mut removal = lock(&self.removal);
        *removal = Removal::load(store)?;
        let quarantine = removal.quarantine();
        {
            let mut counters = lock(&self.counters);
            *counters = Counters {
                accepted_total: counters.accepted_total,
                quarantined_batches: quarantine.batches,
                quarantined_bytes: quarantine.bytes,
                ..Counters::default()
            };
        }
        *lock(&self.removed) = store.counts_of_removals()?;
        self.count_headers(store, &mut removal, committed)
    }
}
