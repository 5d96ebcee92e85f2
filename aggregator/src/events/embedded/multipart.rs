//! Reads `multipart/form-data` (RFC 7578) as far as ClickHouse clients use it: the query and its parameters as text fields,
//! the whole body in memory.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use thiserror::Error;

/// Why a form was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum FormError {
    #[error("the form does not begin with its boundary")]
    NoBoundary,
    #[error("a field of the form has no end")]
    Unterminated,
    #[error("a field of the form has no name")]
    NoName,
    #[error("a field of the form is not valid UTF-8")]
    NotText,
}

/// The boundary, if the headers announce a form.
pub(super) fn boundary(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parts.find_map(|part| part.strip_prefix("boundary="))?;
    Some(value.trim_matches('"').to_owned()).filter(|boundary| !boundary.is_empty())
}

/// All fields, in order: name and value.
pub(super) fn fields(body: &[u8], boundary: &str) -> Result<Vec<(String, String)>, FormError> {
    let opening = format!("--{boundary}");
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(opening.as_bytes()).ok_or(FormError::NoBoundary)?;
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        let field = rest.strip_prefix(b"\r\n").ok_or(FormError::Unterminated)?;
        let (headers, value_and_rest) = split_at(field, b"\r\n\r\n")?;
        let (value, after) = split_at(value_and_rest, delimiter.as_bytes())?;
        fields.push((field_name(text(headers)?)?, text(value)?.to_owned()));
        rest = after;
    }
    Ok(fields)
}

fn split_at<'body>(body: &'body [u8], separator: &[u8]) -> Result<(&'body [u8], &'body [u8]), FormError> {
    let at = body.windows(separator.len()).position(|window| window == separator).ok_or(FormError::Unterminated)?;
    Ok((&body[..at], &body[at + separator.len()..]))
}

fn text(bytes: &[u8]) -> Result<&str, FormError> {
    str::from_utf8(bytes).map_err(|_| FormError::NotText)
}

/// From `Content-Disposition: form-data; name="query"`.
fn field_name(headers: &str) -> Result<String, FormError> {
    let is_disposition = |line: &&str| line.to_ascii_lowercase().starts_with("content-disposition:");
    let disposition = headers.split("\r\n").find(is_disposition).ok_or(FormError::NoName)?;
    let quoted = disposition.split(';').find_map(|part| part.trim().strip_prefix("name="));
    let name = quoted.map(|name| name.trim_matches('"')).filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or(FormError::NoName)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn form(fields: &[(String, String)], boundary: &str) -> Vec<u8> {
        let mut body = String::new();
        for (name, value) in fields {
            body += &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        }
        body += &format!("--{boundary}--\r\n");
        body.into_bytes()
    }

    #[test]
    fn the_boundary_is_read_from_the_content_type() {
        let of = |value| boundary(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]));

        assert_eq!(of("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(of("Multipart/Form-Data; charset=utf-8; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(of("text/plain; boundary=abc"), None);
        assert_eq!(boundary(&HeaderMap::new()), None);
    }

    #[test]
    fn a_cut_form_is_refused() {
        let body = form(&[("query".into(), "SELECT {a:Int8}".into()), ("param_a".into(), "1".into())], "xyz");
        for length in 0..body.len() - b"--\r\n".len() {
            assert!(fields(&body[..length], "xyz").is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn fields_come_back_as_they_were(fields_in in prop::collection::vec(("[a-z_]{1,8}", "[ -~\\n\\r\\u{e4}]{0,40}"), 0..5)) {
            let body = form(&fields_in, "boundary-17");
            prop_assert_eq!(fields(&body, "boundary-17").unwrap(), fields_in);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = fields(&[b"--b".as_slice(), &bytes].concat(), "b");
        }
    }
}
