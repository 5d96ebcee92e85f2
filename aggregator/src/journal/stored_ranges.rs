//! Which sequences of one spool are stored, as ranges, one key each.
//!
//! Batches of a spool travel on streams of their own, from several lanes at once, and arrive in any order; gaps close as the
//! missing ones come in. A batch is judged and noted by looking at its neighbours only, however many gaps there are.
//!
//! ```text
//! sequences   1 ───────────── 40   41 … 60   61 ── 80   81 …
//!             stored              missing    stored     missing
//!
//! on disk, in `spools`:   'r' | spool id | first: u64 BE  ──▶ last: u64 BE      here: 1 ▸ 40, 61 ▸ 80
//!                         'n' | spool id                  ──▶ u64 BE            ranges above the high-water mark; here 1
//! ```
//!
//! The range that begins at 1 is the *high-water mark*: all up to its end is stored. It is read first, and look-ups never go
//! below it: RocksDB would step over every range that was ever merged into it.
//!
//! Invariants:
//! - ranges are disjoint and not adjacent: what touches is merged into the lower one's key;
//! - there are at most [`MAX_GAPS`] above the mark;
//! - [`SpoolRanges`] lays the additions of one commit over what is on disk; they are written in the commit's transaction or
//!   forgotten with it. A key that it deletes is inside a range that it writes, so a look-up that finds the deleted key on
//!   disk finds the living range in memory.

use std::collections::{BTreeMap, BTreeSet};

use picket_common::ids::Sequence;

use super::JournalError;

/// Most ranges above the mark of a spool. Each lane of a relay leaves a gap where it is behind the others, so tens of thousands
/// are possible; a peer that skips sequences for ever must not fill the disk. About 50 MB on disk.
pub(crate) const MAX_GAPS: u64 = 1 << 20;

/// Where the range that says the high-water mark begins.
const MARK: u64 = 1;

/// What a range of sequences is to the stored ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// None of it is stored.
    New,
    /// All of it is stored.
    Stored,
    /// Some of it is stored and some is not.
    Partial,
}

/// Why a range was not noted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoteError {
    /// There are as many ranges as may be already, and this one would be another.
    #[error("too many ranges of the spool have gaps between them")]
    TooManyGaps,
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The ranges of a spool that are on disk.
pub(crate) trait RangesOnDisk {
    /// The end of the range that begins at `first`.
    fn beginning_at(&self, first: u64) -> Result<Option<u64>, JournalError>;
    /// The last range that begins after `after` and at or before `at_most`, as first and last.
    fn last_beginning_in(&self, after: u64, at_most: u64) -> Result<Option<(u64, u64)>, JournalError>;
    /// How many there are above the mark.
    fn above_mark(&self) -> Result<u64, JournalError>;
}

/// The stored ranges of one spool with the additions of one commit.
#[derive(Debug)]
pub(crate) struct SpoolRanges<D> {
    disk: D,
    max_gaps: u64,
    high_water: u64,
    above_mark: u64,
    above_mark_on_disk: u64,
    /// Ranges to write.
    put: BTreeMap<u64, u64>,
    /// Beginnings of ranges to delete; each lies inside one of `put`.
    gone: BTreeSet<u64>,
}

/// What a commit changes in the ranges of a spool.
#[derive(Debug)]
pub(crate) struct RangeChanges<'a> {
    pub(crate) put: &'a BTreeMap<u64, u64>,
    pub(crate) gone: &'a BTreeSet<u64>,
    /// The new number of ranges above the mark, if it is another.
    pub(crate) above_mark: Option<u64>,
}

// === impl SpoolRanges ===

