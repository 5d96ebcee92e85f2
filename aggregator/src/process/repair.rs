//! Repairs JSON that old SDKs break in known ways, so that no event is lost to a strict parser.
//!
//! Repaired: lone surrogate escapes (`\ud83d` without its other half) become U+FFFD; the bare words `NaN`, `Infinity` and
//! `-Infinity` become `null`. Nothing else is touched, and only text that did not parse comes here.

/// The repaired text; the same length or longer by a few bytes a repair.
#[must_use]
pub(super) fn repair(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut at = 0;
    let mut in_string = false;
    while let Some(&byte) = json.get(at) {
        let rest = &json[at..];
        if in_string {
            match byte {
                b'\\' => at += copy_escape(rest, &mut out),
                _ => {
                    in_string = byte != b'"';
                    out.push(byte);
                    at += 1;
                }
            }
            continue;
        }
        let word = [&b"-Infinity"[..], b"Infinity", b"NaN"].into_iter().find(|word| rest.starts_with(word));
        if let Some(word) = word {
            out.extend_from_slice(b"null");
            at += word.len();
            continue;
        }
        in_string = byte == b'"';
        out.push(byte);
        at += 1;
    }
    out
}

/// Copies the escape at the start of `rest`, or its replacement, and returns how many bytes it took.
fn copy_escape(rest: &[u8], out: &mut Vec<u8>) -> usize {
    match escaped_unit(rest) {
        Some(0xd800..=0xdbff) => {
            if matches!(rest.get(6..).and_then(escaped_unit), Some(0xdc00..=0xdfff)) {
                out.extend_from_slice(&rest[..12]);
                return 12;
            }
            out.extend_from_slice(b"\\ufffd");
            6
        }
        Some(0xdc00..=0xdfff) => {
            out.extend_from_slice(b"\\ufffd");
            6
        }
        Some(_) => {
            out.extend_from_slice(&rest[..6]);
            6
        }
        None => {
            let taken = rest.len().min(2);
            out.extend_from_slice(&rest[..taken]);
            taken
        }
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

    fn parsed(text: &str) -> Value {
        serde_json::from_slice(&repair(text.as_bytes())).unwrap()
    }

    #[test]
    fn lone_surrogates_become_the_replacement_character() {
        assert_eq!(parsed(r#""a\ud83db""#), json!("a\u{fffd}b"));
        assert_eq!(parsed(r#""\udc00\ud83d""#), json!("\u{fffd}\u{fffd}"));
        assert_eq!(parsed(r#""\ud83d\ude00 \\ud83d""#), json!("😀 \\ud83d"));
        assert_eq!(parsed(r#""\ud83d\u0041""#), json!("\u{fffd}A"));
    }

    #[test]
    fn words_that_are_no_json_become_null_outside_of_strings_only() {
        assert_eq!(
            parsed(r#"{"a": NaN, "b": [-Infinity, Infinity], "NaN": "NaN \" Infinity"}"#),
            json!({"a": null, "b": [null, null], "NaN": "NaN \" Infinity"})
        );
    }

    proptest! {
        #[test]
        fn valid_json_is_left_alone(text in "\\PC{0,40}") {
            let json = Value::String(text).to_string();
            prop_assert_eq!(repair(json.as_bytes()), json.into_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = repair(&bytes);
        }
    }
}
