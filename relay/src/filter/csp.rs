//! Reports of content security policies about sources that a project does not care for.

use picket_common::tree::Value;

use super::event;

/// `[scheme://]host[:port]`, each part may be `*`, a host may be `*.host`. A word without a dot or colon may also be a scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    scheme: Option<Box<str>>,
    host: Box<str>,
    port: Option<Box<str>>,
}

impl Source {
    /// Reads a source; every text is one.
    pub(super) fn read(text: &str) -> Self {
        let text = text.trim().to_ascii_lowercase();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (some_part(scheme), rest),
            None => (None, text.as_str()),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let host = event::without_port(authority);
        let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|_| host.len() < authority.len());
        Self { scheme, host: host.into(), port: port.and_then(some_part) }
    }

    fn matches(&self, blocked: &Blocked<'_>) -> bool {
        if self.scheme.is_none() && self.port.is_none() && *self.host == *blocked.scheme {
            return true;
        }
        self.scheme.as_deref().is_none_or(|scheme| scheme == blocked.scheme)
            && self.port.as_deref().is_none_or(|port| blocked.port == Some(port))
            && self.matches_host(blocked.host)
    }

    fn matches_host(&self, host: &str) -> bool {
        match self.host.strip_prefix("*.") {
            Some(parent) => {
                host == parent || host.strip_suffix(parent).is_some_and(|subdomain| subdomain.ends_with('.'))
            }
            None => matches!(&*self.host, "" | "*") || *self.host == *host,
        }
    }
}

fn some_part(text: &str) -> Option<Box<str>> {
    (!matches!(text, "" | "*")).then(|| text.into())
}

/// The parts of an address in a report; such a report may also hold a bare word (`inline`, `eval`, `data`).
struct Blocked<'u> {
    scheme: &'u str,
    host: &'u str,
    port: Option<&'u str>,
}

impl<'u> Blocked<'u> {
    fn read(text: &'u str) -> Self {
        let (scheme, rest) = match text.split_once("://") {
            Some(parts) => parts,
            None => match text.split_once(':') {
                // `data:…`, `about:blank`.
                Some((scheme, _)) => return Self { scheme, host: "", port: None },
                None => return Self { scheme: "", host: text, port: None },
            },
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = event::without_port(authority);
        let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|_| host.len() < authority.len());
        Self { scheme, host, port }
    }
}

/// Whether a report is about one of the sources: what was blocked, or the script that asked for it.
pub(super) fn is_disallowed(sources: &[Source], event: &Value<'_>) -> bool {
    let Some(report) = event.get("csp") else { return false };
    let report = report.get("csp-report").unwrap_or(report);
    ["blocked_uri", "blocked-uri", "blockedURL", "source_file", "source-file", "sourceFile"]
        .into_iter()
        .filter_map(|key| report.get(key).and_then(Value::as_str))
        .any(|uri| {
            let uri = uri.to_ascii_lowercase();
            let blocked = Blocked::read(&uri);
            sources.iter().any(|source| source.matches(&blocked))
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::tree::read;

    fn is_disallowed_by(source: &str, uri: &str) -> bool {
        let text = format!(r#"{{"csp":{{"blocked_uri":"{uri}"}}}}"#);
        is_disallowed(&[Source::read(source)], &read(text.as_bytes()).unwrap())
    }

    #[test]
    fn sources_match_by_scheme_host_and_port() {
        let table = [
            ("example.com", "https://example.com/x.js", true),
            ("example.com", "https://www.example.com/x.js", false),
            ("*.example.com", "https://www.example.com/x.js", true),
            ("*.example.com", "https://example.com", true),
            ("*.example.com", "https://badexample.com", false),
            ("http://example.com", "https://example.com/", false),
            ("https://*", "https://a.test/", true),
            ("*://example.com:*", "https://example.com:8443/", true),
            ("example.com:8443", "https://example.com:8443/", true),
            ("example.com:8443", "https://example.com/", false),
            ("chrome-extension", "chrome-extension://abc/x.js", true),
            ("data", "data:text/css;base64,x", true),
            ("data:", "data:text/css;base64,x", true),
            ("inline", "inline", true),
            ("EXAMPLE.com", "https://Example.COM/", true),
        ];
        for (source, uri, expected) in table {
            assert_eq!(is_disallowed_by(source, uri), expected, "{source} {uri}");
        }
    }

    #[test]
    fn the_script_that_asked_is_looked_at_too_and_other_events_are_not() {
        let sources = [Source::read("moz-extension")];
        let report = r#"{"csp":{"blocked_uri":"https://a.test","source_file":"moz-extension"}}"#;
        assert!(is_disallowed(&sources, &read(report.as_bytes()).unwrap()));
        assert!(!is_disallowed(&sources, &read(br#"{"blocked_uri":"moz-extension"}"#).unwrap()));
    }
}
