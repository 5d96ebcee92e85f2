//! What an HTTP request asks of ClickHouse: URL parameters and headers, without the body.
//!
//! ```text
//! POST /?query=…&database=…&default_format=…&decompress=1&param_x=…&<setting>=<value>
//! ```
//!
//! Every parameter that is not known to the protocol is a setting, as with a ClickHouse server. What would silently mean
//! something else here (sessions, roles) is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::compression::{RequestEncoding, ResponseEncoding};
use super::refusal::Refusal;

/// Longest name of a setting or parameter; the longest that ClickHouse has is about 80 characters.
const NAME_BYTES_MAX: usize = 128;

/// Format of a response where neither query nor request name one; the HTTP interface's default.
const DEFAULT_FORMAT: &str = "TabSeparated";

/// A request's parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    /// The statement, or its beginning: the body follows it.
    pub(super) query: Option<String>,
    pub(super) database: Option<String>,
    pub(super) format: String,
    pub(super) settings: Vec<(String, String)>,
    /// Values for `{name:Type}` in the query.
    pub(super) substitutions: Vec<(String, String)>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) request_encoding: RequestEncoding,
    pub(super) response_encoding: ResponseEncoding,
}

// === impl Parameters ===

impl Parameters {
    /// Reads the head of a request.
    pub(super) fn from_head(head: &Parts) -> Result<Self, Refusal> {
        let (header_user, header_password) = credentials_from(&head.headers);
        let mut parameters = Self {
            query: None,
            database: header_text(&head.headers, "x-clickhouse-database"),
            format: header_text(&head.headers, "x-clickhouse-format").unwrap_or_else(|| DEFAULT_FORMAT.to_owned()),
            settings: Vec::new(),
            substitutions: Vec::new(),
            user: header_user,
            password: header_password,
            request_encoding: RequestEncoding::Identity,
            response_encoding: accepted_encoding(&head.headers),
        };
        if head.headers.contains_key(CONTENT_ENCODING) {
            return Err(Refusal::not_implemented(
                "Content-Encoding of requests is not supported; send compressed blocks with decompress=1",
            ));
        }
        for (name, value) in form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()) {
            parameters.add(&name, value.into_owned())?;
        }
        // GET must not change anything; 2 = reading and settings. The last setting, as it locks the session.
        if head.method == Method::GET {
            parameters.settings.push(("readonly".to_owned(), "2".to_owned()));
        }
        Ok(parameters)
    }

    fn add(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        match name {
            "query" => self.query = Some(value),
            "database" => self.database = Some(value).filter(|database| !database.is_empty()).or(self.database.take()),
            "default_format" => self.format = value,
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "decompress" if is_on(&value) => self.request_encoding = RequestEncoding::Blocks,
            "compress" if is_on(&value) => self.response_encoding = ResponseEncoding::Blocks,
            // Whole results are buffered and single requests need no identity, so these say nothing.
            "decompress"
            | "compress"
            | "query_id"
            | "quota_key"
            | "wait_end_of_query"
            | "buffer_size"
            | "stacktrace"
            | "client_protocol_version"
            | "session_timeout"
            | "session_check" => {}
            "session_id" | "role" => {
                return Err(Refusal::not_implemented(&format!(
                    "the embedded engine has no {name}; every request stands alone"
                )));
            }
            _ => match name.strip_prefix("param_") {
                Some(substitution) => self.substitutions.push((checked_name(substitution)?, value)),
                None => self.settings.push((checked_name(name)?, value)),
            },
        }
        Ok(())
    }

    /// Takes over the fields of a form (`multipart.rs`), which is how queries with substitutions are sent.
    pub(super) fn add_form_field(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        if name == "query" || name.starts_with("param_") {
            return self.add(name, value);
        }
        Err(Refusal::bad_argument(
            "a form may hold the query and its parameters (param_…) only; external tables are not supported",
        ))
    }
}

fn is_on(value: &str) -> bool {
    !matches!(value, "" | "0" | "false")
}

/// Names go into SQL unquoted, so only what an identifier may hold is let through.
fn checked_name(name: &str) -> Result<String, Refusal> {
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    if starts_well && name.len() <= NAME_BYTES_MAX && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(name.to_owned());
    }
    Err(Refusal::bad_argument("a URL parameter is neither known nor the name of a setting"))
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    // Bytes, not ASCII: a password may be any text.
    String::from_utf8(headers.get(name)?.as_bytes().to_vec()).ok()
}

