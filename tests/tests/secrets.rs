//! Personal data never leaves the relay, nor lies readable on a disk: secrets are planted in every field of everything that a
//! relay takes, under the `strict` profile that new projects have, and searched for afterwards.
//!
//! ```text
//! posts, good and bad ─▶ relay (log level trace) ─▶ spool     stopped, opened here, batches decompressed
//!                                                └▶ aggregator ─▶ journal   the same; its ClickHouse is away, so nothing leaves
//! ```
//! Searched: the answers, both programs' logs, metrics and status, every file below the data directories as it lies there, and
//! every key and value of both databases after decoding. Each kind of item that is kept has a marker that is no secret, which
//! must be found in each database: the search looks where payloads are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use picket_tests::aggregator::Start;
use picket_tests::clickhouse_server::{ClickHouseServer, USER};
use picket_tests::encode::{deflate, gzip};
use picket_tests::http::{HttpClient, request};
use picket_tests::ingest::Target;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::planted::{Found, Planted};
use serde_json::{Value, json};
use uuid::Uuid;

/// In every event, beside the secrets.
const MARKER: &str = "the marker that is no secret";
/// What must be found in each database: one for each kind of item that is kept.
const MARKERS: [&str; 9] = [
    MARKER,
    "marked-release@session",
    "marked-release@sessions",
    "marked-monitor",
    "marked-cron",
    "the marker of a user report",
    "the marker of feedback",
    "the marker of a form",
    "https://marked.example/",
];
/// What the relay logs here: as much as it can, without the noise of the libraries below it.
const LOG_LEVEL: [(&str, &str); 1] = [("PICKET_RELAY__LOG__LEVEL", "trace")];

