//! The journal's database: its keys, and what is read and written as one unit.

mod dead_letters;
mod rocks;
mod rounds;
mod spools;

pub(super) use dead_letters::SetAside;
pub(super) use spools::SpoolOnDisk;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use picket_common::timestamp::Timestamp;

use super::config::JournalConfig;
use super::disk::{Change, Disk, DiskError, Family, Keys, Order, Walk};
use super::recent_events::{self, EventKey};
use super::{JournalError, JournalPosition, entry, lock};
use rocks::Rocks;

const KEY_FORMAT: &[u8] = b"format";
const KEY_CURSOR: &[u8] = b"cursor";
const KEY_PLAN: &[u8] = b"plan";
/// One past the last entry, written with it: where the entries at the edges are damaged, they don't say. Missing in a journal whose
/// last entry is of an earlier version.
const KEY_END: &[u8] = b"end";
/// How many positions from an edge an entry is looked for that says how many bytes there are, where the one at the edge does not.
const EDGE_LOOKS: usize = 1000;
/// Raised when an older program could not read what a newer one wrote.
const FORMAT: u8 = 2;
/// What is converted when it is opened; see `format_one`.
const FORMAT_ONE: u8 = 1;

/// How often a database that is being closed is looked at.
const HEAL_POLL: Duration = Duration::from_millis(1);

/// Opens the database, the first time and after a write that failed.
type Opener = Box<dyn Fn() -> Result<Arc<dyn Disk>, JournalError> + Send + Sync>;

/// The open database. After a write that failed, it refuses all others until it is opened anew ([`Store::heal`]).
pub(super) struct Store {
    /// `None` while it is opened anew, and where that failed. Every use holds it for one read or write, so that none is in the
    /// way for long.
    database: Mutex<Option<Arc<dyn Disk>>>,
    /// A write has failed since it was opened.
    is_broken: AtomicBool,
    directory: PathBuf,
    open: Opener,
}

/// Where the journal stood when it was closed or killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) cursor: JournalPosition,
    /// Up to where entries may be read: not those of a round of claims that is not settled.
    pub(super) end: JournalPosition,
    /// One past the last entry.
    pub(super) reserved: JournalPosition,
    /// Running total of payload bytes at the cursor and at the end.
    pub(super) finished_bytes: u64,
    pub(super) appended_bytes: u64,
}

/// An entry an iterator stopped at.
type FoundEntry = (JournalPosition, Vec<u8>);

/// Writes that become durable together.
#[derive(Default)]
pub(super) struct Transaction {
    changes: Vec<Change>,
}

// === impl Transaction ===

impl Transaction {
    fn put(&mut self, family: Family, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push(Change::Put(family, key.into(), value.into()));
    }

    fn delete(&mut self, family: Family, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete(family, key.into()));
    }
}

// === impl Store ===

impl Store {
    /// RocksDB in a directory.
    pub(super) fn open(directory: &Path, config: &JournalConfig) -> Result<Self, JournalError> {
        let (at, config) = (directory.to_owned(), config.clone());
        let open: Opener = Box::new(move || Ok(Arc::new(Rocks::open(&at, &config)?)));
        Self::open_by(directory.to_owned(), open)
    }

    /// A database that somebody else opens.
    pub(super) fn on(disk: Arc<dyn Disk>) -> Result<Self, JournalError> {
        Self::open_by(PathBuf::new(), Box::new(move || Ok(Arc::clone(&disk))))
    }

    fn open_by(directory: PathBuf, open: Opener) -> Result<Self, JournalError> {
        let database = Mutex::new(Some(open()?));
        let store = Self { database, is_broken: AtomicBool::new(false), directory, open };
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
        *lock(&self.database) = Some((self.open)()?);
        let recovered = self.recover()?;
        // Shows that it can write again before anyone relies on it.
        let mut transaction = Transaction::default();
        transaction.put(Family::State, KEY_FORMAT, [FORMAT]);
        self.commit(transaction)?;
        self.is_broken.store(false, Ordering::Release);
        Ok(recovered)
    }

