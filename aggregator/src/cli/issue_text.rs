//! One issue for people: its facts, and of its newest event what failed and where.
//!
//! Invariant: nothing of an event reaches the terminal as a control sequence.

use std::fmt::Write as _;

use serde_json::Value;

use crate::admin::IssueWithEvent;
use crate::web::event_view::{ExceptionChain, Message, StackTrace};

/// Frames shown of a stack trace, those next to the crash. The page has the others.
const FRAMES_SHOWN: usize = 10;

/// The issue as lines of text. `public_url` is where its page is.
pub(super) fn issue_text(found: &IssueWithEvent, public_url: &str) -> String {
    let issue = &found.issue;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string can't fail, here and below.
        let _ = writeln!(text, "{name:<12}{}", one_line(value));
    };
    line(&issue.short_id, &format!(" {}", issue.title));
    if !issue.culprit.is_empty() {
        line("culprit", &issue.culprit);
    }
    line("level", &issue.level);
    line("status", &issue.status);
    line("project", &issue.project.slug);
    line("events", &issue.count.to_string());
    line("users", &issue.users.to_string());
    line("first seen", &issue.first_seen.to_rfc3339());
    line("last seen", &issue.last_seen.to_rfc3339());
    line("page", &format!("{}/issues/{}/", public_url.trim_end_matches('/'), issue.id.get()));
    if let Some(event) = found.latest_event_id {
        line("latest", &event.to_string());
    }
    if let Some(Value::Object(event)) = &found.latest_event {
        write_event(&mut text, event);
    }
    text
}

fn write_event(text: &mut String, event: &serde_json::Map<String, Value>) {
    if let Some(message) = Message::from_event(event) {
        let _ = writeln!(text, "\n{}", printable(&message.text));
    }
    let chain = ExceptionChain::from_value(event.get("exception").unwrap_or(&Value::Null));
    for exception in &chain.exceptions {
        let relation = exception.relation.map_or_else(String::new, |relation| format!("{relation} "));
        let parts = [exception.kind.as_deref(), exception.value.as_deref()];
        let what: Vec<&str> = parts.into_iter().flatten().collect();
        let _ = writeln!(text, "\n{relation}{}", printable(&what.join(": ")));
        if let Some(trace) = &exception.stack_trace {
            write_frames(text, trace);
        }
    }
    if chain.omitted > 0 {
        let _ = writeln!(text, "\n… and {} more exceptions", chain.omitted);
    }
    if let Some(trace) = event.get("stacktrace").and_then(StackTrace::from_value) {
        let _ = writeln!(text);
        write_frames(text, &trace);
    }
}

fn write_frames(text: &mut String, trace: &StackTrace) {
    for frame in trace.frames.iter().take(FRAMES_SHOWN) {
        let _ = writeln!(text, "  {}  {}", one_line(&frame.function), one_line(&frame.location));
        for source in frame.lines.iter().filter(|line| line.is_current) {
            let _ = writeln!(text, "      {}", one_line(source.text.trim()));
        }
    }
    let more = trace.frames.len().saturating_sub(FRAMES_SHOWN) + trace.omitted;
    if more > 0 {
        let _ = writeln!(text, "  … and {more} more frames");
    }
}

/// With a blank for every control character, which terminals would obey.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// As [`one_line`], but keeps the lines.
fn printable(text: &str) -> String {
    text.lines().map(one_line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::web::fixture::issue_summary;

    fn shown(event: Value) -> String {
        let found =
            IssueWithEvent { issue: issue_summary(), latest_event_id: None, latest_event: Some(event), grouping: None };
        issue_text(&found, "http://127.0.0.1:8000/")
    }

    #[test]
    fn an_issue_shows_its_page_and_the_frames_next_to_the_crash() {
        let frames: Vec<_> = (0..13)
            .map(|number| {
                json!({"function": format!("f{number}"), "filename": "a.py", "lineno": 3, "context_line": "  x = 1"})
            })
            .collect();
        let text = shown(json!({"exception": {"values": [
            {"type": "KeyError", "value": "'sku'"},
            {"type": "ValueError", "value": "bad\ninput", "stacktrace": {"frames": frames}},
        ]}}));
        assert!(text.contains("http://127.0.0.1:8000/issues/7/\n"), "{text}");
        assert!(text.contains("ValueError: bad\ninput\n  f12  a.py:3\n      x = 1\n  f11"), "{text}");
        assert!(text.contains("  f3 ") && !text.contains("  f2 ") && text.contains("… and 3 more frames"), "{text}");
        assert!(text.contains("\ncaused by KeyError: 'sku'\n"), "{text}");
    }

    #[test]
    fn nothing_of_an_event_controls_the_terminal() {
        let text = shown(json!({
            "message": "red \u{1b}[31m\u{9b}1m",
            "stacktrace": {"frames": [{"function": "\u{1b}]0;title\u{7}", "filename": "a\rb"}]},
        }));
        assert!(!text.chars().any(|character| character.is_control() && character != '\n'), "{text:?}");
        assert!(text.contains("\nred  [31m"), "{text}");
    }
}
