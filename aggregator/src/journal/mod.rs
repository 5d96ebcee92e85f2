//! The journal: batches as relays sent them, on disk before they are acknowledged, until they are in ClickHouse.
//!
//! Invariants:
//! - A batch is answered [`Appended::Stored`] only after an fsync covers it.
//! - Each sequence of a spool is stored at most once: a batch is judged by, and written together with, the stored ranges
//!   of its spool. Both survive a crash or neither does.
//! - A tombstone's sequences are noted like a batch's; it has no payload and so no entry.
//! - A batch is stored verbatim; what is read back is checked against its checksum, and a damaged entry is reported and
//!   skipped, never returned and never a panic.
//! - Positions grow and are never used twice, so they may name things elsewhere (insert plans, deduplication tokens).
//! - Below the cursor there is nothing: entries are deleted in the same transaction that moves the cursor, and a batch
//!   does not come back after that, because its spool's ranges stay.
//! - Where several nodes share a database, that says what is stored, and this journal holds what it has won there (`claims`);
//!   `spools` is empty then.
//! - A write that failed is never answered as done. RocksDB takes no other after it, so the database is opened anew in place
//!   (`Shared::heal`): the failed write is then in it as a whole or not at all, what was answered before is in it, and
//!   cursor and end are read from it again. Positions that it may have used are not used again.
//! - At most one plan is pending, and it changes only by being amended with what was learnt, or finished.
//! - Memory and disk are bounded: the queue, the commit group, the gaps of a spool, and `journal.max_bytes`.
//!
//! ```text
//! data_dir/journal/ (RocksDB)
//! ├─ batches  position: u64 BE ──▶ entry, see `entry`        blob files; keys only ever appended
//! ├─ spools   'r' spool, first ──▶ last: a range of stored sequences, see `stored_ranges`
//! │           'o' spool id     ──▶ id of the relay the spool belongs to
//! │           's' spool id     ──▶ its sessions, see `spool_sessions`
//! ├─ state    "format"         ──▶ 2                         1 is converted, see `format_one`
//! │           "cursor"         ──▶ position: u64 BE          all before it is in ClickHouse
//! │           "end"            ──▶ position: u64 BE          one past the last entry, where damage hides that
//! │           "plan"           ──▶ the pending insert plan, opaque here
//! │           "claims"         ──▶ the last round of claims, see `claims`
//! ├─ dead_letters   what could not be read, decoded or inserted, see `dead_letter`
//! └─ recent_events  project, event id ──▶ when it was stored, see `recent_events`
//!
//!      deleted        waiting (backlog)
//! ────────────────┬───┬───┬───┬───┬───┐
//!                 │ 7 │ 8 │ 9 │10 │11 │ 12
//! ────────────────┴───┴───┴───┴───┴───┘
//!                 ▲ cursor            ▲ end
//! ```
//!
//! Operations:
//! - *append* ([`Journal::append`], see `committer`): queue, judge, write batch and ranges, sync, answer.
//! - *read* ([`Journal::read_from`], see `reading`): position by position, so that one damaged block costs only its own entries.
//! - *plan* ([`Journal::put_plan`], see `plans`): synced before the first insert that it describes.
//! - *finish* ([`Journal::finish_plan`]): one synced write moves the cursor, removes the plan and the entries.
//! - *recover* ([`Journal::open`]): RocksDB replays its log; the end is the cursor or one past the last entry, whichever
//!   is more. Entries that are damaged keep it from nothing.
//!
//! What it does not do: decompress or look into payloads, decide what a plan is, know relays beyond the owner of a spool.

mod claims;
mod committer;
pub mod config;
mod dead_letter;
pub mod disk;
mod entry;
mod error;
mod format_one;
mod metrics;
mod plans;
mod position;
mod reading;
mod recent_events;
mod shared;
mod spool_sessions;
mod spools;
mod store;
mod stored_ranges;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use picket_common::wire::BatchHeader;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

pub use claims::{ClaimRound, LedgerError, RangeClaim, SessionEpoch, SpoolLedger, Verdict};
pub use committer::{JournalCommitter, JournalRounds};
pub use config::JournalConfig;
pub use dead_letter::{DeadLetter, DeadLetterReason, DeadLetterTotals, Form, NewDeadLetter, ReplayError};
pub use error::{AppendError, JournalError};
pub use plans::Finished;
pub use position::JournalPosition;
pub use reading::{CorruptEntry, JournalEntry, JournalRead};
pub use recent_events::EventKey;
pub use spools::SpoolClaim;
pub(crate) use stored_ranges::{Coverage, MAX_GAPS, NoteError, RangeChanges, RangesOnDisk, SpoolRanges};

use committer::{AppendRequest, QUEUE_LENGTH, Request};
use disk::Disk;
use metrics::JournalMetrics;
use shared::{Progress, Shared};
use store::{Recovered, Store};

/// What became of an appended batch; either way it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is new; a tombstone's sequences are.
    Stored,
    /// All its sequences were stored already.
    Duplicate,
}

/// How much waits to be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Backlog {
    /// Entries; too high by the batches of commits that failed.
    pub batches: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// Bytes it may grow to.
    pub max_bytes: u64,
}

/// The journal. Clones share it. Methods that are not `async` read or write the disk: call them off the asynchronous
/// threads, except [`Self::cursor`], [`Self::end`], [`Self::subscribe`] and [`Self::backlog`], which only look at memory.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

