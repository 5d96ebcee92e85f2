//! Pairs inside of texts: `password=…`, `token: …`, `"secret": "…"`. Only the value is a hit.
//!
//! A scanner, not a pattern: it stops at each `=` and `:`, looks back for a name and, if that is sensitive, ahead for the end
//! of the value ([`value`]). Nothing is looked at twice but the names, whose length is bounded.
//!
//! In texts that people read, a name before a colon may be a title (`TokenExpiredError: …`, `myapp.auth: …`). In source text most of
//! what follows a name is code: only literals are secrets there, and settings such as shells and their like have (`password=hunter2`).

mod header;
mod phrase;
mod plain;
mod value;

use std::ops::Range;

use super::cookie::is_unmistakable_session_cookie;
use super::names::{SensitiveNames, has_strict_part, is_strict_name};
pub use phrase::flag_name;
pub(super) use phrase::named_phrases;
pub(super) use plain::is_plain;
use value::{literal_after, setting_after, value_after};

/// How far back a name may begin.
const NAME_BYTES_MAX: usize = 64;

/// What kind of text it is, and with it how much is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Pairs only, as existing configurations expect it.
    Pairs,
    /// A text: pairs that are no titles, headers, session cookies.
    Text,
    /// A line of a program: literals and settings.
    Source,
}

/// A name before a separator.
pub(super) struct Name {
    /// Where; may be empty.
    range: Range<usize>,
    /// Whether a quote or bracket stands between it and the separator.
    is_quoted: bool,
}

/// Names of public things in which a sensitive word stands.
const PUBLIC_NAMES: [&[u8]; 1] = [b"publickeytoken"];

/// How the names of errors end.
const ERROR_ENDINGS: [&[u8]; 8] =
    [b"error", b"errors", b"exception", b"warning", b"failure", b"fault", b"interrupt", b"timeout"];

/// The last parts of dotted names that are those of modules and loggers, not of settings.
const MODULE_WORDS: [&[u8]; 9] = [b"auth", b"oauth", b"jwt", b"csrf", b"xsrf", b"mfa", b"sess", b"cookie", b"cookies"];

/// Words before `token` in what parsers say.
const PARSER_WORDS: [&[u8]; 5] = [b"unexpected", b"expected", b"unrecognized", b"unrecognised", b"near"];

/// Words that say what is the matter, after a colon.
const STATES: [&[u8]; 10] =
    [b"invalid", b"expired", b"missing", b"required", b"failed", b"ok", b"empty", b"unknown", b"denied", b"disabled"];

/// A longer run of letters is no word but may be a token.
const WORD_BYTES_MAX: usize = 15;

/// A shorter value of the cookie `session` is a number or word, not what logs a user in.
const SESSION_BYTES_MIN: usize = 16;

