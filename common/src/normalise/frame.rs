//! One frame of a stack trace.

use super::field::{self, Field, is_blank};
use super::trim::{Bag, TextLimit};
use super::{move_meta, take_meta};
use crate::tree::{MetaTree, Object, Path, Value};

/// Schemes whose addresses have a path worth a file name of its own.
const SCHEMES: [&str; 4] = ["http://", "https://", "file://", "applewebdata://"];

fn field_of(key: &str) -> Field {
    match key {
        "function" => Field::Scalar(TextLimit::of(512, 20)),
        "filename" | "abs_path" => Field::Scalar(TextLimit::of(256, 40)),
        "module" | "raw_function" | "symbol" | "package" => Field::Scalar(TextLimit::of(512, 20)),
        "platform" | "lang" | "addr_mode" | "trust" | "source_link" => Field::Text(TextLimit::NONE),
        "context_line" => Field::Scalar(TextLimit::NONE),
        "lineno" | "colno" => Field::Unsigned,
        "in_app" | "native" => Field::Truth,
        "image_addr" | "instruction_addr" | "symbol_addr" | "function_addr" => Field::Address,
        "pre_context" | "post_context" => Field::Array,
        _ => Field::Any,
    }
}

/// Settles a frame.
pub(super) fn normalise(frame: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    field::apply(frame, field_of, meta, path);
    for name in ["function", "symbol"] {
        if frame.get(name).and_then(Value::as_str) == Some("?") {
            frame.remove(name);
            drop(take_meta(meta, &path.key(name)));
        }
    }
    settle_paths(frame, meta, path);
    settle_source(frame, meta, path);
    settle_variables(frame, meta, path);
}

/// `abs_path` is where the file is, `filename` the short name of it.
fn settle_paths(frame: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    if is_blank(frame, "abs_path")
        && !is_blank(frame, "filename")
        && let Some(filename) = frame.get_mut("filename").map(Value::take)
    {
        frame.insert("abs_path", filename);
        drop(take_meta(meta, &path.key("abs_path")));
        move_meta(meta, &path.key("filename"), &path.key("abs_path"));
    }
    if !is_blank(frame, "filename") {
        return;
    }
    let Some(Value::String(abs_path)) = frame.get("abs_path") else { return };
    if abs_path.is_empty() {
        return;
    }
    let filename = match url_path(abs_path) {
        Some(url_path) => Value::from(url_path.to_owned()),
        // Where it is no address the copy borrows as the original does.
        None => Value::String(abs_path.clone()),
    };
    frame.insert("filename", filename);
}

/// The path of an address, without query and fragment; `None` for what is no address or has no path.
fn url_path(address: &str) -> Option<&str> {
    let rest = SCHEMES.iter().find_map(|scheme| address.strip_prefix(scheme))?;
    let path = &rest[rest.find('/')?..];
    let end = path.find(['?', '#']).unwrap_or(path.len());
    Some(&path[..end])
}

/// Lines that are missing between others are empty lines.
fn settle_source(frame: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let mut has_lines = false;
    for key in ["pre_context", "post_context"] {
        let Some(Value::Array(lines)) = frame.get_mut(key) else { continue };
        has_lines |= !lines.is_empty();
        for (index, line) in lines.iter_mut().enumerate() {
            match line {
                Value::Null => *line = Value::from(""),
                Value::String(_) => {}
                other => {
                    let key = path.key(key);
                    field::settle(other, Field::Scalar(TextLimit::NONE), meta, &key.index(index));
                    if other.is_null() {
                        *other = Value::from("");
                    }
                }
            }
        }
    }
    if has_lines && frame.get("context_line").is_none_or(Value::is_null) {
        frame.insert("context_line", "");
    }
}

/// Variables by name; a list of them is named by position.
fn settle_variables(frame: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let Some(vars) = frame.get_mut("vars").filter(|vars| !vars.is_null()) else { return };
    if let Value::Array(list) = vars {
        let named =
            std::mem::take(list).into_iter().enumerate().map(|(index, value)| (index.to_string().into(), value));
        *vars = Value::Object(named.collect());
    }
    field::settle(vars, Field::Map(Bag::of(2048, 5)), meta, &path.key("vars"));
}

/// Whether the frame is of the application itself.
pub(super) fn is_in_app(frame: &Value<'_>) -> bool {
    frame.get("in_app").and_then(Value::as_bool).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::{Document, PythonFloats};

    fn settled(json: &str) -> String {
        let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
        normalise(document.value.as_object_mut().unwrap(), &mut document.meta, &Path::ROOT);
        String::from_utf8(document.to_json()).unwrap()
    }

    #[test]
    fn paths_and_names_are_completed() {
        for (came, expected) in [
            (r#"{"filename":"a.py"}"#, r#"{"filename":"a.py","abs_path":"a.py"}"#),
            (r#"{"filename":"a.py","abs_path":"/x/a.py"}"#, r#"{"filename":"a.py","abs_path":"/x/a.py"}"#),
            (r#"{"abs_path":"/x/a.py"}"#, r#"{"abs_path":"/x/a.py","filename":"/x/a.py"}"#),
            (
                r#"{"filename":"https://shop.example/js/app.js?v=1#x"}"#,
                r#"{"filename":"/js/app.js","abs_path":"https://shop.example/js/app.js?v=1#x"}"#,
            ),
            (
                r#"{"abs_path":"applewebdata://00-11/index.html"}"#,
                r#"{"abs_path":"applewebdata://00-11/index.html","filename":"/index.html"}"#,
            ),
            (r#"{"abs_path":"file:///a.js"}"#, r#"{"abs_path":"file:///a.js","filename":"/a.js"}"#),
            (r#"{"abs_path":"http://host"}"#, r#"{"abs_path":"http://host","filename":"http://host"}"#),
            (r#"{"abs_path":"app:///a.js"}"#, r#"{"abs_path":"app:///a.js","filename":"app:///a.js"}"#),
            (r#"{"function":"?","symbol":"?","lineno":1}"#, r#"{"lineno":1}"#),
        ] {
            assert_eq!(settled(came), expected);
            assert_eq!(settled(expected), expected);
        }
    }

    #[test]
    fn missing_lines_are_empty_lines_and_listed_variables_get_names() {
        for (came, expected) in [
            (r#"{"pre_context":[null,"a"]}"#, r#"{"pre_context":["","a"],"context_line":""}"#),
            (r#"{"context_line":"x","post_context":[null]}"#, r#"{"context_line":"x","post_context":[""]}"#),
            (r#"{"pre_context":[]}"#, r#"{"pre_context":[]}"#),
            (r#"{"vars":["a",1]}"#, r#"{"vars":{"0":"a","1":1}}"#),
        ] {
            assert_eq!(settled(came), expected);
        }
    }
}
