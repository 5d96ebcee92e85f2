//! The HTTP request that the event happened in.

use std::borrow::Cow;

use super::field::{self, Field, invalid, is_blank};
use super::trim::{Bag, TextLimit, trim_bag, trim_text};
use super::{body, pairs, take_meta};
use crate::tree::{MetaTree, Object, Path, Value};

const URL: TextLimit = TextLimit::of(256, 40);
const FRAGMENT: TextLimit = TextLimit::of(1024, 0);
const QUERY: Bag = Bag::of(1024, 3);
const COOKIES: Bag = Bag::of(2048, 5);
const PARTS: Bag = Bag::of(8192, 7);
/// Longest method: the longest registered one has 17 letters.
const MAX_METHOD_BYTES: usize = 32;

fn field_of(key: &str) -> Field {
    match key {
        // Cut only when query and fragment are off.
        "url" | "method" | "protocol" | "api_target" | "inferred_content_type" => Field::Scalar(TextLimit::NONE),
        "fragment" => Field::Scalar(FRAGMENT),
        "env" => Field::Map(PARTS),
        _ => Field::Any,
    }
}

/// Settles the request.
pub(super) fn normalise(event: &mut Object<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("request");
    let Some(Value::Object(request)) = event.get_mut("request") else { return };
    field::apply(request, field_of, meta, &path);
    method(request, meta, &path);
    split_url(request, meta, &path);
    query(request, meta, &path);
    headers(request, meta, &path);
    cookies(request, meta, &path);
    body::normalise(request, meta, &path);
    if let Some(data) = request.get_mut("data") {
        trim_bag(data, PARTS, meta, &path.key("data"));
    }
}

fn method(request: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let Some(value) = request.get_mut("method") else { return };
    let Some(method) = value.as_str() else { return };
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_');
    if method.len() < 3 || method.len() > MAX_METHOD_BYTES || !method.bytes().all(is_letter) {
        invalid(value, "expected an HTTP method", meta, &path.key("method"));
    } else if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        *value = Value::from(method.to_ascii_uppercase());
    }
}

/// Query and fragment have fields of their own; what is there already wins.
fn split_url(request: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let url_path = path.key("url");
    let Some(Value::String(url)) = request.get_mut("url") else { return };
    let Some(end) = url.find(['?', '#']) else {
        return trim_url(request, meta, &url_path);
    };
    let (query, fragment) = {
        let (before, fragment) = url.split_once('#').unwrap_or((url, ""));
        (before.get(end + 1..).unwrap_or_default().to_owned(), fragment.to_owned())
    };
    match url {
        Cow::Borrowed(text) => *text = &text[..end],
        Cow::Owned(text) => text.truncate(end),
    }
    // Remarks may name bytes that are gone.
    drop(take_meta(meta, &url_path));
    trim_url(request, meta, &url_path);
    if !query.is_empty() && is_nothing(request, "query_string") {
        request.insert("query_string", query);
    }
    if !fragment.is_empty() && is_blank(request, "fragment") {
        let mut fragment = Value::from(fragment);
        trim_text(&mut fragment, FRAGMENT, meta, &path.key("fragment"));
        request.insert("fragment", fragment);
    }
}

fn trim_url(request: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    if let Some(url) = request.get_mut("url") {
        trim_text(url, URL, meta, path);
    }
}

/// Whether a field is missing or empty, whatever its form.
fn is_nothing(request: &Object<'_>, key: &str) -> bool {
    match request.get(key) {
        Some(Value::Array(elements)) => elements.is_empty(),
        Some(Value::Object(object)) => object.is_empty(),
        _ => is_blank(request, key),
    }
}

fn query(request: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let path = path.key("query_string");
    let Some(value) = request.get_mut("query_string") else { return };
    if let Some(text) = value.as_str() {
        let parsed = pairs::of_query(text);
        drop(take_meta(meta, &path));
        *value = parsed;
    }
    pairs::into_list(value, meta, &path);
    pairs::trim(value, QUERY, meta, &path);
}

/// Headers keep their form, object or list of pairs: both can be looked up alike.
fn headers(request: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let path = path.key("headers");
    let Some(headers) = request.get_mut("headers") else { return };
    match headers {
        Value::Null => return,
        Value::Object(headers) => {
            for (name, value) in headers.iter_mut().filter(|(_, value)| !value.is_null()) {
                pairs::settle_part(value, meta, &path.key(name));
            }
        }
        other => {
            pairs::into_list(other, meta, &path);
            return pairs::trim(other, PARTS, meta, &path);
        }
    }
    trim_bag(headers, PARTS, meta, &path);
}