/// Values after `name=`, `name:`, `name =>`, quoted or not.
pub(super) fn named_values(bytes: &[u8], names: &SensitiveNames, reading: Reading, out: &mut Vec<Range<usize>>) {
    let mut resume = 0;
    for separator in memchr::memchr2_iter(b'=', b':', bytes) {
        if separator < resume || is_scope_or_scheme(bytes, separator) {
            continue;
        }
        let name = name_before(bytes, separator);
        if name.range.is_empty() || is_url_user(bytes, &name, separator) {
            continue;
        }
        if reading == Reading::Text
            && let Some(end) = header::credentials(bytes, &name, separator, names, out)
        {
            resume = end;
            continue;
        }
        if !is_secret(bytes, &name, separator, names, reading) {
            continue;
        }
        let value = match reading {
            Reading::Source => match literal_after(bytes, separator).or_else(|| setting_after(bytes, separator)) {
                Some(literal) if !is_text_of_program(&bytes[literal.clone()]) => literal,
                _ => continue,
            },
            _ => value_after(bytes, separator, name.range.start),
        };
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

/// A literal that is the name of a setting (`"user.password"`), or that a program fills in (`"Bearer ${token}"`).
fn is_text_of_program(literal: &[u8]) -> bool {
    let last = literal.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    let opens_code = |pair: &[u8]| matches!(pair, b"${" | b"#{" | b"{{" | b"%s");
    is_strict_name(last) || literal.windows(2).any(opens_code)
}

/// `//user:password@host`: credentials of a URL, which another detector knows to end.
fn is_url_user(bytes: &[u8], name: &Name, separator: usize) -> bool {
    let in_url = bytes[separator] == b':' && bytes[..name.range.start].ends_with(b"//");
    in_url && {
        let rest = &bytes[separator + 1..];
        let end = rest.iter().position(|byte| byte.is_ascii_whitespace() || b"@/\"'".contains(byte));
        end.is_some_and(|end| rest[end] == b'@')
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$') || byte >= 0x80
}

/// The name that ends before a separator: spaces, a bracket (`['name'] =>`) and a quote, escaped or not, may stand between.
fn name_before(bytes: &[u8], separator: usize) -> Name {
    let floor = separator.saturating_sub(NAME_BYTES_MAX);
    let mut end = separator;
    end = skip_back(bytes, floor, end, |byte| matches!(byte, b' ' | b'\t'));
    let unquoted_end = end;
    end = skip_back(bytes, floor, end, |byte| byte == b']');
    end = skip_back(bytes, floor, end, |byte| matches!(byte, b'"' | b'\'' | b'`'));
    end = skip_back(bytes, floor, end, |byte| byte == b'\\');
    let start = skip_back(bytes, floor, end, is_name_byte);
    Name { range: start..end, is_quoted: end < unquoted_end }
}

pub(super) fn skip_back(bytes: &[u8], floor: usize, mut end: usize, skipped: impl Fn(u8) -> bool) -> usize {
    while end > floor && skipped(bytes[end - 1]) {
        end -= 1;
    }
    end
}

fn is_secret(bytes: &[u8], name: &Name, separator: usize, names: &SensitiveNames, reading: Reading) -> bool {
    let text = &bytes[name.range.clone()];
    if !names.contains_bytes(text) {
        return reading == Reading::Text && is_session(bytes, text, separator);
    }
    if reading == Reading::Pairs || names.adds(text) {
        return true;
    }
    let is_public = PUBLIC_NAMES.iter().any(|public| text.eq_ignore_ascii_case(public));
    !is_public && !is_title(bytes, name, separator, names)
}

/// The name of a session's cookie that means nothing else, or `session=` before something long enough to be one.
fn is_session(bytes: &[u8], name: &[u8], separator: usize) -> bool {
    if name.eq_ignore_ascii_case(b"session") && bytes[separator] == b'=' {
        let value = &bytes[separator + 1..];
        let of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"._%+/=-".contains(byte);
        let len = value.iter().take_while(|byte| of_token(byte)).count();
        return len >= SESSION_BYTES_MIN && value[..len].iter().any(u8::is_ascii_digit);
    }
    is_unmistakable_session_cookie(name)
}

/// Whether what stands before a colon is the title of what follows: the name of an error or module, or what a parser met.
fn is_title(bytes: &[u8], name: &Name, separator: usize, names: &SensitiveNames) -> bool {
    let text = &bytes[name.range.clone()];
    if bytes[separator] != b':' || name.is_quoted {
        return false;
    }
    let ends_with =
        |ending: &[u8]| text.len() >= ending.len() && text[text.len() - ending.len()..].eq_ignore_ascii_case(ending);
    if ERROR_ENDINGS.into_iter().any(ends_with) {
        return true;
    }
    let last = text.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    let is_dotted = last.len() < text.len();
    if is_dotted && (!names.contains_bytes(last) || MODULE_WORDS.iter().any(|word| last.eq_ignore_ascii_case(word))) {
        return true;
    }
    let follows_blank = bytes.get(separator + 1).is_some_and(u8::is_ascii_whitespace);
    if !follows_blank || has_strict_part(last) {
        return false;
    }
    let before = bytes[..name.range.start].trim_ascii_end();
    let of_parser =
        |word: &&[u8]| before.len() >= word.len() && before[before.len() - word.len()..].eq_ignore_ascii_case(word);
    PARSER_WORDS.iter().any(of_parser)
        || is_small_number(text, &bytes[separator + 1..])
        || is_prose(&bytes[separator + 1..], 2)
}

/// Whether a text begins with a count or status: `token: 401 Unauthorized`, `pass: 3`.
fn is_small_number(name: &[u8], text: &[u8]) -> bool {
    const COUNTED: [&[u8]; 4] = [b"token", b"tokens", b"auth", b"pass"];
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let ends = text.get(digits).is_none_or(|byte| byte.is_ascii_whitespace() || b",;.)".contains(byte));
    (1..=3).contains(&digits) && ends && COUNTED.iter().any(|word| name.to_ascii_lowercase().ends_with(word))
}

/// Whether a text begins with this many words of a language, or with one that says what is the matter.
fn is_prose(text: &[u8], count: usize) -> bool {
    let mut rest = text.trim_ascii_start();
    for position in 0..count {
        let len = rest.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'\'').count();
        let word = &rest[..len];
        let is_state = STATES.iter().any(|state| word.eq_ignore_ascii_case(state));
        let follows = rest.get(len);
        let ends = follows.is_none_or(|byte| byte.is_ascii_whitespace() || b".,;:!?)".contains(byte));
        let is_small = len > 0 && word[1..].iter().all(|byte| !byte.is_ascii_uppercase());
        if !ends || !is_small || len > WORD_BYTES_MAX {
            return false;
        }
        if is_state || position + 1 == count {
            return true;
        }
        if !follows.is_some_and(|&byte| matches!(byte, b' ' | b',')) {
            return false;
        }
        rest = rest[len + 1..].trim_ascii_start();
    }
    true
}

#[cfg(test)]
mod tests;
