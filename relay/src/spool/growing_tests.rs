//! Batches that grow over several commits: what the next opening makes of them, and how long they grow.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use picket_common::config::{ByteSize, Span};
use picket_common::ids::Sequence;
use picket_common::timestamp::Timestamp;
use tempfile::TempDir;
use tokio::time::timeout;

use super::frame::FRAME_END;
use super::tests::{ALL, noise, open, record, records, small};
use picket_common::ids::SpoolId;

use super::*;

/// A batch is sealed when it has three records, or when the test says so.
fn three_records() -> SpoolConfig {
    SpoolConfig { batch_records: 3, linger: Span::secs(10), ..small() }
}

fn lingering(milliseconds: u64) -> SpoolConfig {
    SpoolConfig { linger: Span::millis(milliseconds), ..small() }
}

pub(super) fn copy_of(directory: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("spool")).unwrap();
    for file in std::fs::read_dir(directory.path().join("spool")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join("spool").join(file.file_name())).unwrap();
    }
    copy
}

fn read(spool: &Spool) -> Vec<SealedBatch> {
    spool.read_from(Sequence::FIRST, ALL).unwrap()
}

fn bodies(batches: &[SealedBatch]) -> Vec<Bytes> {
    batches.iter().flat_map(records).map(|record| record.body).collect()
}

#[tokio::test]
async fn several_commits_gather_in_one_batch_that_is_read_when_it_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &three_records());
    for number in 1..=2_u64 {
        spool.append(record(format!("body {number}"), number)).await.unwrap();
        assert_eq!(read(&spool), []);
        let usage = spool.usage();
        assert_eq!((usage.batches, usage.records), (1, number));
        assert_eq!(usage.oldest_received_at, Some(Timestamp::from_millis(1)));
    }
    assert_eq!(*spool.subscribe().borrow(), Sequence::new(0));
    spool.append(record("body 3", 3)).await.unwrap();
    assert_eq!(*spool.subscribe().borrow(), Sequence::new(3));
    let [batch] = read(&spool).try_into().unwrap();
    assert_eq!((batch.header.first.get(), batch.header.last.get()), (1, 3));
    assert_eq!(spool.usage().bytes, batch.header.payload_bytes);
    assert_eq!(bodies(&[batch]), ["body 1", "body 2", "body 3"]);
    spool.acknowledge(Sequence::new(1), Sequence::new(3)).unwrap();
    let usage = spool.usage();
    assert_eq!((usage.batches, usage.records, usage.bytes, usage.oldest_received_at), (0, 0, 0, None));
}

#[tokio::test]
async fn a_lone_record_can_be_read_after_the_linger_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &lingering(300));
    let begun = Instant::now();
    spool.append(record("lone", 1)).await.unwrap();
    assert_eq!(read(&spool), [], "its batch still grows");
    let mut sealed = spool.subscribe();
    timeout(Duration::from_secs(20), sealed.wait_for(|last| last.get() == 1)).await.unwrap().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(bodies(&read(&spool)), ["lone"]);
}

/// Under a steady stream the thread never waits for the linger's end, and must see to it all the same.
#[tokio::test]
async fn a_stream_of_records_does_not_put_the_end_of_a_batch_off() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &lingering(50));
    let stop = tokio_util::sync::CancellationToken::new();
    let stream = tokio::spawn({
        let (spool, stop) = (spool.clone(), stop.clone());
        async move {
            while !stop.is_cancelled() {
                spool.append(record("again", 1)).await.unwrap();
            }
        }
    });
    let mut sealed = spool.subscribe();
    timeout(Duration::from_secs(20), sealed.wait_for(|last| last.get() > 0)).await.unwrap().unwrap();
    stop.cancel();
    stream.await.unwrap();
}

#[tokio::test]
async fn a_record_that_does_not_fit_begins_the_next_batch() {
    let directory = tempfile::tempdir().unwrap();
    let config = SpoolConfig { batch_bytes: ByteSize::kib(16), ..three_records() };
    let (spool, committer) = open(&directory, &config);
    for (number, length) in [(1, 10_000), (2, 10_000), (3, 100_000), (4, 10)] {
        spool.append(record(noise(length, number), number)).await.unwrap();
    }
    drop(spool);
    committer.close().await;
    let (spool, _committer) = open(&directory, &config);
    let bounds: Vec<_> = read(&spool).iter().map(|batch| (batch.header.first.get(), batch.header.last.get())).collect();
    assert_eq!(bounds, [(1, 1), (2, 2), (3, 3), (4, 4)]);
}

#[tokio::test]
async fn a_closed_spool_seals_what_grows() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &three_records());
    spool.append(record("one", 1)).await.unwrap();
    committer.close().await;
    assert_eq!(bodies(&read(&spool)), ["one"]);
}

#[tokio::test]
async fn a_missing_or_damaged_piece_sets_the_batch_aside() {
    let damages: [fn(&Spool); 3] = [
        |spool| spool.shared.store().unwrap().damage_piece(0, 1, b"short"),
        |spool| spool.shared.store().unwrap().remove_piece(0, 1),
        |spool| spool.shared.store().unwrap().remove_piece(0, 2),
    ];
    for damage in damages {
        let directory = tempfile::tempdir().unwrap();
        let (spool, _committer) = open(&directory, &three_records());
        for number in 1..=4_u64 {
            spool.append(record(format!("body {number}"), number)).await.unwrap();
        }
        damage(&spool);
        let [tombstone] = read(&spool).try_into().unwrap();
        assert!(tombstone.header.is_tombstone && tombstone.payload.is_empty());
        assert_eq!((tombstone.header.first.get(), tombstone.header.last.get()), (1, 3));
        assert_eq!((spool.usage().quarantined_batches, spool.usage().records), (1, 1));
    }
}

