//! An event that ClickHouse refuses for good does not stop the way of the others, and is not lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use picket_tests::event::TestEvent;
use picket_tests::http::HttpClient;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation};
use picket_tests::observed::Observed;
use picket_tests::wait::{eventually, holds};
use serde_json::json;

/// Three tries of the whole, with their pauses, then halves: more than an event's usual way.
const SEARCH_PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_poisonous_event_is_set_aside_while_the_others_go_in_and_can_be_replayed() {
    let mut observed = Observed::start();
    let constrain = "ALTER TABLE observed.events ADD CONSTRAINT no_poison CHECK position(message, 'poison') = 0";
    let _done = observed.query(constrain);
    let ingest = Installation::ingest(&observed.project, &observed.relay);
    let events: Vec<_> =
        (0..40).map(|number| TestEvent::message(if number % 20 == 7 { "poison" } else { "sound" })).collect();
    events.iter().for_each(|event| ingest.post(event));

    observed.wait_for_outcomes(&[("error", "accepted", 38), ("error", "dropped", 2)]);
    let aggregator = &observed.installation.aggregator;
    aggregator.wait_until_processed(SEARCH_PATIENCE);
    // The payloads went in before the events were refused; nothing leads to those two yet.
    assert_eq!(observed.stored(), (38, 40));
    let list = aggregator.ask(&["dead-letter", "list"]);
    assert_eq!(list["count"], 2, "{list}");
    for (letter, event) in list["letters"].as_array().unwrap().iter().zip([&events[7], &events[27]]) {
        assert_eq!((&letter["reason"], &letter["event_id"]), (&"refused".into(), &event.id.to_string().into()));
        let shown = aggregator.ask(&["dead-letter", "show", &letter["id"].to_string()]);
        assert!(shown["text"].as_str().unwrap().contains("poison"), "{shown}");
        assert!(shown["detail"].as_str().unwrap().contains("469"), "{shown}");
    }
    // A fresh event passes.
    let fresh = TestEvent::message("fresh");
    // Over a connection of its own: the relay closes those that were idle for as long as a search may take.
    Installation::ingest(&observed.project, &observed.relay).post(&fresh);
    observed.wait_for_event(fresh.id, ARRIVAL_PATIENCE);

    // What still is refused comes back as another letter.
    let _replayed = aggregator.ask(&["dead-letter", "replay", "1"]);
    eventually("it is set aside again", SEARCH_PATIENCE, || {
        let list = aggregator.ask(&["dead-letter", "list"]);
        holds(list["letters"][1]["id"] == 3, list)
    });

    // One on a running aggregator and one on a stopped one, once the cause is gone.
    let _done = observed.query("ALTER TABLE observed.events DROP CONSTRAINT no_poison");
    let replayed = aggregator.ask(&["dead-letter", "replay", "2"]);
    assert_eq!(replayed["replayed"], 1);
    observed.wait_for_event(events[27].id, ARRIVAL_PATIENCE);
    observed.installation.aggregator.stop();
    let replayed = observed.installation.aggregator.ask(&["dead-letter", "replay", "--all"]);
    assert_eq!(replayed["replayed"], 1);
    observed.installation.aggregator.start();
    observed.installation.aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    observed.wait_for_outcomes(&[("error", "accepted", 41), ("error", "dropped", 3)]);
    assert_eq!(observed.stored(), (41, 41));
    let aggregator = &observed.installation.aggregator;
    assert_eq!(aggregator.ask(&["dead-letter", "list"])["count"], 0);
    assert_eq!(aggregator.api().total_count(), 41);
    let refused = aggregator.run(&["dead-letter", "drop", "99"]).failed();
    assert!(refused.contains("no dead letter 99"), "{refused}");
}

/// Not an event is at fault but a row of the books: what a client said why it discarded something.
#[test]
fn a_row_of_the_books_that_is_refused_is_set_aside_while_everything_else_goes_in_and_can_be_replayed() {
    let observed = Observed::start();
    let constrain = "ALTER TABLE observed.outcomes ADD CONSTRAINT no_poison CHECK reason != 'network_error'";
    let _done = observed.query(constrain);
    let target = observed.project.at(&observed.relay);
    let report = |reason: &str, quantity: u64| {
        let said = json!({ "discarded_events": [{ "reason": reason, "category": "error", "quantity": quantity }] });
        let envelope = format!("{{}}\n{{\"type\":\"client_report\"}}\n{said}\n");
        let auth = target.auth_header();
        let headers = [("x-sentry-auth", auth.as_str()), ("content-type", "application/x-sentry-envelope")];
        let answer = HttpClient::new().post(target.relay, &target.envelope_path(), &headers, envelope).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let ingest = Installation::ingest(&observed.project, &observed.relay);
    (0..10).for_each(|_| ingest.post(&TestEvent::message("sound")));
    report("sample_rate", 5);
    report("network_error", 7);

    observed.wait_for_outcomes(&[("error", "accepted", 10), ("error", "client_discard", 5)]);
    let aggregator = &observed.installation.aggregator;
    aggregator.wait_until_processed(SEARCH_PATIENCE);
    let list = aggregator.ask(&["dead-letter", "list"]);
    assert_eq!((&list["count"], &list["letters"][0]["reason"]), (&json!(1), &json!("refused")), "{list}");
    let shown = aggregator.ask(&["dead-letter", "show", "1"]);
    assert!(shown["text"].as_str().unwrap().contains("network_error"), "{shown}");
    let fresh = TestEvent::message("fresh");
    Installation::ingest(&observed.project, &observed.relay).post(&fresh);
    observed.wait_for_event(fresh.id, ARRIVAL_PATIENCE);

    let _done = observed.query("ALTER TABLE observed.outcomes DROP CONSTRAINT no_poison");
    assert_eq!(aggregator.ask(&["dead-letter", "replay", "1"])["replayed"], 1);
    observed.wait_for_outcomes(&[("error", "accepted", 11), ("error", "client_discard", 12)]);
    aggregator.wait_until_processed(ARRIVAL_PATIENCE);
    assert_eq!(aggregator.ask(&["dead-letter", "list"])["count"], 0);
    assert_eq!((observed.stored(), aggregator.api().total_count()), ((11, 11), 11));
}