impl<D: RangesOnDisk> SpoolRanges<D> {
    pub(crate) fn read(disk: D, max_gaps: u64) -> Result<Self, JournalError> {
        let high_water = disk.beginning_at(MARK)?.unwrap_or(0);
        let above_mark = disk.above_mark()?;
        let (put, gone) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { disk, max_gaps, high_water, above_mark, above_mark_on_disk: above_mark, put, gone })
    }

    /// Everything up to and including this sequence is stored; zero if the first is missing.
    pub(crate) const fn high_water(&self) -> Sequence {
        Sequence::new(self.high_water)
    }

    /// The highest sequence that is stored; zero if none is.
    pub(crate) fn highest(&self) -> Result<Sequence, JournalError> {
        Ok(Sequence::new(self.last_beginning_by(u64::MAX)?.map_or(self.high_water, |(_, last)| last)))
    }

    /// Compares `first..=last` with what is stored.
    pub(crate) fn coverage(&self, first: Sequence, last: Sequence) -> Result<Coverage, JournalError> {
        let (first, last) = (first.get(), last.get());
        debug_assert!(0 < first && first <= last, "the header was validated before");
        if last <= self.high_water {
            return Ok(Coverage::Stored);
        }
        if first <= self.high_water {
            return Ok(Coverage::Partial);
        }
        // Ranges are disjoint, so only the last one that begins at or before `last` can hold all of `first..=last`, and
        // if that one ends before `first`, none touches it.
        Ok(match self.last_beginning_by(last)? {
            Some((start, end)) if start <= first && last <= end => Coverage::Stored,
            Some((_, end)) if first <= end => Coverage::Partial,
            _ => Coverage::New,
        })
    }

    /// Notes `first..=last`, of which nothing may be stored yet. Changes nothing where it fails.
    pub(crate) fn note(&mut self, first: Sequence, last: Sequence) -> Result<(), NoteError> {
        debug_assert!(matches!(self.coverage(first, last), Ok(Coverage::New)), "only new ranges are noted");
        let (first, last) = (first.get(), last.get());
        let next = match last.checked_add(1) {
            Some(next) => self.beginning_at(next)?.map(|next_last| (next, next_last)),
            None => None,
        };
        let start = if first == self.high_water + 1 {
            MARK
        } else {
            match self.last_beginning_by(first)? {
                Some((previous, previous_last)) if previous_last + 1 == first => previous,
                _ => first,
            }
        };
        let is_another = start == first && start != MARK;
        let above_mark = self.above_mark.saturating_sub(u64::from(next.is_some())) + u64::from(is_another);
        if above_mark > self.max_gaps && above_mark > self.above_mark {
            return Err(NoteError::TooManyGaps);
        }
        let end = next.map_or(last, |(_, next_last)| next_last);
        self.put.insert(start, end);
        if let Some((next, _)) = next {
            self.put.remove(&next);
            self.gone.insert(next);
        }
        self.above_mark = above_mark;
        if start == MARK {
            self.high_water = end;
        }
        Ok(())
    }

    /// What was noted.
    pub(crate) fn changes(&self) -> RangeChanges<'_> {
        let above_mark = (self.above_mark != self.above_mark_on_disk).then_some(self.above_mark);
        RangeChanges { put: &self.put, gone: &self.gone, above_mark }
    }

    fn beginning_at(&self, first: u64) -> Result<Option<u64>, JournalError> {
        match self.put.get(&first) {
            Some(&last) => Ok(Some(last)),
            None if self.gone.contains(&first) => Ok(None),
            None => self.disk.beginning_at(first),
        }
    }

    /// The last range above the mark that begins at or before `at_most`.
    fn last_beginning_by(&self, at_most: u64) -> Result<Option<(u64, u64)>, JournalError> {
        if at_most <= self.high_water {
            return Ok(None);
        }
        let noted = self.put.range(self.high_water + 1..=at_most).next_back().map(|(&first, &last)| (first, last));
        let on_disk = self.disk.last_beginning_in(self.high_water, at_most)?;
        let on_disk = on_disk.filter(|(first, _)| !self.gone.contains(first) && !self.put.contains_key(first));
        Ok(noted.max(on_disk))
    }
}

#[cfg(test)]
mod tests;
