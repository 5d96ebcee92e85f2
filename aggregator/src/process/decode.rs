//! From a journal entry to events: decompress, cut into records, parse envelopes and event payloads.
//!
//! Everything that is not an event, or is none on closer look, becomes an outcome here: relays keep sessions, check-ins, feedback,
//! user reports, forms and attachments too, which have no store yet and end as `unsupported`, their payloads unread. So do the
//! counts of what ended on a relay, which come as records of their own. Pieces of blobs are passed over: what
//! they belong to is counted with the envelope that names them (`common/src/record.rs`), and nothing stores them yet.

use bytes::Bytes;
use picket_common::category::DataCategory;
use picket_common::envelope::{Envelope, Item, ItemType, MAX_ITEMS};
use picket_common::ids::{EventId, ProjectId, Sequence, SpoolId};
use picket_common::outcome::{MAX_REASON_CHARS, Outcome, OutcomeCount, Reason};
use picket_common::record::{Record, RecordKind, RecordReader};
use picket_common::tally::Tally;
use picket_common::timestamp::Timestamp;
use picket_common::tree::{Document, PythonFloats};
use picket_common::wire::BatchHeader;
use serde_json::Value;

use crate::journal::{DeadLetterReason, Form, JournalEntry, NewDeadLetter};

/// Whose what is nobody's is.
pub(super) const NOBODY: ProjectId = ProjectId::new(0);

/// An event with where it came from.
#[derive(Debug)]
pub(super) struct DecodedEvent {
    pub(super) project_id: ProjectId,
    pub(super) event_id: EventId,
    /// What it counts as: security reports are events of another category.
    pub(super) category: DataCategory,
    pub(super) received_at: Timestamp,
    pub(super) spool_id: SpoolId,
    pub(super) sequence: Sequence,
    /// The payload as sent, or repaired.
    pub(super) json: Bytes,
    /// The payload parsed; always an object.
    pub(super) event: Value,
}

/// An item that ended here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// 0 where it is nobody's.
    pub(super) project_id: ProjectId,
    /// Decides the hour that it is counted in.
    pub(super) received_at: Timestamp,
    pub(super) category: DataCategory,
    pub(super) outcome: Outcome,
    pub(super) reason: Reason,
    pub(super) quantity: u64,
}

/// What a record holds, in order.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) events: Vec<DecodedEvent>,
    pub(super) ended: Vec<Ended>,
}

/// The records of an entry, and what could not be read.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) records: Vec<(Sequence, Record)>,
    pub(super) unreadable: Option<NewDeadLetter>,
}

/// Takes an entry apart. After a record that can't be read nothing more of it can be.
pub(super) fn open(entry: &JournalEntry) -> Opened {
    let header = &entry.header;
    let Some(raw) = decompress(header, &entry.payload) else {
        let unreadable = unreadable(header, header.first, Form::Payload, entry.payload.clone());
        return Opened { records: Vec::new(), unreadable: Some(unreadable) };
    };
    let mut opened = Opened::default();
    let mut reader = RecordReader::new(raw);
    for offset in 0..header.records() {
        let (sequence, unread) = (header.first.advanced_by(offset), reader.unread());
        let Some(Ok(record)) = reader.next() else {
            opened.unreadable = Some(unreadable(header, sequence, Form::Records, unread));
            break;
        };
        opened.records.push((sequence, record));
    }
    let beyond = reader.unread();
    if opened.unreadable.is_none() && !beyond.is_empty() {
        // More than the header announces: whose sequences they would be is not known.
        let letter = unreadable(header, header.last, Form::Records, beyond);
        opened.unreadable = Some(NewDeadLetter { origin: None, ..letter });
    }
    opened
}

fn unreadable(header: &BatchHeader, first: Sequence, form: Form, bytes: Bytes) -> NewDeadLetter {
    NewDeadLetter {
        reason: DeadLetterReason::Unreadable,
        detail: match form {
            Form::Payload => "the payload can't be decompressed".to_owned(),
            _ => "there is no record where one must be".to_owned(),
        },
        project_id: None,
        event_id: None,
        origin: Some((header.spool_id, first, header.last)),
        raw_bytes: if form == Form::Payload { header.raw_bytes } else { bytes.len() as u64 },
        form,
        bytes,
    }
}

/// The relay sealed the frame and the checksum was verified, so a frame that fails here was sealed wrong.
fn decompress(header: &BatchHeader, payload: &[u8]) -> Option<Bytes> {
    let size = usize::try_from(header.raw_bytes).ok()?;
    zstd::bulk::decompress(payload, size).ok().map(Bytes::from)
}

