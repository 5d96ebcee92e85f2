//! What goes through as logs and spans and is not stored: OpenTelemetry, Vercel's drain, network errors.

use super::limits::relay_with_settings;
use super::*;

async fn send(relay: &Relay, path: &str, mime: &str, body: impl Into<Bytes>) -> Answer {
    let auth = format!("Sentry sentry_key={KEY}");
    let headers = [("x-sentry-auth", auth.as_str()), ("content-type", mime)];
    relay.send(Method::POST, path, &headers, body).await
}

/// Logs count in bytes, too.
fn without_bytes(counted: Vec<Counted>) -> Vec<Counted> {
    counted.into_iter().filter(|(_, category, ..)| *category != DataCategory::LogByte).collect()
}

const TRACES: (&str, &str, &str) =
    ("integration/otlp/v1/traces", "application/json", r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{},{}]}]}]}"#);
const LOGS: (&str, &str, &str) =
    ("integration/otlp/v1/logs", "application/json", r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},{}]}]}]}"#);
const DRAIN: (&str, &str, &str) = ("integration/vercel/logs", "application/json", "[{},{}]");
const NETWORK_ERRORS: (&str, &str, &str) = ("nel/", "application/reports+json", "[{},{}]");

#[tokio::test]
async fn a_closed_category_is_refused_on_these_ways_too() {
    let closed = serde_json::json!({"limit": 0, "categories": ["log_item", "span"], "reasonCode": "closed"});
    let relay = relay_with_settings(LimitsConfig::default(), serde_json::json!({ "quotas": [closed] }));
    for ((path, mime, body), status, category) in [
        (TRACES, 429, DataCategory::Span),
        (LOGS, 429, DataCategory::LogItem),
        (DRAIN, 429, DataCategory::LogItem),
        // Browsers' own reports are never told.
        (NETWORK_ERRORS, 200, DataCategory::LogItem),
    ] {
        let answer = send(&relay, &format!("/api/7/{path}"), mime, body).await;
        assert_eq!(answer.status, status, "{path}");
        let told = answer.header("x-sentry-rate-limits");
        assert_eq!(told, if status == 429 { "60:span;log_item:organization:closed" } else { "" }, "{path}");
        let expected = (Some(7), category, Outcome::RateLimited, "closed".to_owned(), 2);
        assert_eq!(without_bytes(relay.counted()), [expected], "{path}");
    }
    let (path, mime, body) = TRACES;
    assert_eq!(send(&relay, &format!("/api/7/{path}"), mime, body).await.json()["code"], 8, "RESOURCE_EXHAUSTED");
}

#[tokio::test]
async fn quotas_and_rates_count_entries_and_requests_of_these_ways() {
    let quota = serde_json::json!({"id": "q", "limit": 5, "window": 60, "categories": ["log_item"]});
    let relay = relay_with_settings(LimitsConfig::default(), serde_json::json!({ "quotas": [quota] }));
    let mut statuses = Vec::new();
    for (path, mime, body) in [LOGS, DRAIN, LOGS] {
        statuses.push(send(&relay, &format!("/api/7/{path}"), mime, body).await.status);
    }
    assert_eq!(statuses, [200, 202, 429], "two and two of five are used, and two more are too many");
    let mut limits = LimitsConfig::default();
    limits.rates.categories = [("span".to_owned(), 1)].into();
    let relay = relay_with_settings(limits, serde_json::json!({}));
    let (path, mime, body) = TRACES;
    assert_eq!(send(&relay, &format!("/api/7/{path}"), mime, body).await.status, 200);
    let answer = send(&relay, &format!("/api/7/{path}"), mime, body).await;
    assert_eq!((answer.status, answer.header("x-sentry-rate-limits")), (429, "1:span:project:rate_category"));
}

#[tokio::test]
async fn spans_and_logs_are_counted_and_answered_in_the_requests_format() {
    let relay = relay();
    let (json, protobuf) = ("application/json", "application/x-protobuf");
    let traces = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{},{}]}]}]}"#;
    let logs = b"\x0a\x06\x12\x04\x12\x02\x0a\x00".to_vec();
    for (path, mime, body, answer, category, quantity) in [
        ("otlp/v1/traces", json, traces.into(), "{}", DataCategory::Span, 2),
        ("otlp/v1/traces/", json, traces.into(), "{}", DataCategory::Span, 2),
        ("otlp/v1/logs", protobuf, Bytes::from(logs.clone()), "", DataCategory::LogItem, 1),
        ("otlp/v1/logs/", protobuf, Bytes::from(logs), "", DataCategory::LogItem, 1),
    ] {
        let answered = send(&relay, &format!("/api/7/integration/{path}"), mime, body).await;
        assert_eq!((answered.status, &answered.body[..]), (200, answer.as_bytes()), "{path}");
        assert_eq!(answered.header("content-type"), mime);
        let expected = (Some(7), category, Outcome::Unsupported, "no_store".to_owned(), quantity);
        assert_eq!(without_bytes(relay.counted()), [expected], "{path}");
    }
}

#[tokio::test]
async fn errors_of_exports_are_statuses_in_the_requests_format() {
    let relay = relay();
    for (project, mime, body, status, code) in [
        (7, "application/json", "{", 400, 3),
        (8, "application/json", "{}", 403, 7),
        (7, "text/plain", "{}", 415, 3),
        (7, "application/x-protobuf", "\u{8}\u{1}\u{a}", 400, 3),
    ] {
        let answer = send(&relay, &format!("/api/{project}/integration/otlp/v1/traces"), mime, body).await;
        assert_eq!(answer.status, status, "{mime} {body}");
        if mime == "application/x-protobuf" {
            assert_eq!(answer.header("content-type"), mime);
            // Field 1, a number; field 2, a text.
            assert_eq!(answer.body[..3], [8, code, 18]);
        } else {
            assert_eq!(answer.json()["code"], code, "{mime} {body}");
            assert!(!answer.json()["message"].as_str().unwrap().is_empty());
        }
    }
    let unknown =
        relay.send(Method::POST, "/api/7/integration/otlp/v1/logs", &[("content-type", "application/json")], "{}");
    let answer = unknown.await;
    assert_eq!((answer.status, answer.json()["code"].as_u64()), (401, Some(16)));
}

#[tokio::test]
async fn log_drains_and_network_errors_are_counted_by_entry() {
    let relay = relay();
    for (path, mime, body, status, quantity) in [
        ("integration/vercel/logs", "application/json", "[{},{}]", 202, 2),
        ("integration/vercel/logs/", "application/x-ndjson", "{}\n{}\n\n{}", 202, 3),
        ("integration/vercel/logs", "application/x-ndjson", "{}\n{", 400, 1),
        ("integration/vercel/logs", "text/plain", "{}", 415, 1),
        ("nel/", "application/reports+json", "[{}]", 200, 1),
        ("nel/", "application/json", "{}", 200, 1),
        ("nel/", "text/html", "{}", 415, 1),
    ] {
        let answer = send(&relay, &format!("/api/7/{path}"), mime, body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        let counted = without_bytes(relay.counted());
        assert_eq!(counted.iter().map(|(.., quantity)| *quantity).collect::<Vec<_>>(), [quantity], "{path} {body}");
        assert_eq!(counted[0].1, DataCategory::LogItem);
    }
    assert!(relay.spooled().is_empty());
}
