//! The DSN: where an SDK sends its events and under which key.
//!
//! `{scheme}://{public key}[:{secret}]@{host}[:{port}][/{path}]/{project id}`. The secret of old SDKs is read and dropped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::{ProjectId, PublicKey};

/// How an SDK reaches the host of a DSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP, default port 80.
    Http,
    /// HTTP over TLS, default port 443.
    Https,
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A parsed DSN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsn {
    scheme: Scheme,
    public_key: PublicKey,
    /// Host, and port where it was written.
    authority: String,
    /// Path before the project id, with leading and without trailing slash; empty in nearly all DSNs.
    path: String,
    project_id: ProjectId,
}

/// Why a text is no DSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDsn {
    /// Neither `http://` nor `https://`.
    #[error("invalid dsn: expected it to start with http:// or https://")]
    Scheme,
    /// No `@`, or no valid key before it.
    #[error("invalid dsn: expected a public key of 32 characters before the @")]
    PublicKey,
    /// Nothing between `@` and the path, or a character no host has.
    #[error("invalid dsn: expected a host after the @")]
    Host,
    /// The last path segment is no project id.
    #[error("invalid dsn: expected it to end in /<project id>")]
    ProjectId,
}

impl Dsn {
    /// Puts a DSN together from the base address of a relay, such as `http://127.0.0.1:3000`.
    ///
    /// # Errors
    /// [`InvalidDsn`] if the base address is not an http(s) address with a host.
    pub fn new(relay_url: &str, public_key: PublicKey, project_id: ProjectId) -> Result<Self, InvalidDsn> {
        let (scheme, rest) = split_scheme(relay_url)?;
        let rest = rest.trim_end_matches('/');
        format!("{}://{public_key}@{rest}/{project_id}", scheme.as_str()).parse()
    }

    /// The public key.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The project.
    #[must_use]
    pub const fn project_id(&self) -> ProjectId {
        self.project_id
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host, and port where the DSN names one.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The address that envelopes are posted to.
    #[must_use]
    pub fn envelope_url(&self) -> String {
        format!("{}://{}{}/api/{}/envelope/", self.scheme.as_str(), self.authority, self.path, self.project_id)
    }
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), InvalidDsn> {
    if let Some(rest) = text.strip_prefix("http://") {
        return Ok((Scheme::Http, rest));
    }
    text.strip_prefix("https://").map(|rest| (Scheme::Https, rest)).ok_or(InvalidDsn::Scheme)
}

impl FromStr for Dsn {
    type Err = InvalidDsn;

    fn from_str(text: &str) -> Result<Self, InvalidDsn> {
        let (scheme, rest) = split_scheme(text.trim())?;
        let (credentials, rest) = rest.split_once('@').ok_or(InvalidDsn::PublicKey)?;
        let key = credentials.split_once(':').map_or(credentials, |(key, _secret)| key);
        let public_key = key.parse().map_err(|_| InvalidDsn::PublicKey)?;
        let (location, project) = rest.rsplit_once('/').ok_or(InvalidDsn::ProjectId)?;
        let project_id = project.parse().map_err(|_| InvalidDsn::ProjectId)?;
        let (authority, path) = match location.split_once('/') {
            Some((authority, path)) => (authority, format!("/{}", path.trim_matches('/'))),
            None => (location, String::new()),
        };
        let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if authority.is_empty() || authority.starts_with(':') || !authority.bytes().all(is_host_byte) {
            return Err(InvalidDsn::Host);
        }
        Ok(Self { scheme, public_key, authority: authority.to_owned(), path, project_id })
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, public_key, authority, path, project_id } = self;
        write!(f, "{}://{public_key}@{authority}{path}/{project_id}", scheme.as_str())
    }
}

impl Serialize for Dsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Dsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_dsn_is_taken_apart_and_put_together_again() {
        for text in [
            format!("http://{KEY}@relay:3000/7"),
            format!("https://{KEY}@[::1]:3000/7"),
            format!("https://{KEY}@errors.example.org/some/where/7"),
        ] {
            let dsn: Dsn = text.parse().unwrap();
            assert_eq!(dsn.to_string(), text);
            assert_eq!(dsn.project_id(), ProjectId::new(7));
            assert_eq!(dsn.public_key().as_str(), KEY);
        }
    }

    #[test]
    fn the_secret_of_old_sdks_is_dropped() {
        let dsn: Dsn = format!("http://{KEY}:secret@relay/7").parse().unwrap();
        assert_eq!(dsn.to_string(), format!("http://{KEY}@relay/7"));
    }

    #[test]
    fn the_envelope_address_keeps_the_path() {
        let dsn = Dsn::new("https://example.org/errors/", KEY.parse().unwrap(), ProjectId::new(7)).unwrap();
        assert_eq!(dsn.envelope_url(), "https://example.org/errors/api/7/envelope/");
    }

    #[test]
    fn each_broken_part_is_named() {
        for (text, expected) in [
            (format!("ftp://{KEY}@relay/7"), InvalidDsn::Scheme),
            ("http://relay/7".to_owned(), InvalidDsn::PublicKey),
            ("http://short@relay/7".to_owned(), InvalidDsn::PublicKey),
            (format!("http://{KEY}@/7"), InvalidDsn::Host),
            (format!("http://{KEY}@relay"), InvalidDsn::ProjectId),
            (format!("http://{KEY}@relay/x"), InvalidDsn::ProjectId),
        ] {
            assert_eq!(text.parse::<Dsn>().unwrap_err(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_parses_round_trips(text in "\\PC{0,80}") {
            if let Ok(dsn) = text.parse::<Dsn>() {
                prop_assert_eq!(dsn.to_string().parse::<Dsn>().unwrap(), dsn);
            }
        }
    }
}
