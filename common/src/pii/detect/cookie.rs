//! Session and CSRF cookies by name.

use std::ops::Range;

/// Names, in small letters, under which web frameworks keep what logs a user in. Not for other cookies: those are told by
/// their values and by the project's own names.
const SESSION_COOKIES: [&str; 34] = [
    "_csrf",
    "_csrf_token",
    "_session",
    "_session_id",
    "_vercel_jwt",
    "_xsrf",
    "asp.net_sessionid",
    "ci_session",
    "connect.sid",
    "csrf",
    "csrf-token",
    "csrf_token",
    "csrftoken",
    "fasthttpsessionid",
    "irissessionid",
    "jsessionid",
    "laravel_session",
    "mysession",
    "phpsessid",
    "rack.session",
    "sentrysid",
    "sess",
    "session",
    "session_id",
    "sessionid",
    "sid",
    "su",
    "sudo",
    "symfony",
    "user_session",
    "x-csrf-token",
    "x-xsrf-token",
    "xsrf",
    "xsrf-token",
];

/// Prefixes by which a server binds a cookie to its host (RFC 6265bis §4.1.3).
const PREFIXES: [&str; 2] = ["__host-", "__secure-"];

/// Whether a cookie of this name holds a session. `session__1` and so on are parts of `session`.
#[must_use]
pub fn is_session_cookie(name: &str) -> bool {
    let mut name = name.trim();
    for prefix in PREFIXES {
        if let Some(head) = name.get(..prefix.len())
            && head.eq_ignore_ascii_case(prefix)
        {
            name = &name[prefix.len()..];
        }
    }
    if let Some((base, number)) = name.rsplit_once("__")
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        name = base;
    }
    SESSION_COOKIES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Names of session cookies that mean other things as well.
const MISTAKABLE: [&str; 11] =
    ["_csrf", "_session", "_xsrf", "csrf", "sess", "session", "sid", "su", "sudo", "symfony", "xsrf"];

/// Whether a name is that of a session cookie, in whatever text it stands.
pub(super) fn is_unmistakable_session_cookie(name: &[u8]) -> bool {
    // Most names are neither: this look is cheaper than that through the list.
    let may_be = matches!(name, [_, _, _, _, _, .., b'n' | b'N' | b'd' | b'D' | b't' | b'T' | b'0'..=b'9']);
    may_be
        && std::str::from_utf8(name).is_ok_and(is_session_cookie)
        && !MISTAKABLE.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes()))
}

/// The values of session cookies in a `Cookie` or `Set-Cookie` header: pairs between semicolons.
pub(super) fn session_cookies(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    let mut start = 0;
    for pair in bytes.split(|&byte| matches!(byte, b';' | b'\n')) {
        let pair_start = start;
        start += pair.len() + 1;
        let Some(equals) = memchr::memchr(b'=', pair) else { continue };
        // `Cookie: session=…` in a dump of headers.
        let name_start = memchr::memrchr2(b' ', b':', pair[..equals].trim_ascii_end()).map_or(0, |before| before + 1);
        let Ok(name) = std::str::from_utf8(&pair[name_start..equals]) else { continue };
        if is_session_cookie(name) {
            let value = &pair[equals + 1..];
            let value_start = pair_start + equals + 1 + (value.len() - value.trim_ascii_start().len());
            let value_len = value.trim_ascii().split(|byte| byte.is_ascii_whitespace()).next().map_or(0, <[u8]>::len);
            out.push(value_start..value_start + value_len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_look_keeps_every_name_that_means_a_session_only() {
        for name in SESSION_COOKIES {
            let mistakable = MISTAKABLE.contains(&name);
            assert_eq!(is_unmistakable_session_cookie(name.as_bytes()), !mistakable, "{name}");
            let numbered = format!("__Host-{}__2", name.to_uppercase());
            assert!(mistakable || is_unmistakable_session_cookie(numbered.as_bytes()), "{numbered}");
        }
        assert!(!is_unmistakable_session_cookie(b"session_count") && !is_unmistakable_session_cookie(b"id"));
    }
}
