#![allow(clippy::unwrap_used)]
use std::io::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::run::random;

mod bounds;

fn workshop() -> (tempfile::TempDir, Workshop) {
    let directory = tempfile::tempdir().unwrap();
    let staging = Staging::open(directory.path(), 1 << 30, random).unwrap();
    (
        directory,
        Workshop::new(staging, MemoryBudget::new(1 << 30), MemoryBudget::new(1 << 30), LimitsConfig::default(), random),
    )
}

fn attachment(kind: &str, filename: &str, payload: impl Into<Bytes>) -> Item {
    let header = AttachmentHeader { attachment_type: Some(kind), filename: Some(filename), content_type: None };
    Item::attachment(header, payload.into())
}

fn form(fields: &[(&str, &str)]) -> Item {
    let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    form_data_item(&fields)
}

fn expanded(items: Vec<Item>) -> Result<Envelope, CrashError> {
    let (_directory, mut workshop) = workshop();
    let mut envelope = Envelope::empty();
    items.into_iter().for_each(|item| envelope.push(item));
    expand(envelope, &mut workshop)
}

/// The one event of an envelope.
fn event(envelope: &Envelope) -> Value {
    let events: Vec<_> = envelope.items().iter().filter(|item| *item.item_type() == ItemType::Event).collect();
    assert_eq!(events.len(), 1);
    serde_json::from_slice(events[0].payload()).unwrap()
}

fn whole(item: &Item) -> Bytes {
    small_payload(item, usize::MAX).unwrap().unwrap()
}

fn packed(value: &Value) -> Vec<u8> {
    fn convert(value: &Value) -> rmpv::Value {
        match value {
            Value::Null => rmpv::Value::Nil,
            Value::Bool(flag) => rmpv::Value::Boolean(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(number) => rmpv::Value::from(number),
                None => rmpv::Value::from(number.as_f64().unwrap()),
            },
            Value::String(text) => rmpv::Value::from(text.as_str()),
            Value::Array(values) => rmpv::Value::Array(values.iter().map(convert).collect()),
            Value::Object(object) => rmpv::Value::Map(
                object.iter().map(|(key, value)| (rmpv::Value::from(key.as_str()), convert(value))).collect(),
            ),
        }
    }
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, &convert(value)).unwrap();
    out
}

const DUMP: &[u8] = b"MDMP\x93\xa7 and so on";

#[test]
fn a_bare_dump_becomes_a_fatal_native_event_beside_it() {
    let envelope = expanded(vec![attachment(MINIDUMP, "x.dmp", DUMP)]).unwrap();
    let event = event(&envelope);
    assert_eq!((&event["platform"], &event["level"]), (&json!("native"), &json!("fatal")));
    assert_eq!(event["exception"]["values"][0]["mechanism"]["type"], "minidump");
    assert_eq!(event["event_id"], envelope.event_id().unwrap().to_string());
    assert_eq!(&envelope.items()[0].payload()[..], DUMP);
}

#[test]
fn each_kind_of_report_names_its_mechanism_and_a_dump_names_it_best() {
    for (kinds, expected) in [
        (vec![APPLE_REPORT], "applecrashreport"),
        (vec!["nswitch.dying_message"], "native"),
        (vec!["nswitch.dying_message", MINIDUMP], "minidump"),
        (vec!["unreal.context", MINIDUMP], "minidump"),
        (vec![MINIDUMP, "unreal.context"], "minidump"),
    ] {
        let items = kinds.iter().map(|kind| attachment(kind, "x", DUMP)).collect();
        let event = event(&expanded(items).unwrap());
        assert_eq!(event["exception"]["values"][0]["mechanism"]["type"], expected, "{kinds:?}");
    }
}

