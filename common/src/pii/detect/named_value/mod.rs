//! Pairs inside of texts: `password=…`, `token: …`, `"secret": "…"`, `?api_key=…`. Only the value is a hit.
//!
//! A scanner, not a pattern: it stops at each `=` and `:`, looks back for a name and, if that is sensitive, ahead for the end
//! of the value. Nothing is looked at twice but the names, whose length is bounded.

use std::ops::Range;

use super::names::SensitiveNames;

/// How far back a name may begin.
const NAME_BYTES_MAX: usize = 64;

/// How far a value is followed. What is longer is cut there, and what remains is looked at as text.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Values that say that there is none, or that it has been taken out.
const PLAIN_VALUES: [&[u8]; 9] =
    [b"true", b"false", b"null", b"none", b"nil", b"undefined", b"[filtered]", b"[redacted]", b"********"];

/// What the built-in rules put in the place of what they find.
const REPLACEMENTS: [&[u8]; 15] = [
    b"[Filtered]",
    b"[ip]",
    b"[email]",
    b"[creditcard]",
    b"[iban]",
    b"[imei]",
    b"[mac]",
    b"[uuid]",
    b"[pemkey]",
    b"[auth]",
    b"[us-ssn]",
    b"[user]",
    b"[password]",
    b"[token]",
    b"[Redacted]",
];

/// Words that announce credentials in a header (RFC 9110 §11.1): the value is what follows.
const SCHEMES: [&[u8]; 6] = [b"basic", b"bearer", b"digest", b"negotiate", b"token", b"apikey"];

/// Names that mean a credential in a URL, though not elsewhere.
const PARAMETER_NAMES: [&[u8]; 10] = [
    b"key",
    b"sig",
    b"signature",
    b"hmac",
    b"hash",
    b"x-amz-signature",
    b"x-amz-credential",
    b"x-goog-signature",
    b"email",
    b"phone",
];

/// Values after `name=`, `name:`, `name =>`, quoted or not.
pub(super) fn named_values(bytes: &[u8], names: &SensitiveNames, out: &mut Vec<Range<usize>>) {
    let mut resume = 0;
    for separator in memchr::memchr2_iter(b'=', b':', bytes) {
        if separator < resume || is_scope_or_scheme(bytes, separator) {
            continue;
        }
        let name = name_before(bytes, separator);
        if name.is_empty() || !names.contains_bytes(name) {
            continue;
        }
        let value = value_after(bytes, separator + 1);
        resume = value.end;
        if !is_plain(&bytes[value.clone()]) {
            out.push(value);
        }
    }
}

/// `Name::item` and `scheme://…` are no pairs.
fn is_scope_or_scheme(bytes: &[u8], separator: usize) -> bool {
    let after = &bytes[separator + 1..];
    bytes[separator] == b':' && (after.starts_with(b":") || after.starts_with(b"//"))
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$') || byte >= 0x80
}

/// The name that ends before a separator: spaces, a bracket (`['name'] =>`) and a quote, escaped or not, may stand between.
fn name_before(bytes: &[u8], separator: usize) -> &[u8] {
    let floor = separator.saturating_sub(NAME_BYTES_MAX);
    let mut end = separator;
    end = skip_back(bytes, floor, end, |byte| matches!(byte, b' ' | b'\t'));
    end = skip_back(bytes, floor, end, |byte| byte == b']');
    end = skip_back(bytes, floor, end, |byte| matches!(byte, b'"' | b'\'' | b'`'));
    end = skip_back(bytes, floor, end, |byte| byte == b'\\');
    let start = skip_back(bytes, floor, end, is_name_byte);
    &bytes[start..end]
}

fn skip_back(bytes: &[u8], floor: usize, mut end: usize, skipped: impl Fn(u8) -> bool) -> usize {
    while end > floor && skipped(bytes[end - 1]) {
        end -= 1;
    }
    end
}

