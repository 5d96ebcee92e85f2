#![allow(clippy::unwrap_used)]
use std::io::Read as _;

use picket_common::envelope::{DetachedPayload as _, read_range};
use proptest::prelude::*;

use super::file::BLOCK_BYTES;
use super::*;
use crate::run::random;

fn staging(max_bytes: usize) -> (tempfile::TempDir, Staging) {
    let directory = tempfile::tempdir().unwrap();
    let staging = Staging::open(&directory.path().join("staging"), max_bytes, random).unwrap();
    (directory, staging)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn staged(staging: &Staging, bytes: &[u8]) -> Staged {
    let mut writer = staging.writer().unwrap();
    for piece in bytes.chunks(10_007) {
        writer.write(piece).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn what_was_written_is_read_at_any_place_and_across_blocks() {
    let (_directory, staging) = staging(1 << 20);
    for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7] {
        let bytes = pattern(length);
        let body = staged(&staging, &bytes);
        assert_eq!(body.len(), length as u64);
        let end = length as u64;
        for (start, stop) in [(0, end), (1, end + 5), (end / 2, end), (end.saturating_sub(3), end), (end, end + 9)] {
            let expected = &bytes[usize::try_from(start.min(end)).unwrap()..usize::try_from(stop.min(end)).unwrap()];
            assert_eq!(&read_range(&body, start..stop).unwrap()[..], expected, "{start}..{stop} of {length}");
        }
    }
}

#[test]
fn a_part_ends_where_it_says_and_keeps_the_file() {
    let (_directory, staging) = staging(1 << 20);
    let bytes = pattern(2 * BLOCK_BYTES);
    let body = staged(&staging, &bytes);
    let inner = body.part(100..70_000).part(50..10_000_000);
    drop(body);
    assert_eq!(inner.len(), 69_850);
    assert_eq!(&read_range(&inner, 0..u64::MAX).unwrap()[..], &bytes[150..70_000]);
    assert!(staging.used() > 2 * BLOCK_BYTES);
    drop(inner);
    assert_eq!(staging.used(), 0);
}

#[test]
fn the_file_has_no_name_and_nothing_of_the_body_is_readable_in_it() {
    let (directory, staging) = staging(1 << 20);
    let secret = b"a secret that must not lie on the disk ".repeat(5_000);
    let mut writer = staging.writer().unwrap();
    writer.write(&secret).unwrap();
    assert_eq!(fs::read_dir(directory.path().join("staging")).unwrap().count(), 0);
    // The descriptor is the only way to the file: read it past the cipher.
    let path = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| fs::read_link(path).is_ok_and(|target| target.starts_with(directory.path().join("staging"))))
        .unwrap();
    let mut sealed = Vec::new();
    File::open(path).unwrap().read_to_end(&mut sealed).unwrap();
    assert!(sealed.len() > BLOCK_BYTES);
    assert!(memchr::memmem::find(&sealed, b"secret").is_none());
}

#[test]
fn the_room_for_all_files_is_bounded_and_comes_back() {
    let (_directory, staging) = staging(3 * BLOCK_BYTES);
    let first = staged(&staging, &pattern(2 * BLOCK_BYTES));
    let mut second = staging.writer().unwrap();
    assert!(matches!(second.write(&pattern(2 * BLOCK_BYTES)), Err(StagingError::Exhausted)));
    drop(second);
    drop(first);
    let _third = staged(&staging, &pattern(2 * BLOCK_BYTES));
}

#[test]
fn a_leftover_of_a_crash_is_removed_and_other_files_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let leftover = directory.path().join(format!("{NAME_PREFIX}x"));
    let other = directory.path().join("other");
    fs::write(&leftover, "x").unwrap();
    fs::write(&other, "x").unwrap();
    let _staging = Staging::open(directory.path(), 1, random).unwrap();
    assert!(!leftover.exists() && other.exists());
}

#[test]
fn a_sink_stages_what_is_too_much_for_memory_and_refuses_what_is_too_long() {
    let (_directory, staging) = staging(1 << 20);
    let budget = MemoryBudget::new(100_000);
    let sink = || Sink::new(staging.clone(), &budget, 1_000, 200_000);
    for (length, is_staged) in [(0, false), (1_000, false), (1_001, true), (200_000, true)] {
        let bytes = pattern(length);
        let mut sink = sink();
        for piece in bytes.chunks(333) {
            sink.write(piece).unwrap();
        }
        let content = sink.finish().unwrap();
        assert_eq!(matches!(content, Content::Staged(_)), is_staged, "{length}");
        let mut read = Vec::new();
        content.reader().read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(&content.part(10..500).read_range(5..20).unwrap()[..], &pattern(30)[15..length.clamp(15, 30)]);
    }
    let mut sink = sink();
    assert!(matches!(sink.write(&pattern(200_001)), Err(SinkError::TooLong { limit: 200_000 })));
    assert_eq!(budget.used(), 0);
}

proptest! {
    #[test]
    fn any_pieces_are_read_as_one(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60_000), 0..6)) {
        let (_directory, staging) = staging(1 << 20);
        let mut writer = staging.writer().unwrap();
        for piece in &pieces {
            writer.write(piece).unwrap();
        }
        let body = writer.finish().unwrap();
        prop_assert_eq!(&read_range(&body, 0..u64::MAX).unwrap()[..], &pieces.concat()[..]);
    }
}
