//! The session cookie: how it is written and found again.

use axum::http::HeaderMap;
use axum::http::header::COOKIE;

/// Over TLS the prefix makes browsers refuse the cookie unless this host itself set it, over TLS.
const SECURE_NAME: &str = "__Host-picket_session";
const PLAIN_NAME: &str = "picket_session";
/// Longer values are no token of ours.
const TOKEN_LEN_MAX: usize = 128;

const fn name(is_https: bool) -> &'static str {
    if is_https { SECURE_NAME } else { PLAIN_NAME }
}

/// The session token that a request carries, if any.
pub(crate) fn session_token(headers: &HeaderMap, is_https: bool) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name_sent, _)| *name_sent == name(is_https))
        .map(|(_, value)| value)
        .filter(|token| !token.is_empty() && token.len() <= TOKEN_LEN_MAX)
}

/// The `Set-Cookie` value that opens a session on the browser's side. It ends with the browser or, before that, when the
/// aggregator forgets the session.
pub(crate) fn opening(token: &str, is_https: bool) -> String {
    let secure = if is_https { "; Secure" } else { "" };
    format!("{}={token}; Path=/; HttpOnly; SameSite=Strict{secure}", name(is_https))
}

/// The `Set-Cookie` value that makes the browser forget the session.
pub(crate) fn closing(is_https: bool) -> String {
    format!("{}; Max-Age=0", opening("", is_https))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, cookie.parse().unwrap());
        headers
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        assert_eq!(session_token(&headers("theme=dark; picket_session=abc; x=y"), false), Some("abc"));
        assert_eq!(session_token(&headers("__Host-picket_session=abc"), true), Some("abc"));
    }

    #[test]
    fn a_cookie_of_the_plain_name_is_nothing_over_tls() {
        assert_eq!(session_token(&headers("picket_session=abc"), true), None);
        assert_eq!(session_token(&headers("picket_session="), false), None);
        assert_eq!(session_token(&headers(&format!("picket_session={}", "a".repeat(4_000))), false), None);
    }

    #[test]
    fn the_cookie_is_kept_from_scripts_and_other_sites() {
        assert_eq!(opening("abc", true), "__Host-picket_session=abc; Path=/; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(opening("abc", false), "picket_session=abc; Path=/; HttpOnly; SameSite=Strict");
        assert!(closing(false).ends_with("Max-Age=0"));
    }
}