/// Takes a record apart.
pub(super) fn record(spool_id: SpoolId, sequence: Sequence, record: &Record) -> Decoded {
    let mut decoded = Decoded::default();
    let header = &record.header;
    if header.chunk.is_some() {
        return decoded;
    }
    if header.kind == RecordKind::Outcomes {
        decoded.ended = outcomes(record);
        return decoded;
    }
    let end = |category, outcome, reason| Ended {
        project_id: header.project_id,
        received_at: header.received_at,
        category,
        outcome,
        reason: Reason::Borrowed(reason),
        quantity: 1,
    };
    let Ok(envelope) = Envelope::parse(record.body.clone(), MAX_ITEMS) else {
        decoded.ended.push(end(DataCategory::Default, Outcome::Invalid, "invalid_envelope"));
        return decoded;
    };
    let event_id = envelope.event_id().or(header.event_id);
    for (item, index) in envelope.items().iter().zip(0_u32..) {
        let category = item.item_type().category();
        if !matches!(item.item_type(), ItemType::Event | ItemType::Security) {
            let blob = header.blobs.iter().find(|blob| blob.item == index);
            let tally = Tally::of_item(item, blob.map_or_else(|| item.payload_len(), |blob| blob.bytes));
            let ended = |(category, quantity)| Ended { quantity, ..end(category, Outcome::Unsupported, "no_store") };
            decoded.ended.extend(tally.iter().map(ended));
            continue;
        }
        let Some(event_id) = event_id else {
            decoded.ended.push(end(category, Outcome::Invalid, "missing_event_id"));
            continue;
        };
        match parse_event(item) {
            Some((json, event)) => decoded.events.push(DecodedEvent {
                project_id: header.project_id,
                event_id,
                category,
                received_at: header.received_at,
                spool_id,
                sequence,
                json,
                event,
            }),
            None => decoded.ended.push(end(category, Outcome::Invalid, "invalid_json")),
        }
    }
    decoded
}

/// What a relay has counted. A relay of ours writes nothing that can't be read; were it so, that is one thing lost.
fn outcomes(record: &Record) -> Vec<Ended> {
    let header = &record.header;
    let Ok(counts) = serde_json::from_slice::<Vec<OutcomeCount>>(&record.body) else {
        return vec![Ended {
            project_id: NOBODY,
            received_at: header.received_at,
            category: DataCategory::Default,
            outcome: Outcome::Dropped,
            reason: Reason::Borrowed("unreadable_outcomes"),
            quantity: 1,
        }];
    };
    let ended = |OutcomeCount { key, quantity }| Ended {
        project_id: key.project_id.unwrap_or(NOBODY),
        received_at: key.hour,
        category: key.category,
        outcome: key.outcome,
        reason: Reason::Owned(key.reason.chars().take(MAX_REASON_CHARS).collect()),
        quantity,
    };
    counts.into_iter().map(ended).collect()
}

