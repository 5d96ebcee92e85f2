//! What can go wrong at the spool's border.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use picket_common::ids::Sequence;

use super::store::is_damage;

/// Why the spool can't be opened, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process, or another part of this one, has it open.
    #[error(
        "the spool {directory} is in use by another process; stop the other relay or give this one a data_dir of its own"
    )]
    InUse {
        /// The spool's directory.
        directory: PathBuf,
    },
    /// The directory can't be made.
    #[error("can't make the spool directory {directory}: {source}")]
    Directory {
        /// The spool's directory.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// RocksDB refuses the directory.
    #[error(
        "can't open the spool {directory}: {source}; if its files are damaged, move the directory away and keep it"
    )]
    Open {
        /// The spool's directory.
        directory: PathBuf,
        /// What RocksDB says.
        source: rocksdb::Error,
    },
    /// It was written by a version this one does not know.
    #[error(
        "the spool {directory} has format {found}, this version reads format {known}; use the version that wrote it"
    )]
    UnknownFormat {
        /// The spool's directory.
        directory: PathBuf,
        /// What the directory says.
        found: String,
        /// What this version reads.
        known: u32,
    },
    /// There is nothing here that could be looked at.
    #[error("can't look at the spool {directory}: {problem}")]
    Absent {
        /// The spool's directory.
        directory: PathBuf,
        /// Why.
        problem: String,
    },
    /// What is stored contradicts itself in a way that can't be passed over.
    #[error("the spool {directory} is damaged: {problem}; move the directory away and keep it, a new one is made")]
    Damaged {
        /// The spool's directory.
        directory: PathBuf,
        /// What was found.
        problem: String,
    },
    /// The commit thread can't be started.
    #[error("can't start the spool's commit thread: {0}")]
    Thread(std::io::Error),
    /// zstd refuses its parameters.
    #[error("can't set up zstd at level {level}: {source}")]
    Compressor {
        /// The level asked for.
        level: i32,
        /// What zstd says.
        source: std::io::Error,
    },
    /// What was left growing by the process before can't be sealed.
    #[error("the spool can't seal the batches that were left growing: {problem}")]
    Seal {
        /// What the database says.
        problem: String,
    },
    /// A read or an unsynced write failed.
    #[error("the spool can't {action}: {source}")]
    Storage {
        /// What was tried.
        action: &'static str,
        /// What RocksDB says.
        source: rocksdb::Error,
    },
    /// A write failed before, and the database is being opened anew; see [`AppendError::Failed`].
    #[error("the spool can't be used now: {0}")]
    Failed(Arc<str>),
    /// An acknowledgement names a batch in bounds it was not sealed in.
    #[error("an acknowledgement for {first}..={last} was ignored: the batch there ends at {sealed_last}")]
    WrongBounds {
        /// First sequence in the acknowledgement.
        first: Sequence,
        /// Last sequence in the acknowledgement.
        last: Sequence,
        /// Last sequence as sealed.
        sealed_last: Sequence,
    },
}

impl SpoolError {
    /// What it is where it keeps the spool from being opened.
    pub(super) fn at_opening(self, directory: &Path) -> Self {
        match self {
            Self::Storage { action, source } if is_damage(&source) => {
                Self::Damaged { directory: directory.to_owned(), problem: format!("can't {action}: {source}") }
            }
            other => other,
        }
    }

    /// Whether the files are not what was written, as opposed to what may pass.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Open { source, .. } | Self::Storage { source, .. } => is_damage(source),
            _ => false,
        }
    }
}

/// Why a record was not taken. In each case it is not on disk, or not certain to be, and the client must hear so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The byte budget is used up, or the file system has less free than `spool.min_free_bytes`. Passes when batches
    /// are acknowledged or the disk is cleared: answer 429.
    #[error("the spool is full, or its disk nearly is; it empties when an aggregator can be reached")]
    Full,
    /// The record is larger than any batch may be.
    #[error("a record of {bytes} bytes does not fit a batch")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The spool is shutting down. Answer 503.
    #[error("the spool is shutting down")]
    Closed,
    /// A write or its fsync failed. What the disk holds is unknown from then on, so the spool refuses everything until
    /// its database was opened anew. Answer 503.
    #[error("the spool can't write to its disk: {0}; see to the disk, the relay goes on by itself")]
    Failed(Arc<str>),
}
