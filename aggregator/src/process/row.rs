//! From a grouped event to its row.

use picket_common::timestamp::Timestamp;
use serde_json::Value;

use super::decode::DecodedEvent;
use super::group::GroupingHash;
use super::lenient::{Lenient, scalar};
use super::{culprit, level, main_exception, message};
use crate::events::row::EventRow;
use crate::issues::NewIssue;

/// Most tags of an event that are stored; the payload keeps the rest.
const MAX_TAGS: usize = 100;
/// Longest tag key and value, in characters (the protocol's own bounds).
const MAX_TAG_CHARS: usize = 200;
/// Longest text in a column that is filtered on, in characters. The payload keeps the whole.
const MAX_COLUMN_CHARS: usize = 1024;
/// Longest message and exception value in their columns, in characters.
const MAX_MESSAGE_CHARS: usize = 8192;
/// How far an SDK's clock may run ahead before the time of receipt is used instead.
const MAX_AHEAD: std::time::Duration = std::time::Duration::from_secs(60);

/// When the event happened: as the SDK says, unless that is unreadable or in the future.
pub(super) fn timestamp_of(event: &Value, received_at: Timestamp) -> Timestamp {
    let sent = match event.get("timestamp") {
        Some(Value::Number(number)) => number.as_f64().and_then(Timestamp::from_float_seconds),
        Some(Value::String(text)) => Timestamp::parse(text),
        _ => None,
    };
    sent.filter(|&at| at <= received_at.plus(MAX_AHEAD)).unwrap_or(received_at)
}

/// Fills the row of `events`, except for what only the plan knows: issue and retention are zero. `hash` is the most
/// significant one.
pub(super) fn event_row(decoded: &DecodedEvent, face: &NewIssue, hash: Option<&GroupingHash>) -> EventRow {
    let event = &decoded.event;
    let column = |key: &str| event.scalar(key).map(|text| cut(&text, MAX_COLUMN_CHARS)).unwrap_or_default();
    let nested = |object: &str, key: &str| {
        let found = event.get(object).and_then(|object| object.scalar(key));
        found.map(|text| cut(&text, MAX_COLUMN_CHARS)).unwrap_or_default()
    };
    let exception = |key: &str, chars: usize| {
        main_exception(event).and_then(|exception| exception.text(key)).map(|text| cut(text, chars)).unwrap_or_default()
    };
    EventRow {
        project_id: decoded.project_id.get(),
        issue_id: 0,
        timestamp: face.first_seen.as_i64(),
        event_id: decoded.event_id.as_uuid(),
        received_at: decoded.received_at.as_i64(),
        retention_days: 0,
        grouping_hash: hash.map_or([0; 16], |hash| *hash.as_bytes()),
        kind: face.kind.to_owned(),
        level: level(event).to_owned(),
        platform: face.platform.clone(),
        title: face.title.clone(),
        culprit: culprit(event),
        message: message(event).map(|text| cut(text, MAX_MESSAGE_CHARS)).unwrap_or_default(),
        exception_type: exception("type", MAX_COLUMN_CHARS),
        exception_value: exception("value", MAX_MESSAGE_CHARS),
        transaction: column("transaction"),
        release: column("release"),
        environment: column("environment"),
        dist: column("dist"),
        server_name: server_name(event).map(|text| cut(&text, MAX_COLUMN_CHARS)).unwrap_or_default(),
        logger: column("logger"),
        sdk_name: nested("sdk", "name"),
        sdk_version: nested("sdk", "version"),
        http_method: nested("request", "method"),
        http_url: nested("request", "url"),
        user: user_key(event),
        tags: tags(event),
        spool_id: decoded.spool_id.as_uuid(),
        sequence: decoded.sequence.get(),
    }
}

/// Who was affected, as one comparable text: the first of id, username, email and address that is there.
fn user_key(event: &Value) -> String {
    let Some(user) = event.get("user") else { return String::new() };
    [("id", "id"), ("username", "username"), ("email", "email"), ("ip", "ip_address")]
        .into_iter()
        .find_map(|(prefix, key)| user.scalar(key).map(|value| cut(&format!("{prefix}:{value}"), MAX_COLUMN_CHARS)))
        .unwrap_or_default()
}

