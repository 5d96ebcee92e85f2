//! Origins: which web pages may post to a project.
//!
//! A pattern is `[scheme://]host[:port]`, where host is a name, `*.name` (the name and everything below it) or `*`. A part that
//! is left out is not compared. A request has an origin if its `Origin` header, else its `Referer`, is an http(s) address;
//! requests without one do not come from a page and are not checked. An empty list of patterns refuses every origin.
//!
//! This protects a project from other sites' events, not from someone who writes headers by hand.

use axum::http::{HeaderMap, HeaderName, header};

/// Where a request's page comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of a request, if a page made it.
    pub(crate) fn of_request(headers: &HeaderMap) -> Option<Self> {
        let read = |name: HeaderName| Self::parse(headers.get(name)?.to_str().ok()?);
        read(header::ORIGIN).or_else(|| read(header::REFERER))
    }

    /// The origin in an http(s) address.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority, |(_user, host)| host);
        let (host, port) = split_port(authority);
        let port = match port {
            Some(port) => port.parse().ok()?,
            None => default_port,
        };
        let host = host.to_ascii_lowercase();
        (!host.is_empty()).then_some(Self { scheme, host, port })
    }

    /// Whether one of the patterns names this origin.
    pub(crate) fn matches_any(&self, patterns: &[String]) -> bool {
        patterns.iter().any(|pattern| self.matches(pattern.trim()))
    }

    fn matches(&self, pattern: &str) -> bool {
        let (scheme, rest) = match pattern.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, pattern),
        };
        if scheme.is_some_and(|scheme| scheme != "*" && !scheme.eq_ignore_ascii_case(&self.scheme)) {
            return false;
        }
        let (host, port) = split_port(rest.split('/').next().unwrap_or_default());
        if port.is_some_and(|port| port != "*" && port.parse() != Ok(self.port)) {
            return false;
        }
        let host = host.to_ascii_lowercase();
        match host.strip_prefix("*.") {
            Some(parent) => {
                self.host == parent
                    || self.host.strip_suffix(parent).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
            }
            None => host == "*" || host == self.host,
        }
    }
}

/// `host:port`; the host of an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn matches(origin: &str, pattern: &str) -> bool {
        Origin::parse(origin).unwrap().matches_any(&[pattern.to_owned()])
    }

    #[test]
    fn a_pattern_compares_what_it_names() {
        for (origin, pattern, expected) in [
            ("https://example.org", "*", true),
            ("https://example.org", "example.org", true),
            ("https://EXAMPLE.org:8443/path?x", "Example.ORG", true),
            ("https://example.org", "other.org", false),
            ("https://example.org.evil.net", "example.org", false),
            ("https://a.example.org", "example.org", false),
            ("https://a.example.org", "*.example.org", true),
            ("https://a.b.example.org", "*.example.org", true),
            ("https://example.org", "*.example.org", true),
            ("https://evilexample.org", "*.example.org", false),
            ("http://example.org", "https://example.org", false),
            ("https://example.org", "https://example.org/", true),
            ("https://example.org", "https://*.example.org", true),
            ("https://example.org", "example.org:443", true),
            ("http://example.org", "example.org:443", false),
            ("http://example.org:8443", "http://example.org:8443", true),
            ("http://localhost:3000", "localhost", true),
            ("http://[::1]:3000", "[::1]:3000", true),
            ("http://[::1]", "[::1]", true),
            ("http://user@example.org", "example.org", true),
        ] {
            assert_eq!(matches(origin, pattern), expected, "{origin} against {pattern}");
        }
        assert!(!Origin::parse("https://example.org").unwrap().matches_any(&[]));
    }

    #[test]
    fn the_referer_stands_in_for_a_missing_or_opaque_origin() {
        let origin_of = |pairs: &[(HeaderName, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            Origin::of_request(&headers).map(|origin| origin.host)
        };
        let (origin, referer) = (header::ORIGIN, header::REFERER);
        assert_eq!(origin_of(&[(origin.clone(), "https://a"), (referer.clone(), "https://b/x")]).unwrap(), "a");
        assert_eq!(origin_of(&[(referer.clone(), "https://b/x")]).unwrap(), "b");
        assert_eq!(origin_of(&[(origin.clone(), "null"), (referer, "https://b/x")]).unwrap(), "b");
        assert_eq!(origin_of(&[(origin, "file://")]), None);
        assert_eq!(origin_of(&[]), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(origin in "\\PC{0,40}", pattern in "\\PC{0,40}") {
            let _ = Origin::parse(&origin);
            if let Some(origin) = Origin::parse(&format!("http://{origin}")) {
                origin.matches_any(&[pattern]);
            }
        }
    }
}
