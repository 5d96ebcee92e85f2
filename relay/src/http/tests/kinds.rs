//! What becomes of items that are no events.

use super::*;

#[tokio::test]
async fn what_has_no_page_is_answered_and_counted_and_not_spooled() {
    let relay = relay();
    let transaction = relay.post("/api/7/envelope/", "{}\n{\"type\":\"transaction\"}\n{}").await;
    assert_eq!((transaction.status, transaction.json()), (200, serde_json::json!({ "id": RANDOM_ID })));
    let span = relay.post("/api/7/envelope/", "{}\n{\"type\":\"span\"}\nnot even JSON").await;
    assert_eq!((span.status, span.json()), (200, serde_json::json!({})));
    assert!(relay.spooled().is_empty());
    let ends = relay.counted().into_iter().map(|(_, category, end, _, quantity)| (category, end, quantity));
    let unsupported = |category| (category, Outcome::Unsupported, 1);
    assert_eq!(ends.collect::<Vec<_>>(), [unsupported(DataCategory::Transaction), unsupported(DataCategory::Span)]);
}

#[tokio::test]
async fn what_will_have_a_store_is_checked_and_spooled_and_what_can_not_be_used_is_counted() {
    let relay = relay();
    for (kind, good, bad, category, reason) in [
        (
            "session",
            r#"{"started":1763820300,"attrs":{"release":"a@1"}}"#,
            "{}",
            DataCategory::Session,
            "missing_release",
        ),
        (
            "sessions",
            r#"{"aggregates":[{"started":1763820300,"exited":9}],"attrs":{"release":"a@1"}}"#,
            "[]",
            DataCategory::Session,
            "invalid_json",
        ),
        ("check_in", r#"{"monitor_slug":"nightly","status":"ok"}"#, "{}", DataCategory::Monitor, "missing_slug"),
        (
            "user_report",
            r#"{"event_id":"11111111111141118111111111111111"}"#,
            "{}",
            DataCategory::Feedback,
            "invalid_event_id",
        ),
        (
            "feedback",
            r#"{"contexts":{"feedback":{"message":"slow"}}}"#,
            r#"{"contexts":{}}"#,
            DataCategory::Feedback,
            "missing_feedback",
        ),
    ] {
        let post = |payload: &str| format!("{{}}\n{{\"type\":\"{kind}\"}}\n{payload}\n");
        assert_eq!(relay.post("/api/7/envelope/", post(good)).await.status, 200, "{kind}");
        let spooled = Envelope::parse(relay.spooled().pop().unwrap().body, 500).unwrap();
        assert_eq!(spooled.items()[0].item_type().as_str(), kind);
        assert_eq!(relay.counted(), [], "{kind}");
        let count = relay.spooled().len();
        assert_eq!(relay.post("/api/7/envelope/", post(bad)).await.status, 200, "{kind}");
        assert_eq!(relay.spooled().len(), count, "{kind}");
        assert_eq!(relay.counted(), [(Some(7), category, Outcome::Invalid, reason.to_owned(), 1)], "{kind}");
    }
}
