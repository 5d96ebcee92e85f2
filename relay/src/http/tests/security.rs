//! Browsers' own reports: events of their own, from the endpoint and from envelopes.

use super::*;

const LEGACY: &str = r#"{"csp-report":{"document-uri":"https://shop.example/","violated-directive":"img-src 'self'","blocked-uri":"https://cdn.example/a.png"}}"#;
const REPORTS: &str = r#"[
    {"type":"csp-violation","age":1,"url":"https://shop.example/","user_agent":"Reporter/1","body":{"documentURL":"https://shop.example/","blockedURL":"inline","effectiveDirective":"script-src-elem"}},
    {"type":"deprecation","body":{"id":"x"}},
    {"type":"csp-violation","body":{"documentURL":"https://shop.example/","blockedURL":"eval","effectiveDirective":"script-src"}}
]"#;

fn events(relay: &Relay) -> Vec<serde_json::Value> {
    relay
        .spooled()
        .into_iter()
        .map(|record| {
            let envelope = Envelope::parse(record.body, 500).unwrap();
            assert_eq!(envelope.items()[0].item_type().as_str(), "security");
            assert!(envelope.event_id().is_some());
            serde_json::from_slice(envelope.items()[0].payload()).unwrap()
        })
        .collect()
}

#[tokio::test]
async fn a_browsers_report_becomes_an_event_with_release_and_environment_of_the_address() {
    let relay = relay();
    for (path, mime) in [("security", "application/csp-report"), ("csp-report", "application/json; charset=utf-8")] {
        let path = format!("/api/7/{path}/?sentry_key={KEY}&sentry_release=shop%402&sentry_environment=production");
        let headers = [("content-type", mime), ("user-agent", "Browser/1")];
        let answer = relay.send(Method::POST, &path, &headers, LEGACY).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{:?}", answer.body);
        let event = events(&relay).pop().unwrap();
        assert_eq!((event["logger"].as_str(), event["release"].as_str()), (Some("csp"), Some("shop@2")));
        assert_eq!(event["environment"], "production");
        assert_eq!(event["logentry"]["formatted"], "Blocked 'image' from 'cdn.example'");
    }
    assert_eq!(relay.spooled().len(), 2);
}

#[tokio::test]
async fn each_report_of_a_list_is_an_event_and_what_is_none_is_counted() {
    let relay = relay();
    let path = format!("/api/7/security/?sentry_key={KEY}");
    let headers = [("content-type", "application/reports+json")];
    assert_eq!(relay.send(Method::POST, &path, &headers, REPORTS).await.status, 200);
    let messages: Vec<_> =
        events(&relay).iter().map(|event| event["logentry"]["formatted"].as_str().unwrap().to_owned()).collect();
    assert_eq!(messages, ["Blocked inline 'script'", "Blocked unsafe eval() 'script'"]);
    let expected = (Some(7), DataCategory::Security, Outcome::Invalid, "security_report_type".to_owned(), 1);
    assert_eq!(relay.counted(), [expected]);
}

#[tokio::test]
async fn what_is_no_report_is_refused_with_its_cause() {
    let relay = relay();
    let path = format!("/api/7/security/?sentry_key={KEY}");
    for (mime, body, status, cause) in [
        ("text/plain", LEGACY, 415, "content_type"),
        ("application/csp-report", "", 400, "empty_body"),
        ("application/csp-report", "[]", 400, "empty_body"),
        ("application/csp-report", "[{]", 400, "invalid_json"),
        ("application/csp-report", "nonsense", 400, "invalid_json"),
        ("application/csp-report", "{}", 400, "security_report_type"),
        ("application/csp-report", r#"{"csp-report":{}}"#, 400, "security_report"),
        ("application/csp-report", r#"[{"csp-report":{}},{}]"#, 400, "security_report"),
    ] {
        let answer = relay.send(Method::POST, &path, &[("content-type", mime)], body).await;
        assert_eq!((answer.status, answer.cause().as_str()), (status, cause), "{mime} {body}");
        let counted: u64 = relay.counted().iter().map(|(.., quantity)| quantity).sum();
        assert_eq!(counted, body.matches("{}").count().max(1) as u64, "{body}");
    }
    assert!(relay.spooled().is_empty());
}

#[tokio::test]
async fn raw_reports_in_envelopes_are_converted_the_same_way() {
    let relay = relay();
    let header = format!("{{\"type\":\"raw_security\",\"sentry_release\":\"shop@2\",\"length\":{}}}", LEGACY.len());
    let answer = relay.post("/api/7/envelope/", format!("{{}}\n{header}\n{LEGACY}\n")).await;
    assert_eq!((answer.status, answer.json()["id"].as_str()), (200, Some(RANDOM_ID)));
    assert_eq!(events(&relay)[0]["release"], "shop@2");
    let broken = relay.post("/api/7/envelope/", "{}\n{\"type\":\"raw_security\"}\n{}\n").await;
    assert_eq!((broken.status, broken.cause().as_str()), (400, "security_report_type"));
}
