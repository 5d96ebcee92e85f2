//! Bits that flip in the files of a spool that nobody has open.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use picket_common::ids::Sequence;

use super::growing_tests::copy_of;
use super::tests::{ALL, noise, open, record, small};
use super::*;

/// Flips in one run; with `PICKET_SOAK` the second.
const FLIPS: [u64; 2] = [50, 1000];
const BATCHES: u64 = 120;

/// xorshift64*, so that a run can be repeated.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// The files that hold anything.
fn files(directory: &tempfile::TempDir) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory.path().join("spool")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.metadata().unwrap().len() > 0 && !is_text(path)).collect();
    files.sort();
    files
}

/// What RocksDB writes for people.
fn is_text(path: &std::path::Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("LOG"))
}

/// Tables, blobs and a log with batches each.
async fn spooled() -> (tempfile::TempDir, BTreeMap<u64, SealedBatch>) {
    let directory = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    for part in 0..3 {
        let (spool, committer) = open(&directory, &small());
        for number in 0..BATCHES / 3 {
            let length = if number % 2 == 0 { 200 } else { 4000 };
            spool.append(record(noise(length, part * 1000 + number + 1), number)).await.unwrap();
        }
        let batches = spool.read_from(Sequence::FIRST, ALL).unwrap();
        all.extend(batches.into_iter().map(|batch| (batch.header.first.get(), batch)));
        drop(spool);
        committer.close().await;
    }
    assert_eq!(all.len() as u64, BATCHES);
    (directory, all)
}

/// What became of a flip.
#[derive(Debug, Default)]
struct Tally {
    harmless: u64,
    set_aside: u64,
    refused: u64,
    cut_off: u64,
}

#[tokio::test]
async fn a_flipped_bit_never_makes_wrong_bytes_and_is_counted_or_said() {
    let (directory, all) = spooled().await;
    let flips = FLIPS[usize::from(std::env::var_os("PICKET_SOAK").is_some())];
    let mut state = 0x5eed;
    let mut tally = Tally::default();
    for flip in 0..flips {
        let copy = copy_of(&directory);
        let files = files(&copy);
        // Small files have as many flips as large ones.
        let path = &files[usize::try_from(next(&mut state) % files.len() as u64).unwrap()];
        let mut bytes = std::fs::read(path).unwrap();
        let bit = next(&mut state) % (bytes.len() as u64 * 8);
        bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        std::fs::write(path, bytes).unwrap();
        let place = format!("flip {flip}: bit {bit} of {}", path.file_name().unwrap().to_string_lossy());

        let opened = Spool::open(&copy.path().join("spool"), &small(), [2; 16]);
        let (spool, committer) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("spool") && text.contains("move the directory away"), "{place}: {text}");
                tally.refused += 1;
                continue;
            }
        };
        let mut cursor = ReadCursor::default();
        let read = spool.read_next(&mut cursor, ALL).unwrap_or_else(|error| panic!("{place}: {error}"));
        for batch in read.iter().filter(|batch| !batch.header.is_tombstone) {
            let written = &all[&batch.header.first.get()];
            assert_eq!(batch.payload, written.payload, "{place}");
            assert_eq!(batch.header.last, written.header.last, "{place}");
        }
        let whole = read.iter().filter(|batch| !batch.header.is_tombstone).count() as u64;
        let lost: u64 = spool.counted().iter().map(|count| count.quantity).sum();
        if whole == BATCHES {
            tally.harmless += 1;
        } else if whole + lost == BATCHES {
            tally.set_aside += 1;
        } else {
            assert!(path.extension().is_some_and(|extension| extension == "log"), "{place}: {whole} + {lost}");
            tally.cut_off += 1;
        }
        assert!(spool.append(record("goes on", 1)).await.is_ok(), "{place}");
        committer.close().await;
    }
    eprintln!("{flips} flips: {tally:?}");
    assert!(tally.set_aside > 0);
}
