//! One staged body: the file, its key, its blocks.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use picket_common::envelope::DetachedPayload;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{Staging, StagingError};
use crate::limit::memory::Reservation;

/// Bytes of the body in a block. Large enough that the cipher's start and the tag do not count, small enough to be read for a
/// single header.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;
/// What AES-GCM adds to each block.
const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = BLOCK_BYTES + TAG_BYTES;

/// A file that is being written, from its beginning to its end.
pub struct StagedWriter {
    staging: Staging,
    file: File,
    key: LessSafeKey,
    /// The block that is not full yet.
    block: Vec<u8>,
    blocks: u64,
    reservation: Reservation,
}

/// A body that lies in a file, or a part of it. Clones share the file, which goes when the last of them goes.
#[derive(Clone)]
pub struct Staged {
    file: Arc<SealedFile>,
    start: u64,
    length: u64,
}

struct SealedFile {
    staging: Staging,
    file: File,
    key: LessSafeKey,
    length: u64,
    /// The block that was read last: headers are read a few bytes at a time.
    last_read: Mutex<Option<(u64, Vec<u8>)>>,
    /// Gives the bytes back to the budget when the file goes.
    _reservation: Reservation,
}

fn nonce(block: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&block.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

// === impl StagedWriter ===

impl StagedWriter {
    pub(super) fn new(staging: Staging, file: File, key: &[u8; 32]) -> Result<Self, StagingError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| StagingError::Cipher)?;
        let reservation = staging.shared.budget.reserve_nothing();
        let block = Vec::with_capacity(SEALED_BYTES);
        Ok(Self { staging, file, key: LessSafeKey::new(key), block, blocks: 0, reservation })
    }

    /// Appends bytes. Blocking.
    ///
    /// # Errors
    /// [`StagingError`]; the file is of no use then.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), StagingError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK_BYTES {
                self.write_block()?;
            }
        }
        Ok(())
    }

    /// How many bytes were written.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.blocks * BLOCK_BYTES as u64 + self.block.len() as u64
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body, to be read. Blocking.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(mut self) -> Result<Staged, StagingError> {
        let length = self.len();
        if !self.block.is_empty() {
            self.write_block()?;
        }
        let file = SealedFile {
            staging: self.staging,
            file: self.file,
            key: self.key,
            length,
            last_read: Mutex::new(None),
            _reservation: self.reservation,
        };
        Ok(Staged { file: Arc::new(file), start: 0, length })
    }

    fn write_block(&mut self) -> Result<(), StagingError> {
        let on_disk = self.reservation.bytes() + self.block.len() + TAG_BYTES;
        self.reservation.grow_to(on_disk).map_err(|_| StagingError::Exhausted)?;
        self.key
            .seal_in_place_append_tag(nonce(self.blocks), Aad::empty(), &mut self.block)
            .map_err(|_| StagingError::Cipher)?;
        self.file
            .write_all_at(&self.block, self.blocks * SEALED_BYTES as u64)
            .map_err(|source| self.staging.disk("write a file", source))?;
        self.block.clear();
        self.blocks += 1;
        Ok(())
    }
}

impl fmt::Debug for StagedWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedWriter").field("length", &self.len()).finish_non_exhaustive()
    }
}

// === impl SealedFile ===

impl SealedFile {
    /// Copies from within one block into `buffer`; how many bytes. Nothing at the end of the file.
    fn read_within_block(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StagingError> {
        if offset >= self.length || buffer.is_empty() {
            return Ok(0);
        }
        let number = offset / BLOCK_BYTES as u64;
        // A panic while the lock was held leaves a block that is whole or none.
        let mut last_read = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        let block = match last_read.take() {
            Some((known, block)) if known == number => block,
            other => self.open_block(number, other.map(|(_, block)| block).unwrap_or_default())?,
        };
        // Below the length of a block.
        let within = usize::try_from(offset % BLOCK_BYTES as u64).unwrap_or(0);
        let rest = block.get(within..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        *last_read = Some((number, block));
        Ok(count)
    }

    fn open_block(&self, number: u64, mut block: Vec<u8>) -> Result<Vec<u8>, StagingError> {
        let start = number * BLOCK_BYTES as u64;
        let length =
            usize::try_from((self.length - start).min(BLOCK_BYTES as u64)).map_err(|_| StagingError::Cipher)?;
        block.resize(length + TAG_BYTES, 0);
        self.file
            .read_exact_at(&mut block, number * SEALED_BYTES as u64)
            .map_err(|source| self.staging.disk("read a file", source))?;
        let opened =
            self.key.open_in_place(nonce(number), Aad::empty(), &mut block).map_err(|_| StagingError::Cipher)?;
        debug_assert_eq!(opened.len(), length, "a block has the length it was sealed with");
        block.truncate(length);
        Ok(block)
    }
}

// === impl Staged ===

impl Staged {
    /// A part of it, cut to its end.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Self {
        let end = range.end.min(self.length);
        let start = range.start.min(end);
        Self { file: Arc::clone(&self.file), start: self.start + start, length: end - start }
    }
}

impl DetachedPayload for Staged {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        while filled < wanted {
            let from = self.start + offset + filled as u64;
            match self.file.read_within_block(from, &mut buffer[filled..wanted]).map_err(io::Error::other)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    fn slice(&self, range: Range<u64>) -> Arc<dyn DetachedPayload> {
        Arc::new(self.part(range))
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("length", &self.length).finish_non_exhaustive()
    }
}
