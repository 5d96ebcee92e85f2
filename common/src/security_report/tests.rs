#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const RECEIVED: Timestamp = Timestamp::from_millis(1_763_820_306_789);

/// Says nothing but when.
const NOBODY: Reporter<'_> = Reporter { user_agent: None, release: None, environment: None, received_at: RECEIVED };

fn event(report: &Json) -> Json {
    let reporter = Reporter {
        user_agent: Some("Fire Browser/1"),
        release: Some("shop@2"),
        environment: Some("production"),
        received_at: RECEIVED,
    };
    serde_json::from_slice(&event_of(report.to_string().as_bytes(), &reporter).unwrap()).unwrap()
}

fn csp(fields: &Json) -> Json {
    event(&json!({ "csp-report": fields }))
}

#[test]
fn a_violation_becomes_an_event_that_says_what_was_blocked() {
    let event = csp(&json!({
        "document-uri": "https://shop.example/cart?id=7", "referrer": "https://news.example/",
        "blocked-uri": "https://cdn.example:8443/lib.css?v=1", "violated-directive": "style-src-elem 'self'",
        "effective-directive": "style-src-elem", "original-policy": "style-src-elem 'self'", "status-code": 200,
        "novelty": true
    }));
    assert_eq!(
        event,
        json!({
            "logger": "csp", "platform": "other",
            "logentry": {"formatted": "Blocked 'style' from 'cdn.example:8443'"},
            "culprit": "style-src-elem 'self'",
            "tags": [["effective-directive", "style-src-elem"], ["blocked-uri", "https://cdn.example:8443/lib.css"]],
            "request": {
                "url": "https://shop.example/cart?id=7",
                "headers": [["User-Agent", "Fire Browser/1"], ["Referer", "https://news.example/"]],
            },
            "user": {"ip_address": "{{auto}}"},
            "release": "shop@2", "environment": "production",
            "csp": {
                "document_uri": "https://shop.example/cart?id=7", "referrer": "https://news.example/",
                "blocked_uri": "https://cdn.example:8443/lib.css?v=1", "effective_directive": "style-src-elem",
                "violated_directive": "style-src-elem 'self'", "original_policy": "style-src-elem 'self'",
                "status_code": 200,
            },
        })
    );
}

#[test]
fn the_reporting_api_says_the_same_in_other_words() {
    let event = event(&json!({
        "type": "csp-violation", "age": 10, "url": "https://shop.example/", "user_agent": "Other/2",
        "body": {
            "documentURL": "https://shop.example/", "blockedURL": "inline", "effectiveDirective": "script-src-elem",
            "disposition": "enforce", "lineNumber": 5, "sample": "alert("
        }
    }));
    assert_eq!(event["logentry"]["formatted"], "Blocked inline 'script'");
    assert_eq!(event["request"]["headers"], json!([["User-Agent", "Other/2"]]));
    assert_eq!(event["csp"]["blocked_uri"], "inline");
    assert_eq!(event["timestamp"], "2025-11-22T14:05:06.779Z", "ten milliseconds before it was received");
    assert_eq!((&event["csp"]["line_number"], &event["csp"]["script_sample"]), (&json!(5), &json!("alert(")));
}

#[test]
fn reports_that_say_when_they_were_made_happened_then() {
    for (report, happened_at) in [
        (
            json!({"expect-ct-report": {"hostname": "h.example", "date-time": "2025-11-22T13:00:00Z"}}),
            json!("2025-11-22T13:00:00Z"),
        ),
        (
            json!({"expect-staple-report": {"hostname": "h.example", "date-time": "2025-11-22T13:00:00Z"}}),
            json!("2025-11-22T13:00:00Z"),
        ),
        (
            json!({"hostname": "h.example", "known-pins": [], "date-time": "2025-11-22T13:00:00Z"}),
            json!("2025-11-22T13:00:00Z"),
        ),
        (json!({"hostname": "h.example", "known-pins": []}), Json::Null),
        (
            json!({"type": "csp-violation", "age": 60_000, "body": {"effectiveDirective": "img-src"}}),
            json!("2025-11-22T14:04:06.789Z"),
        ),
        (
            json!({"type": "csp-violation", "age": u64::MAX, "body": {"effectiveDirective": "img-src"}}),
            json!("1970-01-01T00:00:00.000Z"),
        ),
        (json!({"type": "csp-violation", "age": -5, "body": {"effectiveDirective": "img-src"}}), Json::Null),
        (json!({"csp-report": {"effective-directive": "img-src"}}), Json::Null),
    ] {
        assert_eq!(event(&report)["timestamp"], happened_at, "{report}");
    }
}

