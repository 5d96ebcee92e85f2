//! From claims in any order, overlapping or not, to regions.

use std::ops::Range;

use super::{BrokenDump, REGIONS_MAX, Region, RegionKind};

/// What the streams say is where.
#[derive(Debug)]
pub(super) struct Claims {
    file_len: u64,
    claimed: Vec<Region>,
}

impl Claims {
    pub(super) const fn new(file_len: u64) -> Self {
        Self { file_len, claimed: Vec::new() }
    }

    /// Claims bytes. Those beyond the file's end are left out: a dump that was cut off still has its beginning scrubbed.
    pub(super) fn add(&mut self, bytes: Range<u64>, kind: RegionKind) -> Result<(), BrokenDump> {
        let bytes = bytes.start..bytes.end.min(self.file_len);
        if bytes.is_empty() {
            return Ok(());
        }
        if self.claimed.len() == REGIONS_MAX {
            return Err(BrokenDump::TooMany { structure: "all tables", count: REGIONS_MAX as u64 });
        }
        self.claimed.push(Region { bytes, kind });
        Ok(())
    }

    /// Cuts the claims into regions that are apart: each byte goes to the most particular kind that claims it.
    pub(super) fn into_regions(self) -> Vec<Region> {
        let mut borders: Vec<(u64, RegionKind, Border)> = Vec::with_capacity(2 * self.claimed.len());
        for Region { bytes, kind } in self.claimed {
            borders.push((bytes.start, kind, Border::Start));
            borders.push((bytes.end, kind, Border::End));
        }
        borders.sort_unstable_by_key(|&(at, ..)| at);
        let mut open = [0_usize; RegionKind::ALL.len()];
        let mut regions: Vec<Region> = Vec::new();
        let mut from = 0;
        for (at, kind, border) in borders {
            let strongest = RegionKind::ALL.into_iter().rev().find(|&kind| open[kind as usize] > 0);
            if let Some(kind) = strongest
                && from < at
            {
                append(&mut regions, Region { bytes: from..at, kind });
            }
            from = at;
            match border {
                Border::Start => open[kind as usize] += 1,
                // Its start was before: claims are not empty.
                Border::End => open[kind as usize] -= 1,
            }
        }
        regions
    }
}

#[derive(Clone, Copy)]
enum Border {
    Start,
    End,
}

/// Appends a region, or makes the last one longer: what lies side by side is looked at as one.
fn append(regions: &mut Vec<Region>, region: Region) {
    match regions.last_mut() {
        Some(last) if last.kind == region.kind && last.bytes.end == region.bytes.start => {
            last.bytes.end = region.bytes.end
        }
        _ => regions.push(region),
    }
}
