//! The spool: every accepted record is durable here before its client hears 200, and stays until an aggregator has it.
//!
//! # Invariants
//! 1. [`Spool::append`] returns only after the write that holds the record was fsynced.
//! 2. Every record gets a sequence when its batch is sealed; sequences count from 1 without gaps and are never given twice under
//!    one spool id, not even after everything was acknowledged and deleted, nor after a crash.
//! 3. A batch is one zstd frame that grows commit by commit and is sealed once. From then on it is read and sent in these bytes
//!    until it is deleted. What may have been sent is never continued and never cut otherwise, although sealing is not synced:
//!    a crash leaves the pieces, which were, and the opening after it makes the same batch of them (`frame`, `frames`).
//! 4. Readers see a batch only after it was sealed ([`Spool::subscribe`]), and so after the fsync of all its records; what was not
//!    promised to a client is never sent. A record waits for it no longer than `spool.linger`.
//! 5. Batches of a lane are read in the order of their sequences. While much waits, a project that makes up much of it has a lane of
//!    its own, and the lanes take turns, so that it does not hold back the others (`lanes`).
//! 6. A batch leaves by an acknowledgement, because the aggregator says it has it. Its records can end otherwise in two ways, both
//!    counted and logged: in the quarantine, or by `spool.max_age`, which is off unless it is set. A tombstone stays in
//!    its place then, a header that says that nothing comes of its sequences; it is sent and acknowledged like a batch. Nothing else
//!    deletes.
//! 7. After a failed write nothing is trusted: the spool refuses everything until its database was opened anew, which the commit thread
//!    tries until it succeeds (`condition`). A kernel may drop the dirty pages of a failed fsync, so a second fsync that succeeds proves
//!    nothing. Who waited for the write that failed hears so, whether it is found afterwards or not.
//! 8. Memory is bounded: the queue by records and bytes, a commit and what one frame holds back by a batch, the database by its
//!    settings, all independent of how much is spooled. Opening reads the headers, and of the payloads only what was left growing:
//!    less than a batch.
//!
//! # On disk, format 2
//! ```text
//! data_dir/spool/                RocksDB; one process at a time
//! ├─ headers     first sequence: u64 BE -> JSON of the BatchHeader, of the first and last received_at, and which pieces it has
//! ├─ pieces      frame: u64 BE, number: u32 BE -> what a commit added to the batch (`frame`), in blob files
//! ├─ batches     first sequence: u64 BE -> payload; written by format 1 only
//! ├─ lanes       lane: u64 BE, first sequence: u64 BE -> nothing; the batches by lane (`lanes`)
//! ├─ state       format_version, spool_id, session, former_ids (`lineage`), next_sequence: u64 BE, frames: which grow,
//! │              sealed_before_contact: u64 BE,
//! │              project_configuration, quotas, quarantine
//! ├─ outcomes    JSON of an OutcomeKey -> count: u64 BE; what ended here and is in no batch yet (`counts`)
//! └─ quarantine  first sequence: u64 BE -> why, header and payload of a batch set aside
//! ```
//! The payload of a batch is its pieces, one after the other, and the three bytes that end a frame. Its checksum is in the header
//! (CRC-32C), checked whenever the payload is read.
//!
//! # Operations, in the order of a record's life
//! - **append** (`committer`): waits for a place in the bounded queue, hands the record to the one commit thread,
//!   waits. The thread takes all that wait, up to a batch, feeds them to the frame that grows, flushes that, writes the
//!   bytes that came out in one synced `WriteBatch` and wakes the waiters. While it waits for the disk the next group
//!   gathers: the slower the disk, the larger the groups. Nothing is compressed or written twice.
//! - **seal** (`frames`): a frame that is full, or whose first record has waited for the linger, gets its header and
//!   sequences: with the commit that filled it, or in a write of its own without an fsync.
//! - **count** (`counts`): what ended on the relay is added to a ledger by the same writes, and from time to time moved into
//!   a record of its own, by one write too. The ledger has room when the spool has none.
//! - **read** (`reader`): from a cursor of the reader's up to the sealed end, lane by lane in turn, always by seek, so
//!   tombstones of deleted batches are not walked over. A batch whose bytes do not match is set aside and the reading goes on.
//! - **acknowledge** (`removal`): deletes one batch, in any order; asking twice does no harm. Not synced.
//! - **expire** (`retention`): makes tombstones of batches that are too old, where that is asked for.
//! - **recover** (`recover`): `open` replays the log, brings an older format up, seals what was left growing, counts the headers
//!   and goes on at the stored next sequence.
//!
//! What it does not do: know what is in a record that it was given, talk to anyone, decide what to drop. At its budget it refuses.

