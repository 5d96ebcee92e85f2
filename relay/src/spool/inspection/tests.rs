//! Spools that are looked at while they are open, whole and damaged.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::SystemTime;

use picket_common::config::Span;
use picket_common::ids::{BlobId, EventId, ProjectId, Sequence};
use picket_common::record::{BlobChunk, BlobReference};
use tempfile::TempDir;

use super::super::frame::PIECE_HEADER;
use super::super::lanes::Lane;
use super::super::tests::{noise, open, record, small};
use super::super::{Committer, SetAsideReason, Spool, SpoolConfig, SpoolStatus};
use super::*;

const SECRET: &str = "the text of an event";

fn envelope(number: u64) -> String {
    let event = format!("{{\"message\":\"{SECRET} {number}\"}}");
    format!("{{}}\n{{\"type\":\"event\",\"length\":{}}}\n{event}\n", event.len())
}

fn spool_directory(directory: &TempDir) -> PathBuf {
    directory.path().join("spool")
}

fn look(directory: &TempDir) -> Inspection {
    Inspection::open(&spool_directory(directory)).unwrap()
}

/// Four batches of one record each, of which the second is set aside and the third acknowledged.
async fn four(directory: &TempDir) -> (Spool, Committer) {
    let (spool, committer) = open(directory, &small());
    for number in 1..=4_u64 {
        spool.append(record(envelope(number), number * 1000)).await.unwrap();
    }
    spool.set_aside(Sequence::new(2), SetAsideReason::RefusedCorrupt, "on purpose").unwrap();
    spool.acknowledge(Sequence::new(3), Sequence::new(3)).unwrap();
    (spool, committer)
}

fn batches(inspection: &Inspection) -> Vec<BatchFacts> {
    let mut batches = Vec::new();
    let told: Result<(), SpoolError> = inspection.batches(|batch| {
        batches.push(batch);
        Ok(())
    });
    told.unwrap();
    batches
}

fn findings(directory: &TempDir) -> (Vec<(Damage, Option<u64>)>, Verdict) {
    let mut findings = Vec::new();
    let verdict: Result<Verdict, SpoolError> = look(directory).verify(|finding| {
        findings.push((finding.damage, finding.first.map(Sequence::get)));
        Ok(())
    });
    let verdict = verdict.unwrap();
    assert_eq!(verdict.findings, findings.len() as u64);
    (findings, verdict)
}

/// Names, lengths and times of the files.
fn files(directory: &TempDir) -> BTreeMap<String, (u64, SystemTime)> {
    let files = std::fs::read_dir(spool_directory(directory)).unwrap().map(|file| {
        let (file, name) = file.map(|file| (file.metadata().unwrap(), file.file_name())).unwrap();
        (name.to_string_lossy().into_owned(), (file.len(), file.modified().unwrap()))
    });
    files.collect()
}

#[tokio::test]
async fn batches_are_told_with_their_states_and_nothing_is_changed_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = four(&directory).await;
    let before = files(&directory);
    let told = batches(&look(&directory));
    let states: Vec<_> = told.iter().map(|batch| (batch.first.get(), batch.state, batch.records)).collect();
    let expected = [
        (1, BatchState::Waiting, 1),
        (2, BatchState::Tombstone, 0),
        (4, BatchState::Waiting, 1),
        (2, BatchState::Quarantined, 1),
    ];
    assert_eq!(states, expected);
    let aside = &told[3];
    assert_eq!((aside.reason.as_deref(), aside.detail.as_deref()), (Some("refused_corrupt"), Some("on purpose")));
    assert!(told[0].bytes > 0 && told[0].raw_bytes > told[0].bytes / 2);
    findings(&directory);
    assert_eq!(files(&directory), before);
    drop(spool);
    committer.close().await;
}

#[tokio::test]
async fn a_stopped_spool_is_told_as_the_running_one_tells_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, committer) = four(&directory).await;
    let running = SpoolStatus { free_disk_bytes: None, ..spool.status() };
    assert_eq!((running.batches, running.records, running.quarantined_batches), (3, 2, 1));
    assert!(running.quarantined_bytes > 0);
    let looked_at = look(&directory).status(&small()).unwrap();
    assert!(looked_at.free_disk_bytes.is_some());
    assert_eq!(SpoolStatus { free_disk_bytes: None, ..looked_at }, running);
    drop(spool);
    committer.close().await;
    assert_eq!(SpoolStatus { free_disk_bytes: None, ..look(&directory).status(&small()).unwrap() }, running);
}

#[tokio::test]
async fn a_batch_that_grows_is_told_with_what_is_answered_for() {
    let directory = tempfile::tempdir().unwrap();
    let config = SpoolConfig { linger: Span::secs(10), ..small() };
    let (spool, _committer) = open(&directory, &config);
    spool.append(record(envelope(1), 1000)).await.unwrap();
    spool.append(record(envelope(2), 2000)).await.unwrap();
    let told = batches(&look(&directory));
    assert_eq!((told.len(), told[0].state, told[0].records), (1, BatchState::Growing, 2));
    assert_eq!(look(&directory).status(&config).unwrap().records, 2);
    let (_, records) = look(&directory).batch_with(Sequence::new(2)).unwrap().unwrap();
    assert_eq!(records[1].sequence, Sequence::new(2));
    assert_eq!(findings(&directory).0, []);
    spool.shared.store().unwrap().damage_piece(
        0,
        1,
        &[&[0; PIECE_HEADER], b"not what was written".as_slice()].concat(),
    );
    assert_eq!(findings(&directory).0, [(Damage::Batch, None)]);
}

