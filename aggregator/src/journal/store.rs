//! The journal's RocksDB: how it is opened, its keys, and what is read and written as one unit.

mod dead_letters;
mod spools;

pub(super) use dead_letters::SetAside;
pub(super) use spools::SpoolOnDisk;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use picket_common::timestamp::Timestamp;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode, Options,
    WriteBatch, WriteOptions,
};

use super::config::JournalConfig;
use super::recent_events::{self, EventKey};
use super::{JournalError, JournalPosition, entry, lock};

const BATCHES: &str = "batches";
const SPOOLS: &str = "spools";
const STATE: &str = "state";
const RECENT_EVENTS: &str = "recent_events";
const DEAD_LETTERS: &str = "dead_letters";

const KEY_FORMAT: &[u8] = b"format";
const KEY_CURSOR: &[u8] = b"cursor";
const KEY_PLAN: &[u8] = b"plan";
/// Raised when an older program could not read what a newer one wrote.
const FORMAT: u8 = 2;
/// What is converted when it is opened; see `format_one`.
const FORMAT_ONE: u8 = 1;

/// Payloads from this size on are kept in blob files, so that compaction does not copy them. They are compressed already.
const MIN_BLOB_BYTES: u64 = 4 * 1024;
const BLOB_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Bounds the time recovery takes: the small column families would otherwise hold back old log files.
const MAX_WAL_BYTES: u64 = 256 * 1024 * 1024;

/// How often a database that is being closed is looked at.
const HEAL_POLL: Duration = Duration::from_millis(1);

/// The open database. After a write that failed, RocksDB refuses all others until it is opened anew ([`Store::heal`]).
#[derive(Debug)]
pub(super) struct Store {
    /// `None` while it is opened anew, and where that failed. Every use holds it for one read or write, so that none is in the
    /// way for long.
    database: Mutex<Option<Arc<DB>>>,
    /// A write has failed since it was opened.
    is_broken: AtomicBool,
    directory: PathBuf,
    config: JournalConfig,
}

/// The database, for one read or write.
pub(super) struct Opened(Arc<DB>);

// === impl Opened ===

impl Opened {
    fn family(&self, name: &'static str) -> Result<&ColumnFamily, JournalError> {
        // Opened by name, so only a bug could lose one.
        self.0.cf_handle(name).ok_or(JournalError::NoColumnFamily(name))
    }
}

/// Where the journal stood when it was closed or killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) cursor: JournalPosition,
    pub(super) end: JournalPosition,
    /// Running total of payload bytes at the cursor and at the end.
    pub(super) finished_bytes: u64,
    pub(super) appended_bytes: u64,
}

/// An entry an iterator stopped at.
type FoundEntry = (JournalPosition, Box<[u8]>);

/// Writes that become durable together.
#[derive(Default)]
pub(super) struct Transaction {
    writes: WriteBatch,
}

// === impl Store ===

