//! What Crashpad notes beside the dump: annotations of the process and of each module.
//!
//! ```text
//! MinidumpCrashpadInfo ─▸ simple annotations: (key, value)
//!                      └▸ for each module: texts · simple annotations · annotation objects (name, type, value)
//! ```
//!
//! Format: Crashpad's `minidump_extensions.h`. Each text stands elsewhere, its length before it.

use super::streams::{Location, Streams};
use super::structure::{read, u32_at};
use super::{BrokenDump, REGIONS_MAX, ReadAt};

const STRUCTURE: &str = "Crashpad's annotations";

/// Where in `MinidumpCrashpadInfo` the simple annotations are, and the list of modules, which older writers do not have.
const SIMPLE_AT: u64 = 36;
const MODULES_AT: u64 = 44;

impl<R: ReadAt + ?Sized> Streams<'_, R> {
    /// Claims the values of all annotations.
    pub(super) fn annotations(&mut self, stream: Location) -> Result<(), BrokenDump> {
        let of_process = self.location(stream.offset + SIMPLE_AT)?;
        self.simple_annotations(of_process)?;
        if stream.size < MODULES_AT + 8 {
            return Ok(());
        }
        let modules = self.location(stream.offset + MODULES_AT)?;
        // The module's number, then where its information is.
        for link in self.entries(modules, 12)? {
            let module = self.location(link + 4)?;
            if module.size >= 28 {
                self.module_annotations(module.offset)?;
            }
        }
        Ok(())
    }

    /// `MinidumpModuleCrashpadInfo`: version, then three lists.
    fn module_annotations(&mut self, module: u64) -> Result<(), BrokenDump> {
        let texts = self.location(module + 4)?;
        for entry in self.entries(texts, 4)? {
            self.text_at(entry)?;
        }
        let simple = self.location(module + 12)?;
        self.simple_annotations(simple)?;
        let objects = self.location(module + 20)?;
        // Name, type and a reserved word, value.
        for object in self.entries(objects, 12)? {
            self.text_at(object + 8)?;
        }
        Ok(())
    }

    /// Key, value.
    fn simple_annotations(&mut self, list: Location) -> Result<(), BrokenDump> {
        for entry in self.entries(list, 8)? {
            self.text_at(entry + 4)?;
        }
        Ok(())
    }

    /// Where the entries of a list are; none of a list that is not there.
    fn entries(&mut self, list: Location, size: u64) -> Result<impl Iterator<Item = u64> + use<R>, BrokenDump> {
        let table = if list.size == 0 { None } else { Some(self.table(list, size, STRUCTURE)?) };
        // Many modules may point to one list.
        self.annotations += table.as_ref().map_or(0, |table| table.count);
        if self.annotations > REGIONS_MAX as u64 {
            return Err(BrokenDump::TooMany { structure: STRUCTURE, count: self.annotations });
        }
        Ok(table.into_iter().flat_map(|table| table.offsets()))
    }

    fn location(&self, at: u64) -> Result<Location, BrokenDump> {
        let bytes: [u8; 8] = read(self.dump, at, STRUCTURE)?;
        Ok(Location::at(&bytes, 0))
    }

    /// Claims the text whose offset stands here.
    fn text_at(&mut self, at: u64) -> Result<(), BrokenDump> {
        let offset: [u8; 4] = read(self.dump, at, STRUCTURE)?;
        self.text(u32_at(&offset, 0).into())
    }
}
