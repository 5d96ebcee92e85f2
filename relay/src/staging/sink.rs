//! A sink: takes bytes, holds few of them in memory and stages many.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use picket_common::envelope::{DetachedPayload, read_range};

use super::{Staged, StagedWriter, Staging, StagingError};
use crate::limit::memory::{MemoryBudget, Reservation};

/// What a sink made of the bytes it was given.
#[derive(Debug, Clone)]
pub enum Content {
    /// Few enough for memory; accounted to the budget as long as it is there.
    InMemory(Bytes, Arc<Reservation>),
    /// In a staging file.
    Staged(Staged),
}

/// Why a sink takes no more.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The limit it was made with.
    #[error("more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// The budget for bodies in memory is used up.
    #[error("the memory for request bodies is used up")]
    NoMemory,
    /// It can't be staged.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

/// Takes bytes from beginning to end.
#[derive(Debug)]
pub struct Sink {
    staging: Staging,
    held: Held,
    /// Most bytes held in memory.
    memory: usize,
    /// Most bytes taken.
    limit: u64,
    reservation: Reservation,
}

#[derive(Debug)]
enum Held {
    Memory(Vec<u8>),
    File(Box<StagedWriter>),
}

// === impl Sink ===

impl Sink {
    /// A sink that takes at most `limit` bytes and stages them when they are more than `memory`.
    #[must_use]
    pub fn new(staging: Staging, budget: &MemoryBudget, memory: usize, limit: u64) -> Self {
        Self { staging, held: Held::Memory(Vec::new()), memory, limit, reservation: budget.reserve_nothing() }
    }

    /// How many bytes it took.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.held {
            Held::Memory(bytes) => bytes.len() as u64,
            Held::File(writer) => writer.len(),
        }
    }

    /// Whether it took none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes more. Blocking.
    ///
    /// # Errors
    /// [`SinkError`]; the sink is of no use then.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        if self.len() + bytes.len() as u64 > self.limit {
            return Err(SinkError::TooLong { limit: self.limit });
        }
        let writer = match &mut self.held {
            Held::File(writer) => writer,
            Held::Memory(held) if held.len() + bytes.len() <= self.memory => {
                let needed = held.len() + bytes.len();
                if needed > held.capacity() {
                    let capacity = (2 * held.capacity()).max(needed).min(self.memory);
                    self.reservation.grow_to(capacity).map_err(|_| SinkError::NoMemory)?;
                    held.reserve_exact(capacity - held.len());
                }
                held.extend_from_slice(bytes);
                return Ok(());
            }
            Held::Memory(held) => {
                let mut writer = Box::new(self.staging.writer()?);
                writer.write(held)?;
                self.held = Held::File(writer);
                let Held::File(writer) = &mut self.held else { return Ok(()) };
                writer
            }
        };
        Ok(writer.write(bytes)?)
    }

    /// What it took. Blocking.
    ///
    /// # Errors
    /// [`SinkError::Staging`] if the last block can't be written.
    pub fn finish(self) -> Result<Content, SinkError> {
        Ok(match self.held {
            Held::Memory(bytes) => Content::InMemory(Bytes::from(bytes), Arc::new(self.reservation)),
            Held::File(writer) => Content::Staged(writer.finish()?),
        })
    }
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::write(self, bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Content ===

impl Content {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::InMemory(bytes, _) => bytes.len() as u64,
            Self::Staged(staged) => staged.len(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A range of it, cut to its end, in memory; the caller bounds the range. Blocking.
    ///
    /// # Errors
    /// What reading a staging file returns.
    pub fn read_range(&self, range: Range<u64>) -> io::Result<Bytes> {
        match self {
            Self::InMemory(bytes, _) => {
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(at(range.start)..at(range.end.max(range.start))))
            }
            Self::Staged(staged) => read_range(staged, range),
        }
    }

    /// A part of it, cut to its end, that keeps the whole.
    #[must_use]
    pub fn part(&self, range: Range<u64>) -> Self {
        match self {
            Self::InMemory(bytes, reservation) => {
                let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Self::InMemory(bytes.slice(at(range.start)..at(range.end.max(range.start))), Arc::clone(reservation))
            }
            Self::Staged(staged) => Self::Staged(staged.part(range)),
        }
    }

    /// Reads it from beginning to end. Blocking.
    #[must_use]
    pub const fn reader(&self) -> ContentReader<'_> {
        ContentReader { content: self, offset: 0 }
    }
}

/// See [`Content::reader`].
#[derive(Debug)]
pub struct ContentReader<'a> {
    content: &'a Content,
    offset: u64,
}

impl Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.content {
            Content::InMemory(bytes, _) => {
                let start = usize::try_from(self.offset).unwrap_or(usize::MAX).min(bytes.len());
                let count = buffer.len().min(bytes.len() - start);
                buffer[..count].copy_from_slice(&bytes[start..start + count]);
                count
            }
            Content::Staged(staged) => staged.read_at(self.offset, buffer)?,
        };
        self.offset += count as u64;
        Ok(count)
    }
}
