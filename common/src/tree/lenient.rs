//! Reading JSON as some SDKs write it, so that no event is lost to a strict parser for a known reason.
//!
//! | what came | what it becomes |
//! | --- | --- |
//! | bytes that are no UTF-8 | U+FFFD |
//! | a lone surrogate escape (`\ud83d` without its other half) | U+FFFD |
//! | NUL in a string, as an escape or bare | U+FFFD |
//! | other control characters bare in a string | themselves |
//! | `NaN`, `Infinity`, `-Infinity` where the client is known to write them | `null` |
//! | a number beyond what a double holds (`1e999`) | `null` |
//! | a value nested deeper than [`MAX_DEPTH`] | a string of its text, cut to [`DEEP_TEXT_BYTES`] |
//!
//! Each leaves an `invalid_data` error at its path. What is not in the table is an error, as for any parser. Recursion is bounded
//! by [`MAX_DEPTH`]; what is deeper is skipped over by counting.

use std::borrow::Cow;

use super::MAX_DEPTH;
use super::meta::{MetaError, MetaTree};
use super::path::Path;
use super::read::{ReadError, number};
use super::value::{Object, Value};

/// Most bytes that are kept of a value which is nested too deep.
const DEEP_TEXT_BYTES: usize = 1024;

/// Whether a client writes floats as Python does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PythonFloats {
    /// `NaN` and its like are errors.
    Refuse,
    /// `NaN` and its like become `null`. Old Python SDKs write them.
    Accept,
}

/// Reads one JSON value with the repairs of the table above.
///
/// # Errors
/// [`ReadError`] for everything else that is no JSON.
pub fn read_lenient<'a>(text: &'a [u8], meta: &mut MetaTree, floats: PythonFloats) -> Result<Value<'a>, ReadError> {
    let mut reader = Reader { text, at: 0, meta, floats };
    let value = reader.value(&Path::ROOT)?;
    reader.blanks();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.error("something follows the JSON value")),
    }
}

struct Reader<'a, 'm> {
    text: &'a [u8],
    at: usize,
    meta: &'m mut MetaTree,
    floats: PythonFloats,
}

/// A string with what had to be done to it.
struct Text<'a> {
    text: Cow<'a, str>,
    repair: Option<&'static str>,
}

const NOT_UNICODE: &str = "bytes or escapes that are no Unicode text were replaced";
const NUL: &str = "NUL characters were replaced";