/// Relays make it a tag; events that came before they did have it at the top.
fn server_name(event: &Value) -> Option<String> {
    event
        .scalar("server_name")
        .or_else(|| tags(event).into_iter().find(|(name, _)| name == "server_name").map(|(_, text)| text))
}

/// Tags as pairs, from an object or a list of pairs; the first of two equal keys stays. Sorted, because the block of a
/// replay must be the same.
fn tags(event: &Value) -> Vec<(String, String)> {
    let mut tags: Vec<(String, String)> = match event.get("tags") {
        Some(Value::Object(object)) => object.iter().filter_map(|(key, value)| tag(key, value)).collect(),
        Some(Value::Array(pairs)) => pairs
            .iter()
            .filter_map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([key, value]) => tag(&scalar(key)?, value),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    tags.sort_by(|one, other| one.0.cmp(&other.0));
    tags.dedup_by(|later, earlier| later.0 == earlier.0);
    tags.truncate(MAX_TAGS);
    tags
}

fn tag(key: &str, value: &Value) -> Option<(String, String)> {
    let value = scalar(value)?;
    (!key.is_empty()).then(|| (cut(key, MAX_TAG_CHARS), cut(&value, MAX_TAG_CHARS)))
}

/// At most so many characters; a NUL, which texts must not end at, is left out.
fn cut(text: &str, max_chars: usize) -> String {
    text.chars().filter(|&character| character != '\0').take(max_chars).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_sdks_time_is_used_unless_it_is_unreadable_or_ahead() {
        let received = Timestamp::parse("2025-11-22T14:05:06Z").unwrap();
        let at = |value: Value| timestamp_of(&json!({ "timestamp": value }), received).to_rfc3339();
        assert_eq!(at(json!("2025-11-22T14:05:00.5Z")), "2025-11-22T14:05:00.500Z");
        assert_eq!(at(json!(1_763_820_300.5)), "2025-11-22T14:05:00.500Z");
        for odd in [json!(null), json!("soon"), json!("2025-11-22T15:05:06Z"), json!(-5)] {
            assert_eq!(at(odd), "2025-11-22T14:05:06.000Z");
        }
    }

    #[test]
    fn the_user_is_the_first_identity_that_is_there() {
        let key = |user: Value| user_key(&json!({ "user": user }));
        assert_eq!(key(json!({"id": 7, "email": "a@example.org"})), "id:7");
        assert_eq!(key(json!({"email": "a@example.org"})), "email:a@example.org");
        assert_eq!(key(json!({"ip_address": "192.0.2.1"})), "ip:192.0.2.1");
        assert_eq!(key(json!({})), "");
        assert_eq!(key(json!("odd")), "");
    }

    #[test]
    fn tags_come_from_both_forms_sorted_first_wins_bounded() {
        let from = |tags: Value| tags_of(&tags);
        assert_eq!(from(json!({"b": 1, "a": true, "c": null, "d": {}})), [("a", "true"), ("b", "1")].map(owned));
        assert_eq!(from(json!([["x", "1"], ["x", "2"], ["y"], 3])), [("x", "1")].map(owned));
        let many: serde_json::Map<_, _> = (0..500).map(|n| (format!("k{n}"), json!("v"))).collect();
        assert_eq!(from(Value::Object(many)).len(), MAX_TAGS);
    }

    #[test]
    fn the_server_is_found_at_the_top_and_among_the_tags() {
        for event in [json!({"server_name": "web-1"}), json!({"tags": [["server_name", "web-1"]]})] {
            assert_eq!(server_name(&event).as_deref(), Some("web-1"));
        }
        assert_eq!(server_name(&json!({"tags": [["server_name", null]]})), None);
    }

    fn tags_of(value: &Value) -> Vec<(String, String)> {
        tags(&json!({ "tags": value }))
    }

    fn owned((key, value): (&str, &str)) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }
}
