//! JSON values as bounded text: strings as they are, everything else as JSON.

use std::io;

use serde_json::Value;

/// Bytes of one value that a page shows; the raw JSON has the rest. SDKs cut most values far below this.
const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a value that has a single line on the page: names, versions, file names.
const LINE_BYTES_MAX: usize = 512;
/// Up to this many bytes, JSON is easier to read on one line than indented.
const COMPACT_BYTES_MAX: usize = 80;
/// What follows a text that was cut.
const CUT_MARK: &str = " … (cut here, the raw JSON has it all)";

/// A value ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ValueText {
    pub(crate) text: String,
    /// Whether it needs a block of its own: several lines, or one long one.
    pub(crate) is_block: bool,
}

impl ValueText {
    /// The text of any value, cut to a size that a page can hold.
    pub(crate) fn of(value: &Value) -> Self {
        let text = text_of(value, VALUE_BYTES_MAX);
        let is_block = text.len() > COMPACT_BYTES_MAX || text.contains('\n');
        Self { text, is_block }
    }
}

/// A value that belongs on one line: a string as it is, anything else as compact JSON. `None` for null and the empty string.
pub(crate) fn line(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(cut(text, LINE_BYTES_MAX)),
        other => Some(compact(other, LINE_BYTES_MAX)),
    }
}

/// As [`line()`], of a member of `object`; `None` too where `object` is none or has no such member.
pub(crate) fn line_of(object: &Value, name: &str) -> Option<String> {
    object.get(name).and_then(line)
}

/// A text of any length that keeps its lines: an exception's value, a message. `None` for null and the empty string.
pub(crate) fn paragraph(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        other => Some(text_of(other, VALUE_BYTES_MAX)),
    }
}

fn text_of(value: &Value, bytes_max: usize) -> String {
    if let Value::String(text) = value {
        return cut(text, bytes_max);
    }
    let compact = compact(value, bytes_max);
    if compact.len() <= COMPACT_BYTES_MAX {
        return compact;
    }
    bounded(bytes_max, |buffer| serde_json::to_writer_pretty(buffer, value))
}

fn compact(value: &Value, bytes_max: usize) -> String {
    bounded(bytes_max, |buffer| serde_json::to_writer(buffer, value))
}

/// Cuts at a character boundary at or below `bytes_max` and says so.
fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    format!("{}{CUT_MARK}", &text[..text.floor_char_boundary(bytes_max)])
}

/// Runs `write` on a buffer that refuses to grow beyond `bytes_max`, so that a large value costs no more than its beginning.
fn bounded(bytes_max: usize, write: impl FnOnce(&mut BoundedBuffer) -> serde_json::Result<()>) -> String {
    let mut buffer = BoundedBuffer { bytes: Vec::new(), bytes_max };
    let is_complete = write(&mut buffer).is_ok();
    let text = String::from_utf8_lossy(&buffer.bytes);
    if is_complete { text.into_owned() } else { format!("{}{CUT_MARK}", text.trim_end_matches('\u{fffd}')) }
}

struct BoundedBuffer {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for BoundedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.bytes_max - self.bytes.len();
        let taken = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..taken]);
        if taken < bytes.len() {
            return Err(io::Error::other("the buffer is full"));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_stay_what_they_are_and_the_rest_is_json() {
        assert_eq!(ValueText::of(&json!("a \"b\"")).text, "a \"b\"");
        assert_eq!(ValueText::of(&json!({"a": [1, null]})).text, r#"{"a":[1,null]}"#);
        assert!(!ValueText::of(&json!("short")).is_block);
        assert!(ValueText::of(&json!("two\nlines")).is_block);
        let long = ValueText::of(&json!({"key": "v".repeat(100)}));
        assert!(long.is_block && long.text.starts_with("{\n  \"key\": "), "{}", long.text);
    }

    #[test]
    fn a_huge_value_is_cut_at_a_character_and_says_so() {
        for value in [json!("é".repeat(100_000)), json!(vec!["é"; 100_000]), json!({"x": "é".repeat(9_999)})] {
            let text = ValueText::of(&value).text;
            assert!(text.len() <= VALUE_BYTES_MAX + CUT_MARK.len(), "{}", text.len());
            assert!(text.ends_with(CUT_MARK) && !text.contains('\u{fffd}'));
        }
    }

    #[test]
    fn null_and_the_empty_string_have_no_line() {
        assert_eq!(line(&json!(null)), None);
        assert_eq!(line(&json!("")), None);
        assert_eq!(line(&json!(0)), Some("0".to_owned()));
        assert_eq!(line_of(&json!([1]), "name"), None);
    }
}
