//! Credentials: where SDKs put the public key, and how it is read.
//!
//! Carriers: `X-Sentry-Auth: Sentry k=v, k=v`; `Authorization: Sentry k=v, …` or `Basic base64(key:anything)`; the query string
//! as soon as it contains `sentry_`; a segment of the path on endpoints for what can't set headers; on the envelope endpoint, when all
//! of these are missing, the `dsn` of the envelope header (`endpoints/envelope.rs`). More than one carrier is an error: which of two keys counts must not depend on the reader.
//!
//! What it does not do: know any key (`access.rs`).

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use picket_common::ids::PublicKey;

use super::query;
use crate::refusal::Refusal;

/// The protocol version that clients speak at most.
const MAX_VERSION: f64 = 7.0;

/// What a client says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Under which key it sends.
    pub(crate) public_key: PublicKey,
    /// `name/version` of the SDK.
    pub(crate) client: Option<Box<str>>,
}

/// Why there are no usable credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthError {
    /// No carrier at all.
    #[error(
        "missing authorization information: expected X-Sentry-Auth, Authorization, ?sentry_key= or a dsn in the envelope header"
    )]
    Missing,
    /// More than one carrier.
    #[error("multiple authorization payloads detected: expected one of header and query string")]
    Multiple,
    /// A carrier that can't be read.
    #[error("bad authorization information: {0}")]
    Unreadable(&'static str),
    /// A key that no project can have.
    #[error("bad sentry_key: expected exactly 32 printable ASCII characters")]
    BadKey,
    /// A protocol of the future.
    #[error("unsupported sentry_version {0}: this relay speaks 7 and below")]
    UnsupportedVersion(String),
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let detail = error.to_string();
        match error {
            AuthError::Missing | AuthError::Multiple | AuthError::Unreadable(_) => Self::Unauthorised { detail },
            AuthError::BadKey | AuthError::UnsupportedVersion(_) => Self::malformed("auth", detail),
        }
    }
}

/// The credentials in a request's head, `path_key` being what its path holds; `None` if there is no carrier.
///
/// # Errors
/// [`AuthError`] for everything but [`AuthError::Missing`].
pub(crate) fn of_request(
    headers: &HeaderMap,
    raw_query: Option<&str>,
    path_key: Option<&str>,
) -> Result<Option<Credentials>, AuthError> {
    let mut found = None;
    for value in headers.get_all("x-sentry-auth") {
        add(&mut found, Carrier::Sentry(value))?;
    }
    for value in headers.get_all(header::AUTHORIZATION) {
        // Other schemes belong to whatever stands between client and relay.
        if has_scheme(value, "sentry") {
            add(&mut found, Carrier::Sentry(value))?;
        } else if has_scheme(value, "basic") {
            add(&mut found, Carrier::Basic(value))?;
        }
    }
    if let Some(raw_query) = raw_query.filter(|raw_query| raw_query.contains("sentry_")) {
        add(&mut found, Carrier::Query(raw_query))?;
    }
    if let Some(key) = path_key {
        add(&mut found, Carrier::Path(key))?;
    }
    match found {
        None => Ok(None),
        Some(Carrier::Sentry(value)) => from_sentry_header(value).map(Some),
        Some(Carrier::Basic(value)) => from_basic_header(value).map(Some),
        Some(Carrier::Query(raw_query)) => from_query(raw_query).map(Some),
        Some(Carrier::Path(key)) => from_key(key).map(Some),
    }
}

