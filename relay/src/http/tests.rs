//! The whole way of a request: router, pipeline, a real spool in a temporary directory.

#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;

use axum::http::{HeaderMap, Method, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use picket_common::category::DataCategory;
use picket_common::config::{ByteSize, Span};
use picket_common::envelope::Envelope;
use picket_common::ids::{ProjectId, Sequence};
use picket_common::outcome::{Outcome, OutcomeCount, OutcomeKey};
use picket_common::project_config::{ConfigSnapshot, KeyConfig, ProjectConfig, ProjectSettings};
use picket_common::record::{Record, RecordReader};
use tower::ServiceExt;

use super::*;
use crate::quota::table::Quotas;
use crate::run::random;
use crate::spool::{Committer, Oversized, ReadLimit, Spool, SpoolConfig};
use crate::staging::Staging;

mod accounting;
mod answers;
mod attachments;
mod check_ins;
mod crashes;
mod gone;
mod integrations;
mod kinds;
mod large_bodies;
mod limits;
mod pages;
mod security;
mod sizes;

pub(super) const KEY: &str = "0123456789abcdef0123456789abcdef";
const DISABLED_KEY: &str = "dddddddddddddddddddddddddddddddd";
const CLOSED_KEY: &str = "cccccccccccccccccccccccccccccccc";
const ID: &str = "fc6d8c0c43fc4630ad850ee518f1b9d0";
/// What the test's random source makes of sixteen bytes of 7.
const RANDOM_ID: &str = "07070707070747078707070707070707";

pub(super) struct Relay {
    pub(super) server: Arc<Server>,
    spool: Spool,
    /// What [`Relay::counted`] has told.
    told: Mutex<BTreeMap<OutcomeKey, u64>>,
    _committer: Committer,
    _directory: tempfile::TempDir,
}

fn relay_with(limits: LimitsConfig, spool_config: &SpoolConfig) -> Relay {
    let directory = tempfile::tempdir().unwrap();
    // What was answered can be read at once.
    let spool_config = SpoolConfig { linger: Span::millis(0), ..spool_config.clone() };
    let (spool, committer) = Spool::open(&directory.path().join("spool"), &spool_config, [1; 16]).unwrap();
    let outcomes = Outcomes::new(spool.clone(), || Timestamp::from_millis(1_763_820_306_789));
    let server = Arc::new(Server {
        config: HttpConfig::default(),
        limits: limits.clone(),
        budget: MemoryBudget::new(limits.max_in_flight_bytes.as_usize()),
        decoding: crate::crash::decoding_budget(),
        staging: Staging::open(&directory.path().join("staging"), 1 << 30, random).unwrap(),
        random,
        projects: Projects::open(spool.clone()).unwrap(),
        pipeline: Pipeline::new(limits, Quotas::default(), spool.clone(), outcomes.clone(), || Some([7; 16])),
        outcomes,
        metrics: RelayMetrics::registered(&mut crate::metrics::registry()),
        clock: || Timestamp::from_millis(1_763_820_306_789),
    });
    Relay { server, spool, told: Mutex::default(), _committer: committer, _directory: directory }
}

fn project(id: u64, key: &str, enabled: bool, allowed_domains: &[&str]) -> ProjectConfig {
    ProjectConfig {
        id: ProjectId::new(id),
        slug: format!("project-{id}"),
        keys: vec![KeyConfig { public_key: key.parse().unwrap(), enabled }],
        settings: ProjectSettings {
            allowed_domains: allowed_domains.iter().map(|&domain| domain.to_owned()).collect(),
            ..ProjectSettings::default()
        },
    }
}

pub(super) fn relay() -> Relay {
    let config = SpoolConfig { min_free_bytes: ByteSize::bytes(0), ..SpoolConfig::default() };
    let relay = relay_with(LimitsConfig::default(), &config);
    relay.configure();
    relay
}

/// Project, category, outcome, reason, quantity.
type Counted = (Option<u64>, DataCategory, Outcome, String, u64);

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The first cause; with a check that the body has the form every error body has.
    fn cause(&self) -> String {
        let body = self.json();
        assert!(!body["detail"].as_str().unwrap().is_empty(), "{body}");
        body["causes"][0].as_str().unwrap_or_default().to_owned()
    }
}

