//! Keeps the spool from using up its file system: RocksDB needs room for its own bookkeeping, and the host for the
//! rest.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use picket_common::config::ByteSize;

/// How long an answer is good for. `statvfs` takes microseconds, but not every append has to ask.
const VALID_FOR: Duration = Duration::from_secs(1);

/// Knows whether the file system of a directory has enough room.
#[derive(Debug)]
pub(super) struct DiskGuard {
    directory: PathBuf,
    least: ByteSize,
    last: Mutex<Option<(Instant, bool)>>,
}

impl DiskGuard {
    pub(super) const fn new(directory: PathBuf, least: ByteSize) -> Self {
        Self { directory, least, last: Mutex::new(None) }
    }

    /// Whether at least the configured bytes are free. A file system that can't say counts as roomy: a write that fails
    /// will say it.
    pub(super) fn has_room(&self) -> bool {
        if self.least.as_u64() == 0 {
            return true;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((asked_at, has_room)) if asked_at.elapsed() < VALID_FOR => has_room,
            previous => {
                let has_room = self.ask();
                if previous.is_some_and(|(_, before)| before) && !has_room {
                    tracing::warn!(least = %self.least, "the disk is nearly full, the spool takes no more records");
                }
                *last = Some((Instant::now(), has_room));
                has_room
            }
        }
    }

    fn ask(&self) -> bool {
        self.free_bytes().is_none_or(|free| free >= self.least.as_u64())
    }

    /// What the file system has left; `None` where it can't say.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.directory)
    }
}

/// What the file system of a directory has left for this user; `None` where it can't say.
pub(super) fn free_bytes(directory: &Path) -> Option<u64> {
    match rustix::fs::statvfs(directory) {
        Ok(stat) => Some(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => {
            tracing::debug!(%error, "the free space of the spool's disk can't be read");
            None
        }
    }
}
