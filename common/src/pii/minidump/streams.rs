//! The streams of a dump that hold or point to personal data, and what each claims.

use super::regions::Claims;
use super::structure::{read, u32_at, u64_at};
use super::{BrokenDump, REGIONS_MAX, ReadAt, RegionKind, STRING_BYTES_MAX};

const THREAD_LIST: u32 = 3;
const MODULE_LIST: u32 = 4;
const MEMORY_LIST: u32 = 5;
const THREAD_EX_LIST: u32 = 8;
const MEMORY_64_LIST: u32 = 9;
const COMMENT_ASCII: u32 = 10;
const COMMENT_UTF16: u32 = 11;
const HANDLE_DATA: u32 = 12;
const UNLOADED_MODULE_LIST: u32 = 14;
const THREAD_NAMES: u32 = 24;
const CRASHPAD_INFO: u32 = 0x4350_0001;
const BREAKPAD_INFO: u32 = 0x4767_0001;
const LINUX_PROC_STATUS: u32 = 0x4767_0004;
const LINUX_CMD_LINE: u32 = 0x4767_0006;
const LINUX_ENVIRON: u32 = 0x4767_0007;
const LINUX_AUXV: u32 = 0x4767_0008;
const LINUX_MAPS: u32 = 0x4767_0009;
const LINUX_DSO_DEBUG: u32 = 0x4767_000a;
/// From here on (`LastReservedStream`) types belong to applications: assertions, logs, settings. They can be any text.
const OWN_STREAMS: u32 = 0x1_0000;

/// What reading all paths and annotations of a dump may take together; a record may point to the same long string as others.
const STRINGS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The most entries of a table.
const ENTRIES_MAX: u64 = REGIONS_MAX as u64;

/// Where a stream, table or record is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location {
    pub(super) offset: u64,
    pub(super) size: u64,
}

impl Location {
    pub(super) fn at(bytes: &[u8], at: usize) -> Self {
        Self { size: u32_at(bytes, at).into(), offset: u32_at(bytes, at + 4).into() }
    }
}

/// A table: where its first entry is, and how many there are.
pub(super) struct Table {
    first: u64,
    pub(super) count: u64,
    entry_size: u64,
}

/// Reads the streams of one dump.
pub(super) struct Streams<'d, R: ?Sized> {
    pub(super) dump: &'d R,
    claims: Claims,
    /// Addresses at which stacks begin, sorted before memory is looked at.
    stacks: Vec<u64>,
    strings_bytes: u64,
    /// Entries of annotation lists read so far.
    pub(super) annotations: u64,
}

impl<'d, R: ReadAt + ?Sized> Streams<'d, R> {
    pub(super) const fn new(dump: &'d R, claims: Claims) -> Self {
        Self { dump, claims, stacks: Vec::new(), strings_bytes: 0, annotations: 0 }
    }

    /// Whether a stream tells of threads; such streams come first.
    pub(super) const fn has_threads(stream_type: u32) -> bool {
        matches!(stream_type, THREAD_LIST | THREAD_EX_LIST)
    }

    pub(super) fn into_claims(self) -> Claims {
        self.claims
    }

    /// Claims what a stream holds. Streams of other types claim nothing, but for those of an application's own.
    pub(super) fn claim(&mut self, stream_type: u32, stream: Location) -> Result<(), BrokenDump> {
        match stream_type {
            THREAD_LIST => self.threads(stream, 48),
            THREAD_EX_LIST => self.threads(stream, 64),
            MEMORY_LIST => self.memory(stream),
            MEMORY_64_LIST => self.memory_64(stream),
            MODULE_LIST => self.modules(stream),
            UNLOADED_MODULE_LIST => self.unloaded_modules(stream),
            CRASHPAD_INFO => self.annotations(stream),
            HANDLE_DATA => self.handles(stream),
            THREAD_NAMES => self.thread_names(stream),
            COMMENT_ASCII | COMMENT_UTF16 | LINUX_PROC_STATUS | LINUX_CMD_LINE | LINUX_ENVIRON | LINUX_AUXV
            | LINUX_MAPS => self.add(stream, RegionKind::ProcessText),
            BREAKPAD_INFO | LINUX_DSO_DEBUG => Ok(()),
            OWN_STREAMS.. => self.add(stream, RegionKind::ProcessText),
            _ => Ok(()),
        }
    }

    fn add(&mut self, location: Location, kind: RegionKind) -> Result<(), BrokenDump> {
        self.claims.add(location.offset..location.offset.saturating_add(location.size), kind)
    }

