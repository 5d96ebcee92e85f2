//! Structures of a dump, as bytes of known length, and the numbers in them.

use super::{BrokenDump, ReadAt};

/// Reads a structure of a known size.
pub(super) fn read<const N: usize, R: ReadAt + ?Sized>(
    dump: &R,
    offset: u64,
    structure: &'static str,
) -> Result<[u8; N], BrokenDump> {
    let mut bytes = [0; N];
    match dump.read_at(offset, &mut bytes)? {
        count if count == N => Ok(bytes),
        _ => Err(BrokenDump::Truncated { structure, offset }),
    }
}

/// Four bytes of a structure. `at` is a constant of the format, within the structure's size.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Eight bytes of a structure, likewise.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
