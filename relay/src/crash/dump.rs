//! Minidumps: decompressed where they come compressed, told from other bytes by how they begin.

use picket_common::envelope::{AttachmentHeader, Item};

use super::{CrashError, MINIDUMP, Workshop, first_bytes, pour, reader};
use crate::staging::{Content, Sink};

/// What a dump begins with; the second is the first on a machine of the other byte order.
const DUMP_MAGIC: [&[u8]; 2] = [b"MDMP", b"PMDM"];
/// Largest dictionary of an xz or zstd stream: what `xz -9` asks for. Charged to the memory budget while it is in use.
const DICTIONARY_BYTES: usize = 64 * 1024 * 1024;
/// The same as a power of two.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;

/// How a dump is compressed, with what its beginning shows and what its name may end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Gzip,
    Xz,
    Bzip2,
    Zstd,
}

impl Compression {
    const ALL: [(Self, &'static [u8], &'static str); 4] = [
        (Self::Gzip, b"\x1f\x8b", ".gz"),
        (Self::Xz, b"\xfd7zXZ\0", ".xz"),
        (Self::Bzip2, b"BZh", ".bz2"),
        (Self::Zstd, b"\x28\xb5\x2f\xfd", ".zst"),
    ];
}

/// Whether an item's payload begins as a dump does. Blocking.
///
/// # Errors
/// What reading a staged payload returns.
pub fn has_dump_magic(item: &Item) -> std::io::Result<bool> {
    let start = first_bytes(item, 4)?;
    Ok(DUMP_MAGIC.iter().any(|magic| start[..] == **magic))
}

/// The dump without its compression; one that is not compressed stays as it is. Blocking.
///
/// # Errors
/// [`CrashError::Damaged`] if it can't be decompressed, [`CrashError::TooLong`] and [`CrashError::TooMuch`] over the limits
/// of attachments.
pub fn unpacked(item: Item, workshop: &mut Workshop) -> Result<Item, CrashError> {
    let start = first_bytes(&item, 6)?;
    let Some(&(compression, _, extension)) = Compression::ALL.iter().find(|(_, magic, _)| start.starts_with(magic))
    else {
        return Ok(item);
    };
    let most = workshop.limits.max_attachment_bytes.as_u64();
    let content = workshop.unpack(&item, most, |workshop, sink| decompressed(&item, compression, workshop, sink))?;
    let filename = item.header_text("filename");
    let filename = filename.as_deref().map(|name| name.strip_suffix(extension).unwrap_or(name));
    let header =
        AttachmentHeader { attachment_type: Some(MINIDUMP), filename, content_type: Some("application/x-dmp") };
    Ok(workshop.attachment(header, content))
}

fn decompressed(item: &Item, compression: Compression, workshop: &Workshop, sink: Sink) -> Result<Content, CrashError> {
    let mut dictionary = workshop.budget.reserve_nothing();
    if matches!(compression, Compression::Xz | Compression::Zstd) {
        dictionary.grow_to(DICTIONARY_BYTES).map_err(|_| CrashError::NoMemory)?;
    }
    let damaged = |_| CrashError::Damaged { what: "attachment" };
    match compression {
        Compression::Gzip => pour(flate2::read::MultiGzDecoder::new(reader(item)), sink, "attachment"),
        Compression::Bzip2 => pour(bzip2::read::MultiBzDecoder::new(reader(item)), sink, "attachment"),
        Compression::Xz => {
            // The decoder itself takes some hundred KiB beside its dictionary.
            let most_kib = u32::try_from(DICTIONARY_BYTES / 1024 + 1024).unwrap_or(u32::MAX);
            pour(lzma_rust2::XzReader::new_mem_limit(reader(item), true, most_kib), sink, "attachment")
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(reader(item)).map_err(damaged)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(damaged)?;
            pour(decoder, sink, "attachment")
        }
    }
}
