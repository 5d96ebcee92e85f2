#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

/// What a disk would hold.
#[derive(Debug, Default)]
struct Disk {
    ranges: BTreeMap<u64, u64>,
    above_mark: u64,
}

impl RangesOnDisk for &Disk {
    fn beginning_at(&self, first: u64) -> Result<Option<u64>, JournalError> {
        Ok(self.ranges.get(&first).copied())
    }

    fn last_beginning_in(&self, after: u64, at_most: u64) -> Result<Option<(u64, u64)>, JournalError> {
        Ok(self.ranges.range(after + 1..=at_most).next_back().map(|(&first, &last)| (first, last)))
    }

    fn above_mark(&self) -> Result<u64, JournalError> {
        Ok(self.above_mark)
    }
}

impl Disk {
    fn write(&mut self, changes: &RangeChanges<'_>) {
        self.ranges.retain(|first, _| !changes.gone.contains(first));
        self.ranges.extend(changes.put);
        self.above_mark = changes.above_mark.unwrap_or(self.above_mark);
    }

    /// One commit that notes these ranges.
    fn note(&mut self, ranges: &[(u64, u64)]) {
        let mut spool = SpoolRanges::read(&*self, MAX_GAPS).unwrap();
        for &(first, last) in ranges {
            spool.note(seq(first), seq(last)).unwrap();
        }
        let (put, gone, above_mark) = (spool.put.clone(), spool.gone.clone(), spool.changes().above_mark);
        self.write(&RangeChanges { put: &put, gone: &gone, above_mark });
    }
}

fn seq(number: u64) -> Sequence {
    Sequence::new(number)
}

#[test]
fn a_gap_closes_when_the_missing_range_comes_in() {
    let mut disk = Disk::default();
    disk.note(&[(1, 40), (61, 80)]);
    assert_eq!(disk.ranges, BTreeMap::from([(1, 40), (61, 80)]));
    assert_eq!(disk.above_mark, 1);
    disk.note(&[(41, 60)]);
    assert_eq!((disk.ranges, disk.above_mark), (BTreeMap::from([(1, 80)]), 0));
}

#[test]
fn only_the_neighbours_of_a_new_range_are_written() {
    let mut disk = Disk::default();
    disk.note(&[(1, 1), (10, 19), (30, 39), (50, 59), (70, 79)]);
    let mut spool = SpoolRanges::read(&disk, MAX_GAPS).unwrap();
    spool.note(seq(40), seq(49)).unwrap();
    assert_eq!((&spool.put, &spool.gone), (&BTreeMap::from([(30, 59)]), &BTreeSet::from([50])));
    assert_eq!(spool.changes().above_mark, Some(3));
}

#[test]
fn gaps_are_bounded_and_closing_one_makes_room() {
    const FEW: u64 = 100;
    let disk = Disk::default();
    let mut spool = SpoolRanges::read(&disk, FEW).unwrap();
    for gap in 1..=FEW {
        spool.note(seq(gap * 2), seq(gap * 2)).unwrap();
    }
    let beyond = seq(FEW * 2 + 2);
    let before = spool.put.clone();
    assert!(matches!(spool.note(beyond, beyond), Err(NoteError::TooManyGaps)));
    assert_eq!(spool.put, before, "what was refused leaves no trace");
    spool.note(seq(1), seq(1)).unwrap();
    assert_eq!(spool.high_water(), seq(2));
    spool.note(beyond, beyond).unwrap();
}

#[test]
fn the_last_sequence_of_all_is_no_overflow() {
    let last = seq(u64::MAX);
    let disk = Disk::default();
    let mut spool = SpoolRanges::read(&disk, MAX_GAPS).unwrap();
    spool.note(last, last).unwrap();
    assert_eq!(spool.coverage(last, last).unwrap(), Coverage::Stored);
    assert_eq!(spool.highest().unwrap(), last);
    spool.note(seq(1), seq(u64::MAX - 1)).unwrap();
    assert_eq!(spool.coverage(last, last).unwrap(), Coverage::Stored);
    assert_eq!(spool.highest().unwrap(), last);
}

proptest! {
    /// The model is the plain set of stored sequences. Each inner list is one commit, so that what is on disk and what is
    /// noted over it meet in every way.
    #[test]
    fn the_ranges_say_what_a_plain_set_says(
        commits in proptest::collection::vec(proptest::collection::vec((1_u64..60, 0_u64..6), 1..8), 1..20),
    ) {
        let mut disk = Disk::default();
        let mut model = BTreeSet::new();
        for commit in commits {
            let mut spool = SpoolRanges::read(&disk, MAX_GAPS).unwrap();
            for (first, more) in commit {
                let last = first + more;
                let stored = (first..=last).filter(|sequence| model.contains(sequence)).count() as u64;
                let expected = match stored {
                    0 => Coverage::New,
                    all if all == more + 1 => Coverage::Stored,
                    _ => Coverage::Partial,
                };
                prop_assert_eq!(spool.coverage(seq(first), seq(last)).unwrap(), expected);
                if expected == Coverage::New {
                    spool.note(seq(first), seq(last)).unwrap();
                    model.extend(first..=last);
                }
                let gapless = (1..).take_while(|sequence| model.contains(sequence)).last().unwrap_or(0);
                prop_assert_eq!(spool.high_water(), seq(gapless));
                prop_assert_eq!(spool.highest().unwrap(), seq(model.last().copied().unwrap_or(0)));
            }
            let (put, gone, above_mark) = (spool.put.clone(), spool.gone.clone(), spool.changes().above_mark);
            disk.write(&RangeChanges { put: &put, gone: &gone, above_mark });
            prop_assert_eq!(&disk.ranges, &ranges_of(&model));
            prop_assert_eq!(disk.above_mark, disk.ranges.keys().filter(|first| **first > 1).count() as u64);
        }
    }
}

/// The set as ranges that do not touch.
fn ranges_of(model: &BTreeSet<u64>) -> BTreeMap<u64, u64> {
    let mut ranges: BTreeMap<u64, u64> = BTreeMap::new();
    for &sequence in model {
        match ranges.last_entry() {
            Some(mut last) if *last.get() + 1 == sequence => *last.get_mut() = sequence,
            _ => drop(ranges.insert(sequence, sequence)),
        }
    }
    ranges
}