#[tokio::test]
async fn records_are_told_by_keys_and_sizes_and_never_by_what_they_say() {
    let directory = tempfile::tempdir().unwrap();
    let (_spool, _committer) = four(&directory).await;
    let inspection = look(&directory);
    let (batch, records) = inspection.batch_with(Sequence::new(4)).unwrap().unwrap();
    assert_eq!((batch.first, records.len()), (Sequence::new(4), 1));
    let of_event = records[0].event_id.unwrap();
    assert_eq!(records[0].items.len(), 1);
    assert_eq!(records[0].items[0].item_type, "event");
    assert_eq!(records[0].project, ProjectId::new(1));
    // What was set aside is found under its sequences, before the tombstone that says less.
    let (aside, of_aside) = inspection.batch_with(Sequence::new(2)).unwrap().unwrap();
    assert_eq!((aside.state, of_aside.len()), (BatchState::Quarantined, 1));
    assert_eq!(inspection.batch_with(Sequence::new(3)).unwrap(), None, "it was acknowledged");

    let mut found = Vec::new();
    let told: Result<(), SpoolError> = inspection.records_of_event(of_event, |record| {
        found.push((record.batch.first.get(), record.batch.state));
        Ok(())
    });
    told.unwrap();
    let expected = [(1, BatchState::Waiting), (4, BatchState::Waiting), (2, BatchState::Quarantined)];
    assert_eq!(found, expected, "all records of this module have the same event");
    let json = serde_json::to_string(&(records, of_aside, batches(&inspection))).unwrap();
    assert!(!json.contains(SECRET), "{json}");
}

#[tokio::test]
async fn a_spool_that_is_whole_is_clean_and_gaps_are_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (_spool, _committer) = four(&directory).await;
    let (found, verdict) = findings(&directory);
    assert_eq!(found, []);
    assert_eq!((verdict.batches, verdict.records, verdict.gaps, verdict.quarantined_batches), (3, 2, 1, 1));
}

#[tokio::test]
async fn each_kind_of_damage_is_found_and_said_where_it_is() {
    type Harm = fn(&Spool);
    type Found = &'static [(Damage, Option<u64>)];
    let table: [(Harm, Found); 5] = [
        // Frames count from 0, batches from 1.
        (
            |spool| {
                spool.shared.store().unwrap().damage_piece(3, 0, &[&[0; PIECE_HEADER], b"other".as_slice()].concat())
            },
            &[(Damage::Batch, Some(4))],
        ),
        (|spool| spool.shared.store().unwrap().remove_piece(0, 0), &[(Damage::Batch, Some(1))]),
        (
            |spool| spool.shared.store().unwrap().damage_header(4, b"{not json"),
            &[(Damage::Batch, Some(4)), (Damage::Orphans, None)],
        ),
        (
            |spool| spool.shared.store().unwrap().delete_from_lane(Lane::SHARED, Sequence::new(1)).unwrap(),
            &[(Damage::Lane, Some(1))],
        ),
        (
            |spool| spool.shared.store().unwrap().put_state(&[(STATE_NEXT, &Sequence::new(4).to_key())]).unwrap(),
            &[(Damage::Sequences, Some(4))],
        ),
    ];
    for (number, (harm, expected)) in table.iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, _committer) = four(&directory).await;
        harm(&spool);
        assert_eq!(&findings(&directory).0, expected, "{number}");
    }
}

#[tokio::test]
async fn a_lost_piece_of_a_large_payload_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let (spool, _committer) = open(&directory, &small());
    let blob_id = BlobId::from_random([3; 16]);
    for offset in [0, 200_u64] {
        let mut chunk = record(noise(100, offset + 1), 1);
        chunk.header.chunk = Some(BlobChunk { blob_id, offset });
        spool.append(chunk).await.unwrap();
    }
    let mut naming = record(envelope(1), 1);
    naming.header.blobs = vec![BlobReference { item: 0, blob_id, bytes: 300 }];
    spool.append(naming).await.unwrap();
    assert_eq!(findings(&directory).0, [(Damage::Blob, Some(3))]);
}

#[test]
fn where_there_is_no_spool_the_answer_says_so_and_none_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let error = Inspection::open(&spool_directory(&directory)).unwrap_err();
    assert!(matches!(error, SpoolError::Absent { .. }), "{error}");
    assert!(!error.is_damage());
    assert!(!spool_directory(&directory).exists());
    assert_eq!(holder(&spool_directory(&directory)).unwrap(), None);
}

#[tokio::test]
async fn an_event_that_is_not_there_is_not_found() {
    let directory = tempfile::tempdir().unwrap();
    let (_spool, _committer) = four(&directory).await;
    let told: Result<(), SpoolError> =
        look(&directory).records_of_event(EventId::from_random([1; 16]), |_| panic!("there is none"));
    told.unwrap();
}
