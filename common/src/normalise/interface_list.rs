//! Interfaces that hold a list: `exception`, `threads`, `breadcrumbs`.
//!
//! They come as `{"values": […]}`, as the bare list, or as a single element; they become the first.

use super::field::invalid;
use super::take_meta;
use crate::tree::{MetaTree, Object, Path, Value};

/// The elements of an interface in their normal form: objects, or null where an element was none. `None` if it is not there.
pub(super) fn elements<'v, 'a>(
    event: &'v mut Object<'a>,
    key: &str,
    meta: &mut MetaTree,
) -> Option<&'v mut Vec<Value<'a>>> {
    let path = Path::ROOT.key(key);
    let interface = event.get_mut(key).filter(|value| !value.is_null())?;
    match interface {
        Value::Array(_) => wrap(interface, meta, &path),
        Value::Object(object) if object.contains("values") => values(object, meta, &path),
        Value::Object(object) if object.is_empty() => return None,
        Value::Object(_) => {
            into_list(interface, meta, &path);
            wrap(interface, meta, &path);
        }
        _ => invalid(interface, "expected an object", meta, &path),
    }
    let elements = interface.get_mut("values").and_then(Value::as_array_mut)?;
    let path = path.key("values");
    for (index, element) in elements.iter_mut().enumerate() {
        if !matches!(element, Value::Object(_) | Value::Null) {
            invalid(element, "expected an object", meta, &path.index(index));
        }
    }
    Some(elements)
}

fn values(object: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let path = path.key("values");
    match object.get_mut("values") {
        None | Some(Value::Null | Value::Array(_)) => {}
        Some(single @ Value::Object(_)) => into_list(single, meta, &path),
        Some(other) => invalid(other, "expected a list", meta, &path),
    }
}

/// `x` → `[x]`
fn into_list(value: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    *value = Value::Array(vec![value.take()]);
    move_below(meta, path, "0");
}

/// `x` → `{"values": x}`
fn wrap(value: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let mut object = Object::new();
    object.insert("values", value.take());
    *value = Value::Object(object);
    move_below(meta, path, "values");
}

fn move_below(meta: &mut MetaTree, path: &Path<'_>, key: &str) {
    if let Some(moved) = take_meta(meta, path) {
        meta.node(path).set_child(key, moved);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::tree::{Document, PythonFloats};

    #[test]
    fn every_form_becomes_an_object_with_values_and_its_remarks_follow() {
        for (came, expected) in [
            (r#"{"x":{"values":[{"a":1},null]}}"#, r#"{"x":{"values":[{"a":1},null]}}"#),
            (r#"{"x":[{"a":1}]}"#, r#"{"x":{"values":[{"a":1}]}}"#),
            (r#"{"x":{"a":1}}"#, r#"{"x":{"values":[{"a":1}]}}"#),
            (r#"{"x":{"values":{"a":1}}}"#, r#"{"x":{"values":[{"a":1}]}}"#),
            (r#"{"x":{}}"#, r#"{"x":{}}"#),
            (
                r#"{"x":[{"a":1}],"_meta":{"x":{"0":{"a":{"":{"len":9}}}}}}"#,
                r#"{"x":{"values":[{"a":1}]},"_meta":{"x":{"values":{"0":{"a":{"":{"len":9}}}}}}}"#,
            ),
            (
                r#"{"x":{"a":1},"_meta":{"x":{"a":{"":{"len":9}}}}}"#,
                r#"{"x":{"values":[{"a":1}]},"_meta":{"x":{"values":{"0":{"a":{"":{"len":9}}}}}}}"#,
            ),
            (
                r#"{"x":5}"#,
                r#"{"x":null,"_meta":{"x":{"":{"err":[["invalid_data",{"reason":"expected an object"}]],"val":5}}}}"#,
            ),
            (
                r#"{"x":["odd"]}"#,
                r#"{"x":{"values":[null]},"_meta":{"x":{"values":{"0":{"":{"err":[["invalid_data",{"reason":"expected an object"}]],"val":"odd"}}}}}}"#,
            ),
        ] {
            let mut document = Document::read(came.as_bytes(), PythonFloats::Refuse).unwrap();
            super::elements(document.value.as_object_mut().unwrap(), "x", &mut document.meta);
            assert_eq!(String::from_utf8(document.to_json()).unwrap(), expected);
        }
    }
}
