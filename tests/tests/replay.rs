//! Every endpoint, in every form that clients use it: which code it answers, and what becomes of what it took.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use picket_common::ids::EventId;
use picket_tests::encode::{brotli, deflate, gzip, zstd};
use picket_tests::event::TestEvent;
use picket_tests::http::{Answer, HttpClient, PATIENCE, request};
use picket_tests::ingest::Target;
use picket_tests::installation::ARRIVAL_PATIENCE;
use picket_tests::observed::Observed;
use serde_json::json;

/// A client of one project.
struct Client {
    target: Target,
    http: HttpClient,
}

impl Client {
    fn of(observed: &Observed) -> Self {
        Self { target: observed.project.at(&observed.relay), http: HttpClient::new() }
    }

    /// The path with `PROJECT` and `KEY` filled in.
    fn path(&self, path: &str) -> String {
        path.replace("PROJECT", &self.target.project.to_string()).replace("KEY", &self.target.key.to_string())
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let request = request(method, self.target.relay, &self.path(path), headers, body.into());
        self.http.send(request, PATIENCE).unwrap_or_else(|error| panic!("{method} {path}: {}", error.0))
    }

    /// Posts with the key in the query.
    #[track_caller]
    fn post(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Answer {
        let mark = if path.contains('?') { '&' } else { '?' };
        self.send("POST", &format!("{path}{mark}sentry_key=KEY"), &[("content-type", content_type)], body)
    }
}

#[track_caller]
fn assert_status(what: &str, answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
}

/// Asks for each event until it is stored.
#[track_caller]
fn assert_stored(observed: &Observed, events: &[(String, EventId)]) {
    for (what, id) in events {
        let stored = observed.wait_for_event(*id, ARRIVAL_PATIENCE);
        assert_eq!(stored["event_id"], id.to_string(), "{what}");
    }
}

#[test]
fn an_envelope_is_read_in_every_encoding_and_under_every_way_to_authenticate() {
    let observed = Observed::start();
    let client = Client::of(&observed);
    let auth = client.target.auth_header();
    let mut posted = Vec::new();
    type Encode = fn(&[u8]) -> Vec<u8>;
    let encodings: [(&str, Encode); 9] = [
        ("", <[u8]>::to_vec),
        ("identity", <[u8]>::to_vec),
        ("utf-8", <[u8]>::to_vec),
        ("gzip", gzip),
        ("x-gzip", gzip),
        ("GZIP", gzip),
        ("deflate", deflate),
        ("br", brotli),
        ("zstd", zstd),
    ];
    for (encoding, encode) in encodings {
        let event = TestEvent::message("encodings");
        let headers = [("x-sentry-auth", auth.as_str()), ("content-encoding", encoding)];
        let answer = client.send("POST", "/api/PROJECT/envelope/", &headers, encode(&event.envelope()));
        assert_status(encoding, &answer, 200);
        assert_eq!(answer.json(), json!({ "id": event.id.to_string() }), "{encoding}");
        posted.push((format!("encoding {encoding:?}"), event.id));
    }

    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:", client.target.key)));
    let authorization = auth.replace("Sentry ", "sentry ");
    type Carrier<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>);
    let carriers: [Carrier<'_>; 6] = [
        ("Authorization", "/api/PROJECT/envelope/", vec![("authorization", &authorization)]),
        ("Basic", "/api/PROJECT/envelope/", vec![("authorization", &basic)]),
        (
            "query",
            "/api/PROJECT/envelope/?sentry_key=KEY&sentry_version=7&sentry_client=sentry.javascript.browser%2F11.12.0",
            vec![],
        ),
        (
            "query, as text/plain",
            "/api/PROJECT/envelope/?sentry_key=KEY",
            vec![("content-type", "text/plain;charset=UTF-8")],
        ),
        ("repeated slashes", "//api//PROJECT/envelope/?sentry_key=KEY", vec![]),
        ("version 7.0", "/api/PROJECT/envelope/?sentry_key=KEY&sentry_version=7.0", vec![]),
    ];
    for (what, path, headers) in carriers {
        let event = TestEvent::message("carriers");
        let answer = client.send("POST", path, &headers, event.envelope());
        assert_status(what, &answer, 200);
        posted.push((what.to_owned(), event.id));
    }
    let event = TestEvent::message("carriers");
    let header = json!({ "event_id": event.id.to_string(), "dsn": client.target.dsn() });
    let json = event.json();
    let body = [format!("{header}\n{{\"type\":\"event\"}}\n").as_bytes(), &json].concat();
    assert_status("DSN in the header", &client.send("POST", "/api/PROJECT/envelope/", &[], body), 200);
    posted.push(("DSN in the header".to_owned(), event.id));