/// An event with every field that has free text or a name that tells a secret; `PLANT` and `SECRET` as in [`Planted::plant`].
fn template() -> Value {
    let frame = json!({
        "function": "charge", "module": "shop.pay", "filename": "shop/pay.py", "abs_path": "/home/PLANTED/shop/pay.py", "lineno": 7,
        "context_line": "PLANT", "pre_context": ["PLANT", "PLANT"], "post_context": ["PLANT"],
        "vars": { "password": "SECRET", "text": "PLANT", "nested": { "api_key": "SECRET", "list": ["PLANT"] } },
    });
    let page = json!({ "function": "pay", "filename": "https://shop.example/pay.js",
        "abs_path": "https://shop.example/reset?token=PLANTED&next=/x/y", "vars": { "secret": "SECRET" } });
    // Deeper than any field may be: it becomes a text.
    let deep = |innermost: Value| (0..9).fold(innermost, |inner, _| json!({ "a": inner }));
    let too_deep = deep(json!({ "password": "SECRET", "note": "PLANT", "list": ["PLANT", { "api_key": "SECRET" }] }));
    json!({
        "platform": "python", "level": "error", "message": "PLANT",
        "logentry": { "formatted": "PLANT", "message": "PLANT", "params": ["PLANT", { "secret": "SECRET" }] },
        "exception": { "values": [{
            "type": "PaymentError", "value": "PLANT", "stacktrace": { "frames": [frame, page, { "function": "deep", "vars": too_deep }] },
            "mechanism": { "type": "generic", "handled": false, "description": "PLANT", "data": { "token": "SECRET", "note": "PLANT" } },
        }] },
        "threads": { "values": [{ "id": 1, "name": "PLANT", "stacktrace": { "frames": [frame] } }] },
        "stacktrace": { "frames": [frame] },
        "breadcrumbs": { "values": [
            { "category": "http", "message": "PLANT", "data": { "url": "PLANT", "password": "SECRET", "deep": { "x": ["PLANT"] } } },
            { "category": "deep", "data": too_deep },
        ] },
        "request": {
            "url": "PLANT", "method": "POST", "query_string": [["api_key", "SECRET"], ["page", "PLANT"]],
            "cookies": [["session_token", "SECRET"], ["theme", "PLANT"]],
            "headers": [["Authorization", "SECRET"], ["Cookie", "PLANT"], ["X-Api-Key", "SECRET"], ["Referer", "PLANT"]],
            "data": { "password": "SECRET", "comment": "PLANT", "cards": ["PLANT"] }, "env": { "DB_PASSWORD": "SECRET", "NOTE": "PLANT" },
            "fragment": "PLANT",
        },
        "user": { "id": "42", "username": "PLANT", "name": "PLANT", "data": { "secret": "SECRET", "note": "PLANT" }, "extra": "PLANT" },
        "tags": { "note": "PLANT", "password": "SECRET" },
        "extra": { "marker": MARKER, "note": "PLANT", "password": "SECRET", "deep": { "a": [{ "auth": "SECRET", "b": "PLANT" }] }, "text": "PLANT", "too_deep": too_deep },
        "contexts": {
            "shop": { "note": "PLANT", "secret": "SECRET" }, "too_deep": too_deep, "device": { "name": "PLANT" },
            "trace": { "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "data": { "note": "PLANT" } },
            "response": { "headers": [["Set-Cookie", "PLANT"]], "cookies": [["sid_token", "SECRET"]] },
        },
        "transaction": "PLANT", "culprit": "PLANT", "server_name": "PLANT", "logger": "shop",
        "modules": { "shop": "1.0" }, "fingerprint": ["PLANT", "{{ default }}"],
        "errors": [{ "type": "invalid_data", "name": "x", "value": "PLANT" }],
        "debug_meta": { "images": [{
            "type": "macho", "code_file": "/home/PLANTED/libshop.so", "debug_file": "/home/PLANTED/libshop.debug",
            "image_addr": "0x1000", "debug_id": "494f3aea-88fa-4296-9644-fa8ef5d139b6",
        }] },
        "unknown_to_all": { "password": "SECRET", "note": "PLANT" }, "unknown_text": "PLANT",
        "_meta": { "extra": { "note": { "": { "val": "PLANT", "rem": [["PLANT", "x"], ["!limit", "s", 0, 9]],
            "err": ["PLANT", ["invalid_data", { "password": "SECRET", "reason": "PLANT" }]] } } } },
    })
}

/// What is posted: a name, a path, headers, a body.
struct Post {
    what: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Makes the posts of this test, and remembers what was planted in them.
struct Planter {
    planted: Planted,
    target: Target,
    posts: Vec<Post>,
}

impl Planter {
    fn event(&mut self, what: &str) -> Value {
        let mut event = template();
        event["event_id"] = json!(Uuid::new_v4().simple().to_string());
        self.planted.plant(&mut event, what);
        // Users' directories in paths.
        let mut text = event.to_string();
        while text.contains("PLANTED") {
            let secret = self.planted.secret(&format!("{what}: a path"));
            text = text.replacen("PLANTED", &secret, 1);
        }
        serde_json::from_str(&text).unwrap()
    }

    fn push(&mut self, what: &str, path: String, extra: &[(&str, &str)], body: Vec<u8>) {
        let owned = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut headers = vec![owned("x-sentry-auth", &self.target.auth_header())];
        headers.extend(extra.iter().map(|(name, value)| owned(name, value)));
        // What any client may send along and no relay needs.
        headers.push(("cookie".to_owned(), self.planted.sentence(&format!("{what}: HTTP cookie"))));
        headers.push((
            "referer".to_owned(),
            format!("http://x/?token={}", self.planted.secret(&format!("{what}: HTTP referer"))),
        ));
        self.posts.push(Post { what: what.to_owned(), path, headers, body });
    }

    fn envelope(&mut self, what: &str, extra: &[(&str, &str)], body: Vec<u8>) {
        self.push(what, self.target.envelope_path(), extra, body);
    }

    /// Envelopes with one item of each kind that is kept or dropped.
    fn items(&mut self) {
        self.event_item();
        let uuid = || Uuid::new_v4().to_string();
        let now = now_seconds();
        for (kind, content) in [
            (
                "session",
                json!({ "sid": uuid(), "did": "PLANT", "status": "ok", "init": true, "seq": 1, "errors": 0, "started": now,
                "abnormal_mechanism": "PLANT", "duration": "PLANT", "unknown": "PLANT", "password": "SECRET",
                "attrs": { "release": "marked-release@session", "environment": "PLANT", "ip_address": "PLANT", "user_agent": "PLANT",
                    "note": "PLANT", "secret": "SECRET" } }),
            ),
            (
                "session",
                json!({ "sid": "PLANT", "status": "PLANT", "seq": "PLANT", "errors": "PLANT", "init": "PLANT", "timestamp": "PLANT",
                "started": now, "attrs": { "release": "shop@1" } }),
            ),
            (
                "sessions",
                json!({ "aggregates": [
                    { "started": now, "exited": 3, "crashed": "PLANT", "did": "PLANT", "note": "PLANT", "token": "SECRET" },
                    { "started": "PLANT", "did": "PLANT" }, "PLANT",
                ], "attrs": { "release": "marked-release@sessions", "user_agent": "PLANT", "note": "PLANT" }, "unknown": "PLANT" }),
            ),
            (
                "check_in",
                json!({ "check_in_id": uuid(), "monitor_slug": "marked-monitor", "status": "PLANT", "duration": "PLANT",
                "environment": "PLANT", "release": "PLANT\n", "unknown": "PLANT", "password": "SECRET",
                "monitor_config": { "schedule": { "type": "crontab", "value": "PLANT" }, "owner": "PLANT", "note": "PLANT" },
                "contexts": { "note": "PLANT", "password": "SECRET", "trace": { "data": { "note": "PLANT" } } } }),
            ),
            (
                "user_report",
                json!({ "event_id": uuid(), "name": "PLANT", "email": "PLANT", "comments": "PLANT", "unknown": "PLANT",
                "password": "SECRET", "marker": "the marker of a user report" }),
            ),
            (
                "feedback",
                json!({ "type": "feedback", "extra": { "marker": "the marker of feedback", "note": "PLANT", "password": "SECRET" },
                "contexts": { "feedback": { "message": "PLANT", "name": "PLANT", "contact_email": "PLANT", "url": "PLANT",
                    "source": "PLANT", "unknown": "PLANT" }, "shop": { "token": "SECRET" } } }),
            ),
            ("form_data", json!([["note", "PLANT"], ["password", "SECRET"], ["marker", "the marker of a form"]])),
            ("form_data", json!("PLANT")),
            (
                "client_report",
                json!({ "discarded_events": [{ "reason": "PLANT", "category": "error", "quantity": 1 }] }),
            ),
            (
                "transaction",
                json!({ "type": "transaction", "transaction": "PLANT", "spans": [{ "description": "PLANT" }] }),
            ),
            ("log", json!({ "items": [{ "body": "PLANT", "attributes": { "password": "SECRET" } }] })),
            (
                "security",
                json!({ "csp-report": { "document-uri": "PLANT", "blocked-uri": "PLANT", "violated-directive": "img-src" } }),
            ),
            ("unknown_to_all", json!({ "password": "SECRET", "note": "PLANT" })),
        ] {
            let mut content = content;
            self.planted.plant(&mut content, kind);
            let content = content.to_string();
            let body = format!("{{}}\n{{\"type\":\"{kind}\",\"length\":{}}}\n{content}", content.len());
            self.envelope(kind, &[("content-encoding", "gzip")], gzip(body.as_bytes()));
        }
    }

    /// An event, and secrets in the headers around it.
    fn event_item(&mut self) {
        let event = self.event("event").to_string();
        let header = json!({ "sdk": { "name": "x", "note": self.planted.sentence("envelope header: sdk") },
            "trace": { "trace_id": "0af7651916cd43dd8448eb211c80319c", "public_key": self.target.key.to_string(),
                "user_segment": self.planted.sentence("envelope header: trace") },
            "password": self.planted.secret("envelope header: password"), "note": self.planted.sentence("envelope header: note") });
        let item = json!({ "type": "event", "length": event.len(),
            "password": self.planted.secret("item header: password"), "note": self.planted.sentence("item header: note") });
        self.envelope("event", &[], format!("{header}\n{item}\n{event}").into_bytes());
    }

    fn attachments(&mut self) {
        let lines: String = (0..20).map(|line| format!("{line} {}\n", self.planted.sentence("attachment"))).collect();
        let wide: String = (0..20).map(|_| self.planted.sentence("attachment in UTF-16") + "\r\n").collect();
        // The mark that Windows programs begin their logs with.
        let wide: Vec<u8> = [0xfeff].into_iter().chain(wide.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let dump = self.minidump();
        let event = self.event("event with attachments").to_string();
        let mut body = format!("{{}}\n{{\"type\":\"event\",\"length\":{}}}\n{event}\n", event.len()).into_bytes();
        for (name, kind, content) in [
            ("app.log", "event.attachment", lines.as_bytes()),
            ("windows.log", "event.attachment", &wide),
            ("crash.dmp", "event.minidump", &dump),
        ] {
            let note = self.planted.sentence("attachment header");
            let header = json!({ "type": "attachment", "attachment_type": kind, "length": content.len(), "filename": name, "note": note });
            body.extend_from_slice(format!("{header}\n").as_bytes());
            body.extend_from_slice(content);
            body.push(b'\n');
        }
        self.envelope("attachments", &[], body);
        let mut form =
            b"--b\r\ncontent-disposition: form-data; name=\"upload_file_minidump\"; filename=\"crash.dmp\"\r\n\r\n"
                .to_vec();
        form.extend_from_slice(&self.minidump());
        let extra = json!({ "extra": { "note": self.planted.sentence("minidump's sentry field"), "password": self.planted.secret("minidump's sentry field") } });
        let note = self.planted.sentence("minidump's form");
        form.extend_from_slice(
            format!(
                "\r\n--b\r\ncontent-disposition: form-data; name=\"sentry\"\r\n\r\n{extra}\r\n--b\r\n\
                 content-disposition: form-data; name=\"note\"\r\n\r\n{note}\r\n--b--\r\n"
            )
            .as_bytes(),
        );
        let path = format!("/api/{}/minidump/?sentry_key={}", self.target.project, self.target.key);
        let headers = vec![("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned())];
        self.posts.push(Post { what: "minidump".to_owned(), path, headers, body: form });
    }

    /// A minidump with one piece of the heap, in which there are texts of both encodings.
    fn minidump(&mut self) -> Vec<u8> {
        let narrow: String = (0..10).map(|_| self.planted.sentence("minidump") + "\0\0").collect();
        let wide: String = (0..10).map(|_| self.planted.sentence("minidump in UTF-16") + "\0\0").collect();
        let mut heap = narrow.into_bytes();
        heap.resize(heap.len().next_multiple_of(16), 0);
        heap.extend(wide.encode_utf16().flat_map(u16::to_le_bytes));
        // MINIDUMP_HEADER, one MINIDUMP_DIRECTORY, a MINIDUMP_MEMORY_LIST with one MINIDUMP_MEMORY_DESCRIPTOR, the memory.
        const HEADER: u32 = 32;
        const DIRECTORY: u32 = 12;
        const LIST: u32 = 4 + 16;
        const MEMORY_LIST_STREAM: u32 = 5;
        let size = u32::try_from(heap.len()).unwrap();
        let mut dump = b"MDMP".to_vec();
        for word in [0xa793, 1, HEADER, 0, 0, 0, 0] {
            dump.extend(u32::to_le_bytes(word));
        }
        for word in [MEMORY_LIST_STREAM, LIST, HEADER + DIRECTORY, 1, 0x1000, 0, size, HEADER + DIRECTORY + LIST] {
            dump.extend(u32::to_le_bytes(word));
        }
        dump.extend(heap);
        dump
    }

    fn other_endpoints(&mut self) {
        let (project, key) = (self.target.project, self.target.key);
        let event = self.event("store").to_string();
        self.push(
            "store",
            format!("/api/{project}/store/"),
            &[("content-encoding", "deflate")],
            deflate(event.as_bytes()),
        );
        let mut report = json!({ "csp-report": { "document-uri": "PLANT", "referrer": "PLANT", "blocked-uri": "PLANT",
            "violated-directive": "img-src", "original-policy": "img-src 'self'", "script-sample": "PLANT" } });
        report["csp-report"]["source-file"] = json!("https://marked.example/");
        self.planted.plant(&mut report, "csp-report");
        let path = format!("/api/{project}/security/?sentry_key={key}");
        self.posts.push(Post {
            what: "csp-report".to_owned(),
            path,
            headers: vec![("content-type".to_owned(), "application/csp-report".to_owned())],
            body: report.to_string().into_bytes(),
        });
        let environment = format!("password={}", self.planted.secret("cron URL"));
        let environment: String = form_urlencoded::byte_serialize(environment.as_bytes()).collect();
        let path = format!("/api/{project}/cron/marked-cron/?sentry_key={key}&status=ok&environment={environment}");
        self.posts.push(Post { what: "cron".to_owned(), path, headers: Vec::new(), body: Vec::new() });
    }

    /// Requests that are refused: what was in them is not to be repeated anywhere.
    fn failures(&mut self) {
        let event = self.event("cut off").to_string();
        let body = format!("{{}}\n{{\"type\":\"event\",\"length\":{}}}\n{}", event.len(), &event[..event.len() / 2]);
        self.envelope("cut off", &[], body.into_bytes());
        let broken = format!("{{\"password\":\"{}\",,}}", self.planted.secret("bad JSON"));
        let body = format!("{{}}\n{{\"type\":\"event\",\"length\":{}}}\n{broken}", broken.len());
        self.envelope("bad JSON", &[], body.into_bytes());
        let body = format!("{{\"password\":\"{}\"\n{{}}\n", self.planted.secret("bad envelope header"));
        self.envelope("bad envelope header", &[], body.into_bytes());
        let body = format!("{{}}\n{{\"type\":\"{}\n", self.planted.secret("bad item header"));
        self.envelope("bad item header", &[], body.into_bytes());
        let large = format!("{}{}", self.planted.sentence("too large"), "x".repeat(2 * 1024 * 1024));
        let body = format!("{{}}\n{{\"type\":\"event\",\"length\":{}}}\n{{\"a\":\"{large}\"}}", large.len() + 8);
        self.envelope("too large", &[], body.into_bytes());
        let encoding = self.planted.secret("unknown encoding");
        self.envelope("unknown encoding", &[("content-encoding", &encoding)], b"{}".to_vec());
        let path = format!("/api/{}/nothing/?token={}", self.target.project, self.planted.secret("unknown path"));
        self.push("unknown path", path, &[], Vec::new());
        let path = format!("/api/{}/envelope/?sentry_key={}", self.target.project, self.planted.secret("bad key"));
        self.posts.push(Post { what: "bad key".to_owned(), path, headers: Vec::new(), body: b"{}\n".to_vec() });
        let basic = format!("Basic {}", self.planted.secret("bad authorization"));
        self.posts.push(Post {
            what: "bad authorization".to_owned(),
            path: self.target.envelope_path(),
            headers: vec![("authorization".to_owned(), basic)],
            body: b"{}\n".to_vec(),
        });
    }
}

fn now_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

#[track_caller]
fn assert_none(mut found: Vec<Found>) {
    found.sort();
    found.dedup();
    let all: String = found.iter().map(|find| format!("  {} is in {}\n", find.planted, find.found)).collect();
    assert!(found.is_empty(), "{} planted secrets were found:\n{all}", found.len());
}

#[test]
fn no_planted_secret_is_in_any_answer_log_metric_or_file() {
    let directory = tempfile::tempdir().unwrap();
    let server = ClickHouseServer::start(&directory.path().join("server"), "for this test");
    let section = format!("url = \"http://{}\"\nuser = \"{USER}\"\npassword = \"for this test\"", server.address);
    let mut installation = Installation::prepare(&section);
    installation.aggregator.init();
    let aggregator_level = [("PICKET_AGGREGATOR__LOG__LEVEL", "trace")];
    installation.aggregator.start_as(&Start { environment: &aggregator_level, ..Start::default() });
    let project = installation.create_project("Shop");
    let mut relay = installation.join_relay("relay", installation.directory().join("relay"));
    relay.start_as(&Start { environment: &LOG_LEVEL, ..Start::default() });
    relay.wait_until("is connected", ARRIVAL_PATIENCE, |status| status["uplink"]["connected_to"].is_string());

    // From here on nothing leaves the spool.
    installation.aggregator.stop();
    let mut planter = Planter { planted: Planted::default(), target: project.at(&relay), posts: Vec::new() };
    planter.items();
    planter.attachments();
    planter.other_endpoints();
    planter.failures();
    let Planter { planted, posts, .. } = planter;
    eprintln!("{} secrets in {} requests", planted.count(), posts.len());
    let http = HttpClient::new();
    let mut found = Vec::new();
    let mut accepted = 0;
    for post in posts {
        let headers: Vec<_> = post.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = request("POST", relay.listen, &post.path, &headers, Bytes::from(post.body));
        let answer = http.send(request, ARRIVAL_PATIENCE).unwrap_or_else(|error| panic!("{}: {}", post.what, error.0));
        accepted += u32::from(answer.status < 300);
        let said = format!("{:?}\n{}", answer.headers, answer.text());
        found.extend(planted.search(&format!("the answer to {}: {}", post.what, answer.status), said.as_bytes()));
    }
    assert!(accepted >= 19, "only {accepted} requests were taken");
    found.extend(planted.search("the relay's metrics", relay.metrics().as_bytes()));
    found.extend(planted.search("the relay's status", relay.status().unwrap().to_string().as_bytes()));
    relay.stop();
    found.extend(planted.search_files(&relay.data_dir));
    let (in_spool, unseen) = planted.search_database(&relay.data_dir.join("spool"), &MARKERS);
    assert!(
        unseen.is_empty(),
        "the spool has no {unseen:?}: it was searched where payloads are not, or they were dropped"
    );
    found.extend(in_spool);

    // The journal takes everything and, without its ClickHouse, keeps it.
    installation.aggregator.start_as(&Start { environment: &aggregator_level, ..Start::default() });
    server.stop();
    relay.start_as(&Start { environment: &LOG_LEVEL, ..Start::default() });
    relay.wait_until_drained(ARRIVAL_PATIENCE);
    relay.stop();
    installation.aggregator.kill();
    found.extend(planted.search_files(&installation.aggregator.data_dir));
    let (in_journal, unseen) = planted.search_database(&installation.aggregator.data_dir.join("journal"), &MARKERS);
    assert!(unseen.is_empty(), "the journal has no {unseen:?}");
    found.extend(in_journal);
    found.extend(planted.search("the relay's log", relay.logged().as_bytes()));
    found.extend(planted.search("the aggregator's log", installation.aggregator.logged().as_bytes()));
    assert_none(found);
}
