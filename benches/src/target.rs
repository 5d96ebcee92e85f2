//! Where requests go: a DSN read as an SDK reads it, with no code shared with the programs under test.
//!
//! Only plain HTTP on loopback: this is a bench, not a way to flood someone else's server.

use std::net::{IpAddr, SocketAddr};

use hyper::Uri;

/// A server that takes envelopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Loopback address to connect to.
    pub address: SocketAddr,
    /// Value of the `Host` header.
    pub authority: String,
    /// Path of the envelope endpoint.
    pub path: String,
    /// Value of the `X-Sentry-Auth` header.
    pub authorization: String,
}

/// Why a DSN cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// Not of the form of a DSN.
    #[error(
        "`{0}` is not a DSN of the form http://KEY@HOST:PORT/PROJECT; take the one that `picket-aggregator project create` printed"
    )]
    Malformed(String),
    /// HTTPS or something else.
    #[error("the DSN `{0}` is not plain http; the bench measures the relay itself, not a proxy before it")]
    NotPlainHttp(String),
    /// The host is not on this machine.
    #[error(
        "the host `{0}` is not a loopback address; the bench only speaks to this machine, use 127.0.0.1, [::1] or localhost"
    )]
    NotLoopback(String),
}

// === impl Target ===

impl Target {
    /// Reads `http://KEY@HOST[:PORT]/[PREFIX/]PROJECT`.
    ///
    /// # Errors
    /// [`TargetError`] with the text that was read.
    pub fn from_dsn(dsn: &str) -> Result<Self, TargetError> {
        let malformed = || TargetError::Malformed(dsn.to_owned());
        let uri: Uri = dsn.parse().map_err(|_| malformed())?;
        if uri.scheme_str() != Some("http") {
            return Err(TargetError::NotPlainHttp(dsn.to_owned()));
        }
        let authority = uri.authority().ok_or_else(malformed)?.as_str();
        let (credentials, host_and_port) = authority.rsplit_once('@').ok_or_else(malformed)?;
        let key = credentials.split(':').next().filter(|key| !key.is_empty()).ok_or_else(malformed)?;
        let (prefix, project) = uri.path().trim_end_matches('/').rsplit_once('/').ok_or_else(malformed)?;
        if project.is_empty() || !project.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(malformed());
        }
        let host = uri.host().ok_or_else(malformed)?;
        Ok(Self {
            address: SocketAddr::new(loopback(host)?, uri.port_u16().unwrap_or(80)),
            authority: host_and_port.to_owned(),
            path: format!("{prefix}/api/{project}/envelope/"),
            authorization: format!(
                "Sentry sentry_version=7, sentry_client=picket-bench/{}, sentry_key={key}",
                env!("CARGO_PKG_VERSION"),
            ),
        })
    }
}

fn loopback(host: &str) -> Result<IpAddr, TargetError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = match bare {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        other => other.parse().ok(),
    };
    address.filter(IpAddr::is_loopback).ok_or_else(|| TargetError::NotLoopback(host.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_dsn_names_address_path_and_key() {
        let target = Target::from_dsn("http://0123456789abcdef0123456789abcdef@127.0.0.1:3000/7").unwrap();
        assert_eq!(target.address, SocketAddr::from(([127, 0, 0, 1], 3000)));
        assert_eq!(target.authority, "127.0.0.1:3000");
        assert_eq!(target.path, "/api/7/envelope/");
        assert!(target.authorization.ends_with("sentry_key=0123456789abcdef0123456789abcdef"));
    }

    #[test]
    fn a_prefix_an_ipv6_host_and_a_secret_are_understood() {
        let target = Target::from_dsn("http://key:secret@[::1]:81/errors/12").unwrap();
        assert_eq!(target.path, "/errors/api/12/envelope/");
        assert!(target.address.is_ipv6());
        assert!(target.authorization.ends_with("sentry_key=key"));
    }

    #[test]
    fn other_machines_and_other_schemes_are_refused() {
        let remote = Target::from_dsn("http://key@192.0.2.1:3000/1");
        assert_eq!(remote, Err(TargetError::NotLoopback("192.0.2.1".into())));
        assert!(matches!(Target::from_dsn("https://key@127.0.0.1/1"), Err(TargetError::NotPlainHttp(_))));
    }

    #[test]
    fn what_is_no_dsn_is_refused() {
        for text in
            ["", "http://127.0.0.1/1", "http://key@127.0.0.1/", "http://key@127.0.0.1/abc", "http://@127.0.0.1/1"]
        {
            assert!(Target::from_dsn(text).is_err(), "{text:?} was taken");
        }
    }
}