    let twice =
        client.send("POST", "/api/PROJECT/envelope/?sentry_key=KEY", &[("x-sentry-auth", &auth)], event.envelope());
    assert_status("two ways at once", &twice, 401);
    assert_stored(&observed, &posted);
    observed.wait_for_outcomes(&[("error", "accepted", posted.len() as u64)]);
}

#[test]
fn the_store_endpoint_takes_every_form_of_an_event() {
    let observed = Observed::start();
    let client = Client::of(&observed);
    let auth = client.target.auth_header();
    let mut posted = Vec::new();
    let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes).into_bytes();
    type Form<'a> = (&'a str, &'a str, &'a str, Box<dyn Fn(&TestEvent) -> Vec<u8>>);
    let forms: Vec<Form<'_>> = vec![
        ("JSON", "/api/PROJECT/store/", "", Box::new(TestEvent::json)),
        ("JSON, old path", "/api/store/", "", Box::new(TestEvent::json)),
        ("deflate", "/api/PROJECT/store/", "deflate", Box::new(|event| deflate(&event.json()))),
        ("gzip", "/api/PROJECT/store/", "gzip", Box::new(|event| gzip(&event.json()))),
        ("base64", "/api/PROJECT/store/", "", Box::new(move |event| base64(&event.json()))),
        ("base64 of zlib", "/api/PROJECT/store/", "", Box::new(move |event| base64(&deflate(&event.json())))),
    ];
    for (what, path, encoding, form) in forms {
        let event = TestEvent::message("store");
        let headers = [("x-sentry-auth", auth.as_str()), ("content-encoding", encoding)];
        let answer = client.send("POST", path, &headers, form(&event));
        assert_status(what, &answer, 200);
        assert_eq!(answer.json()["id"], event.id.to_string(), "{what}");
        posted.push((what.to_owned(), event.id));
    }
    let event = TestEvent::message("store");
    let headers = [("x-sentry-auth", auth.as_str()), ("content-type", "application/x-sentry-envelope")];
    assert_status("an envelope", &client.send("POST", "/api/PROJECT/store/", &headers, event.envelope()), 200);
    posted.push(("an envelope".to_owned(), event.id));
    for (what, path) in [("pixel", "/api/PROJECT/store/"), ("pixel, old path", "/api/store/")] {
        let event = TestEvent::message("pixel");
        let data: String = form_urlencoded::byte_serialize(&base64(&event.json())).collect();
        let answer = client.send("GET", &format!("{path}?sentry_key=KEY&sentry_data={data}"), &[], "");
        assert_status(what, &answer, 200);
        assert_eq!(answer.header("content-type"), Some("image/gif"), "{what}");
        posted.push((what.to_owned(), event.id));
    }
    assert_stored(&observed, &posted);
    observed.wait_for_outcomes(&[("error", "accepted", posted.len() as u64)]);
}

