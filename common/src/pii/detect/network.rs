//! Addresses and identifiers of the network: e-mail, IP, MAC, UUID, credentials in URLs.

use std::net::Ipv6Addr;
use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::{UrlAuthPart, constant, is_word};

/// Endings of file names that follow an `@` in build output (`icon@2x.png`, `jquery@3.6.0.min.js`) and are no top-level domain.
const FILE_ENDINGS: [&[u8]; 12] =
    [b"js", b"mjs", b"cjs", b"css", b"jsx", b"tsx", b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp"];

/// Six pairs of hexadecimal digits, one kind of separator.
pub(super) fn mac(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static MAC: LazyLock<Regex> =
        LazyLock::new(|| constant(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b|\b(?:[0-9a-f]{2}-){5}[0-9a-f]{2}\b"));
    out.extend(MAC.find_iter(bytes).map(|found| found.range()));
}

/// RFC 9562 text form, or the same 32 digits without dashes.
pub(super) fn uuid(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static UUID: LazyLock<Regex> =
        LazyLock::new(|| constant(r"\b(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})\b"));
    out.extend(UUID.find_iter(bytes).map(|found| found.range()));
}

/// Addresses whose domain ends in a label of letters, or an internationalised one.
pub(super) fn email(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
        constant(
            r"[a-z0-9_\x80-\xff][a-z0-9_.+%'\x80-\xff-]*@(?:[a-z0-9\x80-\xff](?:[a-z0-9\x80-\xff-]*[a-z0-9\x80-\xff])?\.)+(?:xn--[a-z0-9-]+|[a-z\x80-\xff]{2,})",
        )
    });
    let found = EMAIL.find_iter(bytes).filter(|found| !ends_like_a_file(found.as_bytes()));
    out.extend(found.map(|found| found.range()));
}

fn ends_like_a_file(address: &[u8]) -> bool {
    let ending = address.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
    FILE_ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// IPv4 and IPv6 addresses.
pub(super) fn ip(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static V4: LazyLock<Regex> = LazyLock::new(|| {
        constant(r"\b(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\b")
    });
    ipv6(bytes, out);
    if memchr::memchr_iter(b'.', bytes).take(3).count() < 3 {
        return;
    }
    let addresses = V4.find_iter(bytes).map(|found| found.range());
    out.extend(addresses.filter(|range| !is_version(bytes, range)));
}

/// Four numbers that are part of a longer dotted number, a browser's reduced version (`Chrome/126.0.0.0`: no host ends so), or
/// that follow the word `version`.
fn is_version(bytes: &[u8], range: &Range<usize>) -> bool {
    let before = &bytes[..range.start];
    let after = &bytes[range.end..];
    let continues = matches!(after, [b'.', digit, ..] if digit.is_ascii_digit());
    let continued = matches!(before, [.., digit, b'.'] if digit.is_ascii_digit());
    let is_product = bytes[range.clone()].ends_with(b".0.0.0")
        && matches!(before, [.., letter, b'/'] if letter.is_ascii_alphabetic());
    let trimmed = before.trim_ascii_end();
    let trimmed = trimmed.strip_suffix(b":").or_else(|| trimmed.strip_suffix(b"=")).unwrap_or(trimmed);
    let word_start = trimmed.len().saturating_sub(b"version".len());
    let named = trimmed[word_start..].eq_ignore_ascii_case(b"version");
    continues || continued || is_product || named
}

/// Runs of hexadecimal digits, colons and dots that parse. A digit is asked for, because `Abc::Def` is a name in many languages.
fn ipv6(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    // Eight groups of four with colons, the last two as IPv4.
    const ADDRESS_BYTES_MAX: usize = 45;
    let mut resume = 0;
    for colon in memchr::memchr_iter(b':', bytes) {
        if colon < resume {
            continue;
        }
        let run = run_around(bytes, colon, resume);
        resume = run.end;
        let bounded = run.start == 0 || !is_word(bytes[run.start - 1]);
        let closed = bytes.get(run.end).is_none_or(|&byte| !is_word(byte));
        if !bounded || !closed {
            continue;
        }
        let run = trim_run(bytes, run);
        let Ok(text) = std::str::from_utf8(&bytes[run.clone()]) else { continue };
        if text.len() > ADDRESS_BYTES_MAX || !text.bytes().any(|byte| byte.is_ascii_digit()) {
            continue;
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            out.push(run);
        }
    }
}

/// The run of address characters that `at` is part of, not before `from`.
fn run_around(bytes: &[u8], at: usize, from: usize) -> Range<usize> {
    let belongs = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let start = bytes[from..at].iter().rposition(|byte| !belongs(byte)).map_or(from, |offset| from + offset + 1);
    let end = bytes[at..].iter().position(|byte| !belongs(byte)).map_or(bytes.len(), |offset| at + offset);
    start..end
}

/// Leaves out punctuation around an address: dots, and a colon that is not one of two.
fn trim_run(bytes: &[u8], mut run: Range<usize>) -> Range<usize> {
    loop {
        match &bytes[run.clone()] {
            [b'.', ..] => run.start += 1,
            [b':', second, ..] if *second != b':' => run.start += 1,
            [.., b'.'] => run.end -= 1,
            [.., before, b':'] if *before != b':' => run.end -= 1,
            [b':'] => run.end -= 1,
            _ => return run,
        }
    }
}

/// What stands between `//` and `@` in a URL.
pub(super) fn url_auth(bytes: &[u8], part: UrlAuthPart, out: &mut Vec<Range<usize>>) {
    static AUTH: LazyLock<Regex> =
        LazyLock::new(|| constant(r#"//([^\s/@:?#"'<>\x00-\x1f]*)(?::([^\s/@"'<>\x00-\x1f]*))?@"#));
    for captures in AUTH.captures_iter(bytes) {
        let user = captures.get(1).map(|user| user.range());
        let password = captures.get(2).map(|password| password.range());
        match (part, user, password) {
            (UrlAuthPart::UserAndPassword, Some(user), Some(password)) => out.push(user.start..password.end),
            (UrlAuthPart::UserAndPassword, Some(user), None) => out.push(user),
            (UrlAuthPart::Password, _, Some(password)) => out.push(password),
            _ => {}
        }
    }
}
