//! Why the journal refuses, by what the caller can do.

use std::path::PathBuf;

use super::disk::DiskError;
use super::{JournalPosition, LedgerError};

/// Why the journal can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory can't be opened as a journal.
    #[error("can't open the journal in {directory}: {source}; is another aggregator running, or the disk damaged?")]
    Open {
        /// The directory.
        directory: PathBuf,
        /// What RocksDB says.
        source: rocksdb::Error,
    },
    /// A newer program wrote it.
    #[error("the journal in {directory} has format {found:?}, which this version does not know; run the newer version")]
    Format {
        /// The directory.
        directory: PathBuf,
        /// The format as found.
        found: Vec<u8>,
    },
    /// Reading failed.
    #[error("can't read the journal in {directory}: {source}")]
    Read {
        /// The directory.
        directory: PathBuf,
        /// What the database says.
        source: DiskError,
    },
    /// Writing or syncing failed; nothing of the write counts as done.
    #[error("can't write the journal in {directory}: {source}; check the disk's free space and health")]
    Write {
        /// The directory.
        directory: PathBuf,
        /// What the database says.
        source: DiskError,
    },
    /// It can't be opened anew after a write that failed; it is tried again.
    #[error("the journal in {directory} is closed after a failed write; check the disk's free space and health")]
    Closed {
        /// The directory.
        directory: PathBuf,
    },
    /// A small value that the journal lives by is damaged.
    #[error("the journal's {0} is damaged; restore it from a backup")]
    State(&'static str),
    /// The commit thread could not be started.
    #[error("can't start the journal's commit thread: {0}")]
    Thread(std::io::Error),
    /// Another plan is pending; it must be finished first.
    #[error("another insert plan is pending in the journal")]
    PlanPending,
    /// No plan is pending that could be amended.
    #[error("no insert plan is pending in the journal")]
    NoPlan,
    /// The new cursor lies before the old one or beyond the end.
    #[error("the cursor can't go from {cursor} to {wanted}: the journal ends at {end}")]
    CursorOutOfRange {
        /// Where it is.
        cursor: JournalPosition,
        /// Where it should go.
        wanted: JournalPosition,
        /// One past the newest entry.
        end: JournalPosition,
    },
    /// An entry does not match its checksums or can't be understood.
    #[error("the journal's entry {position} is damaged: {problem}")]
    Entry {
        /// Its place.
        position: JournalPosition,
        /// What is wrong.
        problem: String,
        /// How many records are lost with it, as far as it says.
        records: u64,
    },
    /// The database that the nodes share gave no answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Batches that were stored before are not settled yet; they come first.
    #[error("the journal has batches that are not settled with the other nodes yet")]
    Unsettled,
    /// A failpoint asked for this; only with the feature `failpoints`.
    #[error("failed on purpose by a failpoint")]
    Failpoint,
}

impl JournalError {
    /// Whether bytes on disk are damaged for good. Anything else may pass, and no entry may be given up for it.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.is_damage(),
            Self::Entry { .. } => true,
            _ => false,
        }
    }
}

/// Why a batch was not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Some of its sequences are stored and some are not: the spool was copied or turned back.
    #[error("some of its sequences are stored already, in other bounds")]
    Overlap,
    /// The journal holds `journal.max_bytes`; later there will be room.
    #[error("the journal is full")]
    Full,
    /// Too many sequences before it are missing; they must come first.
    #[error("too many earlier sequences of the spool are missing")]
    TooManyGaps,
    /// Its session is over: the spool has a later one, here or at another node.
    #[error("the spool has a later session, perhaps with another aggregator")]
    Fenced,
    /// The aggregator is stopping.
    #[error("the journal is closed")]
    Closed,
    /// The write failed; the batch may be sent again.
    #[error("the journal could not store it: {0}")]
    Failed(String),
}
