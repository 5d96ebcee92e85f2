//! Journals of format 1: the stored ranges of a spool were one value, rewritten with each batch.
//!
//! ```text
//! format 1   'r' | spool id                   ──▶ high water: u64 LE | (first: u64 LE | last: u64 LE)*    17-byte keys
//! format 2   'r' | spool id | first: u64 BE   ──▶ last: u64 BE                                            25-byte keys
//! ```
//!
//! Converted when the journal is opened: the new format is noted first, with the note that spools may still have the old form, so
//! that no older program opens what is half converted; then each spool in a transaction of its own; then the note goes. Cut off
//! anywhere, the next opening goes on with the spools that have the old form.

use std::collections::BTreeMap;

/// Reads a spool's ranges as format 1 wrote them, the one below the high-water mark under 1; `None` where the bytes break
/// the rules: each range ends at or after its beginning, and begins beyond the sequence that follows the one before.
pub(super) fn decode_ranges(bytes: &[u8]) -> Option<BTreeMap<u64, u64>> {
    let (words, []) = bytes.as_chunks::<8>() else { return None };
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    let mut end = words.next()?;
    let mut ranges = BTreeMap::new();
    if end > 0 {
        ranges.insert(1, end);
    }
    while let Some(first) = words.next() {
        let last = words.next()?;
        // Strictly beyond the neighbour: `end + 1` would have been merged with it.
        if first <= end.checked_add(1)? || last < first {
            return None;
        }
        ranges.insert(first, last);
        end = last;
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use bytes::Bytes;
    use picket_common::ids::{RelayId, Sequence, SpoolId};
    use picket_common::wire::BatchHeader;
    use proptest::prelude::*;
    use rocksdb::{DB, Options};

    use super::super::{AppendError, Appended, Journal, JournalConfig, JournalError, SpoolClaim};
    use super::*;

    fn encode(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_mark_becomes_the_range_that_begins_at_one() {
        assert_eq!(decode_ranges(&encode(&[0])).unwrap(), BTreeMap::new());
        assert_eq!(decode_ranges(&encode(&[5])).unwrap(), BTreeMap::from([(1, 5)]));
        assert_eq!(decode_ranges(&encode(&[0, 3, 4])).unwrap(), BTreeMap::from([(3, 4)]));
        assert_eq!(decode_ranges(&encode(&[5, 7, 9, 11, 11])).unwrap(), BTreeMap::from([(1, 5), (7, 9), (11, 11)]));
    }

    #[test]
    fn bytes_that_break_a_rule_are_refused() {
        for words in [&[][..], &[5, 6, 9], &[5, 7], &[5, 3, 4], &[5, 7, 6], &[5, 9, 10, 11, 12], &[u64::MAX, 1, 1]] {
            assert_eq!(decode_ranges(&encode(words)), None, "{words:?}");
        }
        assert_eq!(decode_ranges(&[0; 9]), None);
    }

    /// A journal as the former program left it, made with RocksDB alone.
    fn write_format_one(directory: &Path, spools: &[(SpoolId, &[u64])], notes: &[&[u8]]) {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let families = DB::list_cf(&options, directory)
            .unwrap_or_else(|_| ["batches", "spools", "state", "recent_events"].map(str::to_owned).to_vec());
        let database = DB::open_cf(&options, directory, families).unwrap();
        let (of_spools, state) = (database.cf_handle("spools").unwrap(), database.cf_handle("state").unwrap());
        for (spool, words) in spools {
            let key = |kind: &[u8]| [kind, spool.as_bytes()].concat();
            database.put_cf(of_spools, key(b"r"), encode(words)).unwrap();
            database.put_cf(of_spools, key(b"o"), RelayId::from_random([5; 16]).to_string()).unwrap();
        }
        database.put_cf(state, b"format", [if notes.is_empty() { 1 } else { 2 }]).unwrap();
        notes.iter().for_each(|note| database.put_cf(state, note, []).unwrap());
    }

    fn header(spool_id: SpoolId, first: u64, last: u64) -> BatchHeader {
        let (first, last) = (Sequence::new(first), Sequence::new(last));
        BatchHeader { spool_id, first, last, raw_bytes: 0, payload_bytes: 0, crc32c: 0, is_tombstone: true }
    }

    async fn assert_converted(directory: &Path, spools: &[SpoolId]) {
        let (journal, committer) = Journal::open(directory, &JournalConfig::default()).unwrap();
        for &spool in spools {
            let stored = (journal.stored_up_to(spool).unwrap(), journal.highest_stored(spool).unwrap());
            assert_eq!(stored, (Sequence::new(40), Sequence::new(91)));
            let append = async |first, last| journal.append(header(spool, first, last), Bytes::new()).await;
            assert_eq!(append(5, 40).await, Ok(Appended::Duplicate));
            assert_eq!(append(61, 80).await, Ok(Appended::Duplicate));
            assert_eq!(append(91, 91).await, Ok(Appended::Duplicate));
            assert_eq!(append(80, 82).await, Err(AppendError::Overlap));
            assert_eq!(append(41, 60).await, Ok(Appended::Stored));
            assert_eq!(journal.stored_up_to(spool).unwrap(), Sequence::new(80));
            let claimed = journal.claim_spool(spool, RelayId::from_random([6; 16]), None).unwrap();
            assert_eq!(claimed, SpoolClaim::OwnedBy(RelayId::from_random([5; 16])));
        }
        drop(journal);
        tokio::task::spawn_blocking(|| committer.shutdown()).await.unwrap();
    }

    fn spools() -> [SpoolId; 3] {
        [3, 9, 200].map(|byte| SpoolId::from_random([byte; 16]))
    }

    #[tokio::test]
    async fn a_journal_of_format_one_is_converted_when_it_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let words: &[u64] = &[40, 61, 80, 91, 91];
        write_format_one(directory.path(), &spools().map(|spool| (spool, words)), &[]);
        assert_converted(directory.path(), &spools()).await;
        let (journal, _committer) = Journal::open(directory.path(), &JournalConfig::default()).unwrap();
        assert_eq!(journal.stored_up_to(spools()[0]).unwrap(), Sequence::new(80), "and stays so");
    }

    #[tokio::test]
    async fn a_conversion_that_was_cut_off_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let words: &[u64] = &[40, 61, 80, 91, 91];
        let [converted, ..] = spools();
        write_format_one(directory.path(), &[(converted, words)], &[]);
        drop(Journal::open(directory.path(), &JournalConfig::default()).unwrap());
        // The second and the third are as they were, and the note says that the conversion was not finished.
        write_format_one(
            directory.path(),
            &spools()[1..].iter().map(|spool| (*spool, words)).collect::<Vec<_>>(),
            &[b"converting"],
        );
        assert_converted(directory.path(), &spools()).await;
    }

    #[test]
    fn damaged_ranges_of_format_one_are_said_and_stay() {
        let directory = tempfile::tempdir().unwrap();
        write_format_one(directory.path(), &[(spools()[0], &[5, 6, 9])], &[]);
        for _ in 0..2 {
            let refused = Journal::open(directory.path(), &JournalConfig::default()).unwrap_err();
            assert!(matches!(refused, JournalError::State("stored ranges of a spool")), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_ranges(&bytes);
        }
    }
}