fn accepted_encoding(headers: &HeaderMap) -> ResponseEncoding {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let accepts_lz4 =
        accepted.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("lz4"));
    if accepts_lz4 { ResponseEncoding::Lz4Frame } else { ResponseEncoding::Identity }
}

/// User and password from ClickHouse's own headers or from `Authorization: Basic`.
fn credentials_from(headers: &HeaderMap) -> (Option<String>, Option<String>) {
    let user = header_text(headers, "x-clickhouse-user");
    let password = header_text(headers, "x-clickhouse-key");
    if user.is_some() || password.is_some() {
        return (user, password);
    }
    let basic = header_text(headers, AUTHORIZATION.as_str()).and_then(|value| {
        let (scheme, encoded) = value.split_once(' ')?;
        let decoded = BASE64.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
        String::from_utf8(decoded).ok()
    });
    match basic.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) => (Some(user.to_owned()), Some(password.to_owned())),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::Request;

    use super::*;

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn known_parameters_are_not_settings() {
        let uri = "/?query=SELECT%201&database=d&default_format=RowBinary&decompress=1&compress=0&query_id=x&param_a=1&max_threads=2";

        let parameters = Parameters::from_head(&head("POST", uri, &[])).unwrap();

        assert_eq!(parameters.query.as_deref(), Some("SELECT 1"));
        assert_eq!(parameters.database.as_deref(), Some("d"));
        assert_eq!(parameters.format, "RowBinary");
        assert_eq!(parameters.request_encoding, RequestEncoding::Blocks);
        assert_eq!(parameters.response_encoding, ResponseEncoding::Identity);
        assert_eq!(parameters.settings, [("max_threads".to_owned(), "2".to_owned())]);
        assert_eq!(parameters.substitutions, [("a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn names_that_could_leave_the_statement_are_refused() {
        for uri in ["/?a%20b=1", "/?a%3D1,b=1", "/?1a=1", "/?=1", "/?a%27=1", "/?param_a-b=1", "/?%D0%B0=1"] {
            assert!(Parameters::from_head(&head("POST", uri, &[])).is_err(), "{uri}");
        }
        let long = format!("/?{}=1", "a".repeat(NAME_BYTES_MAX + 1));
        assert!(Parameters::from_head(&head("POST", &long, &[])).is_err());
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for (uri, headers) in
            [("/?session_id=1", [("a", "b")]), ("/?role=r", [("a", "b")]), ("/", [("content-encoding", "gzip")])]
        {
            assert!(Parameters::from_head(&head("POST", uri, &headers)).is_err(), "{uri} {headers:?}");
        }
    }

    #[test]
    fn a_get_request_may_only_read() {
        let parameters = Parameters::from_head(&head("GET", "/?max_threads=1", &[])).unwrap();

        assert_eq!(parameters.settings.last(), Some(&("readonly".to_owned(), "2".to_owned())));
    }

    #[test]
    fn credentials_come_from_headers_basic_or_the_url() {
        let of = |uri, headers: &[(&str, &str)]| {
            let parameters = Parameters::from_head(&head("POST", uri, headers)).unwrap();
            (parameters.user.unwrap_or_default(), parameters.password.unwrap_or_default())
        };
        let expected = ("someone".to_owned(), "pass:word".to_owned());

        assert_eq!(of("/", &[("X-ClickHouse-User", "someone"), ("X-ClickHouse-Key", "pass:word")]), expected);
        assert_eq!(of("/", &[("Authorization", &format!("Basic {}", BASE64.encode("someone:pass:word")))]), expected);
        assert_eq!(of("/?user=someone&password=pass:word", &[]), expected);
        assert_eq!(of("/", &[("Authorization", "Bearer x")]), (String::new(), String::new()));
    }

    #[test]
    fn lz4_is_used_when_it_is_accepted() {
        let of =
            |value| Parameters::from_head(&head("POST", "/", &[("Accept-Encoding", value)])).unwrap().response_encoding;

        assert_eq!(of("gzip, LZ4"), ResponseEncoding::Lz4Frame);
        assert_eq!(of("gzip"), ResponseEncoding::Identity);
    }
}