#[test]
fn messages_name_the_kind_of_thing_and_where_it_came_from() {
    for (directive, violated, blocked, message) in [
        ("img-src", "img-src 'self'", "data", "Blocked 'image' from 'data:'"),
        ("img-src", "img-src 'self'", "https://user@cdn.example/a.png", "Blocked 'image' from 'cdn.example'"),
        ("font-src", "font-src x", "https://shop.example/f", "Blocked 'font' from 'shop.example'"),
        ("connect-src", "connect-src", "self", "Blocked 'connect' from 'shop.example'"),
        ("script-src", "script-src 'unsafe-inline'", "self", "Blocked unsafe eval() 'script'"),
        ("script-src", "script-src 'unsafe-eval'", "'self'", "Blocked inline 'script'"),
        ("script-src", "script-src", "", "Blocked 'script' from 'shop.example'"),
        ("script-src", "script-src", "eval", "Blocked unsafe eval() 'script'"),
        (
            "frame-ancestors",
            "frame-ancestors 'none'",
            "https://evil.example",
            "Blocked 'frame-ancestors' from 'evil.example'",
        ),
        ("", "Default-Src 'none'", "blob", "Blocked 'default' from 'blob:'"),
    ] {
        let event = csp(&json!({
            "document-uri": "https://shop.example/", "effective-directive": directive, "violated-directive": violated,
            "blocked-uri": blocked
        }));
        assert_eq!(event["logentry"]["formatted"], message, "{directive} {blocked}");
    }
}

#[test]
fn certificate_reports_become_events_named_after_their_host() {
    for (report, kind, logger, message) in [
        (
            json!({"expect-ct-report": {"hostname": "a.example", "port": 443, "scts": [{"serialized-sct": "x"}]}}),
            "expectct",
            "expect-ct",
            "Expect-CT failed for 'a.example'",
        ),
        (
            json!({"expect-staple-report": {"hostname": "a.example", "response-status": "MISSING"}}),
            "expectstaple",
            "expect-staple",
            "Expect-Staple failed for 'a.example'",
        ),
        (
            json!({"hostname": "a.example", "include-subdomains": true, "known-pins": ["pin-sha256=\"x\""]}),
            "hpkp",
            "hpkp",
            "Public key pinning validation failed for 'a.example'",
        ),
    ] {
        let event = event(&report);
        assert_eq!((&event["logger"], &event["culprit"]), (&json!(logger), &json!("a.example")));
        assert_eq!(event["logentry"]["formatted"], message);
        assert_eq!(event[kind]["hostname"], "a.example");
        assert_eq!(event["tags"][0], json!(["hostname", "a.example"]));
    }
}

#[test]
fn what_is_no_known_report_is_named() {
    for (text, error) in [
        ("[]", SecurityReportError::NotJson),
        ("{", SecurityReportError::NotJson),
        ("{}", SecurityReportError::UnknownKind),
        (r#"{"type":"deprecation","body":{}}"#, SecurityReportError::UnknownKind),
        (r#"{"csp-report":{}}"#, SecurityReportError::Incomplete { kind: "csp", field: "a directive" }),
        (r#"{"type":"csp-violation"}"#, SecurityReportError::Incomplete { kind: "csp", field: "body" }),
        (r#"{"known-pins":[]}"#, SecurityReportError::Incomplete { kind: "hpkp", field: "a hostname" }),
    ] {
        assert_eq!(event_of(text.as_bytes(), &NOBODY), Err(error), "{text}");
    }
}

proptest! {
    #[test]
    fn no_report_makes_it_panic(blocked in "\\PC{0,30}", directive in "\\PC{0,30}", document in "\\PC{0,30}") {
        let report = json!({"csp-report": {
            "blocked-uri": blocked, "violated-directive": directive, "document-uri": document
        }});
        let _ = event_of(report.to_string().as_bytes(), &NOBODY);
    }

    #[test]
    fn no_bytes_make_it_panic(report in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = event_of(&report, &NOBODY);
    }
}
