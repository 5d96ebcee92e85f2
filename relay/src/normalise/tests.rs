#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use picket_common::category::DataCategory;
use picket_common::envelope::{Envelope, MAX_ITEMS};
use picket_common::ids::EventId;
use picket_common::timestamp::Timestamp;

use super::*;
use crate::config::LimitsConfig;
use crate::limit;
use crate::projects::Project;
use crate::submission::{Accepted, Sender, Submission};

const ID: &str = "fc6d8c0c43fc4630ad850ee518f1b9d0";

const fn random() -> Option<[u8; 16]> {
    Some([7; 16])
}

/// To a project that leaves addresses alone.
fn submission(envelope: &str) -> Submission {
    let envelope = Envelope::parse(Bytes::copy_from_slice(envelope.as_bytes()), MAX_ITEMS).unwrap();
    let submission = Submission {
        received_at: Timestamp::from_millis(1_763_820_306_789),
        sender: Sender { address: Some([192, 0, 2, 9].into()), ..Sender::default() },
        ..Submission::for_tests(envelope)
    };
    with_scrubbed_addresses(submission, false)
}

fn with_scrubbed_addresses(submission: Submission, scrub_ip_addresses: bool) -> Submission {
    let mut config = submission.project.config.clone();
    config.settings.datascrubbing_settings.scrub_ip_addresses = Some(scrub_ip_addresses);
    Submission { project: Arc::new(Project::new(config)), ..submission }
}

fn limited(submission: Submission) -> Limited {
    limit::enforce(Accepted(submission), &LimitsConfig::default()).unwrap()
}

/// The submission closed again, and what was dropped as category, reason and quantity.
fn normalised(submission: Submission) -> (Submission, Vec<(DataCategory, String, u64)>) {
    let texts = Texts::of(&submission.envelope);
    let mut normalised = normalise(limited(submission), &texts, random).unwrap();
    let dropped = normalised.take_dropped();
    let dropped = dropped.iter().flat_map(|(_, reason, tally)| {
        tally.iter().map(|(category, quantity)| (category, reason.to_string(), quantity)).collect::<Vec<_>>()
    });
    let dropped = dropped.collect();
    (normalised.into_opened().close(), dropped)
}

fn event_of(submission: &Submission) -> serde_json::Value {
    serde_json::from_slice(submission.envelope.items()[0].payload()).unwrap()
}

#[test]
fn the_headers_id_wins_over_the_payloads_and_one_is_made_where_there_is_none() {
    const OTHER: &str = "11111111111111111111111111111111";
    let new = EventId::from_random([7; 16]).to_string();
    for (header, payload, expected) in [
        (format!(r#"{{"event_id":"{ID}"}}"#), format!(r#"{{"event_id":"{OTHER}"}}"#), ID),
        ("{}".to_owned(), format!(r#"{{"event_id":"{OTHER}"}}"#), OTHER),
        ("{}".to_owned(), "{}".to_owned(), &new),
        ("{}".to_owned(), r#"{"event_id":"0"}"#.to_owned(), &new),
        ("{}".to_owned(), r#"{"event_id":5}"#.to_owned(), &new),
    ] {
        let (taken, _) = normalised(submission(&format!("{header}\n{{\"type\":\"event\"}}\n{payload}\n")));
        assert_eq!(taken.envelope.event_id().unwrap().to_string(), expected, "{header} {payload}");
        assert_eq!(event_of(&taken)["event_id"], expected);
    }
}

#[test]
fn an_event_is_normalised_in_the_light_of_its_request() {
    let body = "{\"sent_at\":\"2025-11-22T12:05:06.789Z\"}\n{\"type\":\"event\"}\n{\"timestamp\":1763813100,\
                \"platform\":\"javascript\",\"level\":\"loud\"}\n";
    let (taken, dropped) = normalised(submission(body));
    let event = event_of(&taken);
    assert_eq!(event["timestamp"], 1_763_820_300.0);
    assert_eq!(event["level"], "error");
    assert_eq!(event["user"]["ip_address"], "192.0.2.9");
    assert_eq!(event["_meta"]["timestamp"][""]["err"][0][0], "clock_drift");
    assert_eq!(event["_meta"]["level"][""]["err"][0][0], "invalid_data");
    assert_eq!(dropped, []);
}

#[test]
fn no_address_is_inferred_where_the_project_scrubs_them() {
    let submission = submission("{}\n{\"type\":\"event\"}\n{\"platform\":\"javascript\"}\n");
    let (taken, _) = normalised(with_scrubbed_addresses(submission, true));
    assert!(event_of(&taken).get("user").is_none());
}

#[test]
fn items_that_cannot_be_used_are_dropped_with_a_word_and_the_rest_is_taken() {
    let body = format!(
        "{{\"event_id\":\"{ID}\"}}\n{{\"type\":\"event\"}}\n{{}}\n{{\"type\":\"session\"}}\n{{\"started\":1763820300}}\n\
         {{\"type\":\"user_report\"}}\nnot json\n{{\"type\":\"check_in\"}}\n{{\"monitor_slug\":\"My Job\",\"status\":\"ok\"}}\n"
    );
    let (taken, dropped) = normalised(submission(&body));
    assert_eq!(
        dropped,
        [
            (DataCategory::Session, "missing_release".to_owned(), 1),
            (DataCategory::Feedback, "invalid_json".to_owned(), 1)
        ]
    );
    let kept: Vec<_> = taken.envelope.items().iter().map(|item| item.item_type().as_str().to_owned()).collect();
    assert_eq!(kept, ["event", "check_in"]);
    assert_eq!(taken.envelope.items()[1].payload(), "{\"monitor_slug\":\"my-job\",\"status\":\"ok\"}");
}

#[test]
fn what_belongs_to_feedback_without_a_message_goes_with_it() {
    let body = "{}\n{\"type\":\"feedback\"}\n{}\n{\"type\":\"attachment\",\"length\":3}\nabc\n";
    let (taken, dropped) = normalised(submission(body));
    assert_eq!(
        dropped,
        [
            (DataCategory::Feedback, "missing_feedback".to_owned(), 1),
            (DataCategory::Attachment, "missing_feedback".to_owned(), 3),
            (DataCategory::AttachmentItem, "missing_feedback".to_owned(), 1)
        ]
    );
    assert!(taken.envelope.items().is_empty());
}

#[test]
fn an_event_that_is_no_object_is_refused() {
    for payload in ["[]", "{\"a\":", "5"] {
        let submission = submission(&format!("{{}}\n{{\"type\":\"event\"}}\n{payload}\n"));
        let texts = Texts::of(&submission.envelope);
        let refusal = normalise(limited(submission), &texts, random).unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed { reason: "invalid_json", .. }), "{payload}");
    }
}

#[test]
fn floats_of_old_python_clients_are_repaired() {
    let mut submission = submission("{}\n{\"type\":\"event\"}\n{\"extra\":{\"a\":NaN}}\n");
    submission.client = Some("raven-python/6.10.0".into());
    let (taken, _) = normalised(submission);
    assert!(event_of(&taken)["extra"]["a"].is_null());
    assert_eq!(event_of(&taken)["sdk"]["name"], "raven-python");
    assert_eq!(event_of(&taken)["_meta"]["extra"]["a"][""]["err"][0][0], "invalid_data");
}
