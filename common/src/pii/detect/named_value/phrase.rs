//! Names and values that no `=` or `:` joins.
//!
//! ```text
//! --password hunter2      "--token", "x"        flags of a command line, as words or as a list
//! <password>x</password>                        elements
//! ["password", "x"]   ("password", "x")         pairs; also s:8:"password";s:1:"x"
//! "name":"password","value":"x"   key="password" value="x"    pairs whose parts are named
//! password is hunter2     token was "x"         sentences, where the value looks like a secret
//! ```

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::super::facts::TextFacts;
use super::super::is_word;
use super::super::names::SensitiveNames;
use super::plain::is_plain;
use super::value::{quoted, skip};
use super::{NAME_BYTES_MAX, is_name_byte, name_before, skip_back};

/// How far the attributes of an element reach.
const ATTRIBUTES_BYTES_MAX: usize = 256;

/// How far the content of an element is followed.
const CONTENT_BYTES_MAX: usize = 8 * 1024;

/// How many tags may begin in an element up to its own end.
const CONTENT_TAGS_MAX: usize = 8;

/// A value in a sentence has these many characters at least: `8 characters` is none.
const SPOKEN_BYTES_MIN: usize = 6;

/// The ends of flags that say something about a secret and are followed by none.
const HARMLESS_ENDS: [&[u8]; 18] = [
    b"file",
    b"path",
    b"dir",
    b"stdin",
    b"type",
    b"method",
    b"mode",
    b"env",
    b"url",
    b"uri",
    b"host",
    b"endpoint",
    b"name",
    b"length",
    b"policy",
    b"command",
    b"prompt",
    b"ttl",
];

/// Names of the second part of a pair.
const VALUE_NAMES: [&[u8]; 4] = [b"value", b"val", b"data", b"content"];

/// Values after sensitive names that stand beside them.
pub(in super::super) fn named_phrases(bytes: &[u8], names: &SensitiveNames, out: &mut Vec<Range<usize>>) {
    flags(bytes, names, out);
    elements(bytes, names, out);
    pairs(bytes, names, out);
    sentences(bytes, names, out);
}

/// Whether the name there is sensitive, and longer than a few letters: those stand in too many texts.
fn is_secret(bytes: &[u8], name: Range<usize>, names: &SensitiveNames) -> bool {
    let with_sign = &bytes[name.start.saturating_sub(1)..name.end];
    names.contains_bytes(&bytes[name.clone()])
        && (TextFacts::of_bytes(with_sign).has_secret_word() || names.adds(&bytes[name]))
}

fn push(bytes: &[u8], value: Range<usize>, out: &mut Vec<Range<usize>>) {
    if !is_plain(&bytes[value.clone()]) {
        out.push(value);
    }
}

fn flags(bytes: &[u8], names: &SensitiveNames, out: &mut Vec<Range<usize>>) {
    static DASHES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("--"));
    for at in DASHES.find_iter(bytes) {
        let start = at + 2;
        if at > 0 && (is_word(bytes[at - 1]) || bytes[at - 1] == b'-') {
            continue;
        }
        let len = bytes[start..].iter().take(NAME_BYTES_MAX).take_while(|&&byte| is_name_byte(byte)).count();
        let name = &bytes[start..start + len];
        let value = skip(bytes, start + len, b" \t");
        if value == start + len || is_harmless_flag(name) || !is_secret(bytes, start..start + len, names) {
            continue;
        }
        let value = argument(bytes, value);
        let is_flag = bytes[value.clone()].first() == Some(&b'-');
        if !is_flag {
            push(bytes, value, out);
        }
    }
}

/// The name in a flag of a command line that a value follows, `--name`; none if its value is known to be no secret.
#[must_use]
pub fn flag_name(argument: &str) -> Option<&str> {
    let name = argument.strip_prefix("--")?;
    (!name.is_empty() && name.bytes().all(is_name_byte) && !is_harmless_flag(name.as_bytes())).then_some(name)
}

