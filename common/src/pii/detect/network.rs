//! Addresses and identifiers of the network: e-mail, IP, MAC, UUID, credentials in URLs.

use std::net::Ipv6Addr;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem;
use regex::bytes::Regex;

use super::{IpCheck, UrlAuthPart, constant, is_word};

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

/// Addresses in the query of a URL, where `@` is written `%40`, or `%2540` in a URL inside of a URL.
pub(super) fn encoded_email(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static AT: LazyLock<Regex> =
        LazyLock::new(|| constant(r"%(?:25)?40((?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+(?:xn--[a-z0-9-]+|[a-z]{2,}))"));
    for captures in AT.captures_iter(bytes) {
        let (Some(found), Some(domain)) = (captures.get(0), captures.get(1)) else { continue };
        let start = encoded_user_start(bytes, found.start());
        if start < found.start() && !ends_like_a_file(domain.as_bytes()) {
            out.push(start..found.end());
        }
    }
}

/// Where the user's name begins that ends at `end`: an encoded sign ends it, but for those that names have.
fn encoded_user_start(bytes: &[u8], end: usize) -> usize {
    const USER_BYTES_MAX: usize = 64;
    let mut start = end;
    while start > 0 && end - start < USER_BYTES_MAX {
        match &bytes[..start] {
            [.., b'%', b'2', b'B' | b'b' | b'D' | b'd' | b'E' | b'e'] => start -= 3,
            [.., b'%', b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F', b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F'] => break,
            [.., byte] if byte.is_ascii_alphanumeric() || b"._+-".contains(byte) => start -= 1,
            _ => break,
        }
    }
    start
}

/// IPv4 and IPv6 addresses.
pub(super) fn ip(bytes: &[u8], check: IpCheck, out: &mut Vec<Range<usize>>) {
    static V4: LazyLock<Regex> = LazyLock::new(|| {
        constant(r"\b(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\b")
    });
    ipv6(bytes, check, out);
    if memchr::memchr_iter(b'.', bytes).take(3).count() < 3 {
        return;
    }
    let addresses = V4.find_iter(bytes).map(|found| found.range());
    let is_version = |range: &Range<usize>| {
        is_version(bytes, range) || (check == IpCheck::NoNames && follows_product(&bytes[..range.start]))
    };
    out.extend(addresses.filter(|range| !is_version(range)));
}

/// Programs whose versions have four numbers at times: `nginx/1.2.3.4`. Other names may be hosts: `db/10.0.0.5` is how Java
/// writes an address.
const PRODUCTS: [&[u8]; 24] = [
    b"nginx",
    b"apache",
    b"httpd",
    b"openresty",
    b"tomcat",
    b"jetty",
    b"iis",
    b"php",
    b"python",
    b"ruby",
    b"node",
    b"java",
    b"jdk",
    b"curl",
    b"okhttp",
    b"chrome",
    b"chromium",
    b"firefox",
    b"safari",
    b"edge",
    b"edg",
    b"opr",
    b"openssl",
    b"electron",
];

/// Whether a text ends in a program's name and a slash.
fn follows_product(before: &[u8]) -> bool {
    let Some(before) = before.strip_suffix(b"/") else { return false };
    let letters = before.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let name = &before[before.len() - letters..];
    PRODUCTS.iter().any(|product| name.eq_ignore_ascii_case(product))
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
fn ipv6(bytes: &[u8], check: IpCheck, out: &mut Vec<Range<usize>>) {
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
        let is_name = check == IpCheck::NoNames && is_short_scope(text);
        if !is_name && text.parse::<Ipv6Addr>().is_ok() {
            out.push(run);
        }
    }
}

/// `12::30`, `bad::1`: two short groups are a time or a name in a program sooner than an address.
fn is_short_scope(text: &str) -> bool {
    text.split_once("::").is_some_and(|(head, tail)| {
        (1..4).contains(&head.len()) && !head.contains(':') && !tail.is_empty() && !tail.contains([':', '.'])
    })
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

/// What stands between `//` and `@` in a URL. A password may hold an `@` itself; the last of the authority counts (but not where
/// only the password is asked for: existing configurations expect the first).
pub(super) fn url_auth(bytes: &[u8], part: UrlAuthPart, out: &mut Vec<Range<usize>>) {
    static SLASHES: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("//"));
    let ends_password = |byte: &u8| byte.is_ascii_whitespace() || *byte < 0x20 || b"/@\"'<>".contains(byte);
    let ends_user = |byte: &u8| ends_password(byte) || b":?#".contains(byte);
    let until = |from: usize, ends: &dyn Fn(&u8) -> bool| {
        bytes[from..].iter().position(ends).map_or(bytes.len(), |offset| from + offset)
    };
    let mut resume = 0;
    for slashes in SLASHES.find_iter(bytes) {
        let start = slashes + 2;
        if start < resume {
            continue;
        }
        let user_end = until(start, &ends_user);
        let has_password = bytes.get(user_end) == Some(&b':');
        let mut end = if has_password { until(user_end + 1, &ends_password) } else { user_end };
        resume = end;
        if bytes.get(end) != Some(&b'@') {
            continue;
        }
        match part {
            UrlAuthPart::Password if has_password => out.push(user_end + 1..end),
            UrlAuthPart::Password => {}
            UrlAuthPart::UserAndPassword => {
                loop {
                    let next = until(end + 1, &|byte| ends_password(byte) || b"?#".contains(byte));
                    resume = next;
                    if bytes.get(next) != Some(&b'@') {
                        break;
                    }
                    end = next;
                }
                out.push(start..end);
            }
        }
    }
}
