//! What is counted and not stored: OpenTelemetry, Vercel's drain, network errors.

use super::*;

async fn send(relay: &Relay, path: &str, mime: &str, body: impl Into<Bytes>) -> Answer {
    let auth = format!("Sentry sentry_key={KEY}");
    let headers = [("x-sentry-auth", auth.as_str()), ("content-type", mime)];
    relay.send(Method::POST, path, &headers, body).await
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
        assert_eq!(relay.counted(), [expected], "{path}");
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
        let counted = relay.counted();
        assert_eq!(counted.iter().map(|(.., quantity)| *quantity).collect::<Vec<_>>(), [quantity], "{path} {body}");
        assert_eq!(counted[0].1, DataCategory::LogItem);
    }
    assert!(relay.spooled().is_empty());
}