// === impl Journal ===

impl Journal {
    /// Opens the journal in `directory`, makes it if there is none, and starts the commit thread.
    ///
    /// # Errors
    /// [`JournalError`] if the directory can't be opened, is of a newer format, or is damaged.
    pub fn open(directory: &Path, config: &JournalConfig) -> Result<(Self, JournalCommitter), JournalError> {
        Self::open_with(directory, config, None, MAX_GAPS)
    }

    /// As [`Self::open`], where other nodes have journals too: `ledger` decides which of them holds what. A round of claims that
    /// was cut off is settled first.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_shared(
        directory: &Path,
        config: &JournalConfig,
        ledger: Arc<dyn SpoolLedger>,
    ) -> Result<(Self, JournalCommitter), JournalError> {
        Self::open_with(directory, config, Some(ledger), MAX_GAPS)
    }

    fn open_with(
        directory: &Path,
        config: &JournalConfig,
        ledger: Option<Arc<dyn SpoolLedger>>,
        max_gaps: u64,
    ) -> Result<(Self, JournalCommitter), JournalError> {
        let shared = Self::recovered(Store::open(directory, config)?, config, ledger, max_gaps)?;
        let (requests, queue) = mpsc::channel(QUEUE_LENGTH);
        let committer = JournalCommitter::start(Arc::clone(&shared), queue, requests.downgrade())?;
        Ok((Self { shared, requests }, committer))
    }

    /// Opens the journal on a disk of the caller's, who also does the rounds of the commit thread. For `tests/simulation`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn on_disk(disk: Arc<dyn Disk>, config: &JournalConfig) -> Result<(Self, JournalRounds), JournalError> {
        let shared = Self::recovered(Store::on(disk)?, config, None, MAX_GAPS)?;
        let (requests, queue) = mpsc::channel(QUEUE_LENGTH);
        let rounds = JournalRounds::new(Arc::clone(&shared), queue);
        Ok((Self { shared, requests }, rounds))
    }

    /// Goes on where the journal in the store stood.
    fn recovered(
        store: Store,
        config: &JournalConfig,
        ledger: Option<Arc<dyn SpoolLedger>>,
        max_gaps: u64,
    ) -> Result<Arc<Shared>, JournalError> {
        let recovered = store.recover()?;
        let dead_letters = store.dead_letter_totals()?;
        let Recovered { cursor, end, reserved, finished_bytes, appended_bytes } = recovered;
        let shared = Arc::new(Shared {
            store,
            max_bytes: config.max_bytes.as_u64(),
            max_gaps,
            dead_letter_max_bytes: config.dead_letter_max_bytes.as_u64(),
            is_unsettled: AtomicBool::new(ledger.is_some()),
            ledger,
            metrics: JournalMetrics::new(),
            last_heal: Mutex::new(None),
            dead_letters: Mutex::new(dead_letters),
            progress: Mutex::new(Progress { cursor, end, reserved, appended_bytes, finished_bytes }),
            state_writes: Mutex::new(()),
            end: watch::Sender::new(end),
        });
        shared.show_backlog();
        shared.show_dead_letters(dead_letters);
        let backlog = shared.backlog();
        info!(%cursor, %end, bytes = backlog.bytes, directory = %shared.store.directory().display(), "journal opened");
        Ok(shared)
    }

    /// Registers `picket_aggregator_journal_…`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// Stores a batch unless it is stored already; returns after the fsync. `header` must be valid and the payload must
    /// match it. Of a tombstone the sequences are noted and nothing else. If the future is dropped, the batch may be stored all the same.
    ///
    /// # Errors
    /// [`AppendError`], by what the relay should do.
    pub async fn append(&self, header: BatchHeader, payload: Bytes) -> Result<Appended, AppendError> {
        self.append_in(None, header, payload).await
    }

    /// As [`Self::append`], for a session: nothing is stored where the spool has a later one.
    ///
    /// # Errors
    /// [`AppendError`], by what the relay should do.
    pub async fn append_in(
        &self,
        epoch: Option<SessionEpoch>,
        header: BatchHeader,
        payload: Bytes,
    ) -> Result<Appended, AppendError> {
        debug_assert!(header.validate().is_ok(), "intake validates headers");
        debug_assert_eq!(header.payload_bytes, payload.len() as u64, "intake reads exactly the announced bytes");
        let (reply, answer) = oneshot::channel();
        let request = Request::Append(AppendRequest { header, payload, epoch, reply });
        self.requests.send(request).await.map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// Waits until the commit thread takes no more batches, because it was told to or because it panicked.
    pub async fn closed(&self) {
        self.requests.closed().await;
    }

    /// The first position that is not finished: all before it is in ClickHouse.
    #[must_use]
    pub fn cursor(&self) -> JournalPosition {
        lock(&self.shared.progress).cursor
    }

    /// One past the newest entry.
    #[must_use]
    pub fn end(&self) -> JournalPosition {
        lock(&self.shared.progress).end
    }

    /// Follows [`Self::end`].
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<JournalPosition> {
        self.shared.end.subscribe()
    }

    /// How much waits to be processed.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        self.shared.backlog()
    }
}

/// What these locks guard is valid between any two statements, so a panic elsewhere does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
