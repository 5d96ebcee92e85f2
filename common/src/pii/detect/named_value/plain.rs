//! Values that are none: constants, placeholders, and what has been taken out before.

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

/// What stands before credentials that have been taken out.
const SCHEMES: [&[u8]; 2] = [b"bearer ", b"basic "];

/// What follows `%` where a program fills in a value.
const CONVERSIONS: &[u8] = b"sdrvqx@";

/// Stands for what rules took out before, see `FILLER` of the relay's texts.
pub(super) const FILLER: u8 = 0;

/// Nothing, a constant, a placeholder, or a replacement of our own.
pub(in super::super) fn is_plain(value: &[u8]) -> bool {
    let has_scheme = |scheme: &[u8]| value.len() >= scheme.len() && value[..scheme.len()].eq_ignore_ascii_case(scheme);
    let scheme = SCHEMES.iter().find(|scheme| has_scheme(scheme)).map_or(0, |scheme| scheme.len());
    let credentials = &value[scheme..];
    let masked = credentials.iter().all(|&byte| matches!(byte, b'*' | FILLER));
    let replaced = credentials.len() <= 16
        && credentials.starts_with(b"[")
        && credentials.ends_with(b"]")
        && credentials[1..credentials.len() - 1].iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'-');
    masked
        || replaced
        || is_cut_replacement(value)
        || is_placeholder(value)
        || PLAIN_VALUES.iter().any(|plain| value.eq_ignore_ascii_case(plain))
}

/// A replacement that was cut to the length of what it replaced, as in attachments.
pub(super) fn is_cut_replacement(value: &[u8]) -> bool {
    value.len() >= 2 && REPLACEMENTS.iter().any(|text| text.starts_with(value))
}

/// Where a value will stand: `%s`, `%(name)s`, `{}`, `{name}`, `${NAME}`, `?`.
fn is_placeholder(value: &[u8]) -> bool {
    let is_name =
        |name: &[u8]| name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    match value {
        b"?" | b"..." => true,
        [b'%', conversion] => CONVERSIONS.contains(conversion),
        [b'%', b'(', name @ .., b')', conversion] => is_name(name) && CONVERSIONS.contains(conversion),
        [b'$', b'{', name @ .., b'}'] | [b'{', name @ .., b'}'] => is_name(name),
        _ => false,
    }
}