#[test]
fn security_reports_are_taken_in_their_media_types_only() {
    let observed = Observed::start();
    let client = Client::of(&observed);
    let report = json!({ "csp-report": {
        "document-uri": "https://shop.example/cart", "referrer": "", "violated-directive": "img-src 'self'",
        "effective-directive": "img-src", "original-policy": "img-src 'self'", "blocked-uri": "https://evil.example/pixel.gif",
    } });
    for path in [
        "/api/PROJECT/security/",
        "/api/PROJECT/csp-report/",
        "/api/PROJECT/security/?sentry_release=shop@1&sentry_environment=staging",
    ] {
        for content_type in ["application/csp-report", "application/json", "application/json; charset=utf-8"] {
            let answer = client.post(path, content_type, report.to_string());
            assert_status(&format!("{path} {content_type}"), &answer, 200);
            assert!(answer.body.is_empty(), "{}", answer.text());
        }
    }
    let reports = json!([1, 2].map(|line| json!({
        "type": "csp-violation", "age": 10, "url": "https://shop.example/cart", "user_agent": "Mozilla/5.0",
        "body": { "documentURL": "https://shop.example/cart", "effectiveDirective": "script-src-elem",
            "blockedURL": "https://evil.example/x.js", "disposition": "enforce", "lineNumber": line, "originalPolicy": "script-src 'self'" },
    })));
    assert_status(
        "Reporting API",
        &client.post("/api/PROJECT/security/", "application/reports+json", reports.to_string()),
        200,
    );
    assert_status("text/plain", &client.post("/api/PROJECT/security/", "text/plain", report.to_string()), 415);
    assert_status("no JSON", &client.post("/api/PROJECT/security/", "application/json", "nonsense"), 400);
    assert_status(
        "no key",
        &client.send("POST", "/api/PROJECT/security/", &[("content-type", "application/json")], "{}"),
        401,
    );
    // Nine reports and one request with two.
    observed.wait_for_outcomes(&[("security", "accepted", 11)]);
}

#[test]
fn cron_addresses_are_taken_by_get_and_by_post() {
    let observed = Observed::start();
    let client = Client::of(&observed);
    let auth = client.target.auth_header();
    for path in [
        "/api/PROJECT/cron/nightly/?sentry_key=KEY&status=ok",
        "/api/PROJECT/cron/nightly?sentry_key=KEY&status=in_progress",
        "/api/PROJECT/cron/nightly/KEY/?status=error&duration=1.5",
        "/api/PROJECT/cron/nightly/KEY?status=ok&environment=staging",
    ] {
        assert_status(path, &client.send("GET", path, &[], ""), 202);
    }
    let body = json!({ "status": "ok", "monitor_config": { "schedule": { "type": "crontab", "value": "0 * * * *" } } });
    let headers = [("x-sentry-auth", auth.as_str()), ("content-type", "application/json")];
    assert_status("POST", &client.send("POST", "/api/PROJECT/cron/nightly/", &headers, body.to_string()), 202);
    observed.wait_for_outcomes(&[("monitor", "unsupported", 5)]);
}

#[test]
fn health_is_told_and_what_is_no_endpoint_is_not_found() {
    let observed = Observed::start();
    let client = Client::of(&observed);
    for path in ["/api/relay/healthcheck/live/", "/api/relay/healthcheck/ready/"] {
        let answer = client.send("GET", path, &[], "");
        assert_status(path, &answer, 200);
        assert_eq!(answer.json(), json!({ "is_healthy": true }));
    }
    for (method, path, status) in [
        ("GET", "/", 404),
        ("POST", "/api/PROJECT/nothing/?sentry_key=KEY", 404),
        ("GET", "/api/PROJECT/envelope/", 405),
    ] {
        assert_status(path, &client.send(method, path, &[], ""), status);
    }
    let preflight = client.send(
        "OPTIONS",
        "/api/PROJECT/envelope/",
        &[("origin", "https://shop.example"), ("access-control-request-method", "POST")],
        "",
    );
    assert!(preflight.status < 300, "{}", preflight.status);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
}

