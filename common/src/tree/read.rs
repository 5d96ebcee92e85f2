//! Reading JSON as it should be.
//!
//! Written by hand because every event passes here: it takes half the time of serde_json with a visitor that builds the same
//! tree. The text is checked to be UTF-8 once, as a whole, so that strings are slices of it. What is taken is what
//! serde_json takes (property test and fuzz target), but for NUL in strings and for nesting, which has a bound here.

use std::borrow::Cow;

use super::MAX_DEPTH;
use super::scan::first_special;
use super::value::{Number, Object, Value};

/// Why bytes are no JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {offset}")]
pub struct ReadError {
    /// What is wrong.
    pub problem: Cow<'static, str>,
    /// Where, counted in bytes from the start.
    pub offset: usize,
}

/// Digits that fit 64 bits whatever they are.
const SAFE_DIGITS: usize = 18;
/// Entries that an object has room for at first: a stack frame's.
const USUAL_KEYS: usize = 12;

/// Reads one JSON value that is not nested deeper than [`MAX_DEPTH`].
///
/// # Errors
/// [`ReadError`] also for what [`super::read_lenient`] would repair.
pub fn read(text: &[u8]) -> Result<Value<'_>, ReadError> {
    let text = std::str::from_utf8(text)
        .map_err(|error| ReadError { problem: "the text is not UTF-8".into(), offset: error.valid_up_to() })?;
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(MAX_DEPTH)?;
    match reader.token() {
        None => Ok(value),
        Some(_) => Err(reader.error("something follows the JSON value")),
    }
}

