//! Parameters of URLs by name.

use std::ops::Range;

use super::named_value::is_plain;
use super::names::SensitiveNames;

/// How far back a name may begin.
const NAME_BYTES_MAX: usize = 64;

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

/// Values of URL parameters: `?name=value`, `&name=value`, and `name=value` at the start of a text that is a query: another
/// parameter follows, or nothing at all (but `hash=…` alone may be anything).
pub(super) fn query_parameters(bytes: &[u8], names: &SensitiveNames, out: &mut Vec<Range<usize>>) {
    let mut resume = 0;
    for equals in memchr::memchr_iter(b'=', bytes) {
        if equals < resume {
            continue;
        }
        let start = name_start(bytes, equals, resume);
        let opened = start == 0 || matches!(bytes[start - 1], b'?' | b'&' | b'#');
        let name = &bytes[start..equals];
        if !opened || name.is_empty() {
            continue;
        }
        let of_parameter = PARAMETER_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known));
        if !of_parameter && !names.contains_bytes(name) {
            continue;
        }
        let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte < 0x20 || b"&#;\"'<>`".contains(byte);
        let end = bytes[equals + 1..].iter().position(ends).map_or(bytes.len(), |offset| equals + 1 + offset);
        let is_query = start > 0
            || match bytes.get(end) {
                Some(b'&') => true,
                None => !of_parameter || names.contains_bytes(name),
                Some(_) => false,
            };
        if !is_query {
            continue;
        }
        // Whatever stands in a secret is part of it, further parameters too.
        resume = end;
        if !is_plain(&bytes[equals + 1..end]) {
            out.push(equals + 1..end);
        }
    }
}

fn name_start(bytes: &[u8], equals: usize, resume: usize) -> usize {
    let floor = equals.saturating_sub(NAME_BYTES_MAX).max(resume);
    let of_name = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$' | b'%' | b'[' | b']') || byte >= 0x80
    };
    bytes[floor..equals].iter().rposition(|&byte| !of_name(byte)).map_or(floor, |offset| floor + offset + 1)
}