fn is_harmless_flag(name: &[u8]) -> bool {
    let last = name.rsplit(|byte| matches!(byte, b'-' | b'_' | b'.')).next().unwrap_or_default();
    name.starts_with(b"no-") || HARMLESS_ENDS.iter().any(|end| last.eq_ignore_ascii_case(end))
}

/// A quoted text, or a word of a command line that may itself be quoted.
fn argument(bytes: &[u8], start: usize) -> Range<usize> {
    quoted(bytes, start).unwrap_or_else(|| start..argument_end(bytes, start))
}

fn argument_end(bytes: &[u8], start: usize) -> usize {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"'`;|<>".contains(byte);
    let end = bytes[start..].iter().position(ends).map_or(bytes.len(), |offset| start + offset);
    end - bytes[start..end].iter().rev().take_while(|byte| matches!(byte, b'\\' | b',' | b')' | b']' | b'.')).count()
}

fn elements(bytes: &[u8], names: &SensitiveNames, out: &mut Vec<Range<usize>>) {
    let mut resume = 0;
    for at in memchr::memchr_iter(b'<', bytes) {
        if at < resume {
            continue;
        }
        let of_name = |byte: &u8| is_name_byte(*byte) || *byte == b':';
        let len = bytes[at + 1..].iter().take(NAME_BYTES_MAX).take_while(|byte| of_name(byte)).count();
        let tag = &bytes[at + 1..at + 1 + len];
        let name = tag.rsplit(|&byte| byte == b':').next().unwrap_or_default();
        let name_end = at + 1 + len;
        if name.is_empty() || !is_secret(bytes, name_end - name.len()..name_end, names) {
            continue;
        }
        if let Some(content) = content(bytes, name_end, tag) {
            resume = content.end;
            push(bytes, content, out);
        }
    }
}

/// What stands in an element up to its own end, from behind its name.
fn content(bytes: &[u8], name_end: usize, tag: &[u8]) -> Option<Range<usize>> {
    const CDATA: &[u8] = b"<![CDATA[";
    let attributes = &bytes[name_end..bytes.len().min(name_end + ATTRIBUTES_BYTES_MAX)];
    let open = memchr::memchr2(b'>', b'<', attributes).filter(|&open| attributes[open] == b'>')?;
    if attributes[..open].ends_with(b"/") || !attributes[..open].first().is_none_or(u8::is_ascii_whitespace) {
        return None;
    }
    let start = name_end + open + 1;
    let rest = &bytes[start..bytes.len().min(start + CONTENT_BYTES_MAX)];
    let closes = |&at: &usize| rest[at..].starts_with(b"</") && rest[at + 2..].starts_with(tag);
    let end = memchr::memchr_iter(b'<', rest).take(CONTENT_TAGS_MAX).find(closes)?;
    let text = &rest[..end];
    let inner = text.trim_ascii();
    let from = start + (text.len() - text.trim_ascii_start().len());
    match inner.strip_prefix(CDATA).and_then(|inner| inner.strip_suffix(b"]]>")) {
        Some(data) => Some(from + CDATA.len()..from + CDATA.len() + data.len()),
        None => Some(from..from + inner.len()),
    }
}

/// What joins the two texts of a pair.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joint {
    /// `, `
    Comma,
    /// `;s:6:`
    Serialised,
}

fn pairs(bytes: &[u8], names: &SensitiveNames, out: &mut Vec<Range<usize>>) {
    for at in memchr::memchr2_iter(b',', b';', bytes) {
        let name = name_before(bytes, at);
        if !name.is_quoted || name.range.is_empty() || !is_secret(bytes, name.range.clone(), names) {
            continue;
        }
        let joint = if bytes[at] == b',' { Joint::Comma } else { Joint::Serialised };
        if let Some(value) = second_of_pair(bytes, at + 1, joint, name.range.start) {
            push(bytes, value, out);
        }
    }
    static VALUE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("value="));
    for at in VALUE.find_iter(bytes) {
        let name = name_before(bytes, at);
        let is_attribute = bytes[..name.range.start].ends_with(b"=\"") || bytes[..name.range.start].ends_with(b"='");
        if name.is_quoted && is_attribute && is_secret(bytes, name.range, names) {
            push(bytes, argument(bytes, at + "value=".len()), out);
        }
    }
}