    /// `MINIDUMP_THREAD`: the stack's address at 24, its bytes at 32. Full dumps keep the bytes with all other memory.
    fn threads(&mut self, stream: Location, entry_size: u64) -> Result<(), BrokenDump> {
        let table = self.table(stream, entry_size, "the thread list")?;
        for offset in table.offsets() {
            let thread: [u8; 48] = read(self.dump, offset, "the thread list")?;
            self.stacks.push(u64_at(&thread, 24));
            self.add(Location::at(&thread, 32), RegionKind::StackMemory)?;
        }
        self.stacks.sort_unstable();
        Ok(())
    }

    /// `MINIDUMP_MEMORY_DESCRIPTOR`: address, then where the bytes are.
    fn memory(&mut self, stream: Location) -> Result<(), BrokenDump> {
        let table = self.table(stream, 16, "the memory list")?;
        for offset in table.offsets() {
            let range: [u8; 16] = read(self.dump, offset, "the memory list")?;
            let bytes = Location::at(&range, 8);
            self.add(bytes, self.memory_kind(u64_at(&range, 0), bytes.size))?;
        }
        Ok(())
    }

    /// `MINIDUMP_MEMORY64_LIST`: count and offset of all bytes, then address and size of each range, whose bytes follow each
    /// other.
    fn memory_64(&mut self, stream: Location) -> Result<(), BrokenDump> {
        const STRUCTURE: &str = "the 64-bit memory list";
        let head: [u8; 16] = read(self.dump, stream.offset, STRUCTURE)?;
        let (count, mut bytes_at) = (u64_at(&head, 0), u64_at(&head, 8));
        if count > (stream.size.saturating_sub(16) / 16).min(ENTRIES_MAX) {
            return Err(BrokenDump::TooMany { structure: STRUCTURE, count });
        }
        let table = Table { first: stream.offset + 16, count, entry_size: 16 };
        for offset in table.offsets() {
            let range: [u8; 16] = read(self.dump, offset, STRUCTURE)?;
            let (address, size) = (u64_at(&range, 0), u64_at(&range, 8));
            self.add(Location { offset: bytes_at, size }, self.memory_kind(address, size))?;
            bytes_at = bytes_at.saturating_add(size);
        }
        Ok(())
    }

    /// Memory that a stack begins in is that stack.
    fn memory_kind(&self, address: u64, size: u64) -> RegionKind {
        let next = self.stacks.partition_point(|&stack| stack < address);
        match self.stacks.get(next) {
            Some(&stack) if stack - address < size => RegionKind::StackMemory,
            _ => RegionKind::HeapMemory,
        }
    }

    /// `MINIDUMP_MODULE`: the name's offset at 20, the CodeView record at 76.
    fn modules(&mut self, stream: Location) -> Result<(), BrokenDump> {
        let table = self.table(stream, 108, "the module list")?;
        for offset in table.offsets() {
            let module: [u8; 108] = read(self.dump, offset, "the module list")?;
            self.utf16_path(u32_at(&module, 20).into())?;
            self.debug_path(Location::at(&module, 76))?;
        }
        Ok(())
    }

    /// `MINIDUMP_UNLOADED_MODULE_LIST`: sizes of head and entry come first.
    fn unloaded_modules(&mut self, stream: Location) -> Result<(), BrokenDump> {
        const STRUCTURE: &str = "the unloaded module list";
        let head: [u8; 12] = read(self.dump, stream.offset, STRUCTURE)?;
        let (head_size, entry_size, count) = (u32_at(&head, 0), u32_at(&head, 4), u64::from(u32_at(&head, 8)));
        let room = stream.size.saturating_sub(head_size.into());
        if entry_size < 24 || count > (room / u64::from(entry_size)).min(ENTRIES_MAX) {
            return Err(BrokenDump::TooMany { structure: STRUCTURE, count });
        }
        let table = Table { first: stream.offset + u64::from(head_size), count, entry_size: entry_size.into() };
        for offset in table.offsets() {
            let module: [u8; 24] = read(self.dump, offset, STRUCTURE)?;
            self.utf16_path(u32_at(&module, 20).into())?;
        }
        Ok(())
    }

