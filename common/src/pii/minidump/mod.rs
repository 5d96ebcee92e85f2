//! Minidumps: the memory, environment and paths of a crashed process, scrubbed in place.
//!
//! ```text
//! ReadAt ─▸ read_plan: header, directory, the streams that matter ─▸ regions: (byte range, kind), sorted, apart
//! stream ─▸ MinidumpScrubber: each region through the rules of its kind, everything else unchanged ─▸ as many bytes
//! ```
//!
//! Invariants:
//! - only the structures are read while planning, never memory contents: a dump of gigabytes costs what its tables cost;
//! - everything read is checked and bounded: counts by what fits the file and by [`REGIONS_MAX`], strings by
//!   [`STRING_BYTES_MAX`]; a broken dump is an error, never a panic, and is then scrubbed as a plain attachment;
//! - regions lie inside of the file, are sorted and do not overlap; where two claim a byte, the more particular kind has it;
//! - structures (headers, directory, thread contexts, module records) stay byte for byte, so that the dump can still be read.
//!
//! Format: Microsoft's `minidumpapiset.h`; the Linux streams are Breakpad's (`minidump_format.h`). Little endian only: all
//! writers in use are.

mod crashpad;
mod plan;
mod regions;
mod scrubber;
mod streams;
mod structure;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod writer;

use std::io;
use std::ops::Range;

pub use plan::read_plan;
pub use scrubber::{MinidumpRules, MinidumpScrubber};

/// The most entries of one table and the most regions of one dump. A full dump of a large process has some ten thousand; a
/// region takes 24 bytes, and three times that while the plan is made.
pub const REGIONS_MAX: usize = 1 << 16;

/// The most bytes of a path in a module record: Windows allows 32 767 characters.
pub const STRING_BYTES_MAX: usize = 64 * 1024;

/// Bytes that can be read anywhere, in memory or not.
pub trait ReadAt {
    /// How many there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies from `offset` on; how many bytes, fewer than asked for only at the end.
    ///
    /// # Errors
    /// What the storage returns.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }
}

impl ReadAt for dyn crate::envelope::DetachedPayload {
    fn len(&self) -> u64 {
        crate::envelope::DetachedPayload::len(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        crate::envelope::DetachedPayload::read_at(self, offset, buffer)
    }
}

/// What a region of a dump is, from the least particular to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegionKind {
    /// Memory that is no thread's stack; `$heap_memory` in selectors.
    HeapMemory,
    /// A thread's stack; `$stack_memory` in selectors.
    StackMemory,
    /// Text about the process: environment, command line, memory map, comments, annotations, names of threads and handles, and
    /// streams of the application's own.
    ProcessText,
    /// The directories of a module's path; the file's name is not part of it.
    ModulePath,
}

impl RegionKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HeapMemory, Self::StackMemory, Self::ProcessText, Self::ModulePath];
}

/// Bytes of a dump that are of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Where in the file.
    pub bytes: Range<u64>,
    /// What it is.
    pub kind: RegionKind,
}

/// Where in a dump is what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    regions: Vec<Region>,
}

impl Plan {
    /// The regions: sorted, not empty, apart.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }
}

/// Why a dump can't be scrubbed by regions.
#[derive(Debug, thiserror::Error)]
pub enum BrokenDump {
    /// It does not begin like one.
    #[error("not a minidump: expected it to begin with MDMP")]
    Signature,
    /// A structure lies outside of the file.
    #[error("broken minidump: {structure} at byte {offset} reaches beyond the end of the file")]
    Truncated {
        /// What was to be read.
        structure: &'static str,
        /// Where.
        offset: u64,
    },
    /// A table is longer than any process needs.
    #[error("broken minidump: {structure} has {count} entries")]
    TooMany {
        /// Which table.
        structure: &'static str,
        /// How many it claims.
        count: u64,
    },
    /// The storage failed.
    #[error("the minidump could not be read: {0}")]
    Read(#[from] io::Error),
}