impl Relay {
    fn configure(&self) {
        let projects = vec![
            project(7, KEY, true, &["*"]),
            project(8, DISABLED_KEY, false, &["*"]),
            project(9, CLOSED_KEY, true, &["example.org"]),
        ];
        self.server.projects.replace(ConfigSnapshot { revision: 1, projects }).unwrap();
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = fold_slashes(request.body(Body::from(body.into())).unwrap());
        let response = router(Arc::clone(&self.server)).oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        assert_eq!(head.headers.get("cross-origin-resource-policy").unwrap(), "cross-origin");
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let auth = format!("Sentry sentry_key={KEY}");
        self.send(Method::POST, path, &[("x-sentry-auth", &auth)], body).await
    }

    pub(super) fn spooled(&self) -> Vec<Record> {
        let limit = ReadLimit { batches: 100, bytes: 1 << 30, oversized: Oversized::Take };
        self.spool
            .read_from(Sequence::FIRST, limit)
            .unwrap()
            .into_iter()
            .flat_map(|batch| RecordReader::new(Bytes::from(zstd::decode_all(&batch.payload[..]).unwrap())))
            .map(Result::unwrap)
            .collect()
    }

    /// What was counted since the last call.
    fn counted(&self) -> Vec<Counted> {
        let mut told = self.told.lock().unwrap();
        let mut counted: Vec<_> = self
            .spool
            .counted()
            .into_iter()
            .map(|OutcomeCount { key, quantity }| {
                let project = key.project_id.map(ProjectId::get);
                let before = told.insert(key.clone(), quantity).unwrap_or(0);
                (project, key.category, key.outcome, key.reason.into_owned(), quantity - before)
            })
            .filter(|(.., quantity)| *quantity > 0)
            .collect();
        counted.sort();
        counted
    }
}

/// The payload of a record's first item.
pub(super) fn event_of(record: &Record) -> serde_json::Value {
    let envelope = Envelope::parse(record.body.clone(), 500).unwrap();
    serde_json::from_slice(envelope.items()[0].payload()).unwrap()
}

fn envelope_of(event: &str) -> String {
    format!("{{\"event_id\":\"{ID}\"}}\n{{\"type\":\"event\",\"length\":{}}}\n{event}\n", event.len())
}

#[tokio::test]
async fn an_envelope_is_on_disk_when_it_is_answered() {
    let relay = relay();
    let answer = relay.post("/api/7/envelope/", envelope_of(r#"{"message":"x"}"#)).await;
    assert_eq!((answer.status, answer.json()), (200, serde_json::json!({ "id": ID })));
    assert_eq!(answer.header("content-type"), "application/json");
    let records = relay.spooled();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].header.project_id, ProjectId::new(7));
    assert_eq!(records[0].header.public_key.as_str(), KEY);
    assert_eq!(records[0].header.received_at, Timestamp::from_millis(1_763_820_306_789));
    assert_eq!(records[0].header.event_id.unwrap().to_string(), ID);
    let event = event_of(&records[0]);
    assert_eq!((&event["logentry"]["formatted"], &event["event_id"]), (&"x".into(), &ID.into()));
    assert_eq!(relay.counted(), []);
}

#[tokio::test]
async fn the_id_comes_from_the_header_else_the_payload_else_the_relay() {
    let relay = relay();
    let other = "11111111111141118111111111111111";
    for (body, id) in [
        (format!("{{\"event_id\":\"{ID}\"}}\n{{\"type\":\"event\"}}\n{{\"event_id\":\"{other}\"}}"), ID),
        (format!("{{}}\n{{\"type\":\"event\"}}\n{{\"event_id\":\"{other}\"}}"), other),
        ("{}\n{\"type\":\"event\"}\n{\"event_id\":null}".to_owned(), RANDOM_ID),
    ] {
        assert_eq!(relay.post("/api/7/envelope/", body.clone()).await.json()["id"], id, "{body}");
        let spooled = relay.spooled().pop().unwrap();
        assert_eq!(spooled.header.event_id.unwrap().to_string(), id);
        assert_eq!(Envelope::parse(spooled.body, 500).unwrap().event_id().unwrap().to_string(), id);
    }
}

#[tokio::test]
async fn an_envelope_without_items_is_answered_and_not_spooled() {
    let relay = relay();
    assert_eq!(relay.post("/api/7/envelope/", "{}").await.status, 200);
    assert!(relay.spooled().is_empty());
}