mod committer;
mod condition;
mod config;
mod counts;
mod disk_guard;
mod error;
mod frame;
mod frames;
mod header;
pub mod inspection;
mod lanes;
pub mod lineage;
mod metrics;
mod quarantine;
mod reader;
mod recover;
mod removal;
pub mod retention;
mod settings;
mod status;
mod store;
mod usage;

#[cfg(test)]
mod condition_tests;
#[cfg(test)]
mod flip_tests;
#[cfg(test)]
mod growing_tests;
#[cfg(test)]
mod lane_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_common::ids::Sequence;
use picket_common::outcome::OutcomeCount;
use picket_common::record::Record;
use prometheus_client::registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

pub use committer::Committer;
pub use config::SpoolConfig;
pub use error::{AppendError, SpoolError};
pub use lineage::{ForkPoint, FormerId};
pub use quarantine::SetAsideReason;
pub use reader::{Oversized, ReadCursor, ReadLimit, SealedBatch};
pub use status::{LaneUsage, SpoolStatus};
pub use usage::SpoolUsage;

use committer::{Append, Command};
use condition::{Alarm, Condition};
use counts::{Counts, Ledger, RemovalCounts};
use disk_guard::DiskGuard;
use frames::Frames;
use lineage::{Identity, Opening};
use metrics::SpoolMetrics;
use recover::{Recovered, recover};
use removal::Removal;
use store::Store;
use usage::Counters;

const STATE_PROJECTS: &[u8] = b"project_configuration";
const STATE_QUOTAS: &[u8] = b"quotas";

/// Largest record taken: alone in a batch it stays within the wire's bound on payloads even where nothing compresses
/// (zstd then adds less than half a percent).
const MAX_RECORD_BYTES: usize = picket_common::wire::MAX_BATCH_PAYLOAD - 8 * 1024 * 1024;

/// The queue's permits stand for this many bytes each.
const PERMIT_BYTES: usize = 1024;

/// A handle on the spool; clones share it. The database closes when the last handle and the [`Committer`] are gone.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Command>,
    /// Bounds the bytes in the queue.
    room: Arc<Semaphore>,
}

/// A place in the queue.
#[must_use = "a place that nothing is put in is given back"]
pub struct Place<'a> {
    spool: &'a Spool,
    slot: mpsc::Permit<'a, Command>,
    bytes: OwnedSemaphorePermit,
}

/// What the handles and the commit thread share.
struct Shared {
    /// `None` while it is opened anew.
    store: Mutex<Option<Arc<Store>>>,
    /// Raised by a write that fails.
    alarm: Arc<Alarm>,
    directory: PathBuf,
    config: SpoolConfig,
    /// What was counted since the last commit. Held for arithmetic only, never during I/O.
    waiting: Mutex<Counts>,
    /// What was lost by removals, on disk already and in no total yet.
    removed: Mutex<Vec<RemovalCounts>>,
    /// How many counts the ledger has; the commit thread writes it.
    ledger_length: AtomicUsize,
    /// Held for arithmetic only, never during I/O.
    counters: Mutex<Counters>,
    /// Serialises deletions; held during them. The commit thread takes it only while it opens
    /// the database anew; who holds it must not wait for that thread.
    removal: Mutex<Removal>,
    /// Held for arithmetic only, never during I/O.
    identity: Mutex<Identity>,
    /// The last sequence that was sealed.
    committed: watch::Sender<Sequence>,
    condition: watch::Sender<Condition>,
    guard: DiskGuard,
    metrics: SpoolMetrics,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded sections do arithmetic and checked I/O; a panic in one leaves nothing half done that matters more
    // than going on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Spool ===

impl Spool {
    /// Opens the spool in `directory`, making it if it is not there, and starts its commit thread. A new spool takes
    /// its id from `random`. Blocking: replays the log and reads all headers.
    ///
    /// # Errors
    /// [`SpoolError`]: in use, unreadable, of an unknown format, damaged, or the thread can't be started.
    pub fn open(directory: &Path, config: &SpoolConfig, random: [u8; 16]) -> Result<(Self, Committer), SpoolError> {
        Self::open_files(directory, config, random).map_err(|error| error.at_opening(directory))
    }