impl Store {
    pub(super) fn open(directory: &Path, config: &JournalConfig) -> Result<Self, JournalError> {
        let database = open_database(directory, config)?;
        let store = Self {
            database: Mutex::new(Some(Arc::new(database))),
            is_broken: AtomicBool::new(false),
            directory: directory.to_owned(),
            config: config.clone(),
        };
        store.check_format()?;
        Ok(store)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether a write has failed, so that no other will succeed before [`Self::heal`].
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// Opens the database anew and says where the journal stands: what failed may be in it after all, or not.
    pub(super) fn heal(&self) -> Result<Recovered, JournalError> {
        if let Some(database) = lock(&self.database).take() {
            // Closed before it is opened: it holds the lock on the directory. Nobody gets it any more, and each use is short.
            while Arc::strong_count(&database) > 1 {
                std::thread::sleep(HEAL_POLL);
            }
        }
        let database = open_database(&self.directory, &self.config)?;
        *lock(&self.database) = Some(Arc::new(database));
        let recovered = self.recover()?;
        // Shows that it can write again before anyone relies on it.
        let mut transaction = Transaction::default();
        transaction.writes.put_cf(self.opened()?.family(STATE)?, KEY_FORMAT, [FORMAT]);
        self.commit(transaction)?;
        self.is_broken.store(false, Ordering::Release);
        Ok(recovered)
    }

    fn opened(&self) -> Result<Opened, JournalError> {
        let database = lock(&self.database).clone();
        database.map(Opened).ok_or_else(|| JournalError::Closed { directory: self.directory.clone() })
    }

    fn check_format(&self) -> Result<(), JournalError> {
        match self.get(STATE, KEY_FORMAT)?.as_deref() {
            Some([FORMAT]) => self.finish_converting(),
            Some([FORMAT_ONE]) => {
                let mut transaction = Transaction::default();
                transaction.writes.put_cf(self.opened()?.family(STATE)?, KEY_FORMAT, [FORMAT]);
                self.put_converting(&mut transaction)?;
                self.commit(transaction)?;
                self.finish_converting()
            }
            Some(other) => Err(JournalError::Format { directory: self.directory.clone(), found: other.to_vec() }),
            None => {
                let mut transaction = Transaction::default();
                transaction.writes.put_cf(self.opened()?.family(STATE)?, KEY_FORMAT, [FORMAT]);
                self.commit(transaction)
            }
        }
    }

    fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        let opened = self.opened()?;
        opened.0.get_cf(opened.family(family)?, key).map_err(|source| self.read_error(source))
    }

    fn read_error(&self, source: rocksdb::Error) -> JournalError {
        JournalError::Read { directory: self.directory.clone(), source }
    }

