//! Whole submissions: every kind of item, and the headers.

use std::sync::Arc;

use bytes::Bytes;
use picket_common::envelope::Envelope;
use picket_common::pii::{PiiConfig, ScrubProfile};
use picket_common::project_config::{ProjectConfig, ProjectSettings};

use super::super::stage::scrub_opened;
use super::*;
use crate::opened::{Opened, Texts};
use crate::projects::Project;
use crate::refusal::Refusal;
use crate::submission::Submission;

const SECRET: &str = "hunter2secret";

/// What would be spooled of an envelope, as text.
fn spooled(body: &str, settings: ProjectSettings) -> Result<String, Refusal> {
    let envelope = Envelope::parse(Bytes::from(body.to_owned()), 10).unwrap();
    let texts = Texts::of(&envelope);
    let mut submission = Submission::for_tests(envelope);
    let config = ProjectConfig { settings, ..submission.project.config.clone() };
    submission.project = Arc::new(Project::new(config));
    let opened = Opened::open(submission, &texts, PythonFloats::Refuse).unwrap();
    let record = scrub_opened(opened)?.into_spoolable().unwrap().record;
    Ok(String::from_utf8(record.body.to_vec()).unwrap())
}

#[test]
fn every_kind_of_item_and_the_headers_are_scrubbed() {
    let note = format!("password={SECRET} of eve@example.org");
    let body = [
        json!({"event_id": "0".repeat(31) + "1", "dsn": "http://0123456789abcdef0123456789abcdef@h.example/1",
            "trace": {"trace_id": "t", "public_key": "k", "user_id": "eve@example.org"}}),
        json!({"type": "event"}),
        json!({"extra": {"note": note}, "user": {"ip_address": "203.0.113.7"}}),
        json!({"type": "user_report"}),
        json!({"event_id": "x", "name": note, "email": "4111111111111111", "comments": note}),
        json!({"type": "session"}),
        json!({"sid": "s", "did": note, "abnormal_mechanism": note, "note": note,
            "attrs": {"release": "r", "ip_address": "203.0.113.7", "user_agent": note, "note": note}}),
        json!({"type": "sessions"}),
        json!({"attrs": {"release": "r", "environment": note},
            "aggregates": [{"started": 1, "exited": 1, "did": format!("password={SECRET}"), "note": format!("password={SECRET}")}]}),
        json!({"type": "check_in"}),
        json!({"check_in_id": "c", "environment": format!("password={SECRET}"), "contexts": {"note": format!("password={SECRET}")},
            "monitor_config": {"owner": format!("password={SECRET}")}, "note": format!("password={SECRET}")}),
        json!({"type": "form_data"}),
        json!([["note", note], ["password", SECRET]]),
        json!({"type": "security"}),
        json!({"csp-report": {"script-sample": note, "document-uri": format!("http://h.example/?token={SECRET}")}}),
        json!({"type": "feedback"}),
        json!({"contexts": {"feedback": {"message": note}}}),
        json!({"type": "attachment", "filename": format!("password={SECRET}.txt"), "length": 2}),
    ];
    let body: String = body.iter().map(|line| format!("{line}\n")).collect::<String>() + "{}\n";
    let text = spooled(&body, ProjectSettings::default()).unwrap();
    for secret in [SECRET, "4111111111111111", "203.0.113.7"] {
        assert!(!text.contains(secret), "{secret} stays in {text}");
    }
    // The session's user stays countable, and that is all.
    assert_eq!(text.matches("eve@example.org").count(), 1, "{text}");
    assert!(text.contains("http://0123456789abcdef0123456789abcdef@h.example/1"), "{text}");
    let again = Envelope::parse(Bytes::from(text.clone()), 10).unwrap();
    assert_eq!(again.items().len(), 9);
}

