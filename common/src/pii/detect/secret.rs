//! Secrets: keys in PEM form, bearer tokens, texts that speak of a password.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem;
use regex::bytes::Regex;

use super::facts::has_password_word_but_token;
use super::named_value::{Reading, named_values};
use super::names::{NameProfile, SensitiveNames};
use super::{BearerCheck, constant, tidy};

/// A PEM body is not followed further than this: a 16 384-bit RSA key takes 12.6 KB.
const PEM_BODY_BYTES_MAX: usize = 32 * 1024;

/// Values that no password rule touches: they say that there is none.
const PLAIN_VALUES: [&[u8]; 5] = [b"", b"true", b"false", b"null", b"undefined"];

/// The lines between `BEGIN … KEY` and `END`. A body that was cut off ends where its alphabet does.
pub(super) fn pem_key(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static BEGIN: LazyLock<Regex> =
        LazyLock::new(|| constant(r"-----BEGIN [A-Z0-9 ]{0,40}(?:PUBLIC|PRIVATE) KEY(?: BLOCK)?-----"));
    let mut at = 0;
    while let Some(begin) = BEGIN.find_at(bytes, at) {
        let body_end = pem_body_end(bytes, begin.end());
        out.push(trim_line_ends(bytes, begin.end()..body_end));
        at = body_end;
    }
}

fn pem_body_end(bytes: &[u8], start: usize) -> usize {
    let limit = bytes.len().min(start + PEM_BODY_BYTES_MAX);
    let body = &bytes[start..limit];
    let end_line = memmem::find(body, b"-----").unwrap_or(body.len());
    // Base64, white space, RFC 1421 header lines, and `\n` where the text is itself quoted.
    let foreign =
        |byte: &u8| !(byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=:,-\\".contains(byte));
    let alphabet_end = body.iter().position(foreign).unwrap_or(body.len());
    start + end_line.min(alphabet_end)
}

/// Line ends around a body stay, so that the text keeps its shape.
fn trim_line_ends(bytes: &[u8], mut range: Range<usize>) -> Range<usize> {
    while range.start < range.end && matches!(bytes[range.start], b'\n' | b'\r') {
        range.start += 1;
    }
    while range.start < range.end && matches!(bytes[range.end - 1], b'\n' | b'\r') {
        range.end -= 1;
    }
    range
}

/// Letters alone are a word of a language up to here: `the bearer of news`.
const WORD_BYTES_MAX: usize = 15;

/// `Bearer` with its token (RFC 6750 §2.1 alphabet).
pub(super) fn bearer(bytes: &[u8], check: BearerCheck, out: &mut Vec<Range<usize>>) {
    static BEARER: LazyLock<Regex> = LazyLock::new(|| constant(r"\bbearer[ \t]+[a-z0-9._~+/-]+=*"));
    let found = BEARER.find_iter(bytes).map(|found| found.range());
    out.extend(
        found.filter(|range| check == BearerCheck::Word || is_token(&bytes[range.start + b"bearer".len()..range.end])),
    );
}

/// Whether what follows `Bearer` is no word of a language.
fn is_token(after: &[u8]) -> bool {
    let token = after.trim_ascii_start();
    let word = token.strip_suffix(b".").unwrap_or(token);
    word.len() > WORD_BYTES_MAX || word.iter().any(|byte| !byte.is_ascii_alphabetic() && *byte != b'-')
}

/// The whole text, if it speaks of a secret.
pub(super) fn password_text(text: &[u8], out: &mut Vec<Range<usize>>) {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| constant(r#"token[a-z0-9_-]*["'\s]*[:=]"#));
    if PLAIN_VALUES.iter().any(|plain| text.eq_ignore_ascii_case(plain)) {
        return;
    }
    let speaks_of_secret = || {
        let mut tokens = Vec::new();
        bearer(text, BearerCheck::Word, &mut tokens);
        !tokens.is_empty()
    };
    if has_password_word_but_token(text) || TOKEN.is_match(text) || speaks_of_secret() {
        out.push(0..text.len());
    }
}

/// In bytes there is no whole text: the values after names that the rule knows, and bearer tokens.
pub(super) fn password_bytes(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static NAMES: LazyLock<SensitiveNames> = LazyLock::new(|| SensitiveNames::new(NameProfile::Compat));
    let before = out.len();
    named_values(bytes, &NAMES, Reading::Pairs, out);
    bearer(bytes, BearerCheck::Word, out);
    tidy(out, before);
}