#[tokio::test]
async fn credentials_may_come_in_the_envelope_header() {
    let relay = relay();
    let with_dsn = |dsn: &str| format!("\n {{\"dsn\":\"{dsn}\"}}\n{{\"type\":\"session\"}}\n{{}}\n");
    for (dsn, status) in [
        (format!("http://{KEY}@relay:3000/7"), 200),
        (format!("http://{DISABLED_KEY}@relay:3000/8"), 403),
        (format!("http://{KEY}@relay:3000/8"), 400),
        ("http://relay/7".to_owned(), 401),
    ] {
        let answer = relay.send(Method::POST, "/api/7/envelope/", &[], with_dsn(&dsn)).await;
        assert_eq!(answer.status, status, "{dsn}: {:?}", answer.body);
    }
    assert_eq!(relay.send(Method::POST, "/api/7/envelope/", &[], "{}\n").await.status, 401);
    assert_eq!(relay.send(Method::POST, "/api/7/envelope/", &[], "rubbish").await.status, 401);
    let contradicting = relay.post("/api/7/envelope/", with_dsn(&format!("http://{CLOSED_KEY}@relay/7"))).await;
    assert_eq!((contradicting.status, contradicting.cause().as_str()), (400, "invalid_envelope"));
}

#[tokio::test]
async fn each_refusal_has_its_status_its_cause_and_its_outcome() {
    let relay = relay();
    let auth = |key: &str| format!("Sentry sentry_key={key}");
    let unknown = auth(&"u".repeat(32));
    let future = format!("Sentry sentry_key={KEY},sentry_version=8");
    let (good, disabled, closed) = (auth(KEY), auth(DISABLED_KEY), auth(CLOSED_KEY));
    let error = DataCategory::Error;
    let unread = DataCategory::Default;
    /// Path, headers, body; status, cause; the project and category it is counted under.
    type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, u16, &'a str, Option<u64>, DataCategory);
    let table: Vec<Row<'_>> = vec![
        ("/api/7/store/", vec![], "{}", 401, "auth", None, error),
        ("/api/7/store/?sentry_release=1", vec![("x-sentry-auth", &good)], "{}", 401, "auth", None, error),
        ("/api/7/store/", vec![("x-sentry-auth", "Sentry sentry_key=short")], "{}", 400, "auth", None, error),
        ("/api/7/store/", vec![("x-sentry-auth", &future)], "{}", 400, "auth", None, error),
        ("/api/seven/store/", vec![("x-sentry-auth", &good)], "{}", 400, "project_id", None, error),
        ("/api/7/store/", vec![("x-sentry-auth", &unknown)], "{}", 403, "unknown_key", None, error),
        ("/api/8/store/", vec![("x-sentry-auth", &disabled)], "{}", 403, "disabled_key", None, error),
        ("/api/8/store/", vec![("x-sentry-auth", &good)], "{}", 403, "project_id", None, error),
        (
            "/api/9/store/",
            vec![("x-sentry-auth", &closed), ("origin", "https://evil.net")],
            "{}",
            403,
            "cors",
            None,
            error,
        ),
        ("/api/7/store/", vec![("x-sentry-auth", &good)], "", 400, "empty_body", Some(7), error),
        ("/api/7/store/", vec![("x-sentry-auth", &good)], "[]", 400, "invalid_json", Some(7), error),
        ("/api/7/store/", vec![("x-sentry-auth", &good)], "{\"a\":", 400, "invalid_json", Some(7), error),
        (
            "/api/7/store/",
            vec![("x-sentry-auth", &good), ("content-encoding", "compress")],
            "{}",
            415,
            "invalid_compression",
            Some(7),
            error,
        ),
        (
            "/api/7/store/",
            vec![("x-sentry-auth", &good), ("content-encoding", "gzip")],
            "{}",
            400,
            "invalid_compression",
            Some(7),
            error,
        ),
        (
            "/api/7/store/",
            vec![("x-sentry-auth", &good), ("content-length", "9999999")],
            "{}",
            413,
            "too_large:body",
            Some(7),
            error,
        ),
        ("/api/7/envelope/", vec![("x-sentry-auth", &good)], "", 400, "empty_body", Some(7), unread),
        ("/api/7/envelope/", vec![("x-sentry-auth", &good)], "\n", 400, "empty_body", Some(7), unread),
        ("/api/7/envelope/", vec![("x-sentry-auth", &good)], "{}\n\n", 400, "invalid_envelope", Some(7), unread),
        (
            "/api/7/envelope/",
            vec![("x-sentry-auth", &good)],
            "{\"event_id\":\"00000000000000000000000000000000\"}\n",
            400,
            "invalid_envelope",
            Some(7),
            unread,
        ),
        (
            "/api/7/envelope/",
            vec![("x-sentry-auth", &good)],
            "{}\n{\"type\":\"event\"}\n[1]",
            400,
            "invalid_json",
            Some(7),
            error,
        ),
    ];
    for (path, headers, body, status, cause, project, category) in table {
        let answer = relay.send(Method::POST, path, &headers, body.to_owned()).await;
        assert_eq!(
            (answer.status, answer.cause().as_str()),
            (status, cause),
            "{path} {headers:?} {body:?}: {:?}",
            answer.body
        );
        let counted = relay.counted();
        assert_eq!(
            counted,
            [(project, category, Outcome::Invalid, cause.to_owned(), 1)],
            "{path} {headers:?} {body:?}"
        );
    }
    assert!(relay.spooled().is_empty(), "something refused was stored");
    assert_eq!(relay.server.budget.used(), 0);
}

