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
//! - A write that failed is never answered as done. RocksDB takes no other after it, so the database is opened anew in place
//!   (`Shared::heal`): the failed write is then in it as a whole or not at all, what was answered before is in it, and
//!   cursor and end are read from it again. Positions that it may have used are not used again.
//! - At most one plan is pending, and it changes only by being finished.
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
//! │           "plan"           ──▶ the pending insert plan, opaque here
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
//! - *read* ([`Journal::read_from`]): position by position, so that one damaged block costs only its own entries.
//! - *plan* ([`Journal::put_plan`]): synced before the first insert that it describes.
//! - *finish* ([`Journal::finish_plan`]): one synced write moves the cursor, removes the plan and the entries.
//! - *recover* ([`Journal::open`]): RocksDB replays its log; the end is the cursor or one past the last entry, whichever
//!   is more.
//!
//! What it does not do: decompress or look into payloads, decide what a plan is, know relays beyond the owner of a spool.

mod committer;
pub mod config;
mod dead_letter;
mod entry;
mod error;
mod format_one;
mod metrics;
mod position;
mod recent_events;
mod spool_sessions;
mod store;
mod stored_ranges;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use picket_common::ids::{RelayId, Sequence, SpoolId};
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

pub use committer::JournalCommitter;
pub use config::JournalConfig;
pub use dead_letter::{DeadLetter, DeadLetterReason, DeadLetterTotals, Form, NewDeadLetter, ReplayError};
pub use error::{AppendError, JournalError};
pub use position::JournalPosition;
pub use recent_events::EventKey;

use committer::{AppendRequest, QUEUE_LENGTH, Request};
use metrics::JournalMetrics;
use store::{Recovered, SetAside, SpoolOnDisk, Store, Transaction};
use stored_ranges::{MAX_GAPS, SpoolRanges};

/// Least time between two tries to open the database anew: each closes it for those who read.
const HEAL_PAUSE: Duration = Duration::from_secs(1);

/// What became of an appended batch; either way it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is new; a tombstone's sequences are.
    Stored,
    /// All its sequences were stored already.
    Duplicate,
}

/// A batch in the journal.
#[derive(Debug, Clone)]
pub struct JournalEntry {
    /// Its place.
    pub position: JournalPosition,
    /// As the relay sent it.
    pub header: BatchHeader,
    /// The zstd frame, as the relay sent it; matches the checksum in the header.
    pub payload: Bytes,
    /// It was a dead letter before: some of its rows may be stored already.
    pub is_replay: bool,
}

/// What a finished plan leaves besides its cursor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finished<'a> {
    /// The events that are stored now.
    pub events: &'a [EventKey],
    /// What is set aside.
    pub dead_letters: &'a [NewDeadLetter],
}

/// An entry that is damaged on disk: its batch is lost here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorruptEntry {
    /// Its place.
    pub position: JournalPosition,
    /// What is wrong with it.
    pub problem: String,
    /// How many records are lost with it; 1 where it does not even say that.
    pub records: u64,
    /// The entry as it was found; empty where the disk does not give it out.
    pub bytes: Bytes,
}

/// What one read found.
#[derive(Debug, Clone)]
pub struct JournalRead {
    /// Sound entries, in order.
    pub entries: Vec<JournalEntry>,
    /// Damaged entries among them, counted and logged already.
    pub corrupt: Vec<CorruptEntry>,
    /// Where to read on, and the cursor once all before it is processed. Equal to where the read began only at the end.
    pub next: JournalPosition,
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

/// Whether a relay may send batches of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolClaim {
    /// The spool is the claiming relay's.
    Granted,
    /// It belongs to this other relay.
    OwnedBy(RelayId),
}

/// The journal. Clones share it. Methods that are not `async` read or write the disk: call them off the asynchronous
/// threads, except [`Self::cursor`], [`Self::end`], [`Self::subscribe`] and [`Self::backlog`], which only look at memory.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

/// What the commit thread and the readers share.
#[derive(Debug)]
struct Shared {
    store: Store,
    max_bytes: u64,
    /// Most gaps of a spool: [`MAX_GAPS`], but in tests.
    max_gaps: u64,
    dead_letter_max_bytes: u64,
    metrics: JournalMetrics,
    /// When the database was last opened anew.
    last_heal: Mutex<Option<Instant>>,
    /// As on disk.
    dead_letters: Mutex<DeadLetterTotals>,
    progress: Mutex<Progress>,
    /// Serialises writers of plan, cursor and spool owners, which read before they write.
    state_writes: Mutex<()>,
    end: watch::Sender<JournalPosition>,
}

