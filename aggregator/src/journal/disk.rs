//! What the journal asks of a database: look-ups, ordered walks, and writes that are on disk as a whole or not at all.
//!
//! Invariants of an implementation:
//! - a write is visible to every read that begins after it returned, and survives any crash from then on;
//! - a crash before it returned leaves all of it or nothing;
//! - keys are ordered by their bytes.
//!
//! In the programs that is RocksDB (`store/rocks.rs`). `tests/simulation` puts a disk of its own under the same journal, one that can
//! be cut off at every write.

use std::fmt::Debug;

/// Where a key belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// The entries.
    Batches,
    /// What is known of spools.
    Spools,
    /// Single values: format, cursor, plan.
    State,
    /// The events that were stored lately.
    RecentEvents,
    /// What was set aside.
    DeadLetters,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Gives a key a value.
    Put(Family, Vec<u8>, Vec<u8>),
    /// Removes a key, if it is there.
    Delete(Family, Vec<u8>),
    /// Removes the keys from the first on and before the second.
    DeleteRange(Family, Vec<u8>, Vec<u8>),
}

/// The way of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the smallest key on.
    Ascending,
    /// From the greatest key on.
    Descending,
}

/// The keys that a walk meets.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// The smallest.
    pub first: &'a [u8],
    /// The greatest; all from `first` on if there is none.
    pub last: Option<&'a [u8]>,
}

/// Whether a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    /// To the next entry.
    On,
    /// It has seen enough.
    Enough,
}

/// What a walk calls with each key and value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Walk + 'a;

/// Why the database failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// RocksDB says so.
    #[error(transparent)]
    Rocks(#[from] rocksdb::Error),
    /// A column family is missing although it was opened; a bug.
    #[error("the database lost its column family {0}")]
    NoFamily(&'static str),
}

impl DiskError {
    /// Whether bytes on disk are damaged for good.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Rocks(source) if source.kind() == rocksdb::ErrorKind::Corruption)
    }
}

/// A database that is open. See the module for what it promises.
pub trait Disk: Debug + Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`DiskError`].
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError>;

    /// The values of many keys, in their order.
    ///
    /// # Errors
    /// [`DiskError`], of the first that can't be read.
    fn get_all(&self, family: Family, keys: &[[u8; 24]]) -> Result<Vec<Option<Vec<u8>>>, DiskError>;

    /// Visits entries until one is enough.
    ///
    /// # Errors
    /// [`DiskError`]; some were visited then.
    fn walk(&self, family: Family, keys: Keys<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), DiskError>;

    /// Makes the changes, in their order, all or nothing; on disk when it returns.
    ///
    /// # Errors
    /// [`DiskError`]; whether they are made is not known then, and no other write succeeds before the database is opened anew.
    fn write(&self, changes: Vec<Change>) -> Result<(), DiskError>;

    /// As [`Self::write`], but a crash may forget the changes, as a whole, unless a later write has returned.
    ///
    /// # Errors
    /// As [`Self::write`].
    fn write_lazily(&self, changes: Vec<Change>) -> Result<(), DiskError> {
        self.write(changes)
    }
}
