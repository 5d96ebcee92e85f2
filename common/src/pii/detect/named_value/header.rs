//! Headers inside of texts: `Authorization: …`, `Cookie: …; …`.

use std::ops::Range;

use super::super::cookie::is_session_cookie;
use super::super::names::SensitiveNames;
use super::plain::{FILLER, is_plain};
use super::value::{VALUE_BYTES_MAX, bare_word_end, closing_bracket, quoted, skip, up_to, value_after};
use super::{Name, is_prose, name_before};

/// Schemes with one token: what follows it is other text.
const ONE_TOKEN: [&[u8]; 3] = [b"basic", b"bearer", b"negotiate"];

/// How far the first `=` of a header with cookies may stand.
const COOKIE_NAME_BYTES_MAX: usize = 1024;

/// If the name is that of a header with credentials or cookies, appends those that the header has and gives its end.
pub(super) fn credentials(
    bytes: &[u8],
    name: &Name,
    separator: usize,
    names: &SensitiveNames,
    out: &mut Vec<Range<usize>>,
) -> Option<usize> {
    let text = &bytes[name.range.clone()];
    if ends_with(text, b"authorization") || ends_with(text, b"authorisation") {
        return authorization(bytes, separator, out);
    }
    if (ends_with(text, b"cookie") || ends_with(text, b"cookies")) && !names.adds(text) {
        return cookies(bytes, separator, names, out);
    }
    None
}

fn ends_with(name: &[u8], ending: &[u8]) -> bool {
    name.len() >= ending.len() && name[name.len() - ending.len()..].eq_ignore_ascii_case(ending)
}

/// Scheme and token of the common schemes; of others, and of none, the rest of the line. Prose is left alone.
fn authorization(bytes: &[u8], separator: usize, out: &mut Vec<Range<usize>>) -> Option<usize> {
    let start = skip(bytes, separator + 1, b"=> \t");
    if matches!(bytes.get(start), None | Some(b'\n' | b'\r' | b'[' | b'{' | b'(' | b'\\' | b'"' | b'\'' | b'`')) {
        return None;
    }
    let word_end = bare_word_end(bytes, start);
    let word = &bytes[start..word_end];
    let is_redacted = word.last() == Some(&FILLER);
    if is_redacted || (word.len() <= 16 && is_prose(&bytes[start..], 3) && !is_one_token(word)) {
        return Some(word_end);
    }
    let end = match bytes.get(word_end) {
        Some(b' ') if is_one_token(word) => bare_word_end(bytes, word_end + 1),
        _ => header_end(bytes, start),
    };
    let value = start..start + bytes[start..end].trim_ascii_end().len();
    if !is_plain(&bytes[value.clone()]) {
        out.push(value);
    }
    Some(end)
}

fn is_one_token(word: &[u8]) -> bool {
    ONE_TOKEN.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// The end of a header that is no literal: of its line, or before the quote or bracket that closes what it stands in. Quotes
/// around the value of a parameter are part of it.
fn header_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\r' | b'\n' => return at,
            b'\\' if matches!(bytes.get(at + 1), Some(b'r' | b'n')) => return at,
            b'"' | b'\'' => {
                let escapes = bytes[start..at].iter().rev().take_while(|&&byte| byte == b'\\').count();
                let opens = bytes[start..at - escapes].last() == Some(&b'=');
                match quoted(bytes, at - escapes).filter(|inside| opens && inside.end < bytes.len()) {
                    Some(inside) => at = inside.end + escapes,
                    None => return at - escapes,
                }
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => return at,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// The values of session cookies, and of those with a sensitive name. None if there are no cookies.
fn cookies(bytes: &[u8], separator: usize, names: &SensitiveNames, out: &mut Vec<Range<usize>>) -> Option<usize> {
    let start = skip(bytes, separator + 1, b"=> \t");
    if let Some(b'{' | b'[' | b'(') = bytes.get(start) {
        let end = closing_bracket(up_to(bytes, start, VALUE_BYTES_MAX), start);
        let end = end.unwrap_or_else(|| up_to(bytes, start, VALUE_BYTES_MAX).len());
        members(&bytes[..end], start, names, out);
        return Some(end);
    }
    let first = memchr::memchr2(b'=', b'\n', &up_to(bytes, start, COOKIE_NAME_BYTES_MAX)[start..])?;
    if bytes[start + first] != b'=' {
        return None;
    }
    let region = quoted(bytes, start).unwrap_or_else(|| start..header_end(bytes, start));
    if region.end < start + first {
        return None;
    }
    let mut at = region.start;
    for pair in bytes[region.clone()].split(|&byte| byte == b';') {
        let pair_start = at;
        at += pair.len() + 1;
        let Some(equals) = memchr::memchr(b'=', pair) else { continue };
        let value = pair[equals + 1..].trim_ascii();
        let value_start =
            pair_start + equals + 1 + (pair.len() - equals - 1 - pair[equals + 1..].trim_ascii_start().len());
        if is_secret(pair[..equals].trim_ascii(), names) && !is_plain(value) {
            out.push(value_start..value_start + value.len());
        }
    }
    Some(region.end)
}

/// Cookies as an object or list: `{'session': '…'}`, `[session=…]`.
fn members(bytes: &[u8], start: usize, names: &SensitiveNames, out: &mut Vec<Range<usize>>) {
    let mut resume = start;
    for offset in memchr::memchr2_iter(b'=', b':', &bytes[start..]) {
        let separator = start + offset;
        let name = name_before(bytes, separator);
        if separator < resume || !is_secret(&bytes[name.range.clone()], names) {
            continue;
        }
        let value = value_after(bytes, separator, name.range.start);
        resume = value.end;
        if !is_plain(&bytes[value.clone()]) {
            out.push(value);
        }
    }
}

fn is_secret(name: &[u8], names: &SensitiveNames) -> bool {
    std::str::from_utf8(name).is_ok_and(is_session_cookie) || names.contains_bytes(name)
}