    /// Claims the directories of a `MINIDUMP_STRING`: length in bytes, then UTF-16LE.
    fn utf16_path(&mut self, offset: u64) -> Result<(), BrokenDump> {
        let length: [u8; 4] = match read(self.dump, offset, "a module's name") {
            Ok(length) => length,
            // There is nothing to scrub where there is nothing.
            Err(BrokenDump::Truncated { .. }) => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let start = offset + 4;
        let name = self.string(Location { offset: start, size: u32_at(&length, 0).into() })?;
        let is_separator = |unit: &[u8]| matches!(unit, [b'/' | b'\\', 0]);
        let directories = name.chunks_exact(2).rposition(is_separator).map_or(0, |last| 2 * (last as u64 + 1));
        self.claims.add(start..start + directories, RegionKind::ModulePath)
    }

    /// Claims the directories in a CodeView record: a signature tells how far before the path its fixed part goes.
    fn debug_path(&mut self, record: Location) -> Result<(), BrokenDump> {
        let bytes = self.string(record)?;
        let path_at = match bytes.get(..4) {
            // PDB 7.0: GUID and age. PDB 2.0: offset, timestamp and age.
            Some(b"RSDS") => 24,
            Some(b"NB10") => 16,
            _ => return Ok(()),
        };
        let path = bytes.get(path_at..).unwrap_or_default();
        let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
        let directories = path.iter().rposition(|byte| matches!(byte, b'/' | b'\\')).map_or(0, |last| last as u64 + 1);
        let start = record.offset + path_at as u64;
        self.claims.add(start..start + directories, RegionKind::ModulePath)
    }

    /// `MINIDUMP_HANDLE_DATA_STREAM`: sizes of head and descriptor come first. Objects are files, too: the name at 12.
    fn handles(&mut self, stream: Location) -> Result<(), BrokenDump> {
        const STRUCTURE: &str = "the list of handles";
        let head: [u8; 12] = read(self.dump, stream.offset, STRUCTURE)?;
        let (head_size, entry_size, count) = (u32_at(&head, 0), u32_at(&head, 4), u64::from(u32_at(&head, 8)));
        let room = stream.size.saturating_sub(head_size.into());
        if entry_size < 32 || count > (room / u64::from(entry_size)).min(ENTRIES_MAX) {
            return Err(BrokenDump::TooMany { structure: STRUCTURE, count });
        }
        let table = Table { first: stream.offset + u64::from(head_size), count, entry_size: entry_size.into() };
        for offset in table.offsets() {
            let handle: [u8; 16] = read(self.dump, offset, STRUCTURE)?;
            self.text(u32_at(&handle, 12).into())?;
        }
        Ok(())
    }

    /// `MINIDUMP_THREAD_NAME`: thread id, then where its name is, in 8 bytes.
    fn thread_names(&mut self, stream: Location) -> Result<(), BrokenDump> {
        const STRUCTURE: &str = "the list of thread names";
        let table = self.table(stream, 12, STRUCTURE)?;
        for offset in table.offsets() {
            let name: [u8; 12] = read(self.dump, offset, STRUCTURE)?;
            self.text(u64_at(&name, 4))?;
        }
        Ok(())
    }

    /// Claims a string with its length in bytes before it, in UTF-8 or UTF-16. Offset 0 means that there is none.
    pub(super) fn text(&mut self, offset: u64) -> Result<(), BrokenDump> {
        if offset == 0 || offset >= self.dump.len() {
            return Ok(());
        }
        let length: [u8; 4] = match read(self.dump, offset, "a text") {
            Ok(length) => length,
            // There is nothing to scrub where there is nothing.
            Err(BrokenDump::Truncated { .. }) => return Ok(()),
            Err(failure) => return Err(failure),
        };
        self.add(Location { offset: offset + 4, size: u32_at(&length, 0).into() }, RegionKind::ProcessText)
    }

    /// A list with a count of 32 bits; some writers align its first entry to 8 bytes.
    pub(super) fn table(
        &self,
        stream: Location,
        entry_size: u64,
        structure: &'static str,
    ) -> Result<Table, BrokenDump> {
        let count: [u8; 4] = read(self.dump, stream.offset, structure)?;
        let count = u64::from(u32_at(&count, 0));
        let bytes = count * entry_size;
        match stream.size.checked_sub(bytes) {
            _ if count > ENTRIES_MAX => Err(BrokenDump::TooMany { structure, count }),
            Some(8) => Ok(Table { first: stream.offset + 8, count, entry_size }),
            Some(4..) => Ok(Table { first: stream.offset + 4, count, entry_size }),
            _ => Err(BrokenDump::TooMany { structure, count }),
        }
    }

    /// Bytes of a path or record, cut to what a path may have and to the file's end.
    fn string(&mut self, location: Location) -> Result<Vec<u8>, BrokenDump> {
        let size = usize::try_from(location.size).unwrap_or(usize::MAX).min(STRING_BYTES_MAX);
        self.strings_bytes += size as u64;
        if self.strings_bytes > STRINGS_BYTES_MAX {
            return Err(BrokenDump::TooMany { structure: "the strings", count: self.strings_bytes });
        }
        let mut bytes = vec![0; size];
        let count = self.dump.read_at(location.offset, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

impl Table {
    pub(super) fn offsets(&self) -> impl Iterator<Item = u64> + use<> {
        let (first, entry_size) = (self.first, self.entry_size);
        (0..self.count).map(move |index| first + index * entry_size)
    }
}