#[test]
fn form_fields_become_the_event_and_json_wins_over_brackets() {
    let envelope = expanded(vec![
        form(&[
            ("sentry[release]", "brackets"),
            ("sentry[user][id]", "7"),
            ("sentry[][x]", "odd"),
            ("sentry__2", "\"tags\":{\"b\":\"2\"}}"),
            ("sentry__1", "{\"release\":\"pieces\","),
            ("sentry", "{\"user\":{\"name\":\"n\"}}"),
            ("plain", "value"),
            ("guid", "g"),
        ]),
        attachment(MINIDUMP, "x.dmp", DUMP),
    ])
    .unwrap();
    let event = event(&envelope);
    assert_eq!(event["release"], "pieces");
    assert_eq!(event["user"], json!({"id": "7", "name": "n"}));
    assert_eq!(event["tags"], json!({"b": "2"}));
    assert_eq!(event["extra"], json!({"plain": "value", "guid": "g", "sentry[][x]": "odd"}));
}

#[test]
fn the_event_id_is_the_headers_else_the_most_telling_parts() {
    let ids = ["1".repeat(32), "2".repeat(32), "3".repeat(32), "4".repeat(32)];
    let brackets = || form(&[("sentry[event_id]", &ids[3])]);
    let whole = || form(&[("sentry", &json!({"event_id": ids[2]}).to_string()), ("sentry[event_id]", &ids[3])]);
    let payload = || attachment(EVENT_PAYLOAD, "__sentry-event", packed(&json!({"event_id": ids[1]})));
    let item = || Item::new(ItemType::Event, Bytes::from(json!({"event_id": ids[0]}).to_string()));
    let dump = || attachment(MINIDUMP, "x.dmp", DUMP);
    for (items, expected) in [
        (vec![dump(), brackets()], &ids[3]),
        (vec![dump(), whole()], &ids[2]),
        (vec![dump(), whole(), payload()], &ids[1]),
        (vec![item(), dump(), whole(), payload()], &ids[0]),
    ] {
        let envelope = expanded(items).unwrap();
        assert_eq!(envelope.event_id().unwrap().to_string(), **expected);
        assert_eq!(event(&envelope)["event_id"], **expected);
    }
    let envelope = expanded(vec![dump(), form(&[("sentry[event_id]", "nonsense")])]).unwrap();
    assert_eq!(event(&envelope)["event_id"], envelope.event_id().unwrap().to_string());
}

#[test]
fn message_pack_becomes_json_and_the_newer_breadcrumbs_come_last() {
    let crumb = |at: &str, text: &str| packed(&json!({"timestamp": at, "message": text}));
    let first = [crumb("2026-01-01T00:00:05Z", "c"), crumb("2026-01-01T00:00:06Z", "d")].concat();
    let second = [crumb("2026-01-01T00:00:03Z", "a"), crumb("2026-01-01T00:00:04.5Z", "b")].concat();
    let envelope = expanded(vec![
        attachment(EVENT_PAYLOAD, "__sentry-event", packed(&json!({"level": "error", "contexts": {"os": {"n": 1.5}}}))),
        attachment(BREADCRUMBS, "__sentry-breadcrumb1", first),
        attachment(BREADCRUMBS, "__sentry-breadcrumb2", second),
        attachment(MINIDUMP, "x.dmp", DUMP),
        attachment("event.attachment", "log.txt", "text"),
    ])
    .unwrap();
    let event = event(&envelope);
    assert_eq!((&event["level"], &event["contexts"]["os"]["n"]), (&json!("error"), &json!(1.5)));
    let messages: Vec<_> =
        event["breadcrumbs"]["values"].as_array().unwrap().iter().map(|crumb| &crumb["message"]).collect();
    assert_eq!(messages, ["a", "b", "c", "d"]);
    assert_eq!(envelope.items().len(), 3);
}

