//! What a relay does not take: the right status, a reason that its sender can act on, and nothing stored.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::stored_events::stored_events;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What is sent: a name, the status it gets, path, headers and body.
type Case<'a> = (&'a str, u16, &'a str, Vec<(&'a str, &'a str)>, Bytes);

/// An envelope whose event is far longer than `limits.max_event_bytes`.
fn oversized() -> Bytes {
    let mut event = TestEvent::message("oversized");
    event.content["extra"] = serde_json::json!({ "filler": "x".repeat(3 * 1024 * 1024) });
    event.envelope()
}

#[test]
fn what_is_refused_gets_its_code_and_a_reason_and_is_not_stored() {
    let (mut installation, project, relay) = Installation::start_with_relay();
    let other = installation.create_project("Other");
    let target = project.at(&relay);
    // The other project's configuration reaches the relay as a push; only then a mismatch is one.
    Installation::ingest(&project, &relay).post(&TestEvent::message("warm up"));
    let event = || TestEvent::message("must not be stored").envelope();
    let gzipped = gzip(&event());
    let (path, other_path) = (target.envelope_path(), format!("/api/{}/envelope/", other.dsn.project_id()));
    let auth = target.auth_header();
    let wrong_key = format!("Sentry sentry_version=7, sentry_key={}", "0".repeat(32));
    let cut_off: Vec<u8> = event()[..event().len() / 2].to_vec();

    let good: &[(&str, &str)] = &[("x-sentry-auth", &auth)];
    let with = |name: &'static str, value: &'static str| vec![("x-sentry-auth", auth.as_str()), (name, value)];
    let cases: Vec<Case<'_>> = vec![
        ("a wrong key", 403, &path, vec![("x-sentry-auth", &wrong_key)], event()),
        ("no key", 401, &path, vec![], event()),
        ("a key that is none", 400, &path, vec![("x-sentry-auth", "Sentry sentry_key=short")], event()),
        ("another project's path", 403, &other_path, good.to_vec(), event()),
        ("a project that does not exist", 403, "/api/999999/envelope/", good.to_vec(), event()),
        ("truncated gzip", 400, &path, with("content-encoding", "gzip"), gzipped[..gzipped.len() - 12].to_vec().into()),
        ("no gzip at all", 400, &path, with("content-encoding", "gzip"), event()),
        ("an unknown encoding", 415, &path, with("content-encoding", "snappy"), event()),
        ("an oversized event", 413, &path, good.to_vec(), oversized()),
        ("an oversized event in gzip", 413, &path, with("content-encoding", "gzip"), gzip(&oversized()).into()),
        ("an envelope that is cut off", 400, &path, good.to_vec(), cut_off.into()),
        ("an envelope of nonsense", 400, &path, good.to_vec(), Bytes::from_static(b"nonsense\n")),
        ("an item without a type", 400, &path, good.to_vec(), Bytes::from_static(b"{}\n{\"length\":2}\n{}\n")),
        (
            "an item length beyond the end",
            400,
            &path,
            good.to_vec(),
            Bytes::from_static(b"{}\n{\"type\":\"event\",\"length\":99}\n{}\n"),
        ),
        ("an empty body", 400, &path, good.to_vec(), Bytes::new()),
    ];

    let http = HttpClient::new();
    for (what, status, path, headers, body) in cases {
        let answer =
            http.post(target.relay, path, &headers, body).unwrap_or_else(|error| panic!("{what}: {}", error.0));
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.len() > 10, "{what}: the detail says too little: {detail:?}");
        assert!(!detail.contains("must not be stored"), "{what}: the detail repeats the payload: {detail}");
    }

    // Spool and journal keep their order: when the marker is there, nothing that came before it is under way any more.
    let (ledger, marker) = (Ledger::default(), TestEvent::message("marker"));
    assert_eq!(Installation::ingest(&project, &relay).post_noted(&marker, &ledger), Outcome::Accepted);
    let api = installation.aggregator.api();
    api.wait_for_event(&project.slug, marker.id, ARRIVAL_PATIENCE);
    let titles: Vec<_> = api.issues().into_iter().map(|issue| (issue.title, issue.count)).collect();
    assert_eq!(titles.len(), 2, "{titles:?}");
    assert!(titles.contains(&("marker".to_owned(), 1)) && titles.contains(&("warm up".to_owned(), 1)), "{titles:?}");
    installation.aggregator.stop();
    assert_eq!(stored_events(&installation.aggregator.clickhouse_data()).len(), 2);
}