    fn open_files(directory: &Path, config: &SpoolConfig, random: [u8; 16]) -> Result<(Self, Committer), SpoolError> {
        make_directory(directory)?;
        let alarm = Arc::<Alarm>::default();
        let store = Arc::new(Store::open(directory, config, Arc::clone(&alarm))?);
        if !config.fsync {
            tracing::warn!("spool.fsync is off: a power cut loses what was answered 200");
        }
        let Recovered { id, next, frames, sealed_before } = recover(&store, directory, random)?;
        let committed = Sequence::new(next.get() - 1);
        let identity = Identity::load(&*store, id, Opening { committed, sealed_before })?;
        let removal = Removal::load(&store)?;
        let quarantine = removal.quarantine();
        let counters = Counters {
            quarantined_batches: quarantine.batches,
            quarantined_bytes: quarantine.bytes,
            ..Counters::default()
        };
        let ledger = Ledger::load(store.outcomes()?.into_iter());
        let shared = Arc::new(Shared {
            removal: Mutex::new(removal),
            guard: DiskGuard::new(directory.to_owned(), config.min_free_bytes),
            store: Mutex::new(Some(Arc::clone(&store))),
            alarm,
            directory: directory.to_owned(),
            config: config.clone(),
            waiting: Mutex::default(),
            removed: Mutex::new(store.counts_of_removals()?),
            ledger_length: AtomicUsize::new(ledger.len()),
            counters: Mutex::new(counters),
            identity: Mutex::new(identity),
            committed: watch::Sender::new(committed),
            condition: watch::Sender::new(Condition::Well),
            metrics: SpoolMetrics::new(),
        });
        let entered = shared.count_headers(&store, &mut lock(&shared.removal), committed)?;
        drop(store);
        let frames = Frames::new(config, frames, next, entered)?;
        let (queue, receiver) = mpsc::channel(config.queue_records);
        let committer = Committer::start(Arc::clone(&shared), queue.clone(), receiver, frames, ledger)?;
        let room = Arc::new(Semaphore::new(config.queue_bytes.as_usize() / PERMIT_BYTES));
        let spool = Self { shared, queue, room };
        let usage = spool.usage();
        tracing::info!(
            spool_id = %id, batches = usage.batches, records = usage.records, bytes = usage.bytes, next = %next,
            "spool opened"
        );
        Ok((spool, committer))
    }

    /// Appends a record; returns once it is on disk. Waits while the queue is full. If the caller goes
    /// away meanwhile, the record may be stored all the same.
    ///
    /// # Errors
    /// [`AppendError`]: in each case the client must not hear 200.
    pub async fn append(&self, record: Record) -> Result<(), AppendError> {
        self.append_counted(record, Vec::new()).await
    }

    /// As [`Self::append`], and counts what ended on the way of the same request in the same write: both are on disk, or
    /// neither is.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn append_counted(&self, record: Record, counts: Vec<OutcomeCount>) -> Result<(), AppendError> {
        self.place(&record).await?.put(record, counts).await
    }

