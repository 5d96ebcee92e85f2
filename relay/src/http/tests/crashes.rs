//! The endpoints of crash reporters.

use super::large_bodies::requests;
use super::*;

const DUMP: &[u8] = b"MDMP\x93\xa7\0\0 and so on";
const BOUNDARY: &str = "------------------------a1b2c3";

/// A part: its name, its file name, its content.
type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

fn multipart(boundary: &str, parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, filename, content) in parts {
        let filename = filename.map(|filename| format!("; filename=\"{filename}\"")).unwrap_or_default();
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    body
}

async fn upload(relay: &Relay, path: &str, parts: &[Part<'_>]) -> Answer {
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let path = format!("/api/7/{path}?sentry_key={KEY}");
    relay.send(Method::POST, &path, &[("content-type", &content_type)], multipart(BOUNDARY, parts)).await
}

async fn raw(relay: &Relay, content_type: &str, body: Vec<u8>) -> Answer {
    let path = format!("/api/7/minidump/?sentry_key={KEY}");
    relay.send(Method::POST, &path, &[("content-type", content_type)], body).await
}

/// The last envelope in the spool: its event, and its attachments by type and name, with their content.
fn last(relay: &Relay) -> (serde_json::Value, Vec<(String, String, Vec<u8>)>) {
    let (record, blobs) = requests(relay).pop().unwrap();
    let envelope = Envelope::parse(record.body, 500).unwrap();
    let mut event = serde_json::Value::Null;
    let mut attachments = Vec::new();
    for (item, index) in envelope.items().iter().zip(0..) {
        if item.item_type().as_str() == "event" {
            event = serde_json::from_slice(item.payload()).unwrap();
            continue;
        }
        let blob = blobs.iter().find(|(item, _)| *item == index);
        let content = blob.map_or_else(|| item.payload().to_vec(), |(_, content)| content.clone());
        let kind = item.attachment_type().unwrap_or_default().to_owned();
        attachments.push((kind, item.header_text("filename").unwrap_or_default(), content));
    }
    (event, attachments)
}

fn named(kind: &str, filename: &str, content: &[u8]) -> (String, String, Vec<u8>) {
    (kind.to_owned(), filename.to_owned(), content.to_vec())
}

#[tokio::test]
async fn a_dump_with_its_form_becomes_an_event_with_attachments() {
    let relay = relay();
    let parts: [Part<'_>; 6] = [
        ("sentry[release]", None, b"app@1"),
        ("upload_file_minidump", Some("crash.dmp"), DUMP),
        ("guid", None, b"some guid"),
        ("log", Some("app.log"), b"a line"),
        ("view", Some("view-hierarchy.json"), b"{}"),
        ("sentry", None, br#"{"event_id":"fc6d8c0c43fc4630ad850ee518f1b9d0","tags":{"a":"b"}}"#),
    ];
    for path in ["minidump", "minidump/"] {
        let answer = upload(&relay, path, &parts).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        assert_eq!(answer.body, "fc6d8c0c-43fc-4630-ad85-0ee518f1b9d0");
        assert!(answer.header("content-type").starts_with("text/plain"));
        let (event, attachments) = last(&relay);
        assert_eq!(event["release"], "app@1");
        assert_eq!(event["event_id"], ID);
        assert_eq!((&event["platform"], &event["level"]), (&"native".into(), &"fatal".into()));
        assert_eq!(event["extra"]["guid"], "some guid");
        let expected = [
            named("event.minidump", "crash.dmp", DUMP),
            named("", "app.log", b"a line"),
            named("event.view_hierarchy", "view-hierarchy.json", b"{}"),
        ];
        assert_eq!(attachments, expected);
    }
    assert_eq!((relay.server.budget.used(), relay.server.staging.used()), (0, 0));
}

#[tokio::test]
async fn a_dump_may_be_the_whole_body_or_lie_in_a_form_within_the_form() {
    let relay = relay();
    let large = [DUMP, &vec![3; 3_000_000]].concat();
    assert_eq!(raw(&relay, "application/octet-stream", DUMP.to_vec()).await.status, 200);
    assert_eq!(last(&relay).1, [named("event.minidump", "minidump.dmp", DUMP)]);
    assert_eq!(raw(&relay, "application/x-dmp", large.clone()).await.status, 200);
    assert_eq!(last(&relay).1, [named("event.minidump", "minidump.dmp", &large)]);
    let compressed = zstd::bulk::compress(&large, 1).unwrap();
    assert_eq!(raw(&relay, "application/x-dmp", compressed).await.status, 200);
    assert_eq!(last(&relay).1, [named("event.minidump", "minidump.dmp", &large)]);
    let nested = multipart("inner", &[("upload_file_minidump", Some("x.dmp"), &large)]);
    let answer = upload(&relay, "minidump/", &[("upload_file_minidump", Some("outer.dmp"), &nested)]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(last(&relay).1, [named("event.minidump", "outer.dmp", &large)]);
    assert_eq!(relay.server.staging.used(), 0);
}

#[tokio::test]
async fn what_is_no_dump_is_refused_with_its_cause() {
    let relay = relay();
    let cases: [(&[Part<'_>], u16, &str); 3] = [
        (&[("other", Some("x.dmp"), DUMP)], 400, "missing_minidump_upload"),
        (&[("upload_file_minidump", Some("x.dmp"), b"not a dump")], 400, "invalid_minidump"),
        (&[("upload_file_minidump", Some("x.dmp"), b"\x1f\x8b\x08nonsense")], 400, "invalid_compression"),
    ];
    for (parts, status, cause) in cases {
        let answer = upload(&relay, "minidump/", parts).await;
        assert_eq!((answer.status, answer.cause().as_str()), (status, cause));
    }
    for (content_type, body, cause) in [
        ("application/octet-stream", b"".to_vec(), "empty_body"),
        ("application/octet-stream", b"MZ".to_vec(), "invalid_minidump"),
        ("text/plain", DUMP.to_vec(), "invalid_multipart"),
        ("multipart/form-data; boundary=x", DUMP.to_vec(), "invalid_multipart"),
    ] {
        let answer = raw(&relay, content_type, body).await;
        assert_eq!((answer.status, answer.cause().as_str()), (400, cause), "{content_type}");
    }
    let field = vec![b'x'; 1024 * 1024 + 1];
    let answer = upload(&relay, "minidump/", &[("f", None, &field), ("upload_file_minidump", Some("x"), DUMP)]).await;
    assert_eq!((answer.status, answer.cause().as_str()), (413, "too_large:form_data"));
    let many = vec![("f", Some("f"), &b"x"[..]); 31];
    let answer = upload(&relay, "minidump/", &many).await;
    assert_eq!((answer.status, answer.cause().as_str()), (413, "too_large:attachment"));
    assert!(relay.spooled().is_empty());
    assert_eq!((relay.server.budget.used(), relay.server.staging.used()), (0, 0));
}

fn unreal_report(files: &[(&str, &[u8])]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        out.extend(text.as_bytes());
    }
    let number = |out: &mut Vec<u8>, number: usize| out.extend(u32::try_from(number).unwrap().to_le_bytes());
    let header = |out: &mut Vec<u8>, count: usize| {
        text(out, "directory");
        text(out, "report");
        number(out, 1);
        number(out, count);
    };
    let mut container = Vec::new();
    header(&mut container, 0);
    for (index, (name, data)) in files.iter().enumerate() {
        number(&mut container, index);
        text(&mut container, name);
        number(&mut container, data.len());
        container.extend(*data);
    }
    header(&mut container, files.len());
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&container).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_unreal_report_is_taken_apart() {
    let relay = relay();
    let dump = [DUMP, &vec![3; 3_000_000]].concat();
    let report =
        unreal_report(&[("UE4Minidump.dmp", &dump), ("CrashContext.runtime-xml", b"<x/>"), ("A.log", b"line")]);
    let path = format!("/api/7/unreal/{KEY}/?UserID=login%7Caccount%7Cmachine");
    let answer = relay.send(Method::POST, &path, &[], report.clone()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let (event, attachments) = last(&relay);
    assert_eq!(answer.body.len(), 36);
    assert_eq!(String::from_utf8_lossy(&answer.body).replace('-', ""), event["event_id"].as_str().unwrap());
    assert_eq!(event["user"]["id"], "login");
    let expected = [
        named("event.minidump", "UE4Minidump.dmp", &dump),
        named("unreal.context", "CrashContext.runtime-xml", b"<x/>"),
        named("unreal.logs", "A.log", b"line"),
    ];
    assert_eq!(attachments, expected);

    let mut body = format!("{{}}\n{{\"type\":\"unreal_report\",\"length\":{}}}\n", report.len()).into_bytes();
    body.extend_from_slice(&report);
    assert_eq!(relay.post("/api/7/envelope/", body).await.status, 200);
    assert_eq!(last(&relay).1, expected);

    let path = format!("/api/7/unreal/{KEY}/");
    let answer = relay.send(Method::POST, &path, &[], report[..report.len() - 9].to_vec()).await;
    assert_eq!((answer.status, answer.cause().as_str()), (400, "invalid_compression"));
    let answer = relay.send(Method::POST, &path, &[], unreal_report(&[])[..].to_vec()).await;
    assert_eq!(answer.status, 200, "a report without files is a crash all the same");
    assert_eq!((relay.server.budget.used(), relay.server.staging.used()), (0, 0));
}

#[tokio::test]
async fn a_crash_reporter_never_hears_429() {
    let config =
        SpoolConfig { min_free_bytes: ByteSize::bytes(0), max_bytes: ByteSize::mib(2), ..SpoolConfig::default() };
    let relay = relay_with(LimitsConfig::default(), &config);
    relay.configure();
    let large = [DUMP, &vec![3; 3_000_000]].concat();
    let answer = raw(&relay, "application/octet-stream", large).await;
    assert_eq!((answer.status, answer.cause().as_str()), (503, "spool_full"));
}

#[tokio::test]
async fn a_crash_reporter_over_its_rate_is_told_an_id_as_if_nothing_were_wrong() {
    let mut limits = LimitsConfig::default();
    limits.rates.key_per_second = 1;
    let relay = relay_with(limits, &SpoolConfig { min_free_bytes: ByteSize::bytes(0), ..SpoolConfig::default() });
    relay.configure();
    assert_eq!(raw(&relay, "application/octet-stream", DUMP.to_vec()).await.status, 200);
    let dump = raw(&relay, "application/octet-stream", DUMP.to_vec()).await;
    let unreal = relay.send(Method::POST, &format!("/api/7/unreal/{KEY}/"), &[], unreal_report(&[])).await;
    for answer in [dump, unreal] {
        assert_eq!(answer.status, 200);
        let id = std::str::from_utf8(&answer.body).unwrap();
        assert!(id.len() == 36 && id.parse::<picket_common::ids::EventId>().is_ok(), "{id:?}");
    }
    assert_eq!(relay.spooled().len(), 1);
    assert!(relay.counted().iter().all(|(.., outcome, _, _)| *outcome == Outcome::RateLimited));
}

#[tokio::test]
async fn a_part_of_a_crash_that_can_not_be_read_is_counted_and_the_crash_is_stored() {
    let relay = relay();
    let parts: [Part<'_>; 2] =
        [("upload_file_minidump", Some("crash.dmp"), DUMP), ("e", Some("__sentry-event"), b"\xc1nonsense")];
    let expected = [
        (Some(7), DataCategory::Attachment, Outcome::Invalid, "invalid_attachment".to_owned(), 9),
        (Some(7), DataCategory::AttachmentItem, Outcome::Invalid, "invalid_attachment".to_owned(), 1),
    ];
    assert_eq!(upload(&relay, "minidump/", &parts).await.status, 200);
    assert_eq!(relay.counted(), expected);
    assert_eq!(last(&relay).0["errors"][0]["name"], "__sentry-event");
    let item = "{\"type\":\"attachment\",\"attachment_type\":\"event.payload\",\"length\":9}\n";
    let body = [b"{}\n", item.as_bytes(), b"\xc1nonsense"].concat();
    assert_eq!(relay.post("/api/7/envelope/", body).await.status, 200);
    assert_eq!(relay.counted(), expected);
}
