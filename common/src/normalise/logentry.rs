//! The log entry: a message with parameters, and the text a person reads.

use super::field::{self, Field, is_blank, text};
use super::message_format;
use super::trim::{Bag, TextLimit};
use super::{move_meta, take_meta};
use crate::tree::{MetaTree, Object, Path, Value};

const LIMIT: TextLimit = TextLimit::of(8192, 200);

fn field_of(key: &str) -> Field {
    match key {
        "message" | "formatted" => Field::Written(LIMIT),
        "params" => Field::Bag(Bag::of(8192, 7)),
        _ => Field::Any,
    }
}

/// Settles the log entry: `formatted` is what is read, `message` the template if it differs.
pub(super) fn normalise(event: &mut Object<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("logentry");
    let Some(value) = event.get_mut("logentry").filter(|value| !value.is_null()) else { return };
    if field::scalar(value).is_ok() {
        let mut entry = Object::new();
        entry.insert("formatted", value.take());
        *value = Value::Object(entry);
        if let Some(moved) = take_meta(meta, &path) {
            meta.node(&path).set_child("formatted", moved);
        }
    }
    field::object(value, meta, &path);
    let Some(entry) = value.as_object_mut() else { return };
    field::apply(entry, field_of, meta, &path);
    settle_formatted(entry, meta, &path);
}

fn settle_formatted(entry: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let formatted_path = path.key("formatted");
    if is_blank(entry, "formatted")
        && let Some(formatted) = formatted(entry)
    {
        let mut value = Value::from(formatted);
        field::settle(&mut value, Field::Text(LIMIT), meta, &formatted_path);
        entry.insert("formatted", value);
    }
    let Some(message) = text(entry, "message") else { return };
    if text(entry, "formatted").is_some_and(|formatted| formatted != message) {
        return;
    }
    let message = entry.remove("message").unwrap_or_default();
    if is_blank(entry, "formatted") {
        entry.insert("formatted", message);
        move_meta(meta, &path.key("message"), &formatted_path);
    } else {
        drop(take_meta(meta, &path.key("message")));
    }
}

/// The message with its parameters filled in; `None` if nothing was.
fn formatted(entry: &Object<'_>) -> Option<String> {
    let message = text(entry, "message")?;
    message_format::format(message, entry.get("params")?).filter(|formatted| formatted != message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::{Document, PythonFloats};

    #[test]
    fn formatted_is_what_is_read_and_message_the_template() {
        for (came, expected) in [
            (r#""hello""#, r#"{"formatted":"hello"}"#),
            ("5", r#"{"formatted":"5"}"#),
            (r#"{"message":"hello"}"#, r#"{"formatted":"hello"}"#),
            (r#"{"message":"hello","formatted":"hello"}"#, r#"{"formatted":"hello"}"#),
            (r#"{"message":"hello %s","formatted":"hello ada"}"#, r#"{"message":"hello %s","formatted":"hello ada"}"#),
            (
                r#"{"message":"hello %s","params":["ada"]}"#,
                r#"{"message":"hello %s","params":["ada"],"formatted":"hello ada"}"#,
            ),
            (r#"{"message":"no place","params":[]}"#, r#"{"params":[],"formatted":"no place"}"#),
            (r#"{"message":{"a":1}}"#, r#"{"formatted":"{\"a\":1}"}"#),
            (r#"{"params":[1]}"#, r#"{"params":[1]}"#),
        ] {
            let came = format!(r#"{{"logentry":{came}}}"#);
            let mut document = Document::read(came.as_bytes(), PythonFloats::Refuse).unwrap();
            normalise(document.value.as_object_mut().unwrap(), &mut document.meta);
            assert_eq!(String::from_utf8(document.to_json()).unwrap(), format!(r#"{{"logentry":{expected}}}"#));
        }
    }
}
