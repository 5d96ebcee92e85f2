//! The HTTP request that was being served. Its address is text, never a link: it came from outside.

use serde_json::Value;

use super::json_text::{self, ValueText};
use super::row::Rows;

/// Rows shown of headers, cookies, query, environment and a form's data, each.
const ROWS_MAX: usize = 100;
/// Members with a place of their own.
const SHOWN: [&str; 8] = ["method", "url", "query_string", "headers", "cookies", "data", "env", "fragment"];

/// A request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) fragment: Option<String>,
    pub(crate) query: Rows,
    pub(crate) headers: Rows,
    pub(crate) cookies: Rows,
    /// A body of named values, such as a form.
    pub(crate) fields: Rows,
    /// A body of any other kind.
    pub(crate) body: Option<ValueText>,
    pub(crate) environment: Rows,
    /// Members that have no place above.
    pub(crate) other: Rows,
}

impl Request {
    /// `None` where the event has no request.
    pub(crate) fn from_value(request: &Value) -> Option<Self> {
        match request {
            Value::Null => return None,
            Value::Object(object) if object.is_empty() => return None,
            Value::Object(_) => {}
            other => return Some(Self { other: Rows::from_value(other, ROWS_MAX), ..Self::default() }),
        }
        let rows = |name: &str| Rows::from_value(request.get(name).unwrap_or(&Value::Null), ROWS_MAX);
        let data = request.get("data").unwrap_or(&Value::Null);
        let has_fields = data.is_object();
        Some(Self {
            method: json_text::line_of(request, "method"),
            url: request.get("url").and_then(json_text::paragraph),
            fragment: json_text::line_of(request, "fragment"),
            query: rows("query_string"),
            headers: rows("headers"),
            cookies: rows("cookies"),
            fields: if has_fields { rows("data") } else { Rows::default() },
            body: if has_fields || data.is_null() { None } else { Some(ValueText::of(data)) },
            environment: rows("env"),
            other: Rows::known_members(request, &SHOWN, ROWS_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn the_parts_of_a_request_find_their_places() {
        let request = Request::from_value(&json!({
            "method": "POST", "url": "javascript:alert(1)", "query_string": "a=1",
            "headers": [["Host", "shop"]], "cookies": {"theme": "dark"}, "data": {"sku": 7},
            "env": {"REMOTE_ADDR": "::1"}, "inferred_content_type": "application/json",
        }))
        .unwrap();
        assert_eq!(request.method.as_deref(), Some("POST"));
        assert_eq!(request.url.as_deref(), Some("javascript:alert(1)"));
        assert_eq!(request.query.rows[0].value.text, "a=1");
        assert_eq!(request.headers.rows[0].name, "Host");
        assert_eq!(request.cookies.rows[0].value.text, "dark");
        assert_eq!(request.fields.rows[0].value.text, "7");
        assert!(request.body.is_none());
        assert_eq!(request.environment.rows[0].name, "REMOTE_ADDR");
        assert_eq!(request.other.rows[0].name, "inferred_content_type");
    }

    #[test]
    fn a_body_that_is_no_form_is_shown_whole() {
        assert_eq!(Request::from_value(&json!({"data": "<xml/>"})).unwrap().body.unwrap().text, "<xml/>");
        assert_eq!(Request::from_value(&json!({"data": [1]})).unwrap().body.unwrap().text, "[1]");
        assert!(Request::from_value(&json!({})).is_none());
        assert_eq!(Request::from_value(&json!("GET /")).unwrap().other.rows[0].value.text, "GET /");
    }
}