/// Where things stand; the same as on disk, except `reserved`.
#[derive(Debug)]
struct Progress {
    cursor: JournalPosition,
    end: JournalPosition,
    /// The next position to use: beyond `end` by the positions of failed commits.
    reserved: JournalPosition,
    appended_bytes: u64,
    finished_bytes: u64,
}

// === impl Journal ===

impl Journal {
    /// Opens the journal in `directory`, makes it if there is none, and starts the commit thread.
    ///
    /// # Errors
    /// [`JournalError`] if the directory can't be opened, is of a newer format, or is damaged.
    pub fn open(directory: &Path, config: &JournalConfig) -> Result<(Self, JournalCommitter), JournalError> {
        Self::open_with(directory, config, MAX_GAPS)
    }

    fn open_with(
        directory: &Path,
        config: &JournalConfig,
        max_gaps: u64,
    ) -> Result<(Self, JournalCommitter), JournalError> {
        let store = Store::open(directory, config)?;
        let recovered = store.recover()?;
        let dead_letters = store.dead_letter_totals()?;
        let Recovered { cursor, end, finished_bytes, appended_bytes } = recovered;
        let shared = Arc::new(Shared {
            store,
            max_bytes: config.max_bytes.as_u64(),
            max_gaps,
            dead_letter_max_bytes: config.dead_letter_max_bytes.as_u64(),
            metrics: JournalMetrics::new(),
            last_heal: Mutex::new(None),
            dead_letters: Mutex::new(dead_letters),
            progress: Mutex::new(Progress { cursor, end, reserved: end, appended_bytes, finished_bytes }),
            state_writes: Mutex::new(()),
            end: watch::Sender::new(end),
        });
        shared.show_backlog();
        shared.show_dead_letters(dead_letters);
        let backlog = shared.backlog();
        info!(%cursor, %end, bytes = backlog.bytes, directory = %directory.display(), "journal opened");
        let (requests, queue) = mpsc::channel(QUEUE_LENGTH);
        let committer = JournalCommitter::start(Arc::clone(&shared), queue, requests.downgrade())?;
        Ok((Self { shared, requests }, committer))
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
        debug_assert!(header.validate().is_ok(), "intake validates headers");
        debug_assert_eq!(header.payload_bytes, payload.len() as u64, "intake reads exactly the announced bytes");
        let (reply, answer) = oneshot::channel();
        let request = Request::Append(AppendRequest { header, payload, reply });
        self.requests.send(request).await.map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// Waits until the commit thread takes no more batches, because it was told to or because it panicked.
    pub async fn closed(&self) {
        self.requests.closed().await;
    }

    /// All sequences of the spool up to this one are stored; zero if the first is missing.
    ///
    /// # Errors
    /// [`JournalError::Read`] or [`JournalError::State`].
    pub fn stored_up_to(&self, spool: SpoolId) -> Result<Sequence, JournalError> {
        Ok(self.shared.stored_ranges(spool)?.high_water())
    }

    /// The highest sequence of the spool that is stored, whatever is missing below; zero if none is.
    ///
    /// # Errors
    /// [`JournalError::Read`] or [`JournalError::State`].
    pub fn highest_stored(&self, spool: SpoolId) -> Result<Sequence, JournalError> {
        self.shared.stored_ranges(spool)?.highest()
    }

    /// Makes the spool the relay's, durably, if it is nobody's or `replaces`'s; else says whose it is. A spool keeps its
    /// owner while that relay is allowed, so that no relay can fill in another's sequences.
    ///
    /// # Errors
    /// [`JournalError`] if the state can't be read or written.
    pub fn claim_spool(
        &self,
        spool: SpoolId,
        relay: RelayId,
        replaces: Option<RelayId>,
    ) -> Result<SpoolClaim, JournalError> {
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        match self.shared.store.spool_owner(spool)? {
            Some(owner) if owner == relay => return Ok(SpoolClaim::Granted),
            Some(owner) if Some(owner) != replaces => return Ok(SpoolClaim::OwnedBy(owner)),
            _ => {}
        }
        let mut transaction = Transaction::default();
        self.shared.store.put_spool_owner(&mut transaction, spool, relay)?;
        self.shared.store.commit(transaction)?;
        Ok(SpoolClaim::Granted)
    }

    /// Reads entries from `position` on (from the cursor if that is further), at least one if there is one, and no more
    /// than `max_batches` or, beyond the first, `max_bytes` of payload.
    ///
    /// # Errors
    /// What may pass, such as a want of file handles; what is damaged on disk for good is in [`JournalRead::corrupt`].
    pub fn read_from(
        &self,
        position: JournalPosition,
        max_batches: usize,
        max_bytes: u64,
    ) -> Result<JournalRead, JournalError> {
        let end = self.end();
        let mut read = JournalRead { entries: Vec::new(), corrupt: Vec::new(), next: position.max(self.cursor()) };
        let mut bytes = 0;
        while read.next < end && read.entries.len() < max_batches {
            let position = read.next;
            match self.read_entry(position) {
                // A hole: the commit that was to fill it failed.
                Ok(None) => {}
                Ok(Some(entry)) => {
                    bytes += entry.payload.len() as u64;
                    if bytes > max_bytes && !read.entries.is_empty() {
                        break;
                    }
                    read.entries.push(entry);
                }
                Err(error) if error.is_damage() => {
                    let records = if let JournalError::Entry { records, .. } = &error { *records } else { 1 };
                    let bytes = self.shared.store.entry(position).ok().flatten().unwrap_or_default();
                    read.corrupt.push(CorruptEntry { position, problem: error.to_string(), records, bytes });
                }
                Err(error) => return Err(error),
            }
            read.next = position.next();
        }
        for entry in &read.corrupt {
            self.shared.metrics.corrupt_entries.inc();
            warn!(position = %entry.position, problem = entry.problem, "journal entry is damaged, its batch is lost");
        }
        Ok(read)
    }

    fn read_entry(&self, position: JournalPosition) -> Result<Option<JournalEntry>, JournalError> {
        let Some(value) = self.shared.store.entry(position)? else { return Ok(None) };
        let decoded = entry::decode(&value).map_err(|problem| JournalError::Entry {
            position,
            records: problem.records(),
            problem: problem.to_string(),
        })?;
        let is_replay = decoded.source == entry::Source::DeadLetter;
        Ok(Some(JournalEntry { position, header: decoded.header, payload: decoded.payload, is_replay }))
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

    /// Makes an insert plan durable, before anything is inserted by it.
    ///
    /// # Errors
    /// [`JournalError::PlanPending`] if another plan is; the same one again is fine. [`JournalError::Write`].
    pub fn put_plan(&self, plan: &[u8]) -> Result<(), JournalError> {
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        match self.shared.store.plan()? {
            Some(pending) if pending == plan => return Ok(()),
            Some(_) => return Err(JournalError::PlanPending),
            None => {}
        }
        let mut transaction = Transaction::default();
        self.shared.store.put_plan(&mut transaction, plan)?;
        self.shared.store.commit(transaction)
    }

    /// Puts a plan in the place of the pending one, durably: the same plan, with what was learnt while it was carried out.
    ///
    /// # Errors
    /// [`JournalError::NoPlan`] if none is pending; [`JournalError::Write`].
    pub fn amend_plan(&self, plan: &[u8]) -> Result<(), JournalError> {
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        if self.shared.store.plan()?.is_none() {
            return Err(JournalError::NoPlan);
        }
        let mut transaction = Transaction::default();
        self.shared.store.put_plan(&mut transaction, plan)?;
        self.shared.store.commit(transaction)
    }

    /// The pending insert plan.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub fn plan(&self) -> Result<Option<Vec<u8>>, JournalError> {
        self.shared.store.plan()
    }

    /// Finishes the plan: the cursor moves, the plan and the entries before the cursor go, in one synced write. Also
    /// without a plan, to step over damaged entries.
    ///
    /// # Errors
    /// [`JournalError::CursorOutOfRange`] if the cursor would go back or beyond the end; [`JournalError::Write`].
    pub fn finish_plan(&self, new_cursor: JournalPosition) -> Result<(), JournalError> {
        self.finish_plan_with(new_cursor, &Finished::default(), Timestamp::now())
    }

    /// Which of these events a finished plan stored in the 48 hours before `at`, in their order. The same answer whenever it
    /// is asked within two days of `at`, but for plans finished meanwhile.
    ///
    /// # Errors
    /// [`JournalError::Read`].
    pub fn known_events(&self, events: &[EventKey], at: Timestamp) -> Result<Vec<bool>, JournalError> {
        self.shared.store.known_events(events, at)
    }

    /// As [`Self::finish_plan`], and notes in the same write which events are stored and what is set aside.
    ///
    /// # Errors
    /// As [`Self::finish_plan`].
    pub fn finish_plan_with(
        &self,
        new_cursor: JournalPosition,
        finished: &Finished<'_>,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let _writing = lock(&self.shared.state_writes);
        self.shared.heal()?;
        let (cursor, end, appended_bytes) = {
            let progress = lock(&self.shared.progress);
            (progress.cursor, progress.end, progress.appended_bytes)
        };
        if new_cursor < cursor || new_cursor > end {
            return Err(JournalError::CursorOutOfRange { cursor, wanted: new_cursor, end });
        }
        // Unknown only where the entry there is damaged; the next finish corrects the backlog's size.
        let finished_bytes = if new_cursor == end {
            Some(appended_bytes)
        } else {
            self.shared.store.bytes_before(new_cursor).unwrap_or_default()
        };
        let mut transaction = Transaction::default();
        self.shared.store.put_finished(&mut transaction, cursor, new_cursor)?;
        self.shared.store.put_known_events(&mut transaction, finished.events, now)?;
        let set_aside = match finished.dead_letters {
            [] => None,
            letters => Some(self.shared.store.put_dead_letters(
                &mut transaction,
                letters,
                self.shared.dead_letter_max_bytes,
                now,
            )?),
        };
        self.shared.store.commit(transaction)?;
        if let Some(set_aside) = set_aside {
            self.shared.count_dead_letters(finished.dead_letters, &set_aside);
        }
        {
            let mut progress = lock(&self.shared.progress);
            progress.cursor = new_cursor;
            progress.finished_bytes = finished_bytes.unwrap_or(progress.finished_bytes);
        }
        self.shared.show_backlog();
        Ok(())
    }

    /// How much waits to be processed.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        self.shared.backlog()
    }
}