impl<'a> Reader<'a, '_> {
    fn value(&mut self, path: &Path<'_>) -> Result<Value<'a>, ReadError> {
        self.blanks();
        match self.peek() {
            Some(b'{' | b'[') if path.depth() >= MAX_DEPTH => self.too_deep(path),
            Some(b'{') => self.object(path),
            Some(b'[') => self.array(path),
            Some(b'"') => {
                let Text { text, repair } = self.string()?;
                if let Some(reason) = repair {
                    self.meta.at(path).add_error(MetaError::invalid_data(reason));
                }
                Ok(Value::String(text))
            }
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => self.number(path),
            Some(b't') => self.word("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Value::Bool(false)),
            Some(b'n') => self.word("null").map(|()| Value::Null),
            Some(_) => Err(self.error("expected a JSON value")),
            None => Err(self.error("the JSON text ends too early")),
        }
    }

    fn object(&mut self, path: &Path<'_>) -> Result<Value<'a>, ReadError> {
        self.at += 1;
        let mut entries = Vec::new();
        self.blanks();
        if self.skip(b'}') {
            return Ok(Value::Object(Object::new()));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a key in quotes"));
            }
            let Text { text: key, repair } = self.string()?;
            self.blanks();
            self.expect(b':', "expected a colon after the key")?;
            let below = path.key(&key);
            let value = self.value(&below)?;
            if let Some(reason) = repair {
                self.meta.at(&below).add_error(MetaError::invalid_data(reason));
            }
            entries.push((key, value));
            self.blanks();
            if self.skip(b'}') {
                let mut object = Object(entries);
                object.drop_repeated_keys();
                return Ok(Value::Object(object));
            }
            self.expect(b',', "expected a comma or the end of the object")?;
        }
    }

    fn array(&mut self, path: &Path<'_>) -> Result<Value<'a>, ReadError> {
        self.at += 1;
        let mut elements = Vec::new();
        self.blanks();
        if self.skip(b']') {
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value(&path.index(elements.len()))?);
            self.blanks();
            if self.skip(b']') {
                return Ok(Value::Array(elements));
            }
            self.expect(b',', "expected a comma or the end of the array")?;
        }
    }

    /// Skips a container by counting brackets. What is inside is not checked any further than that.
    fn too_deep(&mut self, path: &Path<'_>) -> Result<Value<'a>, ReadError> {
        let start = self.at;
        let mut open = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => self.skip_string()?,
                Some(b'{' | b'[') => {
                    open += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') => {
                    open -= 1;
                    self.at += 1;
                }
                Some(_) => self.at += 1,
                None => return Err(self.error("the JSON text ends too early")),
            }
            if open == 0 {
                break;
            }
        }
        let kept = &self.text[start..self.at.min(start + DEEP_TEXT_BYTES)];
        self.meta.at(path).add_error(MetaError::invalid_data("nested too deep"));
        Ok(Value::String(Cow::Owned(String::from_utf8_lossy(kept).replace('\0', "\u{fffd}"))))
    }

    fn skip_string(&mut self) -> Result<(), ReadError> {
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return Ok(());
            }
        }
        self.at = self.text.len();
        Err(self.error("a string has no end"))
    }

    fn string(&mut self) -> Result<Text<'a>, ReadError> {
        self.at += 1;
        let start = self.at;
        let rest = &self.text[start..];
        let end = memchr::memchr2(b'"', b'\\', rest).ok_or_else(|| self.error("a string has no end"))?;
        if rest[end] == b'"'
            && memchr::memchr(0, &rest[..end]).is_none()
            && let Ok(text) = std::str::from_utf8(&rest[..end])
        {
            self.at = start + end + 1;
            return Ok(Text { text: Cow::Borrowed(text), repair: None });
        }
        let mut bytes = Vec::with_capacity(end + 16);
        let mut repair = None;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return Ok(finished(bytes, repair)),
                b'\\' => self.escape(&mut bytes, &mut repair)?,
                _ => bytes.push(byte),
            }
        }
        Err(self.error("a string has no end"))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>, repair: &mut Option<&'static str>) -> Result<(), ReadError> {
        let Some(letter) = self.peek() else {
            return Err(self.error("a string has no end"));
        };
        self.at += 1;
        bytes.push(match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = self.unicode_escape()?.unwrap_or_else(|| {
                    *repair = Some(NOT_UNICODE);
                    char::REPLACEMENT_CHARACTER
                });
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.error("an unknown escape in a string")),
        });
        Ok(())
    }

    /// The character after `\u`; `None` for half a surrogate pair.
    fn unicode_escape(&mut self) -> Result<Option<char>, ReadError> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first));
        }
        let before = self.at;
        if self.text[before..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                return Ok(char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)));
            }
            // The second escape stands for itself.
            self.at = before;
        }
        Ok(None)
    }

    fn hex(&mut self) -> Result<u32, ReadError> {
        let digits = self.text.get(self.at..self.at + 4).and_then(|digits| {
            digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
        });
        let number = digits.ok_or_else(|| self.error("expected four hexadecimal digits"))?;
        self.at += 4;
        Ok(number)
    }

    fn number(&mut self, path: &Path<'_>) -> Result<Value<'a>, ReadError> {
        let rest = &self.text[self.at..];
        for word in ["NaN", "Infinity", "-Infinity"] {
            if self.floats == PythonFloats::Accept && rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                self.meta.at(path).add_error(MetaError::invalid_data("a number that JSON does not have"));
                return Ok(Value::Null);
            }
        }
        let length = rest
            .iter()
            .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
            .unwrap_or(rest.len());
        let written = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        match number(written) {
            Some(number) => {
                self.at += length;
                Ok(Value::Number(number))
            }
            None if is_number(written) => {
                self.at += length;
                self.meta.at(path).add_error(MetaError::invalid_data("a number beyond what a double holds"));
                Ok(Value::Null)
            }
            None => Err(self.error("expected a number")),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), ReadError> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("expected a JSON value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8, problem: &'static str) -> Result<(), ReadError> {
        if self.skip(byte) { Ok(()) } else { Err(self.error(problem)) }
    }

    fn error(&self, problem: &'static str) -> ReadError {
        ReadError { problem: Cow::Borrowed(problem), offset: self.at.min(self.text.len()) }
    }
}

fn finished<'a>(bytes: Vec<u8>, mut repair: Option<&'static str>) -> Text<'a> {
    let mut text = String::from_utf8(bytes).unwrap_or_else(|error| {
        repair = Some(NOT_UNICODE);
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    });
    if text.contains('\0') {
        repair = repair.or(Some(NUL));
        text = text.replace('\0', "\u{fffd}");
    }
    Text { text: Cow::Owned(text), repair }
}

/// JSON's own grammar of numbers, whatever their size.
fn is_number(written: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = written.strip_prefix('-').unwrap_or(written);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}