#[test]
fn what_has_no_store_yet_ends_once_in_its_category_wherever_it_ends() {
    let observed = Observed::start();
    let client = Client::of(&observed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let attributes = json!({ "release": "shop@1" });
    let items = [
        ("session", json!({ "started": now, "attrs": attributes })),
        ("sessions", json!({ "aggregates": [{ "started": now, "exited": 9 }], "attrs": attributes })),
        ("check_in", json!({ "monitor_slug": "nightly", "status": "ok" })),
        ("user_report", json!({ "event_id": "fc6d8c0c43fc4630ad850ee518f1b9d0", "comments": "it broke" })),
        ("feedback", json!({ "contexts": { "feedback": { "message": "it is slow" } } })),
        ("form_data", json!([["note", "it broke"]])),
        ("attachment", json!("12345678")),
        ("span", json!([{}, {}])),
        ("session", json!({ "started": now })),
    ];
    for (kind, content) in items {
        let body = format!("{{}}\n{{\"type\":\"{kind}\",\"item_count\":2}}\n{content}\n");
        assert_status(kind, &client.post("/api/PROJECT/envelope/", "text/plain", body), 200);
    }
    let outcomes = observed.wait_for_outcomes(&[
        ("session", "unsupported", 2),
        ("session", "invalid", 1),
        ("monitor", "unsupported", 1),
        ("feedback", "unsupported", 2),
        ("default", "unsupported", 1),
        ("attachment", "unsupported", 10),
        ("attachment_item", "unsupported", 1),
        ("span", "unsupported", 2),
    ]);
    assert_eq!(outcomes.values().sum::<u64>(), 20, "and in nothing else: {outcomes:?}");
}

#[test]
fn no_item_type_is_refused_for_being_unknown() {
    let observed = Observed::start();
    let client = Client::of(&observed);
    let kinds = [
        "transaction",
        "span",
        "profile",
        "profile_chunk",
        "replay_event",
        "replay_recording",
        "replay_video",
        "log",
        "trace_metric",
        "statsd",
        "metric_buckets",
        "session",
        "sessions",
        "check_in",
        "client_report",
        "user_report",
        "form_data",
        "attachment",
        "no_such_thing",
    ];
    for kind in kinds {
        let body = format!("{{}}\n{{\"type\":\"{kind}\",\"length\":2}}\n{{}}\n");
        let answer = client.post("/api/PROJECT/envelope/", "text/plain", body);
        assert!(answer.status == 200, "{kind}: {} {}", answer.status, answer.text());
    }
    let internal =
        client.post("/api/PROJECT/envelope/", "text/plain", "{}\n{\"type\":\"integration\",\"length\":2}\n{}\n");
    assert_status("a type that is kept for servers", &internal, 400);
}

/// A multipart body with the boundary `b`: of each part the parameters of its disposition and its content.
fn multipart(parts: &[(&str, &[u8])]) -> Vec<u8> {
    multipart_between("b", parts)
}

fn multipart_between(boundary: &str, parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (disposition, content) in parts {
        body.extend_from_slice(
            format!("--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n\r\n").as_bytes(),
        );
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    body
}

/// The head of a minidump without streams; its times and flags are zeros.
fn minidump() -> Vec<u8> {
    let mut dump = b"MDMP\x93\xa7\x00\x00".to_vec();
    dump.extend_from_slice(&0_u32.to_le_bytes());
    dump.extend_from_slice(&32_u32.to_le_bytes());
    dump.resize(64, 0);
    dump
}

#[test]
fn crash_dumps_are_taken_in_forms_and_raw_and_compressed() {
    const FORM: &str = "multipart/form-data; boundary=b";
    let observed = Observed::start();
    let client = Client::of(&observed);
    let upload = "name=\"upload_file_minidump\"; filename=\"crash.dmp\"";
    let form = multipart(&[
        (upload, &minidump()),
        ("name=\"sentry\"", br#"{"release":"shop@1.2.3","tags":{"team":"payments"}}"#),
        ("name=\"log\"; filename=\"shop.log\"", b"the till was open"),
        ("name=\"note\"", b"it broke"),
    ]);
    let inner = multipart_between("inner", &[(upload, &minidump())]);
    let mut posted = Vec::new();
    let mut taken = |what: &str, answer: Answer| {
        assert_status(what, &answer, 200);
        let text = answer.text();
        assert_eq!((text.len(), text.matches('-').count()), (36, 4), "{what}: a hyphenated id: {text}");
        posted.push((what.to_owned(), text.parse().unwrap()));
    };
    for path in ["/api/PROJECT/minidump/", "/api/PROJECT/minidump"] {
        taken(path, client.post(path, FORM, form.clone()));
    }
    taken("raw", client.post("/api/PROJECT/minidump/", "application/x-dmp", minidump()));
    taken("raw, octets", client.post("/api/PROJECT/minidump/", "application/octet-stream", minidump()));
    taken("a dump in gzip", client.post("/api/PROJECT/minidump/", FORM, multipart(&[(upload, &gzip(&minidump()))])));
    taken("a dump in zstd", client.post("/api/PROJECT/minidump/", FORM, multipart(&[(upload, &zstd(&minidump()))])));
    taken("a form in a form", client.post("/api/PROJECT/minidump/", FORM, multipart(&[(upload, &inner)])));
    let refused: [(&str, Vec<u8>); 3] = [
        ("no dump", multipart(&[("name=\"log\"; filename=\"shop.log\"", b"x")])),
        ("not a dump", multipart(&[(upload, b"something else that is long enough")])),
        ("no form", b"nonsense".to_vec()),
    ];
    for (what, body) in refused {
        assert_status(what, &client.post("/api/PROJECT/minidump/", FORM, body), 400);
    }
    assert_stored(&observed, &posted);
    let event = observed.event(posted[0].1).unwrap();
    assert_eq!((&event["release"], &event["platform"]), (&json!("shop@1.2.3"), &json!("native")), "{event}");
}

#[test]
fn attachments_reports_of_networks_and_open_telemetry_are_taken() {
    let observed = Observed::start();
    let client = Client::of(&observed);
    let event = TestEvent::message("with an attachment");
    assert_status("event", &client.post("/api/PROJECT/envelope/", "text/plain", event.envelope()), 200);
    let form = multipart(&[("name=\"file\"; filename=\"shop.log\"", b"the till was open")]);
    let path = format!("/api/PROJECT/events/{}/attachments/", event.id);
    let answer = client.post(&path, "multipart/form-data; boundary=b", form);
    assert_status("attachment", &answer, 201);
    assert!(answer.body.is_empty());

    let report = json!([{ "type": "network-error", "age": 1, "url": "https://shop.example/", "body": { "type": "http.error", "status_code": 502 } }]);
    assert_status("NEL", &client.post("/api/PROJECT/nel/", "application/reports+json", report.to_string()), 200);
    assert_status("NEL as text", &client.post("/api/PROJECT/nel/", "text/plain", report.to_string()), 415);

    let spans = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [{ "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331", "name": "pay", "startTimeUnixNano": "1", "endTimeUnixNano": "2" }] }] }] });
    let logs = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [{ "timeUnixNano": "1", "body": { "stringValue": "open" } }] }] }] });
    for (kind, content) in [("traces", spans), ("logs", logs)] {
        for path in
            [format!("/api/PROJECT/integration/otlp/v1/{kind}/"), format!("/api/PROJECT/integration/otlp/v1/{kind}")]
        {
            assert_status(&path, &client.post(&path, "application/json", content.to_string()), 200);
            // Field 1, of length 0: one group without anything in it.
            assert_status(&path, &client.post(&path, "application/x-protobuf", "\n\0"), 200);
            assert_status(&path, &client.post(&path, "text/plain", content.to_string()), 415);
        }
    }
    observed.wait_for_outcomes(&[("attachment", "unsupported", 17), ("error", "accepted", 1)]);
}
