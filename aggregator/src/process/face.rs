//! The face of an issue: title, culprit and the parts of the title, from one event.

use picket_common::timestamp::Timestamp;
use serde_json::Value;

use super::lenient::Lenient;
use crate::issues::{IssueMetadata, NewIssue};

/// Longest first line of a message or value in a title, in characters.
const MAX_TITLE_CHARS: usize = 256;
/// Longest culprit, in characters.
const MAX_CULPRIT_CHARS: usize = 200;
/// Longest name of a platform, in characters; relays let none through that is not one of Sentry's.
const MAX_PLATFORM_CHARS: usize = 64;
/// Longest exception type in the metadata, in characters.
const MAX_TYPE_CHARS: usize = 128;
/// Longest exception value in the metadata, in characters.
const MAX_VALUE_CHARS: usize = 1024;

/// Makes the face an issue gets if this event is its first.
#[must_use]
pub(super) fn face(event: &Value, first_seen: Timestamp) -> NewIssue {
    let exception = main_exception(event);
    let metadata = exception.map(metadata_of).unwrap_or_default();
    let title = if exception.is_some() { exception_title(&metadata) } else { message_title(event) };
    NewIssue {
        kind: if exception.is_some() { "error" } else { "default" },
        title: without_nul(title),
        culprit: without_nul(culprit(event)),
        level: level(event).to_owned(),
        platform: without_nul(cut(event.text("platform").unwrap_or("other"), MAX_PLATFORM_CHARS)),
        metadata,
        first_seen,
    }
}

/// The exception that the title speaks of: the last of the chain unless the event names another.
#[must_use]
pub fn main_exception(event: &Value) -> Option<&Value> {
    let exceptions = event.values("exception");
    let named = event.get("main_exception_id").and_then(Value::as_u64).and_then(|id| {
        let exception_id = |exception: &Value| exception.pointer("/mechanism/exception_id").and_then(Value::as_u64);
        exceptions.iter().find(|exception| exception_id(exception) == Some(id))
    });
    named.or_else(|| exceptions.iter().rfind(|exception| exception.is_object()))
}

/// The level, `error` where it is none that Sentry knows.
#[must_use]
pub fn level(event: &Value) -> &str {
    match event.text("level") {
        Some(level @ ("fatal" | "error" | "warning" | "info" | "debug" | "sample")) => level,
        Some("critical") => "fatal",
        Some("warn") => "warning",
        Some("log") => "info",
        _ => "error",
    }
}

/// The message as a person reads it: formatted where it was.
#[must_use]
pub fn message(event: &Value) -> Option<&str> {
    for key in ["logentry", "message"] {
        if let Some(entry) = event.get(key).filter(|entry| entry.is_object())
            && let Some(text) = entry.text("formatted").or_else(|| entry.text("message"))
        {
            return Some(text);
        }
    }
    event.text("message").or_else(|| event.text("logentry"))
}

fn metadata_of(exception: &Value) -> IssueMetadata {
    let is_synthetic = exception.pointer("/mechanism/synthetic").and_then(Value::as_bool).unwrap_or(false);
    let frame = crash_frame(exception);
    IssueMetadata {
        exception_type: exception.text("type").filter(|_| !is_synthetic).map(|text| cut(text, MAX_TYPE_CHARS)),
        value: exception.text("value").map(|text| cut(text, MAX_VALUE_CHARS)),
        filename: frame.and_then(|frame| frame.text("filename").or_else(|| frame.text("abs_path"))).map(str::to_owned),
        function: frame.and_then(|frame| frame.text("function")).map(str::to_owned),
    }
}

fn exception_title(metadata: &IssueMetadata) -> String {
    let value = metadata.value.as_deref().map(first_line).filter(|line| !line.is_empty());
    match (&metadata.exception_type, value) {
        (Some(name), Some(value)) => format!("{name}: {}", cut(value, MAX_TITLE_CHARS)),
        (Some(name), None) => name.clone(),
        (None, Some(value)) => cut(value, MAX_TITLE_CHARS),
        (None, None) => metadata.function.clone().unwrap_or_else(|| "<unknown>".to_owned()),
    }
}

fn message_title(event: &Value) -> String {
    let line = message(event).map(first_line).filter(|line| !line.is_empty());
    line.map_or_else(|| "<unlabeled event>".to_owned(), |line| cut(line, MAX_TITLE_CHARS))
}

/// What the SDK says, else the transaction, else where the main exception was raised, else the request's address.
#[must_use]
pub fn culprit(event: &Value) -> String {
    let sent = event.text("culprit").or_else(|| event.text("transaction"));
    let found = sent.map(str::to_owned).or_else(|| {
        let frame = main_exception(event).and_then(crash_frame)?;
        frame_culprit(event.text("platform").unwrap_or("other"), frame)
    });
    let found = found.or_else(|| event.get("request").and_then(|request| request.text("url")).map(str::to_owned));
    cut(&found.unwrap_or_default(), MAX_CULPRIT_CHARS)
}

