//! The body of a request: JSON and forms that came as text are parsed, so that scrubbing sees their fields.

use std::borrow::Cow;

use super::field::is_blank;
use super::header::header;
use super::{pairs, take_meta};
use crate::tree::{MetaTree, Object, Path, Value, read};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Parses the body and notes what kind it is.
pub(super) fn normalise<'a>(request: &mut Object<'a>, meta: &mut MetaTree, path: &Path<'_>) {
    let Some(data) = request.get_mut("data").filter(|data| !data.is_null()) else { return };
    // What was cut before may look like a form only since then.
    let is_cut = meta.get(&path.key("data")).is_some_and(|meta| !meta.remarks.is_empty());
    if let Value::String(text) = data
        && !is_cut
        && let Some((parsed, kind)) = parse(text)
    {
        *data = parsed;
        drop(take_meta(meta, &path.key("data")));
        request.insert("inferred_content_type", kind);
        return;
    }
    if !is_blank(request, "inferred_content_type") {
        return;
    }
    if let Some(kind) = declared(request) {
        request.insert("inferred_content_type", kind);
    }
}

/// What the `Content-Type` header says, without parameters.
fn declared(request: &Object<'_>) -> Option<String> {
    let kind = header(request, "Content-Type")?.split(';').next()?.trim();
    (!kind.is_empty()).then(|| kind.to_owned())
}

fn parse<'a>(text: &Cow<'a, str>) -> Option<(Value<'a>, &'static str)> {
    let first = text.trim_start().bytes().next()?;
    if matches!(first, b'{' | b'[') {
        let parsed = match text {
            Cow::Borrowed(text) => read(text.as_bytes()).ok(),
            Cow::Owned(text) => read(text.as_bytes()).ok().map(Value::into_owned),
        };
        if let Some(parsed) = parsed {
            return Some((parsed, JSON));
        }
    }
    form(text).map(|form| (form, FORM))
}

/// A form as an object; repeated names have a list. `None` if the text is not encoded like one.
fn form(text: &str) -> Option<Value<'static>> {
    // Forms have no blanks, quotes or new lines: these are always encoded.
    let is_encoded = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'{' | b'}' | b'\\');
    let has_value =
        |part: &str| part.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.is_empty());
    if !text.bytes().all(is_encoded)
        || !text.split('&').any(has_value)
        || !text.split('&').all(|part| part.contains('='))
    {
        return None;
    }
    // Looking for each name among the others would be quadratic.
    let mut places = std::collections::HashMap::new();
    let mut fields: Vec<(Cow<'static, str>, Value<'static>)> = Vec::new();
    for (name, value) in pairs::form_pairs(text) {
        let place = *places.entry(name.clone()).or_insert(fields.len());
        match fields.get_mut(place) {
            None => fields.push((Cow::Owned(name), Value::from(value))),
            Some((_, Value::Array(values))) => values.push(Value::from(value)),
            Some((_, known)) => *known = Value::Array(vec![known.take(), Value::from(value)]),
        }
    }
    Some(Value::Object(fields.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bodies_are_parsed_where_they_are_json_or_a_form() {
        for (came, expected) in [
            (r#"{"data":"{\"a\":1}"}"#, r#"{"data":{"a":1},"inferred_content_type":"application/json"}"#),
            (r#"{"data":" [1]"}"#, r#"{"data":[1],"inferred_content_type":"application/json"}"#),
            (
                r#"{"data":"a=1&b=x+y&a=2"}"#,
                r#"{"data":{"a":["1","2"],"b":"x y"},"inferred_content_type":"application/x-www-form-urlencoded"}"#,
            ),
            (r#"{"data":"plain text = not a form"}"#, r#"{"data":"plain text = not a form"}"#),
            (r#"{"data":"c2VjcmV0="}"#, r#"{"data":"c2VjcmV0="}"#),
            (r#"{"data":"{broken"}"#, r#"{"data":"{broken"}"#),
            (
                r#"{"data":{"a":1},"headers":{"content-type":"application/json; charset=utf-8"}}"#,
                r#"{"data":{"a":1},"headers":{"content-type":"application/json; charset=utf-8"},"inferred_content_type":"application/json"}"#,
            ),
            (r#"{"data":null}"#, r#"{"data":null}"#),
        ] {
            let mut value = read(came.as_bytes()).unwrap();
            let mut meta = MetaTree::default();
            normalise(value.as_object_mut().unwrap(), &mut meta, &Path::ROOT);
            assert_eq!(value.to_json(), expected);
            normalise(value.as_object_mut().unwrap(), &mut meta, &Path::ROOT);
            assert_eq!(value.to_json(), expected);
        }
    }
}
