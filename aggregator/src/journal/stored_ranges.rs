//! Which sequences of one spool are stored: a high-water mark and the ranges above it.
//!
//! Batches of a spool travel on streams of their own and arrive in any order; the gaps close as the missing ones come in,
//! so that in the steady state the mark says everything.
//!
//! ```text
//! sequences   1 ───────────── 40   41 … 60   61 ── 80   81 …
//!             stored              missing    stored     missing
//!             └ high_water = 40              └ above = {61: 80}
//!
//! on disk (all u64 little-endian):  high_water | (first | last)*     ranges ascending
//! ```
//!
//! Invariants, checked when read from disk:
//! - every range lies above `high_water + 1` (else it would have been merged into the mark);
//! - ranges are ascending, disjoint and not adjacent;
//! - there are at most [`MAX_GAPS`] of them.

use std::collections::BTreeMap;

use picket_common::ids::Sequence;

/// Most ranges above the mark. A relay has a few dozen batches in flight, so it leaves a few dozen gaps at most; a peer
/// that skips sequences for ever must not make the state (rewritten with each of its batches) grow.
pub(super) const MAX_GAPS: usize = 1024;

/// What a range of sequences is to the stored ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    /// None of it is stored.
    New,
    /// All of it is stored.
    Stored,
    /// Some of it is stored and some is not.
    Partial,
}

/// There are [`MAX_GAPS`] ranges already, and this one would be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooManyGaps;

/// The stored sequences of one spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StoredRanges {
    high_water: u64,
    above: BTreeMap<u64, u64>,
}

// === impl StoredRanges ===

impl StoredRanges {
    /// Everything up to and including this sequence is stored; zero if the first is missing.
    pub(super) const fn high_water(&self) -> Sequence {
        Sequence::new(self.high_water)
    }

    /// The highest sequence that is stored; zero if none is.
    pub(super) fn highest(&self) -> Sequence {
        Sequence::new(self.above.last_key_value().map_or(self.high_water, |(_, &last)| last))
    }

    /// Compares `first..=last` with what is stored.
    pub(super) fn coverage(&self, first: Sequence, last: Sequence) -> Coverage {
        let (first, last) = (first.get(), last.get());
        debug_assert!(0 < first && first <= last, "the header was validated before");
        if last <= self.high_water {
            return Coverage::Stored;
        }
        if first <= self.high_water {
            return Coverage::Partial;
        }
        // Ranges are disjoint, so only the last one that begins at or before `last` can hold all of `first..=last`, and
        // if that one ends before `first`, none touches it.
        match self.above.range(..=last).next_back() {
            Some((&start, &end)) if start <= first && last <= end => Coverage::Stored,
            Some((_, &end)) if first <= end => Coverage::Partial,
            _ => Coverage::New,
        }
    }

    /// Adds `first..=last`, of which nothing may be stored yet.
    pub(super) fn insert(&mut self, first: Sequence, last: Sequence) -> Result<(), TooManyGaps> {
        debug_assert_eq!(self.coverage(first, last), Coverage::New, "only new ranges are inserted");
        let (first, mut last) = (first.get(), last.get());
        if let Some(next_last) = last.checked_add(1).and_then(|next| self.above.remove(&next)) {
            last = next_last;
        }
        if first == self.high_water + 1 {
            self.high_water = last;
            return Ok(());
        }
        if let Some((_, previous_last)) = self.above.range_mut(..first).next_back()
            && *previous_last + 1 == first
        {
            *previous_last = last;
            return Ok(());
        }
        if self.above.len() >= MAX_GAPS {
            return Err(TooManyGaps);
        }
        self.above.insert(first, last);
        Ok(())
    }

    /// The form on disk.
    pub(super) fn encode(&self) -> Vec<u8> {
        let ranges = self.above.iter().flat_map(|(first, last)| [*first, *last]);
        std::iter::once(self.high_water).chain(ranges).flat_map(u64::to_le_bytes).collect()
    }

