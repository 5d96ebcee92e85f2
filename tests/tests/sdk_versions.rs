//! Real SDKs, current and old, unmodified: everything they send is answered 200, events are stored as they were meant, and each
//! other item ends in the outcome that it should.
//!
//! Sessions, check-ins, logs, transactions, spans and metrics have no store yet and end as `unsupported`; what an SDK discarded
//! itself it says in a client report, which ends as `client_discard`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use picket_common::ids::EventId;
use picket_tests::installation::ARRIVAL_PATIENCE;
use picket_tests::observed::{Observed, Outcomes, sum};
use picket_tests::sdk::Sdk;
use serde_json::{Value, json};

/// An installation in which an SDK ran, and what its script printed.
struct Ran {
    observed: Observed,
    sent: Value,
}

impl Ran {
    #[track_caller]
    fn of(sdk: Sdk, script: &str) -> Self {
        let observed = Observed::start();
        let sent = sdk.run(script, &observed.project.at(&observed.relay).dsn());
        let answers = observed.relay.answers_by_status();
        assert!(answers.keys().eq([&200]), "{sdk:?} {}: not only 200: {answers:?}", sent["version"]);
        Self { observed, sent }
    }

    #[track_caller]
    fn event(&self, name: &str) -> Value {
        let id: EventId = self.sent[name].as_str().expect("an id").parse().expect("an event id");
        self.observed.wait_for_event(id, ARRIVAL_PATIENCE)
    }

    /// The exceptions, the cause first, and the message.
    #[track_caller]
    fn assert_errors(&self, cause: &str) {
        let event = self.event("exception");
        let values = event["exception"]["values"].as_array().unwrap();
        let types: Vec<_> = values.iter().map(|value| value["type"].as_str().unwrap()).collect();
        assert_eq!(types, [cause, "PaymentError"], "the cause first");
        assert_eq!(values[1]["value"], "payment failed");
        let frames = values[0]["stacktrace"]["frames"].as_array().unwrap();
        assert_eq!(frames.last().unwrap()["function"], "charge");
        assert_eq!(event["environment"], "staging");
        let message = self.event("message");
        assert_eq!(message["logentry"]["formatted"], "stock is low");
        assert_eq!(message["level"], "warning");
    }

    /// What every SDK since `sentry-sdk` sends beside errors. `errors` counts its events; feedback is one where there is any.
    #[track_caller]
    fn assert_outcomes(&self, errors: u64) -> Outcomes {
        let discarded = self.sent["discarded"].as_u64().unwrap();
        let logs = self.sent["logs"].as_u64().unwrap();
        let wanted = [
            ("error", "accepted", errors),
            ("monitor", "unsupported", 2),
            ("error", "client_discard", discarded),
            ("attachment", "unsupported", self.sent["attachment_bytes"].as_u64().unwrap()),
        ];
        let outcomes = self.observed.wait_for_outcomes(&wanted);
        assert!(sum(&outcomes, "session", "unsupported") >= 1, "{outcomes:?}");
        let traced = sum(&outcomes, "transaction", "unsupported") + sum(&outcomes, "span", "unsupported");
        assert!(traced >= 1, "{outcomes:?}");
        assert!(logs == 0 || sum(&outcomes, "log_item", "unsupported") >= 1, "{outcomes:?}");
        let bad: Vec<_> = outcomes
            .iter()
            .filter(|(key, _)| ["invalid", "rate_limited", "dropped"].contains(&key.1.as_str()))
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
        outcomes
    }
}

#[test]
fn everything_the_current_python_sdk_sends_is_taken() {
    let ran = Ran::of(Sdk::Python, "everything.py");
    ran.assert_errors("ValueError");
    // The SDK writes what JSON does not have as text.
    assert_eq!(ran.event("odd")["extra"]["ratio"], "nan");
    let outcomes = ran.assert_outcomes(3);
    assert_eq!(sum(&outcomes, "feedback", "unsupported"), 1, "the user report: {outcomes:?}");
}

#[test]
fn everything_version_one_of_the_python_sdk_sends_is_taken() {
    let ran = Ran::of(Sdk::PythonOne, "everything.py");
    ran.assert_errors("ValueError");
    assert_eq!(ran.event("odd")["extra"]["ratio"], "nan");
    let outcomes = ran.assert_outcomes(3);
    assert_eq!(sum(&outcomes, "feedback", "unsupported"), 1, "the user report: {outcomes:?}");
}

/// raven posts to the store endpoint, writes levels as numbers, interfaces by their old names, and NaN where JSON has none.
#[test]
fn everything_raven_sends_is_taken() {
    let ran = Ran::of(Sdk::Raven, "legacy.py");
    assert_eq!(ran.sent["failed"], false);
    ran.assert_errors("ValueError");
    let event = ran.event("exception");
    assert_eq!(event["user"]["id"], "42");
    assert_eq!(event["breadcrumbs"]["values"][0]["message"], "added a book");
    assert_eq!(event["sdk"]["name"], "raven-python");
    let odd = ran.event("odd");
    let numbers = &odd["contexts"]["odd"];
    assert_eq!(numbers["count"], 3, "{odd}");
    for name in ["ratio", "most", "least"] {
        assert!(numbers[name].is_null() || numbers[name] == 0.0, "{name} has no value in JSON: {odd}");
    }
    ran.observed.wait_for_outcomes(&[("error", "accepted", 3)]);
}

#[test]
fn everything_the_current_node_sdk_sends_is_taken() {
    let ran = Ran::of(Sdk::Node, "everything.mjs");
    ran.assert_errors("TypeError");
    assert_eq!(ran.event("odd")["extra"], json!({"ratio": "[NaN]", "limit": "[Infinity]"}));
    let outcomes = ran.assert_outcomes(3);
    assert_eq!(sum(&outcomes, "feedback", "unsupported"), 1, "{outcomes:?}");
}

#[test]
fn everything_version_eight_of_the_node_sdk_sends_is_taken() {
    let ran = Ran::of(Sdk::NodeEight, "everything.mjs");
    ran.assert_errors("TypeError");
    assert_eq!(ran.event("odd")["extra"], json!({"ratio": "[NaN]", "limit": "[Infinity]"}));
    let outcomes = ran.assert_outcomes(3);
    assert_eq!(sum(&outcomes, "feedback", "unsupported"), 1, "{outcomes:?}");
}
