//! The real Node SDK, unmodified, from its call to the page.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use picket_tests::browser::{Browser, assert_shows};
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::sdk::Sdk;
use serde_json::json;

#[test]
fn what_the_node_sdk_sends_is_an_issue_with_everything_in_it() {
    let (installation, project, relay) = Installation::start_with_relay();
    let aggregator = &installation.aggregator;
    let api = aggregator.api();

    let sent = Sdk::Node.run("errors.mjs", &project.at(&relay).dsn());

    let issue = api.wait_for_issue("PaymentError: payment failed <b>badly</b>", 3, ARRIVAL_PATIENCE);
    assert!(issue.culprit.starts_with("pay("), "{}", issue.culprit);
    assert_eq!((issue.users, issue.level.as_str()), (2, "error"));
    let message = api.wait_for_issue("stock is low", 1, ARRIVAL_PATIENCE);
    assert_eq!(message.level, "warning");
    assert_eq!(api.issues().len(), 2, "sessions and other items make no issues");

    for event in sent["exceptions"].as_array().unwrap() {
        let event = api.event(&project.slug, event.as_str().unwrap().parse().unwrap()).unwrap();
        assert_eq!(event.expect("the event is stored")["groupID"], issue.id);
    }
    let event = api.latest_event(&issue);
    assert_eq!(event["platform"], "node");
    assert_eq!(event["environment"], "staging");
    assert_eq!(event["release"]["version"], "shop@1.2.3");
    assert_eq!(event["contexts"]["cart"]["items"], 3);
    assert!(
        event["tags"].as_array().unwrap().contains(&json!({"key": "team", "value": "payments"})),
        "{}",
        event["tags"]
    );
    let entries = event["entries"].as_array().unwrap();
    let exceptions = entries.iter().find(|entry| entry["type"] == "exception").unwrap()["data"]["values"].clone();
    let types: Vec<_> =
        exceptions.as_array().unwrap().iter().map(|exception| exception["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["TypeError", "PaymentError"], "the cause first");
    let frames = exceptions[0]["stacktrace"]["frames"].as_array().unwrap();
    assert_eq!(frames.last().unwrap()["function"], "charge");
    assert!(frames.last().unwrap()["filename"].as_str().unwrap().ends_with("errors.mjs"), "{}", frames.last().unwrap());

    let (email, password) = aggregator.admin_login.clone().unwrap();
    let browser = Browser::log_in(aggregator.pages, (&email, &password));
    assert_shows(&browser.page("/"), &["PaymentError", "stock is low", "<svg"]);
    let page = browser.page(&format!("/issues/{}/", issue.id));
    assert_shows(&page, &["TypeError", "card 4112 is not valid", "charge", "asked the bank", "payments", "shop@1.2.3"]);
    assert!(!page.contains("<b>badly</b>"), "what came in an event is escaped");
}