/// A number as JSON writes it; `None` if it is none or beyond what a double holds.
pub(super) fn number(written: &str) -> Option<Number> {
    let number = serde_json::from_str::<serde_json::Number>(written).ok()?;
    Some(match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => Number::Unsigned(number),
        (None, Some(number)) => Number::Signed(number),
        // The parser makes finite doubles only.
        (None, None) => Number::Float(number.as_f64().unwrap_or_default()),
    })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// A value that may have so many levels below it.
    fn value(&mut self, levels: usize) -> Result<Value<'a>, ReadError> {
        match self.token() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'{') => self.object(self.below(levels)?),
            Some(b'[') => self.array(self.below(levels)?),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => Err(self.error("expected a JSON value")),
            None => Err(self.error("the JSON text ends too early")),
        }
    }

    fn below(&self, levels: usize) -> Result<usize, ReadError> {
        levels.checked_sub(1).ok_or_else(|| self.error("the JSON text is nested too deep"))
    }

    fn object(&mut self, levels: usize) -> Result<Value<'a>, ReadError> {
        self.at += 1;
        if self.token() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(Object::new()));
        }
        let mut entries = Vec::with_capacity(USUAL_KEYS);
        let mut seen = SeenKeys::default();
        loop {
            if self.token() != Some(b'"') {
                return Err(self.error("expected a key in quotes"));
            }
            let key = self.string()?;
            seen.add(&key);
            if self.token() != Some(b':') {
                return Err(self.error("expected a colon after the key"));
            }
            self.at += 1;
            entries.push((key, self.value(levels)?));
            match self.token() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.error("expected a comma or the end of the object")),
            }
        }
        self.at += 1;
        let mut object = Object(entries);
        if seen.perhaps_repeated {
            object.drop_repeated_keys();
        }
        Ok(Value::Object(object))
    }

    fn array(&mut self, levels: usize) -> Result<Value<'a>, ReadError> {
        self.at += 1;
        let mut elements = Vec::new();
        if self.token() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(elements));
        }
        loop {
            elements.push(self.value(levels)?);
            match self.token() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.error("expected a comma or the end of the array")),
            }
        }
        self.at += 1;
        Ok(Value::Array(elements))
    }

    /// A string; the quote before it is there.
    fn string(&mut self) -> Result<Cow<'a, str>, ReadError> {
        self.at += 1;
        let plain = self.plain_text()?;
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = String::with_capacity(plain.len() + 32);
        text.push_str(plain);
        while self.byte() == Some(b'\\') {
            self.at += 1;
            text.push(self.escape()?);
            text.push_str(self.plain_text()?);
        }
        self.at += 1;
        Ok(Cow::Owned(text))
    }

    /// Up to a quote or a backslash.
    fn plain_text(&mut self) -> Result<&'a str, ReadError> {
        let rest = &self.text[self.at..];
        let length = first_special(rest.as_bytes()).ok_or_else(|| self.error("a string has no end"))?;
        self.at += length;
        match self.byte() {
            Some(b'"' | b'\\') => Ok(&rest[..length]),
            _ => Err(self.error("a control character in a string")),
        }
    }

    fn escape(&mut self) -> Result<char, ReadError> {
        let letter = self.byte().ok_or_else(|| self.error("a string has no end"))?;
        let character = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(self.error("an unknown escape in a string")),
        };
        self.at += 1;
        Ok(character)
    }

    /// RFC 8259 §7: a character, or two escapes that are a surrogate pair.
    fn unicode_escape(&mut self) -> Result<char, ReadError> {
        let first = self.four_digits()?;
        let mut code = first;
        if (0xd800..0xdc00).contains(&first) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            self.at += 1;
            let second = self.four_digits()?;
            // Another half than the second is half a pair too, and no character.
            code = if (0xdc00..0xe000).contains(&second) {
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            } else {
                first
            };
        }
        char::from_u32(code)
            .filter(|character| *character != '\0')
            .ok_or_else(|| self.error("an escape that is NUL or half a surrogate pair"))
    }

    /// The digits after the `u` that is next.
    fn four_digits(&mut self) -> Result<u32, ReadError> {
        let digits = self.text.as_bytes()[self.at + 1..].first_chunk::<4>().and_then(|digits| {
            digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
        });
        let number = digits.ok_or_else(|| self.error("expected four hexadecimal digits"))?;
        self.at += 5;
        Ok(number)
    }

    fn number(&mut self) -> Result<Value<'a>, ReadError> {
        let bytes = &self.text.as_bytes()[self.at..];
        let sign = usize::from(bytes.first() == Some(&b'-'));
        let mut whole = 0_u64;
        let mut end = sign;
        while let Some(digit @ b'0'..=b'9') = bytes.get(end) {
            whole = whole.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            end += 1;
        }
        let is_plain = !matches!(bytes.get(end), Some(b'.' | b'e' | b'E'));
        let is_safe = (sign + 1..=sign + SAFE_DIGITS).contains(&end) && (bytes[sign] != b'0' || end == 1);
        if is_plain && is_safe {
            self.at += end;
            let magnitude = whole.cast_signed();
            return Ok(Value::Number(Number::from(if sign == 0 { magnitude } else { -magnitude })));
        }
        while matches!(bytes.get(end), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            end += 1;
        }
        let read = number(&self.text[self.at..self.at + end]).ok_or_else(|| self.error("expected a number"))?;
        self.at += end;
        Ok(Value::Number(read))
    }

    fn word(&mut self, word: &'static str, value: Value<'a>) -> Result<Value<'a>, ReadError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("expected a JSON value"));
        }
        self.at += word.len();
        Ok(value)
    }

    /// The next byte that is no blank.
    fn token(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte()?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn error(&self, problem: &'static str) -> ReadError {
        ReadError { problem: Cow::Borrowed(problem), offset: self.at }
    }
}

/// Whether two keys of an object may be equal, told without comparing them.
#[derive(Default)]
struct SeenKeys {
    marks: [u64; 4],
    perhaps_repeated: bool,
}

impl SeenKeys {
    fn add(&mut self, key: &str) {
        let bytes = key.as_bytes();
        let at = |position: usize| bytes.get(position).map_or(0, |byte| usize::from(*byte));
        let (first, middle, last) = (at(0), at(bytes.len() / 2), at(bytes.len().wrapping_sub(1)));
        let mark = (bytes.len() * 37 + first * 7 + middle * 3 + last * 13) % 256;
        let (word, bit) = (&mut self.marks[mark / 64], 1 << (mark % 64));
        self.perhaps_repeated |= *word & bit != 0;
        *word |= bit;
    }
}
