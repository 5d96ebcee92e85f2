//! Repairs JSON that SDKs break in known ways, so that no event that was answered 200 is lost to a strict parser
//! for one of these reasons.
//!
//! | what came | what it becomes |
//! | --- | --- |
//! | bytes that are no UTF-8 | U+FFFD |
//! | a lone surrogate escape (`\ud83d` without its other half) | U+FFFD |
//! | the words `NaN`, `Infinity`, `-Infinity` | `null` |
//! | a number beyond what a double holds (`1e999`) | `null` |
//! | a value nested deeper than [`MAX_DEPTH`] | `null` |
//! | control characters inside a string | their escapes |
//!
//! Nothing else is touched, and only text that did not parse comes here. One pass, no recursion.

/// The parser gives up at 128 levels; an event's own structure has about ten.
const MAX_DEPTH: usize = 100;

/// The repaired text.
#[must_use]
pub(super) fn repair(json: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(json);
    let mut repair = Repair { rest: text.as_bytes(), out: Vec::with_capacity(text.len()), depth: 0 };
    while let Some(&byte) = repair.rest.first() {
        match byte {
            b'"' => repair.string(),
            b'{' | b'[' => repair.open(byte),
            b'}' | b']' => repair.close(byte),
            b'-' | b'0'..=b'9' | b'N' | b'I' => repair.word(),
            other => repair.keep_byte(other),
        }
    }
    repair.out
}

struct Repair<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    depth: usize,
}

impl Repair<'_> {
    /// Whether what is read now goes into the result.
    const fn is_kept(&self) -> bool {
        self.depth <= MAX_DEPTH
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.is_kept() {
            self.out.extend_from_slice(bytes);
        }
    }

    fn keep_byte(&mut self, byte: u8) {
        self.write(&[byte]);
        self.rest = &self.rest[1..];
    }

    fn open(&mut self, byte: u8) {
        self.depth += 1;
        if self.depth == MAX_DEPTH + 1 {
            self.out.extend_from_slice(b"null");
        }
        self.keep_byte(byte);
    }

    fn close(&mut self, byte: u8) {
        self.keep_byte(byte);
        self.depth = self.depth.saturating_sub(1);
    }

    /// A number, or a word that some languages write for one.
    fn word(&mut self) {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let length = self.rest.iter().position(|byte| !is_part(byte)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        // Where it is no number at all, the parser will say so.
        let number: Option<f64> = std::str::from_utf8(word).ok().and_then(|text| text.parse().ok());
        let replacement = if number.is_some_and(|number| !number.is_finite()) { b"null" } else { word };
        self.write(replacement);
    }

    fn string(&mut self) {
        self.keep_byte(b'"');
        while let Some(&byte) = self.rest.first() {
            match byte {
                b'\\' => self.escape(),
                0..=0x1f => {
                    self.write(format!("\\u{byte:04x}").as_bytes());
                    self.rest = &self.rest[1..];
                }
                _ => self.keep_byte(byte),
            }
            if byte == b'"' {
                return;
            }
        }
    }

    fn escape(&mut self) {
        let is_pair = matches!(self.rest.get(6..).and_then(escaped_unit), Some(0xdc00..=0xdfff));
        let (length, is_lone) = match escaped_unit(self.rest) {
            Some(0xd800..=0xdbff) if is_pair => (12, false),
            Some(0xd800..=0xdfff) => (6, true),
            Some(_) => (6, false),
            None => (self.rest.len().min(2), false),
        };
        let (escape, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.write(if is_lone { b"\\ufffd" } else { escape });
    }
}

/// The UTF-16 unit of a `\uXXXX` at the start of the text.
fn escaped_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn parsed(text: &[u8]) -> Value {
        serde_json::from_slice(&repair(text)).unwrap()
    }

    #[test]
    fn lone_surrogates_become_the_replacement_character() {
        assert_eq!(parsed(br#""a\ud83db""#), json!("a\u{fffd}b"));
        assert_eq!(parsed(br#""\udc00\ud83d""#), json!("\u{fffd}\u{fffd}"));
        assert_eq!(parsed(br#""\ud83d\ude00 \\ud83d""#), json!("😀 \\ud83d"));
        assert_eq!(parsed(br#""\ud83d\u0041""#), json!("\u{fffd}A"));
    }

    #[test]
    fn what_is_no_finite_number_becomes_null_outside_of_strings_only() {
        let text = br#"{"a": NaN, "b": [-Infinity, Infinity, 1e999, -1e999, -1.5e3, 0], "NaN": "NaN \" 1e999"}"#;
        assert_eq!(parsed(text), json!({"a": null, "b": [null, null, null, null, -1500.0, 0], "NaN": "NaN \" 1e999"}));
    }

    #[test]
    fn bytes_that_are_no_utf8_and_raw_control_characters_are_made_readable() {
        assert_eq!(parsed(b"{\"a\": \"x\xff\xfey\"}"), json!({"a": "x\u{fffd}\u{fffd}y"}));
        assert_eq!(parsed(b"\"a\nb\x00c\""), json!("a\nb\0c"));
    }

    #[test]
    fn deep_nesting_is_cut_and_what_follows_is_kept() {
        let deep = format!("{{\"deep\": {}1{}, \"after\": [1]}}", "[{\"a\":".repeat(5000), "}]".repeat(5000));
        let value = parsed(deep.as_bytes());
        assert_eq!(value["after"], json!([1]));
        assert!(value["deep"][0]["a"][0].is_object());
    }

    proptest! {
        #[test]
        fn valid_json_is_left_alone(text in "\\PC{0,40}", number in any::<f64>(), list in proptest::collection::vec(any::<i64>(), 0..5)) {
            let json = json!({"text": text, "number": number, "list": list, "nested": {"empty": []}}).to_string();
            prop_assert_eq!(repair(json.as_bytes()), json.into_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = repair(&bytes);
        }

        #[test]
        fn nothing_near_json_panics(text in "[\\[\\]{}\",:\\\\ud8c0-9eE.NaIinfty-]{0,60}") {
            let _ = repair(text.as_bytes());
        }
    }
}
