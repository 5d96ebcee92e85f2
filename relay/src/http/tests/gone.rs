//! Clients that hang up before they are answered: what they sent is stored, or counted and not charged.

use futures_util::FutureExt as _;

use super::*;

/// Begins to answer a request and forgets it, as the server does when its connection is gone.
fn post_and_hang_up(relay: &Relay, body: impl Into<Bytes>) {
    let request = axum::http::Request::builder()
        .method(Method::POST)
        .uri("/api/7/envelope/")
        .header("x-sentry-auth", format!("Sentry sentry_key={KEY}"))
        .body(Body::from(body.into()))
        .unwrap();
    let answer = router(Arc::clone(&relay.server)).oneshot(request).now_or_never();
    assert!(answer.is_none(), "it must wait for the spool, but is answered {answer:?}");
}

#[tokio::test]
async fn an_event_whose_client_hangs_up_while_it_waits_for_a_place_is_counted_and_not_charged() {
    let config = SpoolConfig { min_free_bytes: ByteSize::bytes(0), queue_records: 1, ..SpoolConfig::default() };
    let relay = relay_with(LimitsConfig::default(), &config);
    let quota = serde_json::json!({"id": "q", "limit": 2, "window": 3600, "categories": ["error"]});
    let mut limited = project(7, KEY, true, &["*"]);
    limited.settings = serde_json::from_value(serde_json::json!({ "quotas": [quota] })).unwrap();
    relay.server.projects.replace(ConfigSnapshot { revision: 1, projects: vec![limited] }).unwrap();
    assert_eq!(relay.post("/api/7/envelope/", envelope_of("{}")).await.status, 200);
    let place = relay.spool.place(&relay.spooled()[0]).await.unwrap();
    post_and_hang_up(&relay, envelope_of("{}"));
    drop(place);
    let expected = (Some(7), DataCategory::Error, Outcome::Dropped, "client_gone".to_owned(), 1);
    assert_eq!((relay.counted(), relay.spooled().len()), (vec![expected], 1));
    // The second event that the quota lets through.
    assert_eq!(relay.post("/api/7/envelope/", envelope_of("{}")).await.status, 200);
    assert_eq!(relay.post("/api/7/envelope/", envelope_of("{}")).await.status, 429);
}

#[tokio::test]
async fn an_event_whose_client_hangs_up_after_it_has_a_place_is_stored_and_not_counted() {
    let relay = relay();
    post_and_hang_up(&relay, envelope_of("{}"));
    relay.spool.subscribe().wait_for(|last| *last >= Sequence::FIRST).await.unwrap();
    assert_eq!((relay.counted(), relay.spooled().len()), (vec![], 1));
}

#[tokio::test]
async fn a_crash_is_stored_although_its_reporter_did_not_wait_for_the_answer() {
    let relay = relay();
    let item = "{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\",\"length\":8}";
    post_and_hang_up(&relay, format!("{{}}\n{item}\nMDMP\0\0\0\0"));
    relay.spool.subscribe().wait_for(|last| *last >= Sequence::FIRST).await.unwrap();
    assert_eq!((relay.counted(), relay.spooled().len()), (vec![], 1));
}

#[tokio::test]
async fn what_a_crash_is_refused_for_is_counted_although_nobody_hears_it() {
    let relay = relay();
    let item = "{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\",\"length\":8}";
    post_and_hang_up(&relay, [b"{}\n", item.as_bytes(), b"\n\x1f\x8b\x08 damn"].concat());
    let counted = async {
        loop {
            let counted = relay.counted();
            if !counted.is_empty() {
                return counted;
            }
            tokio::task::yield_now().await;
        }
    };
    let counted = tokio::time::timeout(std::time::Duration::from_secs(30), counted).await.unwrap();
    let expected = [(DataCategory::Attachment, 8), (DataCategory::AttachmentItem, 1)];
    let reason = || "invalid_compression".to_owned();
    assert_eq!(counted, expected.map(|(category, quantity)| (Some(7), category, Outcome::Invalid, reason(), quantity)));
}
