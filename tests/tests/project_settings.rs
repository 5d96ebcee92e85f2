//! What an operator sets for a project: stored whether the aggregator runs or not, and obeyed by relays within a second.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::ingest::Target;
use picket_tests::installation::Installation;
use picket_tests::wait::{eventually, holds};
use serde_json::{Value, json};

/// From a command's return to the relay's first answer under the new settings.
const PUSH_PATIENCE: Duration = Duration::from_secs(1);

/// The status that a page at `origin` gets.
fn status_from(target: &Target, origin: &str) -> u16 {
    let auth = target.auth_header();
    let headers = [("x-sentry-auth", auth.as_str()), ("origin", origin)];
    let body = TestEvent::message("from a page").envelope();
    HttpClient::new().post(target.relay, &target.envelope_path(), &headers, body).expect("an answer").status
}

fn set(installation: &Installation, change: &Value) -> Value {
    let file = installation.directory().join("settings.json");
    std::fs::write(&file, change.to_string()).unwrap();
    installation.aggregator.ask(&["project", "config", "set", "shop", file.to_str().unwrap()])
}

#[test]
fn settings_and_keys_take_effect_on_the_relay_within_a_second_and_last() {
    let (mut installation, project, relay) = Installation::start_with_relay();
    let target = project.at(&relay);
    assert_eq!(status_from(&target, "https://evil.test"), 200, "new projects take every origin");

    let changed = set(&installation, &json!({ "allowedDomains": ["*.shop.test"], "retentionDays": 30 }));
    eventually("the relay refuses other origins", PUSH_PATIENCE, || {
        let status = status_from(&target, "https://evil.test");
        holds(status == 403, status)
    });
    assert_eq!(status_from(&target, "https://www.shop.test"), 200);

    let second = installation.aggregator.ask(&["key", "create", "shop", "--label", "worker"]);
    let second = Target { key: second["public_key"].as_str().unwrap().parse().unwrap(), ..target };
    let shop = "https://www.shop.test";
    eventually("the relay takes the new key", PUSH_PATIENCE, || {
        let status = status_from(&second, shop);
        holds(status == 200, status)
    });
    let off = installation.aggregator.ask(&["key", "disable", &target.key.to_string()]);
    assert_eq!(off["enabled"], false);
    eventually("the relay refuses the disabled key", PUSH_PATIENCE, || {
        let status = status_from(&target, shop);
        holds(status == 403, status)
    });
    assert_eq!(status_from(&second, shop), 200);

    let settings = installation.aggregator.ask(&["project", "config", "get", "1"]);
    assert_eq!(settings, changed);
    installation.aggregator.stop();
    assert_eq!(installation.aggregator.ask(&["project", "config", "get", "shop"]), changed);
    let _enabled = installation.aggregator.ask(&["key", "enable", &target.key.to_string()]);
    let keys = installation.aggregator.ask(&["key", "list", "shop"]);
    assert!(keys.as_array().unwrap().iter().all(|key| key["enabled"] == true), "{keys}");
    installation.aggregator.start();
    eventually("the relay heard what was changed meanwhile", Duration::from_secs(20), || {
        let status = status_from(&target, shop);
        holds(status == 200, status)
    });
}

#[test]
fn settings_that_can_not_be_used_are_refused_by_name_and_change_nothing() {
    let mut installation = Installation::prepare("");
    installation.aggregator.init();
    let _project = installation.create_project("Shop");
    let before = installation.aggregator.ask(&["project", "config", "get", "1"]);
    assert_eq!(before["scrubProfile"], "strict");
    assert_eq!(before["datascrubbingSettings"]["scrubIpAddresses"], true);
    assert_eq!(before["allowedDomains"], json!(["*"]));
    assert_eq!(before["quotas"], json!([]));
    let file = installation.directory().join("settings.json");
    for (change, named) in [
        (r#"{"retentionDays":0}"#, "retentionDays: "),
        (r#"{"retentionDays":30,"nonsense":1}"#, "nonsense: unknown setting"),
        ("{", "no JSON"),
        (
            r#"{"quotas":[{"limit":0,"categories":["error","errors"]}]}"#,
            r#"quotas[0].categories: quota without an id: there is no category "errors"; there are default, error,"#,
        ),
        (
            r#"{"piiConfig":{"rules":{"mine":{"type":"ip","redaction":{"metod":"mask"}}}}}"#,
            "piiConfig.rules.mine: its redaction has an unknown key `metod`",
        ),
        (
            r#"{"quotas":[{"id":"jobs","limit":5,"window":60,"categories":["monitor"],"groupBy":{"maxCardinality":9,"dimensions":["check_in.slug"]}}]}"#,
            r#"quotas[0].groupBy: quota "jobs": "#,
        ),
        (
            r#"{"quotas":[{"id":"m","limit":5,"window":60,"categories":["metric_bucket"],"namespace":"custom"}]}"#,
            r#"quotas[0].namespace: quota "m": "#,
        ),
    ] {
        std::fs::write(&file, change).unwrap();
        let path = file.to_str().unwrap();
        let refused = installation.aggregator.run(&["project", "config", "set", "1", path]).failed();
        assert!(refused.contains(named), "{named} is not in {refused}");
    }
    assert_eq!(installation.aggregator.ask(&["project", "config", "get", "1"]), before);
}

#[test]
fn switches_that_are_left_out_are_shown_as_they_take_effect_and_scrubbing_that_is_off_is_warned_of() {
    let mut installation = Installation::prepare("");
    installation.aggregator.init();
    let _project = installation.create_project("Shop");
    let file = installation.directory().join("settings.json");
    let stderr_of = |change: &Value| {
        std::fs::write(&file, change.to_string()).unwrap();
        let run = installation.aggregator.run(&["project", "config", "set", "shop", file.to_str().unwrap()]);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        run.stderr
    };
    let scrub_data = || {
        installation.aggregator.ask(&["project", "config", "get", "shop"])["datascrubbingSettings"]["scrubData"].clone()
    };

    let told = stderr_of(&json!({ "datascrubbingSettings": { "sensitiveFields": ["nickname"] } }));
    assert!(!told.contains("warning"), "{told}");
    assert_eq!(scrub_data(), true);
    let told = stderr_of(&json!({ "scrubProfile": "compat" }));
    assert!(told.contains("warning: project shop: scrubbing is off"), "{told}");
    assert_eq!(scrub_data(), false);
}