#[test]
fn what_can_not_be_read_costs_neither_the_dump_nor_what_can() {
    let cut = packed(&json!({"timestamp": 5, "message": "whole"}));
    let cut = [&cut[..], &cut[..4]].concat();
    let envelope = expanded(vec![
        attachment(EVENT_PAYLOAD, "__sentry-event", &b"\xc1nonsense"[..]),
        attachment(BREADCRUMBS, "__sentry-breadcrumb1", cut),
        attachment(MINIDUMP, "x.dmp", DUMP),
        Item::new(ItemType::Event, Bytes::from_static(br#"{"message":"\ud800"}"#)),
    ])
    .unwrap();
    let event = event(&envelope);
    let names: Vec<_> = event["errors"].as_array().unwrap().iter().map(|error| &error["name"]).collect();
    assert_eq!(names, ["__sentry-event", "__sentry-breadcrumb1"]);
    assert_eq!(event["breadcrumbs"]["values"][0]["message"], "whole");
    assert_eq!(event["message"], "\u{fffd}");
}

#[test]
fn an_event_that_is_no_json_stays_for_the_stage_that_refuses_it() {
    let broken = Item::new(ItemType::Event, Bytes::from_static(b"{nonsense"));
    let envelope = expanded(vec![broken, attachment(MINIDUMP, "x.dmp", DUMP)]).unwrap();
    let events: Vec<_> = envelope.items().iter().filter(|item| *item.item_type() == ItemType::Event).collect();
    assert_eq!(events.len(), 1);
    assert_eq!(&events[0].payload()[..], b"{nonsense");
}

#[test]
fn what_is_beside_a_crash_does_not_make_it_too_large() {
    let long = "x".repeat(900_000);
    let crumbs = packed(&json!({"message": long}));
    let envelope = expanded(vec![
        form(&[("a", &long), ("sentry[release]", "r")]),
        attachment(BREADCRUMBS, "b", crumbs),
        attachment(MINIDUMP, "x.dmp", DUMP),
    ])
    .unwrap();
    let event = event(&envelope);
    assert!(event.get("breadcrumbs").is_none() && event["extra"]["a"].is_string());
    assert_eq!(event["release"], "r");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An xz stream of stored LZMA2 chunks.
fn xz(bytes: &[u8]) -> Vec<u8> {
    fn crc32(bytes: &[u8]) -> [u8; 4] {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    }
    fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
    let flags = [0, 1];
    let mut stream = b"\xfd7zXZ\0".to_vec();
    stream.extend(flags);
    stream.extend(crc32(&flags));
    // Block header: 12 bytes, one filter, LZMA2 with one byte of properties: a dictionary of 64 KiB.
    let header = padded(vec![2, 0, 0x21, 1, 8]);
    let mut block = header.clone();
    block.extend(crc32(&header));
    for (index, chunk) in bytes.chunks(60_000).enumerate() {
        let size = u16::try_from(chunk.len() - 1).unwrap();
        block.push(if index == 0 { 1 } else { 2 });
        block.extend(size.to_be_bytes());
        block.extend(chunk);
    }
    block.push(0);
    let unpadded = block.len() + 4;
    let mut block = padded(block);
    block.extend(crc32(bytes));
    stream.extend(block);
    let number = |mut number: usize| {
        let mut out = Vec::new();
        while number >= 0x80 {
            out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        out.push(u8::try_from(number).unwrap());
        out
    };
    let index = padded([vec![0, 1], number(unpadded), number(bytes.len())].concat());
    let backward = u32::try_from((index.len() + 4) / 4 - 1).unwrap().to_le_bytes();
    stream.extend(&index);
    stream.extend(crc32(&index));
    let footer = [&backward[..], &flags].concat();
    stream.extend(crc32(&footer));
    stream.extend(footer);
    stream.extend(b"YZ");
    stream
}

#[test]
fn a_dump_is_decompressed_whatever_it_was_compressed_with() {
    let dump = [DUMP, &vec![7; 500_000]].concat();
    for (compressed, filename, expected) in [
        (gzip(&dump), "a.dmp.gz", "a.dmp"),
        (bzip2(&dump), "a.dmp.bz2", "a.dmp"),
        (xz(&dump), "a.dmp.xz", "a.dmp"),
        (zstd::bulk::compress(&dump, 1).unwrap(), "a.dmp.zst", "a.dmp"),
        (gzip(&dump), "a.dmp", "a.dmp"),
        (dump.clone(), "a.dmp.gz", "a.dmp.gz"),
    ] {
        let (_directory, mut workshop) = workshop();
        let item = unpacked_dump(attachment(MINIDUMP, filename, compressed), &mut workshop).unwrap();
        assert!(has_dump_magic(&item).unwrap(), "{filename}");
        assert_eq!(whole(&item), dump, "{filename}");
        assert_eq!(item.header_text("filename").unwrap(), expected);
        assert_eq!(item.attachment_type(), Some(MINIDUMP));
    }
}

#[test]
fn a_dump_that_is_a_bomb_or_damaged_is_refused() {
    let bomb = gzip(&vec![0; 3_000_000]);
    let (_directory, mut workshop) = workshop();
    workshop.limits.max_attachment_bytes = picket_common::config::ByteSize::mib(2);
    let refused = unpacked_dump(attachment(MINIDUMP, "x", bomb), &mut workshop);
    assert!(matches!(refused, Err(CrashError::TooLong { what: "attachment", .. })));
    for damaged in [gzip(DUMP), bzip2(DUMP), xz(DUMP), zstd::bulk::compress(DUMP, 1).unwrap()] {
        let refused = unpacked_dump(attachment(MINIDUMP, "x", damaged[..damaged.len() - 9].to_vec()), &mut workshop);
        assert!(matches!(refused, Err(CrashError::Damaged { .. })), "{refused:?}");
    }
}

fn unreal_report(files: &[(&str, &[u8])]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend(260_u32.to_le_bytes());
        let mut padded = text.as_bytes().to_vec();
        padded.resize(260, 0);
        out.extend(padded);
    }
    let number = |out: &mut Vec<u8>, number: usize| out.extend(u32::try_from(number).unwrap().to_le_bytes());
    let mut container = Vec::new();
    for count in [0, files.len()] {
        if count > 0 {
            for (index, (name, data)) in files.iter().enumerate() {
                number(&mut container, index);
                text(&mut container, name);
                number(&mut container, data.len());
                container.extend(*data);
            }
        }
        text(&mut container, "directory");
        text(&mut container, "report");
        number(&mut container, 1);
        number(&mut container, count);
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&container).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_unreal_report_becomes_its_files_and_an_event() {
    let dump = [DUMP, &vec![7; 2_000_000]].concat();
    let report = unreal_report(&[
        ("UE4Minidump.dmp", &dump),
        ("CrashContext.runtime-xml", b"<xml/>"),
        ("Game.log", b"a line"),
        ("CrashReportClient.ini", b"[x]"),
    ]);
    let user = form(&[("sentry[user][id]", "login")]);
    let report = Item::new(ItemType::UnrealReport, Bytes::from(report));
    let (_directory, mut workshop) = workshop();
    let mut envelope = Envelope::empty();
    envelope.push(report);
    envelope.push(user);
    let envelope = expand(envelope, &mut workshop).unwrap();
    let kinds: Vec<_> =
        envelope.items().iter().map(|item| (item.attachment_type(), item.header_text("filename"))).collect();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        kinds,
        [
            (Some(MINIDUMP), named("UE4Minidump.dmp")),
            (Some("unreal.context"), named("CrashContext.runtime-xml")),
            (Some("unreal.logs"), named("Game.log")),
            (None, named("CrashReportClient.ini")),
            (None, None),
        ]
    );
    assert!(envelope.items()[0].detached().is_some() && envelope.items()[1].detached().is_none());
    assert_eq!(whole(&envelope.items()[0]), dump);
    assert_eq!(whole(&envelope.items()[2]), "a line");
    let event = event(&envelope);
    assert_eq!((&event["user"]["id"], &event["level"]), (&json!("login"), &json!("fatal")));
    assert_eq!(event["exception"]["values"][0]["mechanism"]["type"], "minidump");
}

#[test]
fn an_envelope_without_a_crash_stays_as_it_is() {
    let envelope = expanded(vec![form(&[("a", "b")]), attachment("event.attachment", "a.txt", "x")]).unwrap();
    assert_eq!(envelope.items().len(), 2);
    assert_eq!(envelope.event_id(), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), magic in 0_usize..6) {
        let magic: &[u8] = [&b""[..], b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh", b"\x28\xb5\x2f\xfd", b"MDMP"][magic];
        let bytes = [magic, &bytes].concat();
        for kind in [MINIDUMP, EVENT_PAYLOAD, BREADCRUMBS] {
            let _ = expanded(vec![attachment(kind, "x", bytes.clone())]);
        }
        let _ = expanded(vec![Item::new(ItemType::UnrealReport, Bytes::from(bytes.clone())), Item::new(ItemType::FormData, Bytes::from(bytes))]);
    }
}