// === impl Shared ===

impl Shared {
    /// Opens the database anew if a write has failed; at most once in [`HEAL_PAUSE`]. To be called before a write, off the
    /// asynchronous threads.
    fn heal(&self) -> Result<(), JournalError> {
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
        let Recovered { cursor, end, finished_bytes, appended_bytes } = healed?;
        {
            let mut progress = lock(&self.progress);
            let reserved = progress.reserved.max(end);
            *progress = Progress { cursor, end, reserved, appended_bytes, finished_bytes };
        }
        self.show_backlog();
        self.end.send_replace(end);
        self.metrics.reopened.inc();
        warn!(%cursor, %end, "the journal was opened anew after a write that failed");
        Ok(())
    }

    fn stored_ranges(&self, spool: SpoolId) -> Result<SpoolRanges<SpoolOnDisk<'_>>, JournalError> {
        self.store.stored_ranges(spool, self.max_gaps)
    }

    fn backlog(&self) -> Backlog {
        let progress = lock(&self.progress);
        Backlog {
            batches: progress.end.get() - progress.cursor.get(),
            bytes: progress.appended_bytes.saturating_sub(progress.finished_bytes),
            max_bytes: self.max_bytes,
        }
    }

    fn count_dead_letters(&self, letters: &[NewDeadLetter], set_aside: &SetAside) {
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
    fn forget_dead_letter(&self, letter: &DeadLetter) {
        let totals = {
            let mut totals = lock(&self.dead_letters);
            totals.count = totals.count.saturating_sub(1);
            totals.bytes = totals.bytes.saturating_sub(letter.bytes);
            *totals
        };
        self.show_dead_letters(totals);
    }

    fn show_dead_letters(&self, totals: DeadLetterTotals) {
        self.metrics.dead_letters.set(totals.count);
        self.metrics.dead_letter_bytes.set(totals.bytes);
    }

    fn show_backlog(&self) {
        let backlog = self.backlog();
        self.metrics.backlog_batches.set(backlog.batches);
        self.metrics.backlog_bytes.set(backlog.bytes);
    }

    fn appended_bytes(&self) -> u64 {
        lock(&self.progress).appended_bytes
    }

    fn reserved_end(&self) -> JournalPosition {
        lock(&self.progress).reserved
    }

    /// Before a commit: its positions are used up, whether it succeeds or not.
    fn reserve(&self, end: JournalPosition) {
        lock(&self.progress).reserved = end;
    }

    /// After a commit: its entries can be read.
    fn publish(&self, end: JournalPosition, bytes: u64) {
        {
            let mut progress = lock(&self.progress);
            debug_assert!(progress.end <= end && end <= progress.reserved, "positions are published as reserved");
            progress.end = end;
            progress.appended_bytes += bytes;
        }
        self.show_backlog();
        self.end.send_replace(end);
    }
}

/// What these locks guard is valid between any two statements, so a panic elsewhere does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