#[tokio::test]
async fn every_path_and_method_answers_with_an_error_body() {
    let relay = relay();
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::POST, "/api/7/envelope", 404),
        (Method::POST, "/api/7/store", 404),
        (Method::POST, "/api/7/novelty/", 404),
        (Method::GET, "/api/relay/healthcheck/live", 404),
        (Method::GET, "/api/7/envelope/", 405),
        (Method::DELETE, "/api/7/store/", 405),
        (Method::POST, "/api/relay/healthcheck/live/", 405),
    ] {
        let answer = relay.send(method.clone(), path, &[], "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        answer.cause();
    }
}

#[tokio::test]
async fn a_missing_slash_is_named_where_one_would_help() {
    let relay = relay();
    for path in [
        "/api/store",
        "/api/7/envelope",
        "/api/7/store",
        "/api/7/security",
        "/api/7/csp-report",
        "/api/7/nel",
        "/api/7/unreal/key",
        "/api/7/events/id/attachments",
        "/api/relay/healthcheck/live",
        "/api/relay/healthcheck/ready",
        "/api/0/relays/live",
    ] {
        let answer = relay.send(Method::DELETE, path, &[], "").await;
        assert!(answer.status == 404 && String::from_utf8_lossy(&answer.body).contains("slash"), "{path}");
        assert_eq!(relay.send(Method::DELETE, &format!("{path}/"), &[], "").await.status, 405, "{path}/");
    }
    for path in ["/", "/api/", "/api", "/api/7/novelty/", "/api/7/novelty", "/nope/7/envelope"] {
        let answer = relay.send(Method::POST, path, &[], "").await;
        assert!(answer.status == 404 && !String::from_utf8_lossy(&answer.body).contains("slash"), "{path}");
    }
}

#[tokio::test]
async fn repeated_slashes_are_folded_and_the_query_is_kept() {
    let relay = relay();
    let answer = relay.send(Method::POST, &format!("//api//7///store/?sentry_key={KEY}&x=a//b"), &[], "{}").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_store_endpoint_takes_every_form_of_an_event() {
    let relay = relay();
    let json = format!("{{\"event_id\":\"{ID}\",\"message\":\"\\ud800 stays\"}}");
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &json);
    for (path, body) in [("/api/7/store/", json.clone()), ("/api/store/", json.clone()), ("/api/7/store/", base64)] {
        let answer = relay.post(path, body).await;
        assert_eq!((answer.status, answer.json()["id"].as_str().unwrap()), (200, ID));
        let record = relay.spooled().pop().unwrap();
        assert_eq!(record.header.project_id, ProjectId::new(7));
        let event = event_of(&record);
        let message = &event["logentry"]["formatted"];
        assert_eq!((&event["event_id"], message), (&ID.into(), &"\u{fffd} stays".into()));
    }
    let auth = format!("Sentry sentry_key={KEY}");
    let headers = [("x-sentry-auth", auth.as_str()), ("content-type", "application/x-sentry-envelope")];
    let answer = relay.send(Method::POST, "/api/7/store/", &headers, envelope_of("{}")).await;
    let event = event_of(&relay.spooled().pop().unwrap());
    assert_eq!((answer.status, &event["event_id"]), (200, &ID.into()));
}

#[tokio::test]
async fn a_page_may_post_by_loading_an_image() {
    let relay = relay();
    let path = format!("/api/7/store/?sentry_version=7&sentry_key={KEY}&sentry_data=%7B%22message%22%3A%22x%22%7D");
    let answer = relay.send(Method::GET, &path, &[("referer", "https://example.org/")], "").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "image/gif"));
    assert!(answer.body.starts_with(b"GIF89a") && answer.body.ends_with(b";") && answer.body.len() == 43);
    assert_eq!(relay.spooled().len(), 1);
    let missing = relay.send(Method::GET, &format!("/api/store/?sentry_key={KEY}"), &[], "").await;
    assert_eq!((missing.status, missing.cause().as_str()), (400, "empty_body"));
}

