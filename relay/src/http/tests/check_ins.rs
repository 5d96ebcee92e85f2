//! Check-ins of cron jobs.

use super::*;

#[tokio::test]
async fn a_check_in_is_taken_in_every_form() {
    let relay = relay();
    let auth = format!("Sentry sentry_key={KEY}");
    let headers = [("x-sentry-auth", auth.as_str())];
    for (method, path, headers, body) in [
        (Method::GET, format!("/api/7/cron/nightly/{KEY}/?status=ok&duration=1.5"), &[][..], ""),
        (Method::GET, format!("/api/7/cron/nightly/{KEY}?status=in_progress&environment=prod"), &[], ""),
        (Method::POST, format!("/api/7/cron/nightly/{KEY}/?status=whatever"), &[], ""),
        (Method::GET, "/api/7/cron/nightly?status=ok".to_owned(), &headers, ""),
        (Method::POST, "/api/7/cron/nightly/".to_owned(), &headers, r#"{"status":"error","monitor_slug":"other"}"#),
    ] {
        let answer = relay.send(method.clone(), &path, headers, body).await;
        assert_eq!((answer.status, answer.body.len()), (202, 0), "{method} {path}: {:?}", answer.body);
    }
}

#[tokio::test]
async fn a_check_in_that_says_nothing_is_refused_with_what_was_expected() {
    let relay = relay();
    for (query, body, status, cause) in [
        ("", "", 400, "invalid_check_in"),
        ("?status=ok&duration=soon", "", 400, "invalid_check_in"),
        ("", "{}", 400, "invalid_check_in"),
        ("", "[1]", 400, "invalid_json"),
        ("?sentry_key=0123456789abcdef0123456789abcdef&status=ok", "", 401, "auth"),
    ] {
        let answer = relay.send(Method::POST, &format!("/api/7/cron/nightly/{KEY}/{query}"), &[], body).await;
        assert_eq!((answer.status, answer.cause().as_str()), (status, cause), "{query} {body}");
    }
}

#[tokio::test]
async fn each_check_in_ends_stored_or_counted() {
    let relay = relay();
    for (query, status, reason) in [
        ("", 400, Some("invalid_check_in")),
        ("?status=ok&check_in_id=zz", 202, Some("invalid_check_in_id")),
        ("?status=nope", 202, None),
    ] {
        let answer = relay.send(Method::GET, &format!("/api/7/cron/nightly/{KEY}/{query}"), &[], "").await;
        assert_eq!(answer.status, status, "{query}");
        let counted: Vec<_> =
            relay.counted().into_iter().map(|(.., outcome, reason, quantity)| (outcome, reason, quantity)).collect();
        let expected: Vec<_> = reason.map(|reason| (Outcome::Invalid, reason.to_owned(), 1)).into_iter().collect();
        assert_eq!(counted, expected, "{query}");
    }
    let stored = relay.spooled();
    assert_eq!((stored.len(), &event_of(&stored[0])["status"]), (1, &serde_json::json!("unknown")));
}