fn parse_event(item: &Item) -> Option<(Bytes, Value)> {
    let json = item.payload().clone();
    let (json, event) = match serde_json::from_slice(&json) {
        Ok(event) => (json, event),
        Err(_) => {
            // What relays spooled before they repaired it themselves.
            let repaired = Bytes::from(Document::read(&json, PythonFloats::Accept).ok()?.to_json());
            let event = serde_json::from_slice::<Value>(&repaired).ok()?;
            (repaired, event)
        }
    };
    event.is_object().then_some((json, event))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::ids::{BlobId, PublicKey};
    use picket_common::outcome::OutcomeKey;
    use picket_common::record::{BlobChunk, BlobReference, RecordHeader};

    fn header() -> RecordHeader {
        RecordHeader {
            kind: RecordKind::Envelope,
            project_id: ProjectId::new(3),
            public_key: PublicKey::from_random([1; 16]),
            received_at: Timestamp::from_millis(5),
            event_id: None,
            chunk: None,
            blobs: Vec::new(),
        }
    }

    fn decoded_under(header: RecordHeader, body: &str) -> Decoded {
        let spooled = Record { header, body: Bytes::copy_from_slice(body.as_bytes()) };
        record(SpoolId::from_random([2; 16]), Sequence::new(9), &spooled)
    }

    fn decoded(body: &str) -> Decoded {
        decoded_under(header(), body)
    }

    const ID: &str = "fc6d8c0c43fc4630ad850ee518f1b9d0";

    #[test]
    fn an_event_keeps_its_origin() {
        let out = decoded(&format!("{{\"event_id\":\"{ID}\"}}\n{{\"type\":\"event\"}}\n{{\"message\":\"x\"}}\n"));
        assert_eq!((out.events.len(), out.ended.len()), (1, 0));
        assert_eq!((out.events[0].sequence, out.events[0].event_id.to_string()), (Sequence::new(9), ID.to_owned()));
    }

    #[test]
    fn what_relays_keep_and_nothing_stores_yet_ends_as_unsupported_in_its_category() {
        let kinds = ["session", "sessions", "check_in", "feedback", "user_report", "form_data", "event"];
        let items: String = kinds.iter().map(|kind| format!("{{\"type\":\"{kind}\"}}\n{{}}\n")).collect();
        let out = decoded(&format!("{{\"event_id\":\"{ID}\"}}\n{items}"));
        assert_eq!(out.events.len(), 1);
        let ended: Vec<_> = out.ended.iter().map(|ended| (ended.category, ended.quantity)).collect();
        let expected = [
            DataCategory::Session,
            DataCategory::Session,
            DataCategory::Monitor,
            DataCategory::Feedback,
            DataCategory::Feedback,
            DataCategory::Default,
        ];
        assert_eq!(ended, expected.map(|category| (category, 1)));
        assert!(out.ended.iter().all(|ended| (ended.outcome, &*ended.reason) == (Outcome::Unsupported, "no_store")));
    }

    #[test]
    fn a_payload_that_can_be_repaired_is_and_one_that_cannot_is_counted() {
        let event = |json: &str| decoded(&format!("{{\"event_id\":\"{ID}\"}}\n{{\"type\":\"event\"}}\n{json}\n"));
        assert_eq!(event(r#"{"message":"\ud83d","extra":NaN}"#).events.len(), 1);
        for broken in ["[]", "{\"a\":", "3"] {
            let out = event(broken);
            assert!(out.events.is_empty());
            assert_eq!((out.ended[0].outcome, out.ended[0].reason.as_ref()), (Outcome::Invalid, "invalid_json"));
        }
    }

    #[test]
    fn attachments_count_their_bytes_wherever_these_are_and_pieces_of_blobs_count_nothing() {
        let blob_id = BlobId::from_random([4; 16]);
        let blobs = vec![BlobReference { item: 1, blob_id, bytes: 5_000 }];
        let body = "{}\n{\"type\":\"attachment\"}\nabc\n{\"type\":\"attachment\",\"length\":0}\n\n";
        let quantities: Vec<_> =
            decoded_under(RecordHeader { blobs, ..header() }, body).ended.iter().map(|ended| ended.quantity).collect();
        assert_eq!(quantities, [3, 1, 5_000, 1]);
        let chunk = Some(BlobChunk { blob_id, offset: 0 });
        let out = decoded_under(RecordHeader { chunk, ..header() }, body);
        assert!(out.ended.is_empty() && out.events.is_empty());
    }

    #[test]
    fn a_body_that_is_no_envelope_is_counted() {
        assert_eq!(decoded("nonsense").ended[0].reason, "invalid_envelope");
    }

    #[test]
    fn what_a_relay_counted_is_told_by_the_hour_in_which_it_happened() {
        let key = OutcomeKey {
            hour: Timestamp::from_millis(7_200_000),
            project_id: Some(ProjectId::new(9)),
            category: DataCategory::Replay,
            outcome: Outcome::ClientDiscard,
            reason: Reason::Borrowed("sample_rate"),
        };
        let counts = [
            OutcomeCount { key: key.clone(), quantity: 5 },
            OutcomeCount { key: OutcomeKey { project_id: None, ..key }, quantity: 2 },
        ];
        let counted = Record::of_outcomes(&counts, Timestamp::from_millis(9_000_000)).unwrap();
        let out = record(SpoolId::from_random([2; 16]), Sequence::new(9), &counted);
        let told: Vec<_> = out
            .ended
            .iter()
            .map(|ended| (ended.project_id.get(), ended.received_at.as_millis(), ended.quantity))
            .collect();
        assert_eq!(told, [(9, 7_200_000, 5), (0, 7_200_000, 2)]);
        assert_eq!(out.ended[0].reason, "sample_rate");

        let unreadable = Record { body: Bytes::from_static(b"[{}]"), ..counted };
        let out = record(SpoolId::from_random([2; 16]), Sequence::new(9), &unreadable);
        assert_eq!((out.ended[0].outcome, out.ended[0].reason.as_ref()), (Outcome::Dropped, "unreadable_outcomes"));
    }
}
