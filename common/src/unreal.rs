//! Unreal Engine crash reports: the container that the engine's crash reporter uploads, after its zlib layer is off.
//!
//! ```text
//! container := header file* header           integers: 32 bits, little endian
//! header    := directory: text | name: text | uncompressed size | number of files
//! file      := index | name: text | length | data
//! text      := length | bytes, padded with zeros
//! ```
//! The first header may be a placeholder; the number of files is in the last one, the last four bytes of the container. Newer
//! engines put the letters `CR1` before the first header.
//!
//! Invariants: the container is read through a function, a header at a time, so that it need not be in memory; the ranges of the
//! files lie within it, in order, and do not overlap; their number is bounded by the caller.
//!
//! What it does not do: decompress, or look into the files.

use std::io;
use std::ops::Range;

use bytes::{Buf, Bytes};

/// Longest text that is read. The engine pads to 260 bytes, the longest path of Windows.
const MAX_TEXT_BYTES: u64 = 4096;
/// What newer engines begin with.
const MARK: &[u8] = b"CR1";

/// A file in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnrealFile {
    /// Its name, without a directory.
    pub name: String,
    /// Where its data is in the container, in bytes.
    pub range: Range<u64>,
}

/// Why bytes are no container.
#[derive(Debug, thiserror::Error)]
pub enum UnrealError {
    /// Something reaches beyond the end, or a text is longer than any path.
    #[error("the crash report is damaged at byte {offset}")]
    Damaged {
        /// Where.
        offset: u64,
    },
    /// More files than the caller takes.
    #[error("the crash report has more than {limit} files")]
    TooManyFiles {
        /// How many it takes.
        limit: usize,
    },
    /// It can't be read.
    #[error("can't read the crash report: {0}")]
    Read(#[from] io::Error),
}

/// The files of a container of `length` bytes, which `read` gives by ranges.
///
/// # Errors
/// [`UnrealError`].
pub fn files(
    length: u64,
    max_files: usize,
    read: impl FnMut(Range<u64>) -> io::Result<Bytes>,
) -> Result<Vec<UnrealFile>, UnrealError> {
    let mut container = Container { length, offset: length.saturating_sub(4), read };
    let count = container.number()?;
    if count > max_files as u64 {
        return Err(UnrealError::TooManyFiles { limit: max_files });
    }
    container.offset = 0;
    container.first_header()?;
    let mut files = Vec::new();
    for _ in 0..count {
        let _index = container.number()?;
        let name = container.text()?;
        let data = container.number()?;
        let start = container.offset;
        container.skip(data)?;
        files.push(UnrealFile { name, range: start..container.offset });
    }
    Ok(files)
}

struct Container<R> {
    length: u64,
    offset: u64,
    read: R,
}

impl<R: FnMut(Range<u64>) -> io::Result<Bytes>> Container<R> {
    fn first_header(&mut self) -> Result<(), UnrealError> {
        if self.length >= 3 && (self.read)(0..3)? == MARK {
            self.skip(3)?;
        }
        let _directory = self.text()?;
        let _name = self.text()?;
        let _uncompressed_size = self.number()?;
        let _files = self.number()?;
        Ok(())
    }

    fn take(&mut self, bytes: u64) -> Result<Bytes, UnrealError> {
        let start = self.offset;
        self.skip(bytes)?;
        let taken = (self.read)(start..self.offset)?;
        if taken.len() as u64 == bytes { Ok(taken) } else { Err(UnrealError::Damaged { offset: start }) }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), UnrealError> {
        let end = self.offset.checked_add(bytes).filter(|&end| end <= self.length);
        self.offset = end.ok_or(UnrealError::Damaged { offset: self.offset })?;
        Ok(())
    }

    /// None of the numbers is ever negative; one that is would be too large here.
    fn number(&mut self) -> Result<u64, UnrealError> {
        Ok(u64::from(self.take(4)?.get_u32_le()))
    }

    fn text(&mut self) -> Result<String, UnrealError> {
        let offset = self.offset;
        let length = self.number()?;
        if length > MAX_TEXT_BYTES {
            return Err(UnrealError::Damaged { offset });
        }
        let text = self.take(length)?;
        Ok(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend_from_slice(&260_u32.to_le_bytes());
        let mut padded = text.as_bytes().to_vec();
        padded.resize(260, 0);
        out.extend_from_slice(&padded);
    }

    fn header(out: &mut Vec<u8>, files: usize) {
        text(out, "UE4CC-Windows-1234");
        text(out, "Report.ue4crash");
        out.extend_from_slice(&77_u32.to_le_bytes());
        out.extend_from_slice(&u32::try_from(files).unwrap().to_le_bytes());
    }

    fn container(mark: &[u8], files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = mark.to_vec();
        header(&mut out, 0);
        for (index, (name, data)) in files.iter().enumerate() {
            out.extend_from_slice(&u32::try_from(index).unwrap().to_le_bytes());
            text(&mut out, name);
            out.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
            out.extend_from_slice(data);
        }
        header(&mut out, files.len());
        out
    }

    fn read(container: &[u8], max_files: usize) -> Result<Vec<(String, Vec<u8>)>, UnrealError> {
        let at = |offset: u64| usize::try_from(offset).unwrap();
        let read = |range: Range<u64>| Ok(Bytes::copy_from_slice(&container[at(range.start)..at(range.end)]));
        let found = files(container.len() as u64, max_files, read)?;
        Ok(found
            .into_iter()
            .map(|file| (file.name, container[at(file.range.start)..at(file.range.end)].to_vec()))
            .collect())
    }

    #[test]
    fn files_are_found_with_and_without_the_mark_of_newer_engines() {
        let written: [(&str, &[u8]); 3] =
            [("UE4Minidump.dmp", b"MDMP..."), ("CrashContext.runtime-xml", b""), ("Game.log", b"log line")];
        for mark in [&b""[..], MARK] {
            let found = read(&container(mark, &written), 10).unwrap();
            let found: Vec<_> = found.iter().map(|(name, data)| (&name[..], &data[..])).collect();
            assert_eq!(found, written);
        }
    }

    #[test]
    fn a_container_that_is_cut_off_or_has_too_many_files_is_refused() {
        let whole = container(b"", &[("a", b"123"), ("b", b"456")]);
        assert!(matches!(read(&whole, 1), Err(UnrealError::TooManyFiles { limit: 1 })));
        assert!(matches!(read(b"", 10), Err(UnrealError::Damaged { .. })));
        for end in 0..whole.len() {
            // Cut anywhere, the last four bytes are another number: an error, or by chance fewer files. Never a panic.
            let _ = read(&whole[..end], 10);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
            let _ = read(&bytes, 100);
            let mut near = container(b"", &[("a", b"123"), ("b", b"456")]);
            for (at, byte) in flips {
                let at = at.index(near.len());
                near[at] = byte;
            }
            let _ = read(&near, 100);
        }
    }
}
