//! The real Python SDK, unmodified, from its call to the page.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use picket_common::ids::EventId;
use picket_tests::browser::{Browser, assert_shows};
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::sdk::Sdk;
use serde_json::{Value, json};

fn id(value: &Value) -> EventId {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn what_the_python_sdk_sends_is_an_issue_with_everything_in_it() {
    let (installation, project, relay) = Installation::start_with_relay();
    let aggregator = &installation.aggregator;
    let api = aggregator.api();

    let sent = Sdk::Python.run("errors.py", &project.at(&relay).dsn());

    let issue = api.wait_for_issue("PaymentError: payment failed <b>badly</b>", 3, ARRIVAL_PATIENCE);
    assert_eq!(issue.culprit, "__main__ in pay");
    assert_eq!((issue.users, issue.level.as_str()), (2, "error"));
    let message = api.wait_for_issue("stock is low", 1, ARRIVAL_PATIENCE);
    assert_eq!((message.level.as_str(), message.users), ("warning", 0));
    assert_eq!(api.issues().len(), 2, "nothing else is an issue");

    for event in sent["exceptions"].as_array().unwrap() {
        let event = api.event(&project.slug, id(event)).unwrap().expect("the event is stored");
        assert_eq!(event["groupID"], issue.id);
    }
    let event = api.event(&project.slug, id(&sent["exceptions"][1])).unwrap().unwrap();
    assert_eq!(event["user"]["id"], "43");
    assert_eq!(event["user"]["email"], "grace@example.com");
    assert_eq!(event["platform"], "python");
    assert_eq!(event["environment"], "staging");
    assert_eq!(event["release"]["version"], "shop@1.2.3");
    assert_eq!(event["contexts"]["cart"]["items"], 3);
    assert_eq!(event["context"]["order"]["number"], 17);
    assert!(
        event["tags"].as_array().unwrap().contains(&json!({"key": "team", "value": "payments"})),
        "{}",
        event["tags"]
    );

    let entry = |kind: &str| {
        let entries = event["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["type"] == kind).unwrap_or_else(|| panic!("{kind} in {entries:?}"))["data"]
            .clone()
    };
    let exceptions = entry("exception")["values"].as_array().unwrap().clone();
    let types: Vec<_> = exceptions.iter().map(|exception| exception["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["ValueError", "PaymentError"], "the cause first");
    let functions = |exception: &Value| -> Vec<String> {
        let frames = exception["stacktrace"]["frames"].as_array().unwrap();
        frames.iter().map(|frame| frame["function"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(functions(&exceptions[0]), ["pay", "charge"]);
    assert_eq!(functions(&exceptions[1]), ["check_out", "pay"]);
    let breadcrumbs = entry("breadcrumbs")["values"].as_array().unwrap().clone();
    let crumbs: Vec<_> = breadcrumbs.iter().map(|crumb| crumb["message"].as_str().unwrap()).collect();
    assert_eq!(crumbs, ["added a book", "asked the bank"]);

    let (email, password) = aggregator.admin_login.clone().unwrap();
    let browser = Browser::log_in(aggregator.pages, (&email, &password));
    assert_shows(&browser.page("/"), &["PaymentError", "__main__ in pay", "stock is low", "<svg"]);
    let page = browser.page(&format!("/issues/{}/", issue.id));
    assert_shows(&page, &["ValueError", "card 4111 is not valid", "charge", "raise PaymentError", "asked the bank"]);
    assert_shows(&page, &["payments", "ada@example.com", "shop@1.2.3", "staging", "till-1"]);
    assert!(!page.contains("<b>badly</b>"), "what came in an event is escaped");
    assert_shows(&browser.page(&format!("/issues/{}/", message.id)), &["stock is low", "shelf"]);

    let from_command = aggregator.ask(&["issues", "list"]);
    let counts: Vec<_> = from_command.as_array().unwrap().iter().map(|issue| issue["count"].clone()).collect();
    assert!(counts.contains(&json!(3)) && counts.contains(&json!(1)), "{from_command}");
}