    /// Makes a transaction durable: returns after the log is synced.
    pub(super) fn commit(&self, transaction: Transaction) -> Result<(), JournalError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.opened()?.0.write_opt(transaction.writes, &options).map_err(|source| {
            self.is_broken.store(true, Ordering::Release);
            JournalError::Write { directory: self.directory.clone(), source }
        })
    }

    /// Finds where the journal stands. Reads two entries, however long the backlog is.
    pub(super) fn recover(&self) -> Result<Recovered, JournalError> {
        let cursor = match self.get(STATE, KEY_CURSOR)? {
            Some(key) => JournalPosition::from_key(&key).ok_or(JournalError::State("cursor"))?,
            None => JournalPosition::START,
        };
        let from_cursor = cursor.to_key();
        let first = self.neighbour(IteratorMode::From(&from_cursor, Direction::Forward))?;
        let last = self.neighbour(IteratorMode::End)?.filter(|(position, _)| *position >= cursor);
        let (Some((_, first)), Some((last_position, last))) = (first, last) else {
            return Ok(Recovered { cursor, end: cursor, finished_bytes: 0, appended_bytes: 0 });
        };
        let end = last_position.next();
        // Where a prefix is damaged the backlog's size is not known; the entries are reported when they are read.
        let finished_bytes = entry::stored_before(&first).unwrap_or(0);
        let appended_bytes = entry::stored_before(&last).map_or(finished_bytes, |before| before + last.len() as u64);
        Ok(Recovered { cursor, end, finished_bytes, appended_bytes })
    }

    fn neighbour(&self, mode: IteratorMode<'_>) -> Result<Option<FoundEntry>, JournalError> {
        let opened = self.opened()?;
        let Some(found) = opened.0.iterator_cf(opened.family(BATCHES)?, mode).next() else {
            return Ok(None);
        };
        let (key, value) = found.map_err(|source| self.read_error(source))?;
        let position = JournalPosition::from_key(&key).ok_or(JournalError::State("position of an entry"))?;
        Ok(Some((position, value)))
    }

    /// The bytes of one entry; `None` where there is none at this position.
    pub(super) fn entry(&self, position: JournalPosition) -> Result<Option<Bytes>, JournalError> {
        Ok(self.get(BATCHES, &position.to_key())?.map(Bytes::from))
    }

    /// The running total of payload bytes before the first entry at or after `position`; `None` if there is none.
    pub(super) fn bytes_before(&self, position: JournalPosition) -> Result<Option<u64>, JournalError> {
        let key = position.to_key();
        let found = self.neighbour(IteratorMode::From(&key, Direction::Forward))?;
        Ok(found.and_then(|(_, value)| entry::stored_before(&value)))
    }

    pub(super) fn plan(&self) -> Result<Option<Vec<u8>>, JournalError> {
        self.get(STATE, KEY_PLAN)
    }

    /// Which of these events are noted as stored.
    pub(super) fn known_events(&self, events: &[EventKey], at: Timestamp) -> Result<Vec<bool>, JournalError> {
        let opened = self.opened()?;
        let family = opened.family(RECENT_EVENTS)?;
        let keys: Vec<_> = events.iter().map(|event| recent_events::key(*event)).collect();
        let found = opened.0.batched_multi_get_cf(family, &keys, false);
        let is_known = |value: Option<rocksdb::DBPinnableSlice<'_>>| {
            value.is_some_and(|value| recent_events::is_known(&value, at))
        };
        found.into_iter().map(|value| value.map(is_known).map_err(|source| self.read_error(source))).collect()
    }

    // What transactions hold.

    pub(super) fn put_known_events(
        &self,
        transaction: &mut Transaction,
        events: &[EventKey],
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let opened = self.opened()?;
        let family = opened.family(RECENT_EVENTS)?;
        for event in events {
            transaction.writes.put_cf(family, recent_events::key(*event), recent_events::value(now));
        }
        Ok(())
    }

    pub(super) fn put_entry(
        &self,
        transaction: &mut Transaction,
        position: JournalPosition,
        value: &[u8],
    ) -> Result<(), JournalError> {
        transaction.writes.put_cf(self.opened()?.family(BATCHES)?, position.to_key(), value);
        Ok(())
    }

    pub(super) fn put_plan(&self, transaction: &mut Transaction, plan: &[u8]) -> Result<(), JournalError> {
        transaction.writes.put_cf(self.opened()?.family(STATE)?, KEY_PLAN, plan);
        Ok(())
    }

    /// Moves the cursor, removes the plan and the entries between the old and the new cursor.
    pub(super) fn put_finished(
        &self,
        transaction: &mut Transaction,
        old: JournalPosition,
        new: JournalPosition,
    ) -> Result<(), JournalError> {
        let opened = self.opened()?;
        let state = opened.family(STATE)?;
        transaction.writes.put_cf(state, KEY_CURSOR, new.to_key());
        transaction.writes.delete_cf(state, KEY_PLAN);
        // From the old cursor, not from the start: range tombstones that don't overlap keep sorted runs apart, so that
        // compaction moves files instead of merging them.
        transaction.writes.delete_range_cf(opened.family(BATCHES)?, old.to_key(), new.to_key());
        Ok(())
    }
}

fn open_database(directory: &Path, config: &JournalConfig) -> Result<DB, JournalError> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 * 1024 * 1024);
    // After a power cut the log ends in a torn record: recovery stops there, and nothing behind it was acknowledged.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    let families = [
        ColumnFamilyDescriptor::new(BATCHES, batch_options(config)),
        ColumnFamilyDescriptor::new(SPOOLS, spools::options()),
        ColumnFamilyDescriptor::new(STATE, Options::default()),
        ColumnFamilyDescriptor::new(RECENT_EVENTS, recent_events::options()),
        ColumnFamilyDescriptor::new(DEAD_LETTERS, dead_letters::options()),
    ];
    DB::open_cf_descriptors(&options, directory, families)
        .map_err(|source| JournalError::Open { directory: directory.to_owned(), source })
}

fn batch_options(config: &JournalConfig) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(config.write_buffer.as_usize());
    options.set_max_write_buffer_number(2);
    options.set_compression_type(DBCompressionType::None);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(MIN_BLOB_BYTES);
    options.set_blob_file_size(BLOB_FILE_BYTES);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(true);
    options
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("writes", &self.writes.len()).finish()
    }
}