/// The value of a pair whose name is quoted and ends before `from`.
fn second_of_pair(bytes: &[u8], from: usize, joint: Joint, name_start: usize) -> Option<Range<usize>> {
    let start = match joint {
        Joint::Comma => skip(bytes, from, b" \t\r\n"),
        Joint::Serialised => serialised_text(bytes, from)?,
    };
    let value = quoted(bytes, start)?;
    let floor = name_start.saturating_sub(NAME_BYTES_MAX);
    let escapes_start = skip_back(bytes, floor, name_start, |byte| matches!(byte, b'"' | b'\'' | b'`' | b'\\'));
    let opened = skip_back(bytes, floor, escapes_start, |byte| byte.is_ascii_whitespace());
    let opens_pair = opened > 0 && matches!(bytes[opened - 1], b'[' | b'(');
    // `"name": "password", "value": …`: the second text is a name again.
    let behind = skip(bytes, value.end, b"\\\"'` \t");
    if matches!(bytes.get(behind), Some(b':' | b'=')) {
        let is_value = VALUE_NAMES.iter().any(|name| bytes[value.clone()].eq_ignore_ascii_case(name));
        return is_value.then(|| argument(bytes, skip(bytes, behind + 1, b" \t")));
    }
    let is_flag = bytes[name_start..].starts_with(b"--");
    let is_other_flag = bytes[value.clone()].starts_with(b"-");
    (joint == Joint::Serialised || opens_pair || (is_flag && !is_other_flag)).then_some(value)
}

/// The text that PHP's `serialize` wrote: `s:6:"…"`.
fn serialised_text(bytes: &[u8], from: usize) -> Option<usize> {
    let length = from + bytes.get(from..)?.strip_prefix(b"s:").map(|_| 2)?;
    let end = skip(bytes, length, b"0123456789");
    (end > length && bytes.get(end) == Some(&b':')).then_some(end + 1)
}

fn sentences(bytes: &[u8], names: &SensitiveNames, out: &mut Vec<Range<usize>>) {
    static VERBS: LazyLock<[Finder<'static>; 2]> = LazyLock::new(|| [Finder::new(" is "), Finder::new(" was ")]);
    for verb in VERBS.iter() {
        for at in verb.find_iter(bytes) {
            let name = name_before(bytes, at);
            if name.range.is_empty() || !is_secret(bytes, name.range.clone(), names) {
                continue;
            }
            let start = at + verb.needle().len();
            if let Some(inside) = quoted(bytes, start) {
                if inside.end < bytes.len() {
                    push(bytes, inside, out);
                }
                continue;
            }
            let word = spoken_word(bytes, start);
            if looks_secret(&bytes[word.clone()]) {
                push(bytes, word, out);
            }
        }
    }
}

/// A word without the signs that end a sentence or clause.
fn spoken_word(bytes: &[u8], start: usize) -> Range<usize> {
    let end = bytes[start..].iter().position(u8::is_ascii_whitespace).map_or(bytes.len(), |offset| start + offset);
    let closing = bytes[start..end].iter().rev().take_while(|byte| b".,;:!?)]}\"'".contains(byte)).count();
    start..end - closing
}

/// Letters and digits, or letters and signs that words do not have.
fn looks_secret(word: &[u8]) -> bool {
    let has = |kind: fn(&u8) -> bool| word.iter().any(kind);
    word.len() >= SPOKEN_BYTES_MIN
        && has(u8::is_ascii_alphabetic)
        && has(|byte| byte.is_ascii_digit() || b"!@#$%^&*+=~".contains(byte))
}