    /// Waits for a place in the queue that `record` fits in. Nothing is stored yet, so the caller may still go away.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn place(&self, record: &Record) -> Result<Place<'_>, AppendError> {
        self.check_room()?;
        let bytes = record.encoded_len_bound();
        if bytes > MAX_RECORD_BYTES {
            return Err(AppendError::TooLarge { bytes });
        }
        // A record larger than the whole queue takes all of it and so goes alone.
        let most = self.shared.config.queue_bytes.as_usize() / PERMIT_BYTES;
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES).min(most)).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| self.refusal())?;
        let slot = self.queue.reserve().await.map_err(|_| self.refusal())?;
        Ok(Place { spool: self, slot, bytes })
    }

    /// How full the spool is.
    #[must_use]
    pub fn usage(&self) -> SpoolUsage {
        let counters = lock(&self.shared.counters).clone();
        SpoolUsage {
            batches: counters.batches,
            records: counters.records,
            bytes: counters.bytes,
            budget: self.shared.config.max_bytes,
            oldest_received_at: counters.oldest_received_at(),
            accepted_total: counters.accepted_total,
            quarantined_batches: counters.quarantined_batches,
            quarantined_bytes: counters.quarantined_bytes,
        }
    }

    /// Whether an append would be let in at the moment. May ask the file system, once a second.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.check_room().is_ok()
    }

    /// Whether so many bytes would find room at the moment, were they not to compress. No promise: others may come first.
    ///
    /// # Errors
    /// What an append would hear.
    pub fn check_room_for(&self, bytes: u64) -> Result<(), AppendError> {
        self.check_room()?;
        let used = lock(&self.shared.counters).bytes;
        if used.saturating_add(bytes) <= self.shared.config.max_bytes.as_u64() {
            Ok(())
        } else {
            Err(AppendError::Full)
        }
    }

    /// The last sequence that was sealed and so can be read, now and whenever it grows; 0 before the first. A record gets
    /// there within `spool.linger` of its answer.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Sequence> {
        self.shared.committed.subscribe()
    }

    /// Waits until the spool fails for good and says why. The process should then end, so that it starts anew on files
    /// that RocksDB has checked.
    pub async fn failed(&self) -> Arc<str> {
        let mut condition = self.shared.condition.subscribe();
        loop {
            if let Condition::Failed(reason) = &*condition.borrow_and_update() {
                return Arc::clone(reason);
            }
            // The sender lives in `self`, so this never errs.
            if condition.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The stored project configuration, as [`Self::put_project_configuration`] got it. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if it can't be read.
    pub(crate) fn project_configuration(&self) -> Result<Option<Vec<u8>>, SpoolError> {
        self.shared.store()?.state(STATE_PROJECTS)
    }

    /// Stores the project configuration, synced. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if it can't be written; the former one then stays.
    pub(crate) fn put_project_configuration(&self, encoded: &[u8]) -> Result<(), SpoolError> {
        self.shared.refuse_if_failed()?;
        self.shared.store()?.put_state(&[(STATE_PROJECTS, encoded)])
    }

    /// The shares of quotas, as [`Self::put_quota_state`] got them last. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if they can't be read.
    pub(crate) fn quota_state(&self) -> Result<Option<Vec<u8>>, SpoolError> {
        self.shared.store()?.state(STATE_QUOTAS)
    }

    /// Stores the shares of quotas, not synced: after a power cut they may be some seconds old. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if they can't be written; the former ones then stay.
    pub(crate) fn put_quota_state(&self, encoded: &[u8]) -> Result<(), SpoolError> {
        self.shared.refuse_if_failed()?;
        self.shared.store()?.put_state_unsynced(STATE_QUOTAS, encoded)
    }

    /// Registers the spool's metrics (`spool_…`); the registry's prefix is the caller's.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    /// What an append would hear at the moment, whatever it brings. May ask the file system, once a second.
    ///
    /// # Errors
    /// [`AppendError::Full`]; [`AppendError::Failed`] while it can't write.
    pub fn check_room(&self) -> Result<(), AppendError> {
        if let Some(reason) = self.shared.condition.borrow().problem() {
            return Err(AppendError::Failed(reason));
        }
        if self.shared.has_room() { Ok(()) } else { Err(AppendError::Full) }
    }

    /// Why the commit thread takes nothing any more.
    fn refusal(&self) -> AppendError {
        self.shared.condition.borrow().problem().map_or(AppendError::Closed, AppendError::Failed)
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

// === impl Place ===

impl<'a> Place<'a> {
    /// Puts the record in, at once: from here on it is stored, whether anybody waits for it or not. The future is done once it
    /// is on disk.
    pub fn put(
        self,
        record: Record,
        counts: Vec<OutcomeCount>,
    ) -> impl Future<Output = Result<(), AppendError>> + use<'a> {
        let Self { spool, slot, bytes } = self;
        let (reply, answer) = oneshot::channel();
        slot.send(Command::Append(Append { record, counts, reply, _permit: bytes }));
        async move { answer.await.unwrap_or_else(|_| Err(spool.refusal())) }
    }
}

impl std::fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("spool", self.spool).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn has_room(&self) -> bool {
        lock(&self.counters).bytes < self.config.max_bytes.as_u64() && self.guard.has_room()
    }

    fn refuse_if_failed(&self) -> Result<(), SpoolError> {
        match &*self.condition.borrow() {
            Condition::Failed(reason) => Err(SpoolError::Failed(Arc::clone(reason))),
            // What is written to a broken database fails by itself.
            Condition::Broken(_) | Condition::Well => Ok(()),
        }
    }

    /// The spool refuses everything from here on.
    fn fail(&self, reason: &Arc<str>) {
        tracing::error!(%reason, directory = %self.directory.display(), "the spool can't write and takes no more records");
        self.condition.send_replace(Condition::Failed(Arc::clone(reason)));
    }

    fn publish_usage(&self) {
        let (records, bytes) = {
            let counters = lock(&self.counters);
            (counters.records, counters.bytes)
        };
        self.metrics.records.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

fn make_directory(directory: &Path) -> Result<(), SpoolError> {
    let failed = |source| SpoolError::Directory { directory: directory.to_owned(), source };
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(directory).map_err(failed)?;
    // RocksDB syncs what is in its directory; that the directory itself survives a power cut is ours to see to.
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}