enum Carrier<'a> {
    Sentry(&'a HeaderValue),
    Basic(&'a HeaderValue),
    Query(&'a str),
    Path(&'a str),
}

fn add<'a>(found: &mut Option<Carrier<'a>>, carrier: Carrier<'a>) -> Result<(), AuthError> {
    match found.replace(carrier) {
        None => Ok(()),
        Some(_) => Err(AuthError::Multiple),
    }
}

fn has_scheme(value: &HeaderValue, scheme: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
        && bytes.get(scheme.len()).is_none_or(|byte| byte.is_ascii_whitespace())
}

fn text(value: &HeaderValue) -> Result<&str, AuthError> {
    value.to_str().map_err(|_| AuthError::Unreadable("the header is not ASCII text"))
}

fn from_sentry_header(value: &HeaderValue) -> Result<Credentials, AuthError> {
    let text = text(value)?.trim();
    if !has_scheme(value, "sentry") {
        return Err(AuthError::Unreadable("expected the header to start with \"Sentry \""));
    }
    let mut fields = Fields::default();
    for pair in text["sentry".len()..].split(',') {
        if let Some((name, value)) = pair.split_once('=') {
            fields.note(name.trim(), value.trim());
        }
    }
    fields.into_credentials()
}

fn from_basic_header(value: &HeaderValue) -> Result<Credentials, AuthError> {
    let broken = AuthError::Unreadable("expected base64 of key:anything after \"Basic \"");
    let encoded = text(value)?["basic".len()..].trim();
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| broken.clone())?;
    let decoded = String::from_utf8(decoded).map_err(|_| broken)?;
    let key = decoded.split_once(':').map_or(decoded.as_str(), |(key, _)| key);
    from_key(key)
}

fn from_key(key: &str) -> Result<Credentials, AuthError> {
    let mut fields = Fields::default();
    fields.note("sentry_key", key);
    fields.into_credentials()
}

fn from_query(raw_query: &str) -> Result<Credentials, AuthError> {
    let mut fields = Fields::default();
    for (name, value) in query::pairs(raw_query) {
        fields.note(&name, &value);
    }
    fields.into_credentials()
}

/// The fields that mean something, whatever carried them. Secret, timestamp and unknown fields are ignored.
#[derive(Default)]
struct Fields {
    key: Option<String>,
    version: Option<String>,
    client: Option<String>,
}

impl Fields {
    fn note(&mut self, name: &str, value: &str) {
        let field = match name {
            "sentry_key" => &mut self.key,
            "sentry_version" => &mut self.version,
            "sentry_client" => &mut self.client,
            _ => return,
        };
        *field = Some(value.to_owned());
    }

    fn into_credentials(self) -> Result<Credentials, AuthError> {
        let key = self.key.filter(|key| !key.is_empty()).ok_or(AuthError::Unreadable("sentry_key is missing"))?;
        // Flags may follow the key after a dot; none of them means anything here.
        let key = key.split_once('.').map_or(key.as_str(), |(key, _flags)| key);
        let public_key = key.parse().map_err(|_| AuthError::BadKey)?;
        if let Some(written) = self.version {
            let version: f64 = written.parse().map_err(|_| AuthError::Unreadable("sentry_version is not a number"))?;
            if version.is_nan() || version > MAX_VERSION {
                return Err(AuthError::UnsupportedVersion(written));
            }
        }
        Ok(Credentials { public_key, client: self.client.map(String::into_boxed_str) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn credentials(headers: &[(&'static str, String)], query: &str) -> Result<Option<Credentials>, AuthError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        of_request(&map, (!query.is_empty()).then_some(query), None)
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    #[test]
    fn every_carrier_is_read() {
        type Row = (Vec<(&'static str, String)>, String, Option<&'static str>);
        let table: Vec<Row> = vec![
            (
                vec![("x-sentry-auth", format!("Sentry sentry_key={KEY}, sentry_version=7, sentry_client=a/1"))],
                String::new(),
                Some("a/1"),
            ),
            (
                vec![("x-sentry-auth", format!("sENTRY sentry_client=a/1,sentry_key={KEY},,unknown"))],
                String::new(),
                Some("a/1"),
            ),
            (
                vec![("x-sentry-auth", format!("Sentry sentry_key={KEY}.no-cache,sentry_secret=s,sentry_timestamp=1"))],
                String::new(),
                None,
            ),
            (vec![("authorization", format!("Sentry sentry_key={KEY},sentry_version=7.0"))], String::new(), None),
            (vec![("authorization", basic(&format!("{KEY}:")))], String::new(), None),
            (vec![("authorization", basic(&format!("{KEY}:secret")))], String::new(), None),
            (vec![("authorization", basic(KEY))], String::new(), None),
            (vec![], format!("sentry_version=7&sentry_key={KEY}&sentry_client=a%2F1"), Some("a/1")),
            (vec![("authorization", "Bearer of news".to_owned())], format!("sentry_key={KEY}"), None),
        ];
        for (headers, query, client) in table {
            let read = credentials(&headers, &query).unwrap().unwrap();
            assert_eq!(read.public_key.as_str(), KEY, "{headers:?} {query}");
            assert_eq!(read.client.as_deref(), client, "{headers:?} {query}");
        }
    }

    #[test]
    fn no_carrier_is_no_error_here() {
        assert_eq!(credentials(&[], ""), Ok(None));
        assert_eq!(credentials(&[("authorization", "Bearer x".to_owned())], "a=b"), Ok(None));
    }

    #[test]
    fn two_carriers_are_refused_even_if_they_agree() {
        let sentry = || format!("Sentry sentry_key={KEY}");
        for (headers, query) in [
            (vec![("x-sentry-auth", sentry()), ("authorization", sentry())], String::new()),
            (vec![("x-sentry-auth", sentry()), ("x-sentry-auth", sentry())], String::new()),
            (vec![("x-sentry-auth", sentry())], format!("sentry_key={KEY}")),
            (vec![("x-sentry-auth", sentry())], "sentry_release=1".to_owned()),
            (vec![("authorization", basic(KEY))], format!("sentry_key={KEY}")),
        ] {
            assert_eq!(credentials(&headers, &query), Err(AuthError::Multiple), "{headers:?} {query}");
        }
    }

    #[test]
    fn a_key_in_the_path_is_a_carrier_like_the_others() {
        let by_path = |query: &str| of_request(&HeaderMap::new(), Some(query), Some(KEY));
        assert_eq!(by_path("a=b").unwrap().unwrap().public_key.as_str(), KEY);
        assert_eq!(by_path(&format!("sentry_key={KEY}")), Err(AuthError::Multiple));
        assert_eq!(of_request(&HeaderMap::new(), None, Some("short")), Err(AuthError::BadKey));
    }

    #[test]
    fn what_is_broken_is_named_and_answered_401_or_400() {
        let header = |value: String| vec![("x-sentry-auth", value)];
        for (headers, query, unauthorised) in [
            (header("Sentry sentry_version=7".to_owned()), "", true),
            (header("Sentry sentry_key=".to_owned()), "", true),
            (header(format!("Token sentry_key={KEY}")), "", true),
            (header(format!("Sentrysentry_key={KEY}")), "", true),
            (header(format!("Sentry sentry_key={KEY},sentry_version=seven")), "", true),
            (vec![("authorization", "Basic !".to_owned())], "", true),
            (vec![], "sentry_release=1", true),
            (header("Sentry sentry_key=short".to_owned()), "", false),
            (header(format!("Sentry sentry_key={KEY},sentry_version=8")), "", false),
            (header(format!("Sentry sentry_key={KEY},sentry_version=NaN")), "", false),
        ] {
            let refusal = Refusal::from(credentials(&headers, query).unwrap_err());
            assert_eq!(matches!(refusal, Refusal::Unauthorised { .. }), unauthorised, "{headers:?} {query}: {refusal}");
        }
    }

    proptest! {
        #[test]
        fn no_header_and_no_query_make_the_reader_panic(header in "[ -~]{0,80}", scheme in "(Sentry|Basic|)", query in "\\PC{0,60}") {
            let headers = [("authorization", format!("{scheme} {header}")), ("x-other", header.clone())];
            let _ = credentials(&headers, &query);
            let _ = credentials(&[("x-sentry-auth", header)], "");
        }
    }
}
