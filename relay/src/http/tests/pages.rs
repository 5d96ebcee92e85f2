//! What browsers ask for before and beside a request: preflights, readable answers, origins.

use super::*;

#[tokio::test]
async fn preflights_are_answered_for_every_store_route_and_no_other() {
    let relay = relay();
    for path in [
        "/api/7/envelope/",
        "/api/7/store/",
        "/api/store/",
        "/api/7/cron/x/",
        "/api/7/security/",
        "/api/7/nel/",
        "/api/7/integration/otlp/v1/logs",
    ] {
        let answer = relay.send(Method::OPTIONS, path, &[("origin", "https://example.org")], "").await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("access-control-allow-methods"), "POST");
        assert_eq!(answer.header("access-control-max-age"), "3600");
        for name in ["x-sentry-auth", "content-type", "content-encoding", "authorization", "transfer-encoding"] {
            assert!(answer.header("access-control-allow-headers").contains(name), "{name}");
        }
    }
    assert_eq!(relay.send(Method::OPTIONS, "/api/relay/healthcheck/live/", &[], "").await.status, 405);
}

#[tokio::test]
async fn pages_may_read_answers_and_errors_alike() {
    let relay = relay();
    for answer in [relay.post("/api/7/store/", "{}").await, relay.post("/api/7/store/", "").await] {
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("access-control-expose-headers"), "x-sentry-error, x-sentry-rate-limits, retry-after");
    }
}

#[tokio::test]
async fn origins_are_checked_where_a_page_sends_and_only_there() {
    let relay = relay();
    let auth = format!("Sentry sentry_key={CLOSED_KEY}");
    for (origin, status) in [(Some("https://example.org"), 200), (Some("https://evil.net"), 403), (None, 200)] {
        let mut headers = vec![("x-sentry-auth", auth.as_str())];
        headers.extend(origin.map(|origin| (header::ORIGIN.as_str(), origin)));
        assert_eq!(relay.send(Method::POST, "/api/9/store/", &headers, "{}").await.status, status, "{origin:?}");
    }
}
