//! Staging: where a body waits that is too large for memory, unreadable to everyone but this process.
//!
//! A body is not scrubbed yet while it is read, so nothing of it may lie on a disk in a readable form. It goes into a file
//! that has no name, block by block under a key that is made for this file and is nowhere but in this process:
//!
//! ```text
//! body      ├─ 64 KiB ─┼─ 64 KiB ─┼─ rest ─┤
//! file      ├─ sealed + tag ─┼─ sealed + tag ─┼─ sealed + tag ─┤     AES-256-GCM, nonce = number of the block
//! ```
//!
//! Invariants:
//! - the file has no name (`O_TMPFILE`; where the file system lacks that, it is unlinked before the first byte is written), so a
//!   crash leaves nothing behind, and what the blocks of a disk still hold is sealed under a key that is gone;
//! - a key seals one file only and a block is written once, so no nonce is used twice under a key;
//! - the bytes of all files together stay within `[limits] max_staged_bytes`;
//! - memory: one block for each file that is written or read, whatever its length.
//!
//! What it does not do: survive a restart (the client was not answered, it sends again), or decide what is too large
//! ([`Sink`] is told).

mod file;
mod sink;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::limit::memory::MemoryBudget;
use crate::submission::Random;

pub use file::{Staged, StagedWriter};
pub use sink::{Content, ContentReader, Sink, SinkError};

/// What the names of files begin with on file systems that need one for a moment.
const NAME_PREFIX: &str = "unlinked-";

/// The place for files; clones share it.
#[derive(Debug, Clone)]
pub struct Staging {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// Bytes on disk. The arithmetic of the memory budget is that of any budget.
    budget: MemoryBudget,
    random: Random,
}

/// Why a body can't be staged, or not be read again.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// `max_staged_bytes` is used up. Passes when other requests are done: answer 503.
    #[error("the room for large bodies is used up; it comes back when other requests are done")]
    Exhausted,
    /// The system gives no random bytes for a key.
    #[error("can't make a key for a staging file: the system gives no random numbers")]
    NoRandom,
    /// The disk does not take or give the bytes.
    #[error("can't {action} in the staging directory {directory}: {source}; see to its disk")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Where.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cipher refuses. It has no reason to, except for a block that is not what was written.
    #[error("a staging file can't be sealed or does not hold what was written to it")]
    Cipher,
}

// === impl Staging ===

impl Staging {
    /// Makes the directory, readable to this user only, and clears it of what a crash may have left. Blocking.
    ///
    /// # Errors
    /// [`StagingError::Disk`] if the directory can't be made or read.
    pub fn open(directory: &Path, max_bytes: usize, random: Random) -> Result<Self, StagingError> {
        let disk = |action| {
            let directory = directory.to_owned();
            move |source| StagingError::Disk { action, directory, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(disk("make files"))?;
        for entry in fs::read_dir(directory).map_err(disk("look for leftovers"))? {
            let entry = entry.map_err(disk("look for leftovers"))?;
            if entry.file_name().to_string_lossy().starts_with(NAME_PREFIX) {
                fs::remove_file(entry.path()).map_err(disk("remove a leftover"))?;
            }
        }
        let shared = Shared { directory: directory.to_owned(), budget: MemoryBudget::new(max_bytes), random };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A new, empty file. Blocking.
    ///
    /// # Errors
    /// [`StagingError`] if there is no file or no key to be had.
    pub fn writer(&self) -> Result<StagedWriter, StagingError> {
        let mut key = [0; 32];
        for half in key.chunks_exact_mut(16) {
            half.copy_from_slice(&(self.shared.random)().ok_or(StagingError::NoRandom)?);
        }
        StagedWriter::new(self.clone(), self.unnamed_file()?, &key)
    }

    /// How many bytes lie in files at the moment.
    #[must_use]
    pub fn used(&self) -> usize {
        self.shared.budget.used()
    }

    fn unnamed_file(&self) -> Result<File, StagingError> {
        let directory = &self.shared.directory;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        if let Ok(file) = rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
            return Ok(File::from(file));
        }
        // Some file systems (overlayfs of older kernels, NFS) know no files without a name.
        let number = (self.shared.random)().map(u128::from_le_bytes).ok_or(StagingError::NoRandom)?;
        let path = directory.join(format!("{NAME_PREFIX}{number:032x}"));
        let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)
            .map_err(|source| self.disk("make a file", source.into()))?;
        fs::remove_file(&path).map_err(|source| self.disk("unlink a file", source))?;
        Ok(File::from(file))
    }

    fn disk(&self, action: &'static str, source: io::Error) -> StagingError {
        StagingError::Disk { action, directory: self.shared.directory.clone(), source }
    }
}