    fn opened(&self) -> Result<Arc<dyn Disk>, JournalError> {
        let database = lock(&self.database).clone();
        database.ok_or_else(|| JournalError::Closed { directory: self.directory.clone() })
    }

    fn check_format(&self) -> Result<(), JournalError> {
        match self.get(Family::State, KEY_FORMAT)?.as_deref() {
            Some([FORMAT]) => self.finish_converting(),
            Some([FORMAT_ONE]) => {
                let mut transaction = Transaction::default();
                transaction.put(Family::State, KEY_FORMAT, [FORMAT]);
                self.put_converting(&mut transaction);
                self.commit(transaction)?;
                self.finish_converting()
            }
            Some(other) => Err(JournalError::Format { directory: self.directory.clone(), found: other.to_vec() }),
            None => {
                let mut transaction = Transaction::default();
                transaction.put(Family::State, KEY_FORMAT, [FORMAT]);
                self.commit(transaction)
            }
        }
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, JournalError> {
        self.opened()?.get(family, key).map_err(|source| self.read_error(source))
    }

    /// Visits entries until `visit` has seen enough or can't go on.
    fn walk(
        &self,
        family: Family,
        keys: Keys<'_>,
        order: Order,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<Walk, JournalError>,
    ) -> Result<(), JournalError> {
        let mut failed = None;
        let mut visit = |key: &[u8], value: &[u8]| {
            visit(key, value).unwrap_or_else(|error| {
                failed = Some(error);
                Walk::Enough
            })
        };
        let walked = self.opened()?.walk(family, keys, order, &mut visit);
        walked.map_err(|source| self.read_error(source))?;
        failed.map_or(Ok(()), Err)
    }

    fn read_error(&self, source: DiskError) -> JournalError {
        JournalError::Read { directory: self.directory.clone(), source }
    }

    /// Makes a transaction durable: returns after the log is synced.
    pub(super) fn commit(&self, transaction: Transaction) -> Result<(), JournalError> {
        self.opened()?.write(transaction.changes).map_err(|source| {
            self.is_broken.store(true, Ordering::Release);
            JournalError::Write { directory: self.directory.clone(), source }
        })
    }

    /// Finds where the journal stands. Reads two entries, however long the backlog is, and a bounded number where they are damaged:
    /// those are reported when their turn comes to be read, and keep the journal from nothing.
    pub(super) fn recover(&self) -> Result<Recovered, JournalError> {
        let cursor = self.kept_position(KEY_CURSOR, "cursor")?.unwrap_or(JournalPosition::START);
        let noted_end = self.kept_position(KEY_END, "end")?;
        let from_cursor = cursor.to_key();
        let waiting = Keys { first: &from_cursor, last: None };
        let last = match (self.neighbour(waiting, Order::Descending), noted_end) {
            (Err(error), Some(end)) if error.is_damage() => {
                let positions = (cursor.get()..end.get()).rev().map(JournalPosition::new);
                self.sound_entry(positions)?
            }
            (last, _) => last?,
        };
        let reserved = last.as_ref().map_or(cursor, |(last, _)| last.next()).max(noted_end.unwrap_or(cursor));
        if reserved <= cursor {
            return Ok(Recovered { cursor, end: cursor, reserved: cursor, finished_bytes: 0, appended_bytes: 0 });
        }
        let first = match self.neighbour(waiting, Order::Ascending) {
            Err(error) if error.is_damage() => {
                let positions = (cursor.get()..reserved.get()).map(JournalPosition::new);
                self.sound_entry(positions)?
            }
            first => first?,
        };
        let end = self.kept_round()?.begins_at().map_or(reserved, |unsettled| unsettled.clamp(cursor, reserved));
        let before = |entry: &FoundEntry| entry::stored_before(&entry.1);
        let appended_bytes = last.as_ref().and_then(|last| Some(before(last)? + last.1.len() as u64)).unwrap_or(0);
        // Not known, it counts as nothing: a journal that takes a little too much is better than one that seems full.
        let finished_bytes = first.as_ref().and_then(before).unwrap_or(appended_bytes);
        Ok(Recovered { cursor, end, reserved, finished_bytes, appended_bytes })
    }

    fn kept_position(&self, key: &[u8], what: &'static str) -> Result<Option<JournalPosition>, JournalError> {
        let Some(kept) = self.get(Family::State, key)? else { return Ok(None) };
        JournalPosition::from_key(&kept).map(Some).ok_or(JournalError::State(what))
    }

    /// The first entry that says how many bytes are before it.
    fn sound_entry(
        &self,
        positions: impl Iterator<Item = JournalPosition>,
    ) -> Result<Option<FoundEntry>, JournalError> {
        for position in positions.take(EDGE_LOOKS) {
            match self.get(Family::Batches, &position.to_key()) {
                Ok(Some(value)) if entry::stored_before(&value).is_some() => return Ok(Some((position, value))),
                Err(error) if !error.is_damage() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// The first entry of a walk.
    fn neighbour(&self, keys: Keys<'_>, order: Order) -> Result<Option<FoundEntry>, JournalError> {
        let mut found = None;
        self.walk(Family::Batches, keys, order, |key, value| {
            let position = JournalPosition::from_key(key).ok_or(JournalError::State("position of an entry"))?;
            found = Some((position, value.to_vec()));
            Ok(Walk::Enough)
        })?;
        Ok(found)
    }

    /// The bytes of one entry; `None` where there is none at this position.
    pub(super) fn entry(&self, position: JournalPosition) -> Result<Option<Bytes>, JournalError> {
        Ok(self.get(Family::Batches, &position.to_key())?.map(Bytes::from))
    }

    /// The running total of payload bytes before the first entry at or after `position`; `None` if there is none.
    pub(super) fn bytes_before(&self, position: JournalPosition) -> Result<Option<u64>, JournalError> {
        let key = position.to_key();
        let found = self.neighbour(Keys { first: &key, last: None }, Order::Ascending)?;
        Ok(found.and_then(|(_, value)| entry::stored_before(&value)))
    }

    pub(super) fn plan(&self) -> Result<Option<Vec<u8>>, JournalError> {
        self.get(Family::State, KEY_PLAN)
    }

    /// Which of these events are noted as stored.
    pub(super) fn known_events(&self, events: &[EventKey], at: Timestamp) -> Result<Vec<bool>, JournalError> {
        let keys: Vec<_> = events.iter().map(|event| recent_events::key(*event)).collect();
        let found = self.opened()?.get_all(Family::RecentEvents, &keys).map_err(|source| self.read_error(source))?;
        let is_known = |value: Option<Vec<u8>>| value.is_some_and(|value| recent_events::is_known(&value, at));
        Ok(found.into_iter().map(is_known).collect())
    }

    // What transactions hold.

    pub(super) fn put_known_events(&self, transaction: &mut Transaction, events: &[EventKey], now: Timestamp) {
        for event in events {
            transaction.put(Family::RecentEvents, recent_events::key(*event), recent_events::value(now));
        }
    }

    pub(super) fn put_entry(&self, transaction: &mut Transaction, position: JournalPosition, value: Vec<u8>) {
        transaction.put(Family::Batches, position.to_key(), value);
        transaction.put(Family::State, KEY_END, position.next().to_key());
    }

    pub(super) fn put_plan(&self, transaction: &mut Transaction, plan: &[u8]) {
        transaction.put(Family::State, KEY_PLAN, plan);
    }

    /// Moves the cursor, removes the plan and the entries between the old and the new cursor.
    pub(super) fn put_finished(&self, transaction: &mut Transaction, old: JournalPosition, new: JournalPosition) {
        transaction.put(Family::State, KEY_CURSOR, new.to_key());
        transaction.delete(Family::State, KEY_PLAN);
        // From the old cursor, not from the start: range tombstones that don't overlap keep sorted runs apart, so that
        // compaction moves files instead of merging them.
        let entries = Change::DeleteRange(Family::Batches, old.to_key().to_vec(), new.to_key().to_vec());
        transaction.changes.push(entries);
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("changes", &self.changes.len()).finish()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("directory", &self.directory).finish_non_exhaustive()
    }
}
