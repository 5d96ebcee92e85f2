//! Whether a form was posted by a page of ours.
//!
//! Browsers name the origin of a page with every POST. The session cookie's `SameSite=Strict` keeps foreign sites out
//! already; this also holds against other hosts of the same site, and for the login form, which needs no cookie.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};

/// Whether a POST came from a page of ours, or from a program that is no browser.
///
/// Our pages are those at `public_url`, and at the host the request was sent to, so that an installation can be reached by
/// several names. An attacker's page can choose neither its own `Origin` nor the victim's `Host`.
pub(crate) fn is_ours(headers: &HeaderMap, public_url: &str) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let Some(origin) = text(ORIGIN) else {
        // Browsers that leave out `Origin` send this one.
        let site = headers.get("sec-fetch-site").map(|value| value.to_str().unwrap_or_default());
        return matches!(site, None | Some("same-origin"));
    };
    if origin == public_url.trim_end_matches('/') {
        return true;
    }
    let authority = origin.split_once("://").map(|(_scheme, authority)| authority);
    authority.is_some_and(|authority| !authority.is_empty() && text(HOST) == Some(authority))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PUBLIC_URL: &str = "https://errors.example.org";

    fn check(pairs: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        is_ours(&headers, PUBLIC_URL)
    }

    #[test]
    fn forms_of_our_own_pages_are_taken() {
        assert!(check(&[("origin", PUBLIC_URL)]));
        assert!(check(&[("origin", "http://127.0.0.1:8000"), ("host", "127.0.0.1:8000")]));
        assert!(check(&[("sec-fetch-site", "same-origin")]));
        assert!(check(&[]), "no browser");
    }

    #[test]
    fn forms_of_other_pages_are_refused() {
        for headers in [
            &[("origin", "https://evil.example"), ("host", "errors.example.org")][..],
            &[("origin", "null"), ("host", "errors.example.org")],
            &[("origin", ""), ("host", "")],
            &[("origin", "https://errors.example.org.evil.example"), ("host", "errors.example.org")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            assert!(!check(headers), "{headers:?}");
        }
    }
}
