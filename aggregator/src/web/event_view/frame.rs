//! Stack traces and their frames, the crash first.

use serde_json::Value;

use super::json_text;
use super::row::Rows;

/// Frames shown of a trace, counted from the crash: relays keep at most 250, and nobody reads them all on one page.
const FRAMES_MAX: usize = 100;
/// Local variables shown of a frame.
const VARIABLES_MAX: usize = 50;
/// Context lines shown on each side of a frame's line; SDKs send five, or up to ten with settings.
const CONTEXT_LINES_MAX: usize = 20;

/// A stack trace, the crash first.
#[derive(Debug, Default)]
pub(crate) struct StackTrace {
    pub(crate) frames: Vec<Frame>,
    /// How many more there are, all further from the crash.
    pub(crate) omitted: usize,
}

/// One frame.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) function: String,
    /// `file:line:column`, as far as known.
    pub(crate) location: String,
    /// The module, class or binary, where that says more than the file.
    pub(crate) module: Option<String>,
    pub(crate) in_app: bool,
    /// Whether the frame is unfolded when the page opens.
    pub(crate) is_open: bool,
    pub(crate) lines: Vec<ContextLine>,
    pub(crate) variables: Rows,
    /// An address, package or lock that native frames have instead of source lines.
    pub(crate) details: Rows,
}

/// A line of source around a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ContextLine {
    /// Counted from 1; none where the frame's own number is unknown.
    pub(crate) number: Option<u64>,
    pub(crate) text: String,
    /// Whether this is the line that the frame stands on.
    pub(crate) is_current: bool,
}

impl StackTrace {
    /// Reads `{"frames": […]}`; `None` where there is no frame.
    pub(crate) fn from_value(stack_trace: &Value) -> Option<Self> {
        let frames = match stack_trace {
            Value::Array(frames) => frames,
            other => other.get("frames")?.as_array()?,
        };
        // SDKs send the oldest call first.
        let mut newest_first = frames.iter().rev().filter(|frame| !frame.is_null());
        let mut shown: Vec<Frame> = newest_first.by_ref().take(FRAMES_MAX).map(Frame::from_value).collect();
        let first = shown.first_mut()?;
        // The crash itself is worth a look whoever wrote it, and where nothing is in-app, it is all there is.
        first.is_open = first.has_body();
        Some(Self { frames: shown, omitted: newest_first.count() })
    }
}

impl Frame {
    fn from_value(frame: &Value) -> Self {
        if !frame.is_object() {
            return Self { function: json_text::line(frame).unwrap_or_default(), ..Self::default() };
        }
        let in_app = frame.get("in_app").and_then(Value::as_bool).unwrap_or(false);
        let mut read = Self {
            function: function_of(frame),
            location: location_of(frame),
            module: json_text::line_of(frame, "module").or_else(|| json_text::line_of(frame, "package")),
            in_app,
            is_open: false,
            lines: context_lines(frame),
            variables: Rows::from_value(frame.get("vars").unwrap_or(&Value::Null), VARIABLES_MAX),
            details: native_details(frame),
        };
        read.is_open = in_app && read.has_body();
        read
    }

    /// Whether there is anything to unfold.
    pub(crate) fn has_body(&self) -> bool {
        !(self.lines.is_empty() && self.variables.is_empty() && self.details.is_empty())
    }
}

fn function_of(frame: &Value) -> String {
    ["function", "raw_function", "symbol", "instruction_addr"]
        .iter()
        .find_map(|name| json_text::line_of(frame, name))
        .unwrap_or_else(|| "<unknown>".to_owned())
}

fn location_of(frame: &Value) -> String {
    let mut location =
        ["filename", "abs_path"].iter().find_map(|name| json_text::line_of(frame, name)).unwrap_or_default();
    for number in ["lineno", "colno"] {
        let Some(number) = json_text::line_of(frame, number) else { break };
        location.push(':');
        location.push_str(&number);
    }
    location
}

fn native_details(frame: &Value) -> Rows {
    const NAMES: [&str; 5] = ["instruction_addr", "symbol_addr", "package", "trust", "lock"];
    let details: serde_json::Map<String, Value> =
        NAMES.iter().filter_map(|name| frame.get(*name).map(|value| ((*name).to_owned(), value.clone()))).collect();
    Rows::known_members(&Value::Object(details), &[], NAMES.len())
}