#[test]
fn what_counts_and_orders_sessions_and_check_ins_stays_as_it_is() {
    let (uuid, card_like) = ("4111111111111111aaaaaaaaaaaaaaaa", 4_111_111_111_111_111_u64);
    let session = json!({"sid": uuid, "seq": card_like, "init": true, "status": "ok", "errors": 1, "started": 1.5,
        "timestamp": 2.5, "attrs": {"release": "1.2.3.4", "environment": "production"}});
    let sessions =
        json!({"aggregates": [{"started": 1.5, "exited": card_like, "errored": 2}], "attrs": {"release": "1.2.3.4"}});
    let check_in = json!({"check_in_id": uuid, "monitor_slug": "password-reset", "status": "ok", "duration": 4.5,
        "release": "1.2.3.4", "environment": "production",
        "monitor_config": {"schedule": {"type": "crontab", "value": "0 0 * * *"}, "timezone": "Europe/Vienna"},
        "contexts": {"trace": {"trace_id": uuid}}});
    for (kind, payload) in [("session", session), ("sessions", sessions), ("check_in", check_in)] {
        let text = spooled(&format!("{{}}\n{{\"type\":\"{kind}\"}}\n{payload}\n"), ProjectSettings::default()).unwrap();
        let left: Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
        assert_eq!(left, payload, "{kind}");
    }
}

#[test]
fn the_address_and_the_user_of_a_session_go_by_the_projects_settings() {
    let session = |profile| {
        let body = "{}\n{\"type\":\"session\"}\n{\"did\":\"203.0.113.7\",\"attrs\":{\"ip_address\":\"203.0.113.7\",\"user_agent\":\"Agent/1.2.3.4\"}}\n";
        let mut settings = ProjectSettings { scrub_profile: profile, ..ProjectSettings::default() };
        settings.datascrubbing_settings.scrub_ip_addresses = Some(true);
        let text = spooled(body, settings).unwrap();
        serde_json::from_str::<Value>(text.lines().nth(2).unwrap()).unwrap()
    };
    for profile in [ScrubProfile::Strict, ScrubProfile::Compat] {
        let left = session(profile);
        assert_eq!((&left["did"], &left["attrs"]["ip_address"]), (&json!("[ip]"), &Value::Null), "{profile:?} {left}");
    }
    assert_eq!(session(ScrubProfile::Strict)["attrs"]["user_agent"], "Agent/1.2.3.4", "a version is no address");
}

#[test]
fn items_that_are_no_json_are_scrubbed_as_text() {
    let body = format!("{{}}\n{{\"type\":\"user_report\"}}\npassword={SECRET} of Eve\n");
    let text = spooled(&body, ProjectSettings::default()).unwrap();
    assert!(text.contains("of Eve") && !text.contains(SECRET), "{text}");
}

#[test]
fn under_compat_attachments_are_left_alone_unless_a_rule_names_them() {
    let body = "{}\n{\"type\":\"attachment\",\"filename\":\"a.log\",\"length\":9}\n203.0.113\n{\"type\":\"attachment\",\"filename\":\"b.log\",\"length\":11}\n203.0.113.7\n";
    assert!(
        !spooled(body, ProjectSettings::default()).unwrap().contains("203.0.113.7"),
        "strict looks into text files"
    );
    let mut settings = ProjectSettings { scrub_profile: ScrubProfile::Compat, ..ProjectSettings::default() };
    assert!(spooled(body, settings.clone()).unwrap().contains("203.0.113.7"));
    let rules: PiiConfig =
        serde_json::from_value(json!({"applications": {"$attachments.'b.log'": ["@ip:mask"]}})).unwrap();
    settings.pii_config = Some(rules);
    let text = spooled(body, settings).unwrap();
    assert!(text.contains("***********") && !text.contains("203.0.113.7"), "{text}");
}

#[test]
fn settings_that_can_not_be_compiled_refuse_the_request() {
    let rules = json!({"rules": {"broken": {"type": "pattern", "pattern": "("}}});
    let settings =
        ProjectSettings { pii_config: Some(serde_json::from_value(rules).unwrap()), ..ProjectSettings::default() };
    assert!(spooled("{}\n{\"type\":\"event\"}\n{}\n", settings).is_err());
}
