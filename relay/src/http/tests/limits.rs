//! What a client hears whose request meets filters, quotas and rates, and how it is counted.

use super::*;

/// The relay with these settings of project 7, as the aggregator would push them.
fn relay_with_settings(limits: LimitsConfig, settings: serde_json::Value) -> Relay {
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