#[tokio::test]
async fn floats_of_old_python_clients_are_repaired_and_only_theirs() {
    let relay = relay();
    for (client, status) in [("raven-python/6.10", 200), ("sentry-python/0.1", 200), ("raven-js/3", 400)] {
        let auth = format!("Sentry sentry_key={KEY},sentry_client={client}");
        let answer =
            relay.send(Method::POST, "/api/7/store/", &[("x-sentry-auth", &auth)], "{\"extra\":{\"a\":NaN}}").await;
        assert_eq!(answer.status, status, "{client}");
    }
    let event = event_of(&relay.spooled().pop().unwrap());
    assert_eq!(event["extra"], serde_json::json!({ "a": null }));
    assert_eq!(event["_meta"]["extra"]["a"][""]["err"][0][0], "invalid_data");
}

#[tokio::test]
async fn compressed_bodies_are_taken_and_bombs_are_not() {
    let relay = relay();
    let gzip = |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    let auth = format!("Sentry sentry_key={KEY}");
    let headers = [("x-sentry-auth", auth.as_str()), ("content-encoding", "gzip")];
    let answer = relay.send(Method::POST, "/api/7/envelope/", &headers, gzip(envelope_of("{}").as_bytes())).await;
    assert_eq!(answer.status, 200);
    let whole = gzip(envelope_of("{}").as_bytes());
    let truncated = relay.send(Method::POST, "/api/7/envelope/", &headers, whole[..whole.len() - 1].to_vec()).await;
    assert_eq!((truncated.status, truncated.cause().as_str()), (400, "invalid_compression"));
    let bomb = gzip(&vec![b' '; 50 * 1024 * 1024]);
    let answer = relay.send(Method::POST, "/api/7/store/", &headers, bomb).await;
    assert_eq!((answer.status, answer.cause().as_str()), (413, "too_large:body"));
    assert_eq!(relay.spooled().len(), 1);
}

#[tokio::test]
async fn without_a_configuration_requests_are_put_off_and_the_relay_is_not_ready() {
    let relay = relay_with(LimitsConfig::default(), &SpoolConfig::default());
    let answer = relay.post("/api/7/store/", "{}").await;
    assert_eq!((answer.status, answer.cause().as_str()), (503, "no_configuration"));
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(relay.counted().len(), 1);
    let ready = |path| relay.send(Method::GET, path, &[], "");
    assert_eq!(ready("/api/relay/healthcheck/live/").await.status, 200);
    assert_eq!(ready("/api/relay/healthcheck/ready/").await.status, 503);
    relay.configure();
    let answer = ready("/api/relay/healthcheck/ready/").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &br#"{"is_healthy":true}"#[..]));
}

#[tokio::test]
async fn a_full_spool_is_answered_429_with_both_headers() {
    let config =
        SpoolConfig { max_bytes: ByteSize::bytes(1), min_free_bytes: ByteSize::bytes(0), ..SpoolConfig::default() };
    let relay = relay_with(LimitsConfig::default(), &config);
    relay.configure();
    let mut answer = relay.post("/api/7/store/", "{}").await;
    if answer.status == 200 {
        answer = relay.post("/api/7/store/", "{}").await;
    }
    assert_eq!((answer.status, answer.cause().as_str()), (429, "spool_full"));
    assert_eq!(answer.header("retry-after"), "60");
    assert_eq!(answer.header("x-sentry-rate-limits"), "60::organization:spool_full");
    assert_eq!(answer.header("access-control-expose-headers"), "x-sentry-error, x-sentry-rate-limits, retry-after");
    assert_eq!(relay.counted(), [(None, DataCategory::Error, Outcome::RateLimited, "spool_full".to_owned(), 1)]);
    // What can't obey a limit is not told one.
    let answer = relay.send(Method::GET, &format!("/api/7/cron/nightly/{KEY}/?status=ok"), &[], "").await;
    assert_eq!((answer.status, answer.header("x-sentry-rate-limits")), (503, ""));
}

#[tokio::test]
async fn without_memory_for_a_body_the_answer_is_503() {
    let limits = LimitsConfig { max_in_flight_bytes: ByteSize::kib(64), ..LimitsConfig::default() };
    let relay = relay_with(limits, &SpoolConfig::default());
    relay.configure();
    let answer = relay.post("/api/7/envelope/", vec![b' '; 100_000]).await;
    assert_eq!((answer.status, answer.cause().as_str()), (503, "memory"));
    assert_eq!(answer.header("retry-after"), "10");
    assert_eq!(relay.server.budget.used(), 0);
}