fn context_lines(frame: &Value) -> Vec<ContextLine> {
    let side = |name: &str| frame.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let current = match frame.get("context_line") {
        None | Some(Value::Null) => return Vec::new(),
        Some(line) => line,
    };
    let before = side("pre_context");
    let before = &before[before.len().saturating_sub(CONTEXT_LINES_MAX)..];
    let after = side("post_context");
    let after = &after[..after.len().min(CONTEXT_LINES_MAX)];
    let number = frame.get("lineno").and_then(Value::as_u64).filter(|number| *number > 0);
    let line = |text: &Value, number: Option<u64>, is_current| ContextLine {
        number: number.filter(|number| *number > 0),
        text: json_text::paragraph(text).unwrap_or_default(),
        is_current,
    };
    let distance = |places: usize| u64::try_from(places).unwrap_or(u64::MAX);
    let mut lines = Vec::with_capacity(before.len() + 1 + after.len());
    for (place, text) in before.iter().enumerate() {
        // Saturates to 0, that is to no number, where an SDK sends more lines than precede the frame.
        lines.push(line(text, number.map(|number| number.saturating_sub(distance(before.len() - place))), false));
    }
    lines.push(line(current, number, true));
    for (place, text) in after.iter().enumerate() {
        lines.push(line(text, number.and_then(|number| number.checked_add(distance(place + 1))), false));
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_crash_comes_first_and_in_app_frames_are_open() {
        let trace = StackTrace::from_value(&json!({"frames": [
            {"function": "main", "in_app": true, "context_line": "main()"},
            {"function": "library", "in_app": false, "context_line": "call()"},
            {"function": "bare", "in_app": true},
            {"function": "crash", "in_app": false, "context_line": "1 / 0"},
        ]}))
        .unwrap();
        let shown: Vec<_> = trace.frames.iter().map(|frame| (frame.function.as_str(), frame.is_open)).collect();
        assert_eq!(shown, [("crash", true), ("bare", false), ("library", false), ("main", true)]);
    }

    #[test]
    fn context_lines_are_numbered_around_the_frames_line() {
        let frame = Frame::from_value(&json!({
            "filename": "shop.py", "lineno": 3, "colno": 7,
            "pre_context": ["a", null], "context_line": "b", "post_context": ["c"],
        }));
        let numbers: Vec<_> =
            frame.lines.iter().map(|line| (line.number, line.text.as_str(), line.is_current)).collect();
        assert_eq!(numbers, [(Some(1), "a", false), (Some(2), "", false), (Some(3), "b", true), (Some(4), "c", false)]);
        assert_eq!(frame.location, "shop.py:3:7");
    }

    #[test]
    fn hostile_line_numbers_only_lose_the_numbers() {
        for lineno in [json!(1), json!(0), json!(-3), json!(u64::MAX), json!("12"), json!(1.5), json!([1])] {
            let frame = Frame::from_value(&json!({
                "lineno": lineno, "pre_context": ["a", "b", "c"], "context_line": "d", "post_context": ["e", "f"],
            }));
            assert_eq!(frame.lines.len(), 6, "{lineno}");
        }
    }

    #[test]
    fn a_trace_keeps_the_frames_next_to_the_crash() {
        let frames: Vec<_> = (0..250).map(|number| json!({"function": format!("f{number}")})).collect();
        let trace = StackTrace::from_value(&json!({ "frames": frames })).unwrap();
        assert_eq!((trace.frames.len(), trace.omitted), (FRAMES_MAX, 150));
        assert_eq!(trace.frames[0].function, "f249");
    }

    #[test]
    fn a_frame_without_any_name_is_still_a_frame() {
        assert_eq!(Frame::from_value(&json!({})).function, "<unknown>");
        assert_eq!(Frame::from_value(&json!("odd")).function, "odd");
        assert_eq!(Frame::from_value(&json!({"instruction_addr": "0x10"})).function, "0x10");
        assert!(StackTrace::from_value(&json!({"frames": []})).is_none());
        assert!(StackTrace::from_value(&json!({"frames": 3})).is_none());
    }
}