/// The `Cookie` header becomes `cookies`, unless these are there: of several the first. None of them stays, however it is written.
fn cookies(request: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let header = take_cookie_header(request, meta, path);
    let path = path.key("cookies");
    if is_nothing(request, "cookies")
        && let Some(header) = header
    {
        drop(take_meta(meta, &path));
        request.insert("cookies", pairs::of_cookies(&header));
    }
    let Some(cookies) = request.get_mut("cookies") else { return };
    if let Some(text) = cookies.as_str() {
        *cookies = pairs::of_cookies(text);
        drop(take_meta(meta, &path));
    }
    pairs::into_list(cookies, meta, &path);
    pairs::trim(cookies, COOKIES, meta, &path);
}

fn take_cookie_header(request: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) -> Option<String> {
    const NAME: &str = "cookie";
    let path = path.key("headers");
    match request.get_mut("headers")? {
        Value::Object(headers) => {
            let is_cookie = |name: &str| name.eq_ignore_ascii_case(NAME);
            let names: Vec<_> =
                headers.iter().map(|(name, _)| name).filter(|name| is_cookie(name)).map(str::to_owned).collect();
            let mut found = None;
            for name in names {
                let header = headers.remove(&name);
                drop(take_meta(meta, &path.key(&name)));
                found = found.or_else(|| header?.as_str().map(str::to_owned));
            }
            found
        }
        Value::Array(headers) => {
            let is_cookie = |pair: &Value<'_>| {
                let name = pair.as_array().and_then(|parts| parts.first()?.as_str());
                name.is_some_and(|name| name.eq_ignore_ascii_case(NAME))
            };
            let found = headers.iter().find(|pair| is_cookie(pair))?;
            let header = found.as_array().and_then(|parts| Some(parts.get(1)?.as_str()?.to_owned()));
            pairs::retain(headers, meta, &path, |_, pair, _| !is_cookie(pair));
            header
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::{Document, PythonFloats};

    #[test]
    fn the_parts_of_a_request_come_to_their_places() {
        for (came, expected) in [
            (r#"{"method":"post"}"#, r#"{"method":"POST"}"#),
            (
                r#"{"url":"https://shop.example/a?b=1&c=%20#top"}"#,
                r#"{"url":"https://shop.example/a","query_string":[["b","1"],["c"," "]],"fragment":"top"}"#,
            ),
            (r#"{"url":"/a?b=1","query_string":"c=2"}"#, r#"{"url":"/a","query_string":[["c","2"]]}"#),
            (r#"{"url":"/a#x?y"}"#, r#"{"url":"/a","fragment":"x?y"}"#),
            (r#"{"query_string":{"a":1}}"#, r#"{"query_string":[["a","1"]]}"#),
            (r#"{"query_string":""}"#, r#"{"query_string":[]}"#),
            (
                r#"{"headers":{"Host":"a","cookie":"s=1; t=2"}}"#,
                r#"{"headers":{"Host":"a"},"cookies":[["s","1"],["t","2"]]}"#,
            ),
            (r#"{"headers":{"COOKIE":null,"Cookie":"s=1","cookie":"t=2"}}"#, r#"{"headers":{},"cookies":[["s","1"]]}"#),
            (
                r#"{"headers":[["Cookie","s=1"],["Host","a"]],"cookies":{"u":"3"}}"#,
                r#"{"headers":[["Host","a"]],"cookies":[["u","3"]]}"#,
            ),
            (r#"{"headers":{"Accept":["a","b"],"X":7}}"#, r#"{"headers":{"Accept":"a,b","X":"7"}}"#),
            (r#"{"headers":[],"env":[]}"#, r#"{"headers":[],"env":{}}"#),
        ] {
            let came = format!(r#"{{"request":{came}}}"#);
            let expected = format!(r#"{{"request":{expected}}}"#);
            for text in [&came, &expected] {
                let mut document = Document::read(text.as_bytes(), PythonFloats::Refuse).unwrap();
                normalise(document.value.as_object_mut().unwrap(), &mut document.meta);
                assert_eq!(String::from_utf8(document.to_json()).unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_method_that_is_none_is_nulled() {
        for method in ["G", "GET POST", "GÉT", &"X".repeat(33)] {
            let json = format!(r#"{{"request":{{"method":"{method}"}}}}"#);
            let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
            normalise(document.value.as_object_mut().unwrap(), &mut document.meta);
            assert!(document.value.get("request").unwrap().get("method").unwrap().is_null(), "{method}");
            let path = Path::ROOT.key("request");
            assert_eq!(document.meta.get(&path.key("method")).unwrap().errors.len(), 1);
        }
    }
}
