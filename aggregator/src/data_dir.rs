//! The data directory: one process at a time owns it.
//!
//! ```text
//! data_dir/
//!   lock              held (flock) by the one process that has the stores open
//!   aggregator.sock   administrative commands to a serving aggregator
//!   picket.db         SQLite: projects, issues, relays, users
//!   authority/        the certificate authority's key and certificate
//!   node              which of several aggregators this is; only with PostgreSQL
//!   journal/          RocksDB: batches acknowledged and not yet in ClickHouse
//!   clickhouse/       the embedded engine's data
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It can't be made or opened.
    #[error(
        "can't use the data directory {path}: {source}; choose one that this user may write with --data-dir or data_dir"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error(
        "another picket-aggregator has the data directory {path} open and does not answer on its socket: it starts, stops, or carries out a command; wait until it has, or stop it"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// `init` has not been run here.
    #[error("there is no aggregator in {path} yet; run `picket-aggregator init --data-dir {path}` first")]
    NotInitialised {
        /// The directory.
        path: PathBuf,
    },
}

/// The paths inside a data directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

/// The directory, locked for this process until dropped.
#[derive(Debug)]
pub struct LockedDataDir {
    directory: DataDir,
    // Closing the file releases the lock.
    _lock: File,
}

impl DataDir {
    /// Names a directory without touching it.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a serving aggregator takes administrative commands.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("aggregator.sock")
    }

    /// The SQLite database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join("picket.db")
    }

    /// The authority's key and certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.root.join("authority")
    }

    /// Who this node is among others.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.root.join("node")
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The embedded engine's data.
    #[must_use]
    pub fn clickhouse(&self) -> PathBuf {
        self.root.join("clickhouse")
    }

    /// Makes the directory where it is missing, readable by its owner only, and locks it.
    ///
    /// # Errors
    /// [`DataDirError::Unusable`] and [`DataDirError::InUse`].
    pub fn lock(&self) -> Result<LockedDataDir, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: self.root.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.root).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(LockedDataDir { directory: self.clone(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: self.root.clone() }),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// Locks a directory that `init` has prepared.
    ///
    /// # Errors
    /// [`DataDirError::NotInitialised`] where it has not; else as [`Self::lock`].
    pub fn lock_initialised(&self) -> Result<LockedDataDir, DataDirError> {
        // Made last by `init`, whichever database there is.
        if !self.authority().exists() {
            return Err(DataDirError::NotInitialised { path: self.root.clone() });
        }
        self.lock()
    }
}

impl std::ops::Deref for LockedDataDir {
    type Target = DataDir;

    fn deref(&self) -> &DataDir {
        &self.directory
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let directory = DataDir::new(&parent.path().join("data"));
        let held = directory.lock().unwrap();
        assert!(matches!(directory.lock(), Err(DataDirError::InUse { .. })));
        drop(held);
        assert!(directory.lock().is_ok());
    }

    #[test]
    fn a_directory_without_init_is_told_apart() {
        let parent = tempfile::tempdir().unwrap();
        let fault = DataDir::new(parent.path()).lock_initialised().unwrap_err();
        assert!(fault.to_string().contains("picket-aggregator init"), "{fault}");
    }
}
