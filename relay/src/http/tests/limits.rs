//! What a client hears whose request meets filters, quotas and rates, and how it is counted.

use super::*;

/// The relay with these settings of project 7, as the aggregator would push them.
pub(super) fn relay_with_settings(limits: LimitsConfig, settings: serde_json::Value) -> Relay {
    let config = SpoolConfig { min_free_bytes: ByteSize::bytes(0), ..SpoolConfig::default() };
    let relay = relay_with(limits, &config);
    let mut project = project(7, KEY, true, &["*"]);
    project.settings = serde_json::from_value(settings).unwrap();
    relay.server.projects.replace(ConfigSnapshot { revision: 1, projects: vec![project] }).unwrap();
    relay
}

fn configured(settings: serde_json::Value) -> Relay {
    relay_with_settings(LimitsConfig::default(), settings)
}

fn two_items(event: &str) -> String {
    format!("{}{}", envelope_of(event), "{\"type\":\"attachment\",\"length\":2}\n{}\n")
}

#[tokio::test]
async fn a_filtered_event_is_answered_200_and_counted_under_the_filters_name() {
    let relay = configured(serde_json::json!({"filterSettings": {"releases": {"releases": ["1.*"]}}}));
    let answer = relay.post("/api/7/envelope/", envelope_of(r#"{"release":"1.2"}"#)).await;
    assert_eq!((answer.status, answer.header("x-sentry-rate-limits")), (200, ""));
    let expected = (Some(7), DataCategory::Error, Outcome::Filtered, "release-version".to_owned(), 1);
    assert_eq!((relay.counted(), relay.spooled().len()), (vec![expected], 0));
    let answer = relay.post("/api/7/envelope/", envelope_of(r#"{"release":"2.0"}"#)).await;
    assert_eq!((answer.status, relay.spooled().len()), (200, 1));
}

#[tokio::test]
async fn a_quota_is_answered_429_with_what_to_keep_to_and_each_item_is_counted_once() {
    let quota = serde_json::json!({"id": "q", "limit": 2, "window": 60, "scope": "project", "categories": ["error"]});
    let relay = configured(serde_json::json!({ "quotas": [quota] }));
    for _ in 0..2 {
        assert_eq!(relay.post("/api/7/envelope/", envelope_of("{}")).await.status, 200);
    }
    let answer = relay.post("/api/7/envelope/", envelope_of("{}")).await;
    assert_eq!((answer.status, answer.cause().as_str()), (429, "quota_exceeded"));
    // The tests' clock stands 6.789 s into a minute.
    assert_eq!(answer.header("retry-after"), "54");
    assert_eq!(answer.header("x-sentry-rate-limits"), "54:error:project:quota_exceeded");
    let expected = (Some(7), DataCategory::Error, Outcome::RateLimited, "quota_exceeded".to_owned(), 1);
    assert_eq!((relay.counted(), relay.spooled().len()), (vec![expected], 2));
}

#[tokio::test]
async fn what_no_limit_refuses_is_stored_although_the_answer_is_429() {
    let closed = serde_json::json!({"limit": 0, "categories": ["attachment"], "reasonCode": "no_files"});
    let relay = configured(serde_json::json!({ "quotas": [closed] }));
    let answer = relay.post("/api/7/envelope/", two_items("{}")).await;
    assert_eq!((answer.status, answer.header("x-sentry-rate-limits")), (429, "60:attachment:organization:no_files"));
    assert_eq!(relay.spooled().len(), 1);
}

#[tokio::test]
async fn a_key_that_is_used_too_often_is_refused_before_its_body_is_read() {
    let mut limits = LimitsConfig::default();
    limits.rates.key_per_second = 1;
    let relay = relay_with_settings(limits, serde_json::json!({}));
    assert_eq!(relay.post("/api/7/envelope/", envelope_of("{}")).await.status, 200);
    let answer = relay.post("/api/7/envelope/", "no envelope at all").await;
    assert_eq!((answer.status, answer.header("x-sentry-rate-limits")), (429, "1::key:rate_key"));
    assert_eq!(relay.counted()[0].2, Outcome::RateLimited);
}

#[tokio::test]
async fn a_closed_category_is_answered_429_whether_or_not_it_has_a_store() {
    let started = r#"{"started":1763820300,"attrs":{"release":"a@1"}}"#;
    for (kind, payload, category) in [
        ("transaction", "{}", DataCategory::Transaction),
        ("span", "[]", DataCategory::Span),
        ("profile", "{}", DataCategory::Profile),
        ("replay_recording", "{}", DataCategory::Replay),
        ("log", "not even JSON", DataCategory::LogItem),
        ("trace_metric", "{}", DataCategory::TraceMetric),
        ("statsd", "a:1|c", DataCategory::MetricBucket),
        ("of_tomorrow", "?", DataCategory::Default),
        ("session", started, DataCategory::Session),
        ("check_in", r#"{"monitor_slug":"nightly"}"#, DataCategory::Monitor),
        ("user_report", "{}", DataCategory::Feedback),
        ("feedback", r#"{"contexts":{"feedback":{"message":"slow"}}}"#, DataCategory::Feedback),
    ] {
        let closed = serde_json::json!({"limit": 0, "categories": [category.as_str()], "reasonCode": "closed"});
        let relay = configured(serde_json::json!({ "quotas": [closed] }));
        let body =
            format!("{{\"event_id\":\"{ID}\"}}\n{{\"type\":\"{kind}\",\"length\":{}}}\n{payload}\n", payload.len());
        let answer = relay.post("/api/7/envelope/", body).await;
        let header = format!("60:{category}:organization:closed");
        assert_eq!((answer.status, answer.header("x-sentry-rate-limits")), (429, header.as_str()), "{kind}");
        let ended: Vec<_> = relay.counted().into_iter().map(|(_, category, end, ..)| (category, end)).collect();
        assert!(ended.contains(&(category, Outcome::RateLimited)), "{kind}: {ended:?}");
        assert!(ended.iter().all(|(_, end)| *end == Outcome::RateLimited), "{kind}: {ended:?}");
        assert!(relay.spooled().is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn a_quota_is_used_up_by_what_has_no_store_too() {
    let quota = serde_json::json!({"id": "q", "limit": 2, "window": 60, "categories": ["transaction"]});
    let relay = configured(serde_json::json!({ "quotas": [quota] }));
    let statuses = async || relay.post("/api/7/envelope/", "{}\n{\"type\":\"transaction\"}\n{}\n").await.status;
    assert_eq!([statuses().await, statuses().await, statuses().await], [200, 200, 429]);
    let ended: Vec<_> = relay.counted().into_iter().map(|(.., end, _, quantity)| (end, quantity)).collect();
    assert_eq!(ended, [(Outcome::RateLimited, 1), (Outcome::Unsupported, 2)]);
}

#[tokio::test]
async fn a_limit_that_the_last_report_of_a_list_meets_is_told() {
    let quota = serde_json::json!({"id": "q", "limit": 1, "window": 60, "categories": ["security"]});
    let relay = configured(serde_json::json!({ "quotas": [quota] }));
    let report = r#"{"type":"csp-violation","age":1,"body":{"effectiveDirective":"img-src"}}"#;
    let headers = [("content-type", "application/reports+json")];
    let path = format!("/api/7/security/?sentry_key={KEY}");
    let answer = relay.send(Method::POST, &path, &headers, format!("[{report},{report},{report}]")).await;
    assert_eq!(
        (answer.status, answer.header("x-sentry-rate-limits")),
        (429, "54:security:organization:quota_exceeded")
    );
    assert_eq!(relay.spooled().len(), 1);
}

#[tokio::test]
async fn an_address_that_asks_for_paths_that_do_not_exist_is_limited_like_any_other() {
    let mut limits = LimitsConfig::default();
    limits.rates.address_per_second = 1;
    let relay = relay_with_settings(limits, serde_json::json!({}));
    let ask = async || {
        let mut request = axum::http::Request::post("/api/x/envelope/").body(Body::empty()).unwrap();
        let peer = serve::Peer(std::net::SocketAddr::from(([192, 0, 2, 1], 7)));
        request.extensions_mut().insert(peer);
        router(Arc::clone(&relay.server)).oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!([ask().await, ask().await], [400, 429]);
}

/// A submission of one event to the project of these settings.
fn submitted(settings: serde_json::Value) -> crate::submission::Accepted {
    let mut shop = project(7, KEY, true, &["*"]);
    shop.settings = serde_json::from_value(settings).unwrap();
    let envelope = Envelope::parse(Bytes::from(envelope_of("{}")), 1).unwrap();
    let mut submission = crate::submission::Submission::for_tests(envelope);
    submission.project = Arc::new(crate::projects::Project::new(shop));
    submission.public_key = KEY.parse().unwrap();
    crate::submission::Accepted(submission)
}

#[tokio::test]
async fn what_the_spool_refuses_is_not_charged() {
    let quotas = Quotas::default();
    let settings = serde_json::json!({"quotas": [{"id": "q", "limit": 1, "window": 60, "categories": ["error"]}]});
    // Nothing has so much free space.
    let full = SpoolConfig { min_free_bytes: ByteSize::bytes(u64::MAX / 2), ..SpoolConfig::default() };
    let roomy = SpoolConfig { min_free_bytes: ByteSize::bytes(0), ..SpoolConfig::default() };
    let [full, roomy] = [full, roomy].map(|config| {
        let relay = relay_with(LimitsConfig::default(), &config);
        let (spool, outcomes) = (relay.spool.clone(), relay.server.outcomes.clone());
        (Pipeline::new(LimitsConfig::default(), quotas.clone(), spool, outcomes, || Some([7; 16])), relay)
    });
    for _ in 0..3 {
        let refused = full.0.take(submitted(settings.clone())).await;
        assert_eq!(refused.unwrap_err(), crate::refusal::Refusal::SpoolFull);
    }
    assert!(roomy.0.take(submitted(settings.clone())).await.unwrap().limits.is_empty());
    assert!(!roomy.0.take(submitted(settings)).await.unwrap().limits.is_empty());
}

#[tokio::test]
async fn what_can_not_be_scrubbed_is_not_charged() {
    let quota = serde_json::json!({"id": "q", "limit": 1, "window": 60, "categories": ["error"]});
    let broken = serde_json::json!({"rules": {"broken": {"type": "pattern", "pattern": "("}}});
    let relay = configured(serde_json::json!({ "quotas": [quota], "piiConfig": broken }));
    for _ in 0..3 {
        assert_eq!(relay.post("/api/7/envelope/", envelope_of("{}")).await.status, 503);
    }
    let mut mended = project(7, KEY, true, &["*"]);
    mended.settings = serde_json::from_value(serde_json::json!({ "quotas": [quota] })).unwrap();
    relay.server.projects.replace(ConfigSnapshot { revision: 2, projects: vec![mended] }).unwrap();
    assert_eq!(relay.post("/api/7/envelope/", envelope_of("{}")).await.status, 200);
    assert_eq!(relay.post("/api/7/envelope/", envelope_of("{}")).await.status, 429);
}