/// The log as it was at a moment: its length, and what was answered and sealed by then.
struct Moment {
    log_bytes: u64,
    answered: BTreeSet<Bytes>,
    /// Sealed, so maybe sent, when no further synced write had come.
    sealed: BTreeMap<Sequence, SealedBatch>,
}

fn log_of(directory: &Path) -> PathBuf {
    let mut logs: Vec<_> =
        std::fs::read_dir(directory.join("spool")).unwrap().map(|file| file.unwrap().path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    let [log] = logs.try_into().unwrap();
    log
}

/// Whatever a crash leaves of the log: what was answered is there, and what may have been sent is there in the same bytes, under
/// the same sequences, although its header was never synced.
#[tokio::test]
async fn cutting_the_log_anywhere_keeps_what_was_answered_and_never_cuts_a_batch_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = open(&directory, &SpoolConfig { batch_records: 3, ..lingering(30) });
    let mut moments: Vec<Moment> = Vec::new();
    let mut answered = BTreeSet::new();
    for number in 1..=24_u64 {
        let body = Bytes::from(format!("body {number}"));
        spool.append(record(body.clone(), number)).await.unwrap();
        answered.insert(body);
        let log_bytes = std::fs::metadata(log_of(directory.path())).unwrap().len();
        // In some rounds the linger ends before the next record, so that headers are written alone.
        if number % 4 < 2 {
            let mut growing = spool.subscribe();
            let all_sealed = growing.wait_for(|last| last.get() == number);
            timeout(Duration::from_secs(20), all_sealed).await.unwrap().unwrap();
        }
        let sealed = read(&spool).into_iter().map(|batch| (batch.header.first, batch)).collect();
        moments.push(Moment { log_bytes, answered: answered.clone(), sealed });
    }
    drop(spool);
    committer.close().await;
    let log = log_of(directory.path());
    let name = log.file_name().unwrap();
    let whole = std::fs::read(&log).unwrap();
    let mut cuts: Vec<usize> = (0..whole.len()).step_by(whole.len() / 40).collect();
    cuts.extend(moments.iter().map(|moment| usize::try_from(moment.log_bytes).unwrap()));
    for cut in cuts {
        let copy = copy_of(&directory);
        std::fs::write(copy.path().join("spool").join(name), &whole[..cut]).unwrap();
        let (spool, _committer) = open(&copy, &small());
        let found: BTreeMap<_, _> = read(&spool).into_iter().map(|batch| (batch.header.first, batch)).collect();
        let bodies: BTreeSet<_> = found.values().flat_map(records).map(|record| record.body).collect();
        for moment in moments.iter().filter(|moment| moment.log_bytes <= cut as u64) {
            assert!(bodies.is_superset(&moment.answered), "cut at {cut}");
            for (first, sealed) in &moment.sealed {
                assert_eq!(found.get(first).map(|batch| &batch.payload), Some(&sealed.payload), "cut at {cut}");
                assert_eq!(found[first].header.last, sealed.header.last, "cut at {cut}");
            }
        }
        let end = found.values().next_back().map_or(0, |batch| batch.header.last.get());
        assert_eq!(bodies.len() as u64, end, "a gap or a double at {cut}");
        assert_eq!((spool.usage().records, spool.usage().quarantined_batches), (end, 0));
    }
}

/// The layout of format 1, written without any of today's code: a batch is one value under its first sequence.
#[tokio::test]
async fn a_directory_of_format_1_is_taken_over_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let payload = |number: u64| {
        let mut raw = Vec::new();
        record(format!("old {number}"), number).encode_into(&mut raw).unwrap();
        (raw.len(), zstd::bulk::compress(&raw, 1).unwrap())
    };
    {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let families = ["headers", "batches", "state", "quarantine", "outcomes"];
        let path = directory.path().join("spool");
        let database = rocksdb::DB::open_cf(&options, &path, families).unwrap();
        let family = |name: &str| database.cf_handle(name).unwrap();
        for number in 1..=2_u64 {
            let (raw_bytes, payload) = payload(number);
            let header = serde_json::json!({
                "spool_id": "01010101-0101-4101-8101-010101010101", "first": number, "last": number,
                "raw_bytes": raw_bytes, "payload_bytes": payload.len(), "crc32c": crc32c::crc32c(&payload),
                "oldest_received_at": Timestamp::from_millis(number),
            });
            database.put_cf(family("headers"), number.to_be_bytes(), header.to_string()).unwrap();
            database.put_cf(family("batches"), number.to_be_bytes(), payload).unwrap();
        }
        let spool_id = SpoolId::from_random([1; 16]).to_string();
        let state = [
            ("format_version", "1".into()),
            ("spool_id", spool_id.into()),
            ("next_sequence", 3_u64.to_be_bytes().to_vec()),
        ];
        for (key, value) in state {
            database.put_cf(family("state"), key, value).unwrap();
        }
    }
    let (spool, committer) = open(&directory, &small());
    assert_eq!(spool.usage().records, 2);
    spool.append(record("new", 3)).await.unwrap();
    let batches = read(&spool);
    assert_eq!(bodies(&batches), ["old 1", "old 2", "new"]);
    assert_eq!(batches[0].payload, payload(1).1);
    assert!(batches[2].payload.ends_with(&FRAME_END));
    spool.acknowledge(Sequence::new(1), Sequence::new(1)).unwrap();
    spool.set_aside(Sequence::new(2), SetAsideReason::RefusedCorrupt, "test").unwrap();
    drop(spool);
    committer.close().await;
    let (spool, _committer) = open(&directory, &small());
    assert_eq!(bodies(&read(&spool)), ["new"]);
    assert_eq!(spool.shared.store().unwrap().state(super::store::STATE_FORMAT).unwrap().unwrap(), b"2");
}
