//! Writing the tree as JSON.

use super::scan::first_special;
use super::value::{Number, Object, Value};

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(24);
        number(*self, &mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Value<'_> {
    /// Appends the value as JSON, without blanks.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(value) => number(*value, out),
            Value::String(text) => string(text, out),
            Value::Array(elements) => {
                out.push(b'[');
                for (position, element) in elements.iter().enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    element.write_json(out);
                }
                out.push(b']');
            }
            Value::Object(object) => {
                out.push(b'{');
                entries(object, out);
                out.push(b'}');
            }
        }
    }

    /// The value as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = Vec::new();
        self.write_json(&mut out);
        // Strings are UTF-8 and everything else is ASCII, so nothing is replaced.
        String::from_utf8(out).unwrap_or_default()
    }
}

impl Object<'_> {
    /// Appends the object as JSON with one more key at its end.
    pub(super) fn write_json_with(&self, key: &str, value: &Value<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        entries(self, out);
        if !self.is_empty() {
            out.push(b',');
        }
        string(key, out);
        out.push(b':');
        value.write_json(out);
        out.push(b'}');
    }
}

fn entries(object: &Object<'_>, out: &mut Vec<u8>) {
    for (position, (key, value)) in object.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        string(key, out);
        out.push(b':');
        value.write_json(out);
    }
}

/// Appends a number; serde_json knows the shortest text of a double that reads back the same.
pub(super) fn number(value: Number, out: &mut Vec<u8>) {
    let written = match value {
        Number::Unsigned(number) => serde_json::to_writer(out, &number),
        Number::Signed(number) => serde_json::to_writer(out, &number),
        Number::Float(number) => serde_json::to_writer(out, &number),
    };
    debug_assert!(written.is_ok(), "writing into a vector can't fail");
}

/// Appends a string, with those escapes that it needs.
fn string(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.push(b'"');
    while let Some(at) = first_special(rest) {
        out.extend_from_slice(&rest[..at]);
        escape(rest[at], out);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// RFC 8259 §7.
fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}