    /// Reads what [`Self::encode`] wrote; `None` where the bytes break an invariant.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let high_water = words.next()?;
        let mut above = BTreeMap::new();
        let mut end = high_water;
        while let Some(first) = words.next() {
            let last = words.next()?;
            // Strictly beyond the neighbour: `end + 1` would have been merged with it.
            if first <= end.checked_add(1)? || last < first {
                return None;
            }
            above.insert(first, last);
            end = last;
        }
        (above.len() <= MAX_GAPS).then_some(Self { high_water, above })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn seq(number: u64) -> Sequence {
        Sequence::new(number)
    }

    #[test]
    fn a_gap_closes_when_the_missing_range_comes_in() {
        let mut ranges = StoredRanges::default();
        ranges.insert(seq(1), seq(40)).unwrap();
        ranges.insert(seq(61), seq(80)).unwrap();
        assert_eq!(ranges.high_water(), seq(40));
        ranges.insert(seq(41), seq(60)).unwrap();
        assert_eq!(ranges, StoredRanges { high_water: 80, above: BTreeMap::new() });
    }

    #[test]
    fn gaps_are_bounded_and_closing_one_makes_room() {
        let mut ranges = StoredRanges::default();
        for gap in 1..=MAX_GAPS as u64 {
            ranges.insert(seq(gap * 2), seq(gap * 2)).unwrap();
        }
        let beyond = seq(MAX_GAPS as u64 * 2 + 2);
        assert_eq!(ranges.insert(beyond, beyond), Err(TooManyGaps));
        ranges.insert(seq(1), seq(1)).unwrap();
        assert_eq!(ranges.high_water(), seq(2));
        assert_eq!(ranges.insert(beyond, beyond), Ok(()));
    }

    #[test]
    fn the_last_sequence_of_all_is_no_overflow() {
        let mut ranges = StoredRanges::default();
        ranges.insert(seq(u64::MAX), seq(u64::MAX)).unwrap();
        assert_eq!(ranges.coverage(seq(u64::MAX), seq(u64::MAX)), Coverage::Stored);
        assert_eq!(StoredRanges::decode(&ranges.encode()), Some(ranges));
    }

    #[test]
    fn bytes_that_break_an_invariant_are_refused() {
        let encode = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        assert!(StoredRanges::decode(&encode(&[5, 7, 9, 11, 11])).is_some());
        for words in [&[][..], &[5, 6, 9], &[5, 7], &[5, 3, 4], &[5, 7, 6], &[5, 9, 10, 11, 12], &[u64::MAX, 1, 1]] {
            assert_eq!(StoredRanges::decode(&encode(words)), None, "{words:?}");
        }
        assert_eq!(StoredRanges::decode(&[0; 9]), None);
    }

    proptest! {
        /// The model is the plain set of stored sequences.
        #[test]
        fn the_ranges_say_what_a_plain_set_says(steps in proptest::collection::vec((1_u64..60, 0_u64..6), 1..60)) {
            let mut ranges = StoredRanges::default();
            let mut model = BTreeSet::new();
            for (first, more) in steps {
                let last = first + more;
                let stored = (first..=last).filter(|sequence| model.contains(sequence)).count() as u64;
                let expected = match stored {
                    0 => Coverage::New,
                    all if all == more + 1 => Coverage::Stored,
                    _ => Coverage::Partial,
                };
                prop_assert_eq!(ranges.coverage(seq(first), seq(last)), expected);
                if expected == Coverage::New {
                    ranges.insert(seq(first), seq(last)).unwrap();
                    model.extend(first..=last);
                }
                let gapless = (1..).take_while(|sequence| model.contains(sequence)).last().unwrap_or(0);
                prop_assert_eq!(ranges.high_water(), seq(gapless));
                prop_assert_eq!(StoredRanges::decode(&ranges.encode()), Some(ranges.clone()));
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = StoredRanges::decode(&bytes);
        }
    }
}