/// The value that begins after a separator, without its quotes.
fn value_after(bytes: &[u8], from: usize) -> Range<usize> {
    let limit = bytes.len().min(from + VALUE_BYTES_MAX);
    let skip = |at: usize, skipped: &[u8]| {
        bytes[at..limit].iter().position(|byte| !skipped.contains(byte)).map_or(limit, |offset| at + offset)
    };
    // `==`, `=>`, `:=`, then space.
    let start = skip(skip(from, b"=>"), b" \t");
    let quote_at = skip(start, b"\\");
    match bytes[..limit].get(quote_at) {
        Some(&quote @ (b'"' | b'\'' | b'`')) => {
            let value_start = quote_at + 1;
            value_start..closing_quote(&bytes[..limit], value_start, quote, quote_at - start)
        }
        Some(b'[' | b'{') if quote_at == start => {
            let word = start..bare_word_end(&bytes[..limit], start);
            match is_cut_replacement(&bytes[word.clone()]) {
                true => word,
                false => start..closing_bracket(&bytes[..limit], start),
            }
        }
        _ => start..bare_end(&bytes[..limit], start),
    }
}

/// The quote that closes: escaped as often as the one that opened, so that JSON inside of JSON is read on its own level.
fn closing_quote(bytes: &[u8], from: usize, quote: u8, escapes: usize) -> usize {
    for offset in memchr::memchr_iter(quote, &bytes[from..]) {
        let at = from + offset;
        let escapes_here = bytes[from..at].iter().rev().take_while(|&&byte| byte == b'\\').count();
        let closes = if escapes == 0 { escapes_here % 2 == 0 } else { escapes_here <= escapes };
        if closes {
            return at - escapes.min(escapes_here);
        }
    }
    bytes.len()
}

/// The end of an array or object, quotes not regarded; the end of the text if it is not closed.
fn closing_bracket(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, &byte) in bytes[start..].iter().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth == 1 => return start + offset + 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    bytes.len()
}

fn bare_word_end(bytes: &[u8], start: usize) -> usize {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte < 0x20 || b",;&\"'`)]}<>|".contains(byte);
    bytes[start..].iter().position(ends).map_or(bytes.len(), |offset| start + offset)
}

/// The end of a value without quotes: a word, or a scheme and its credentials.
fn bare_end(bytes: &[u8], start: usize) -> usize {
    let end = bare_word_end(bytes, start);
    let word = &bytes[start..end];
    if !SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) || bytes.get(end) != Some(&b' ') {
        return end;
    }
    if word.eq_ignore_ascii_case(b"digest") {
        // A list of parameters: the rest of the line.
        return memchr::memchr2(b'\r', b'\n', &bytes[end..]).map_or(bytes.len(), |offset| end + offset);
    }
    match bytes.get(end + 1) {
        Some(b'[') => closing_bracket(bytes, end + 1),
        _ => bare_word_end(bytes, end + 1),
    }
}

/// A replacement that was cut to the length of what it replaced, as in attachments.
fn is_cut_replacement(value: &[u8]) -> bool {
    value.len() >= 2 && REPLACEMENTS.iter().any(|text| text.starts_with(value))
}

/// Nothing, a constant, or a replacement of our own.
fn is_plain(value: &[u8]) -> bool {
    let credentials = value.strip_prefix(b"Bearer ").unwrap_or(value);
    let masked = value.iter().all(|&byte| byte == b'*');
    let replaced = credentials.len() <= 16
        && credentials.starts_with(b"[")
        && credentials.ends_with(b"]")
        && credentials[1..credentials.len() - 1].iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'-');
    masked
        || replaced
        || is_cut_replacement(value)
        || PLAIN_VALUES.iter().any(|plain| value.eq_ignore_ascii_case(plain))
}

/// Values of URL parameters by name: `?name=value`, `&name=value`, and `name=value` at the start of a text.
pub(super) fn query_parameters(bytes: &[u8], names: &SensitiveNames, out: &mut Vec<Range<usize>>) {
    for equals in memchr::memchr_iter(b'=', bytes) {
        let floor = equals.saturating_sub(NAME_BYTES_MAX);
        let start = skip_back(bytes, floor, equals, |byte| is_name_byte(byte) || matches!(byte, b'%' | b'[' | b']'));
        let opened = start == 0 || matches!(bytes[start - 1], b'?' | b'&' | b';' | b'#');
        let name = &bytes[start..equals];
        let known = || PARAMETER_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known));
        if !opened || name.is_empty() || !(names.contains_bytes(name) || known()) {
            continue;
        }
        let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte < 0x20 || b"&#;\"'<>`".contains(byte);
        let limit = bytes.len().min(equals + 1 + VALUE_BYTES_MAX);
        let end = bytes[equals + 1..limit].iter().position(ends).map_or(limit, |offset| equals + 1 + offset);
        if !is_plain(&bytes[equals + 1..end]) {
            out.push(equals + 1..end);
        }
    }
}
