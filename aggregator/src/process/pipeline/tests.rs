#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use picket_common::envelope::{Envelope, Item, ItemType};
use picket_common::ids::{EventId, ProjectId, PublicKey, Sequence, SpoolId};
use picket_common::project_config::{ConfigSnapshot, ProjectConfig, ProjectSettings};
use picket_common::record::{Record, RecordHeader, RecordKind};
use picket_common::wire::BatchHeader;
use uuid::Uuid;

use super::*;
use crate::journal::{DeadLetterReason, Form, JournalPosition};

fn record(project: u64, event: u8, items: &[(ItemType, &'static str)]) -> Record {
    let id = EventId::from_random([event; 16]);
    let mut envelope = Envelope::empty();
    envelope.set_event_id(id);
    for (item_type, payload) in items {
        envelope.push(Item::new(item_type.clone(), Bytes::from_static(payload.as_bytes())));
    }
    let mut body = Vec::new();
    envelope.write_to(&mut body).unwrap();
    let header = RecordHeader {
        kind: RecordKind::Envelope,
        project_id: ProjectId::new(project),
        public_key: PublicKey::from_random([1; 16]),
        received_at: Timestamp::from_millis(1_763_820_306_789),
        event_id: Some(id),
        chunk: None,
        blobs: Vec::new(),
    };
    Record { header, body: Bytes::from(body) }
}

fn entry(position: u64, records: &[Record]) -> JournalEntry {
    let mut raw = Vec::new();
    records.iter().for_each(|record| record.encode_into(&mut raw).unwrap());
    let payload = zstd::bulk::compress(&raw, 1).unwrap();
    let header = BatchHeader {
        spool_id: SpoolId::from_random([9; 16]),
        first: Sequence::new(position * 100),
        last: Sequence::new(position * 100 + records.len() as u64 - 1),
        raw_bytes: raw.len() as u64,
        payload_bytes: payload.len() as u64,
        crc32c: 0,
        is_tombstone: false,
    };
    JournalEntry { position: JournalPosition::new(position), header, payload: Bytes::from(payload), is_replay: false }
}

fn plan() -> InsertPlan {
    let project = ProjectConfig {
        id: ProjectId::new(1),
        slug: "shop".to_owned(),
        keys: Vec::new(),
        settings: ProjectSettings { retention_days: 30, ..ProjectSettings::default() },
    };
    let projects = ConfigSnapshot { revision: 1, projects: vec![project] };
    InsertPlan::new(Uuid::nil(), JournalPosition::START, JournalPosition::new(9), &projects, Timestamp::EPOCH)
}

fn outcomes(block: &Block) -> Vec<(&str, &str, u64)> {
    block.outcomes.iter().map(|row| (row.outcome.as_str(), row.reason.as_str(), row.quantity)).collect()
}

fn run(entries: &[JournalEntry], known: &[bool], threads: usize) -> Block {
    let mut prepared = prepare(entries, &Parts::default(), threads);
    drop_unknown_projects(&mut prepared, &plan());
    drop_duplicates(&mut prepared, known);
    let issues: Vec<_> = (0..prepared.grouped.len()).map(|_| IssueId::new(7)).collect();
    block(prepared, &issues, &plan())
}

#[test]
fn every_item_ends_in_one_outcome() {
    let event = (ItemType::Event, "{\"message\":\"x\"}");
    let entries = [
        entry(
            1,
            &[record(1, 1, &[event.clone(), (ItemType::Session, "{}")]), record(1, 2, &[(ItemType::Event, "[]")])],
        ),
        entry(2, &[record(2, 3, std::slice::from_ref(&event)), record(1, 1, &[event])]),
    ];
    let block = run(&entries, &[], 2);
    assert_eq!(block.events.len(), 1);
    assert_eq!(block.payloads, [Bytes::from_static(b"{\"message\":\"x\"}")]);
    assert_eq!(block.events[0].retention_days, 30);
    assert_eq!(
        outcomes(&block),
        [
            ("accepted", "", 1),
            ("invalid", "duplicate", 1),
            ("invalid", "invalid_json", 1),
            ("unsupported", "no_store", 1),
            ("dropped", "project_id", 1),
        ]
    );
}

#[test]
fn the_block_is_the_same_for_any_number_of_threads() {
    let records: Vec<_> =
        (1..60).map(|id| record(1, id, &[(ItemType::Event, "{\"tags\":{\"b\":1,\"a\":2}}")])).collect();
    let entries = [entry(1, &records[..20]), entry(2, &records[20..])];
    let one = run(&entries, &[], 1);
    for threads in [2, 3, 8] {
        let other = run(&entries, &[], threads);
        assert_eq!((&one.events, &one.payloads, &one.outcomes), (&other.events, &other.payloads, &other.outcomes));
    }
    assert_eq!((one.events[19].sequence, one.events[20].sequence), (119, 200));
}

#[test]
fn an_event_that_was_stored_before_is_not_stored_again() {
    let records: Vec<_> = (1..4).map(|id| record(1, id, &[(ItemType::Event, "{}")])).collect();
    let block = run(&[entry(1, &records)], &[false, true, false], 1);
    assert_eq!(block.events.len(), 2);
    assert_eq!(outcomes(&block), [("accepted", "", 2), ("invalid", "duplicate", 1)]);
}

#[test]
fn an_entry_that_cannot_be_decompressed_is_counted_and_costs_only_itself() {
    let mut broken = entry(1, &[record(1, 1, &[(ItemType::Event, "{}")]), record(1, 2, &[(ItemType::Event, "{}")])]);
    broken.payload = Bytes::from_static(b"not zstd");
    let good = entry(2, &[record(1, 3, &[(ItemType::Event, "{}")])]);
    let prepared = prepare(&[broken, good], &Parts::default(), 1);
    assert_eq!((prepared.grouped.len(), prepared.unreadable_records), (1, 2));
    let letters: Vec<_> =
        prepared.dead_letters.iter().map(|letter| (letter.reason, letter.form, &letter.bytes[..])).collect();
    assert_eq!(letters, [(DeadLetterReason::Unreadable, Form::Payload, &b"not zstd"[..])]);
}

#[test]
fn what_follows_an_unreadable_record_is_kept_with_the_sequences_it_would_have_had() {
    let event = (ItemType::Event, "{}");
    let mut raw = Vec::new();
    record(1, 1, std::slice::from_ref(&event)).encode_into(&mut raw).unwrap();
    let read = raw.len();
    raw.extend_from_slice(b"\xff\xff\xff\xffno record");
    let mut broken = entry(3, &[record(1, 1, std::slice::from_ref(&event)), record(1, 2, &[event])]);
    broken.payload = Bytes::from(zstd::bulk::compress(&raw, 1).unwrap());
    broken.header.raw_bytes = raw.len() as u64;
    let prepared = prepare(&[broken], &Parts::default(), 1);
    assert_eq!((prepared.grouped.len(), prepared.unreadable_records), (1, 1));
    let letter = &prepared.dead_letters[0];
    assert_eq!(&letter.bytes[..], &raw[read..]);
    assert_eq!(letter.origin, Some((SpoolId::from_random([9; 16]), Sequence::new(301), Sequence::new(301))));
}

#[test]
fn a_record_whose_decoding_panics_is_set_aside_and_the_others_go_on() {
    let records: Vec<_> = (1..=8).map(|id| record(1, id, &[(ItemType::Event, "{}")])).collect();
    let panics = |located: &Located| {
        assert!(located.place != 5, "on purpose");
        take_apart(located)
    };
    for threads in [1, 3] {
        let prepared = prepare_by(&panics, &[entry(1, &records)], &Parts::default(), threads);
        assert_eq!(prepared.grouped.len(), 7);
        let letter = &prepared.dead_letters[0];
        assert_eq!((letter.reason, letter.event_id), (DeadLetterReason::Panicked, records[5].header.event_id));
        assert_eq!(prepared.ended[0].reason, "dead_letter");
        let mut expected = Vec::new();
        records[5].encode_into(&mut expected).unwrap();
        assert_eq!(&letter.bytes[..], &expected[..]);
    }
}

#[test]
fn a_record_that_is_refused_ends_with_all_its_items_and_leaves_no_row() {
    let with_session = record(1, 2, &[(ItemType::Event, "{}"), (ItemType::Session, "{}")]);
    let entries = [
        entry(1, &[record(1, 1, &[(ItemType::Event, "{}")]), with_session]),
        entry(2, &[record(1, 3, &[(ItemType::Event, "{}")])]),
    ];
    let mut parts = Parts::begin(3);
    while let Some(part) = parts.first_open().cloned() {
        if (part.first..part.end).contains(&1) {
            let _ = parts.refused("it is odd");
        } else {
            parts.stored()
        }
    }
    let prepared = prepare(&entries, &parts, 2);
    assert_eq!(prepared.dead_letters[0].detail, "it is odd");
    let issues = vec![IssueId::new(7); prepared.grouped.len()];
    let block = block(prepared, &issues, &plan());
    assert_eq!(block.records, [0, 2]);
    assert_eq!(outcomes(&block), [("accepted", "", 2), ("dropped", "dead_letter", 1), ("dropped", "dead_letter", 1)]);
}

#[test]
fn what_is_lost_is_counted_as_dropped() {
    let mut broken = entry(1, &[record(1, 1, &[(ItemType::Event, "{}")]), record(1, 2, &[(ItemType::Event, "{}")])]);
    broken.payload = Bytes::from_static(b"not zstd");
    let mut prepared = prepare(&[broken], &Parts::default(), 1);
    count_lost(&mut prepared, 3, &plan());
    let block = block(prepared, &[], &plan());
    assert_eq!(outcomes(&block), [("dropped", "journal_entry_damaged", 3), ("dropped", "unreadable_record", 2)]);
    assert!(block.outcomes.iter().all(|row| row.project_id == 0 && row.category == "default"));
}