/// The last in-app frame, else the last one.
fn crash_frame(exception: &Value) -> Option<&Value> {
    let frames = exception.get("stacktrace")?.values("frames");
    let is_in_app = |frame: &&Value| frame.get("in_app").and_then(Value::as_bool).unwrap_or(false);
    frames.iter().rfind(is_in_app).or_else(|| frames.last())
}

fn frame_culprit(platform: &str, frame: &Value) -> Option<String> {
    let place = frame.text("module").or_else(|| frame.text("filename"));
    let function = frame.text("function");
    match platform {
        "native" | "cocoa" | "objc" | "c" | "swift" => Some(function.unwrap_or("?").to_owned()),
        "javascript" | "node" => Some(match (function, place) {
            (Some(function), Some(place)) => format!("{function}({place})"),
            (None, Some(place)) => place.to_owned(),
            (function, None) => function?.to_owned(),
        }),
        _ => Some(match (place, function) {
            (Some(place), Some(function)) => format!("{place} in {function}"),
            (Some(place), None) => place.to_owned(),
            (None, function) => function?.to_owned(),
        }),
    }
}

/// PostgreSQL's texts hold no NUL. Relays remove it; what an old one had spooled may still have it.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "") } else { text }
}

fn first_line(text: &str) -> &str {
    text.trim_start().lines().next().unwrap_or_default().trim_end()
}

/// At most so many characters, the last an ellipsis where something was cut off.
fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max_chars - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

    #[test]
    fn an_error_is_titled_by_the_last_exception_of_the_chain() {
        let event = json!({"platform": "python", "exception": {"values": [
            {"type": "KeyError", "value": "'total'"},
            {"type": "CheckoutError", "value": "no total\nsecond line", "stacktrace": {"frames": [
                {"module": "shop.cart", "function": "add", "in_app": true},
                {"module": "json", "function": "loads", "in_app": false}]}}]}});
        let face = face(&event, NOW);
        assert_eq!((face.kind, face.title.as_str()), ("error", "CheckoutError: no total"));
        assert_eq!(face.culprit, "shop.cart in add");
        assert_eq!(face.metadata.function.as_deref(), Some("add"));
    }

    #[test]
    fn culprits_follow_the_platform() {
        let event = |platform: &str, extra: Value| {
            let mut event = json!({"platform": platform, "exception": [{"type": "E", "stacktrace": {"frames": [
                {"filename": "app.js", "function": "run"}]}}]});
            if let (Some(event), Value::Object(extra)) = (event.as_object_mut(), extra) {
                event.extend(extra);
            }
            event
        };
        for (platform, extra, expected) in [
            ("node", json!({}), "run(app.js)"),
            ("native", json!({}), "run"),
            ("python", json!({}), "app.js in run"),
            ("python", json!({"transaction": "/checkout"}), "/checkout"),
            ("python", json!({"transaction": "/checkout", "culprit": "sent"}), "sent"),
        ] {
            assert_eq!(culprit(&event(platform, extra)), expected);
        }
        assert_eq!(culprit(&json!({"request": {"url": "http://localhost/x"}})), "http://localhost/x");
    }

    #[test]
    fn a_message_is_titled_by_its_first_formatted_line() {
        let event = json!({"logentry": {"message": "hello %s", "formatted": "hello ada\nmore"}, "level": "warning"});
        let face = face(&event, NOW);
        assert_eq!((face.kind, face.title.as_str(), face.level.as_str()), ("default", "hello ada", "warning"));
        assert_eq!(super::face(&json!({}), NOW).title, "<unlabeled event>");
    }

    #[test]
    fn long_texts_are_cut_by_characters() {
        let event = json!({"exception": [{"type": "E", "value": "ä".repeat(5000)}]});
        let face = face(&event, NOW);
        assert_eq!(face.title.chars().count(), 3 + MAX_TITLE_CHARS);
        assert!(face.title.ends_with('…'));
    }

    #[test]
    fn what_goes_into_columns_of_text_holds_no_nul() {
        let event = json!({"exception": [{"type": "E\0", "value": "v\0w"}], "culprit": "c\0", "platform": "p\0"});
        let face = face(&event, NOW);
        assert_eq!((face.title.as_str(), face.culprit.as_str(), face.platform.as_str()), ("E: vw", "c", "p"));
    }

    #[test]
    fn fields_of_the_wrong_type_never_panic() {
        for event in [
            json!(1),
            json!({"exception": [null, 3]}),
            json!({"exception": [{"type": 1, "stacktrace": []}], "level": 3}),
        ] {
            assert_eq!(face(&event, NOW).level, "error");
        }
    }
}
