//! From the file to the plan: header, directory, then each stream that matters.

use super::regions::Claims;
use super::streams::{Location, Streams};
use super::structure::{read, u32_at};
use super::{BrokenDump, Plan, ReadAt};

/// `MDMP`.
const SIGNATURE: u32 = 0x504d_444d;

/// The most streams of a dump; writers have some twenty.
const STREAMS_MAX: u32 = 4096;

/// Finds out where in a dump is what.
///
/// # Errors
/// [`BrokenDump`], if a structure can't be right. Such a dump is to be scrubbed as a plain attachment.
pub fn read_plan<R: ReadAt + ?Sized>(dump: &R) -> Result<Plan, BrokenDump> {
    let header: [u8; 16] = read(dump, 0, "the header")?;
    if u32_at(&header, 0) != SIGNATURE {
        return Err(BrokenDump::Signature);
    }
    let (count, directory) = (u32_at(&header, 8), u64::from(u32_at(&header, 12)));
    if count > STREAMS_MAX {
        return Err(BrokenDump::TooMany { structure: "the directory", count: count.into() });
    }
    let mut entries = Vec::new();
    for index in 0..u64::from(count) {
        let entry: [u8; 12] = read(dump, directory + index * 12, "the directory")?;
        let location = Location { offset: u32_at(&entry, 8).into(), size: u32_at(&entry, 4).into() };
        entries.push((u32_at(&entry, 0), location));
    }
    // Threads first: they tell which memory is a stack.
    entries.sort_by_key(|&(stream_type, _)| !Streams::<R>::has_threads(stream_type));
    let mut streams = Streams::new(dump, Claims::new(dump.len()));
    for (stream_type, location) in entries {
        streams.claim(stream_type, location)?;
    }
    Ok(Plan { regions: streams.into_claims().into_regions() })
}
