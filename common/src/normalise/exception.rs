//! Exceptions: `Word: text` taken apart, empty ones dropped, mechanisms completed, stack traces settled.

use super::field::{self, Field, is_blank, null_with};
use super::mechanism;
use super::system::System;
use super::trim::TextLimit;
use super::{interface_list, move_meta, stacktrace};
use crate::tree::{MetaError, MetaTree, Object, Path, Value};

/// Longest word that is taken for a type, in bytes.
const MAX_WORD_BYTES: usize = 128;

fn field_of(key: &str) -> Field {
    match key {
        "type" => Field::Scalar(TextLimit::of(256, 20)),
        "value" => Field::Written(TextLimit::of(8192, 200)),
        "module" => Field::Scalar(TextLimit::of(256, 20)),
        "stacktrace" | "raw_stacktrace" | "mechanism" => Field::Object,
        _ => Field::Any,
    }
}

/// Settles the exceptions.
pub(super) fn normalise(event: &mut Object<'_>, meta: &mut MetaTree) {
    let system = System::of(event);
    let path = Path::ROOT.key("exception");
    let path = path.key("values");
    let Some(exceptions) = interface_list::elements(event, "exception", meta) else {
        stacktrace::normalise_single(event, meta);
        return;
    };
    for (index, exception) in exceptions.iter_mut().enumerate() {
        settle_face(exception, meta, &path.index(index));
    }
    adopt_stacktrace(event, meta);
    stacktrace::normalise_single(event, meta);
    let Some(exceptions) = interface_list::elements(event, "exception", meta) else { return };
    for (index, exception) in exceptions.iter_mut().enumerate() {
        let Value::Object(exception) = exception else { continue };
        let path = path.index(index);
        mechanism::normalise(exception, system, meta, &path);
        stacktrace::normalise_both(exception, meta, &path);
    }
}

/// Type and value, the two that make an exception.
fn settle_face(value: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let Value::Object(exception) = value else { return };
    field::apply(exception, field_of, meta, path);
    if is_blank(exception, "type") {
        split_value(exception, meta, path);
    }
    if is_blank(exception, "type") && is_blank(exception, "value") {
        let error = MetaError::new("missing_attribute").with("attribute", "type or value");
        null_with(value, error, meta, path);
    }
}

/// `ValueError: no such thing` as a value without a type names both.
fn split_value(exception: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    // What is said about bytes of the value would have to move with them.
    if meta.get(&path.key("value")).is_some_and(|meta| !meta.is_empty()) {
        return;
    }
    let Some((word, text)) = exception.get("value").and_then(Value::as_str).and_then(|value| value.split_once(": "))
    else {
        return;
    };
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    if word.is_empty() || word.len() > MAX_WORD_BYTES || !word.chars().all(is_word) {
        return;
    }
    let (word, text) = (word.to_owned(), text.trim_start().to_owned());
    exception.insert("type", word);
    exception.insert("value", text);
}

/// A single exception without a stack trace takes the one at the top of the event.
fn adopt_stacktrace(event: &mut Object<'_>, meta: &mut MetaTree) {
    if event.get("stacktrace").and_then(Value::as_object).is_none_or(Object::is_empty) {
        return;
    }
    let exceptions = event.get_mut("exception").and_then(|value| value.get_mut("values")).and_then(Value::as_array_mut);
    let mut present = exceptions.into_iter().flatten().enumerate().filter(|(_, exception)| !exception.is_null());
    let (Some((index, Value::Object(only))), None) = (present.next(), present.next()) else { return };
    let has_own = only.get("stacktrace").and_then(Value::as_object).is_some_and(|trace| !trace.is_empty());
    if has_own {
        return;
    }
    let Some(adopted) = event.remove("stacktrace") else { return };
    let exceptions = event.get_mut("exception").and_then(|value| value.get_mut("values")).and_then(Value::as_array_mut);
    if let Some(Value::Object(exception)) = exceptions.and_then(|exceptions| exceptions.get_mut(index)) {
        exception.insert("stacktrace", adopted);
    }
    let (exception, values) = (Path::ROOT.key("exception"), "values");
    let values = exception.key(values);
    let element = values.index(index);
    move_meta(meta, &Path::ROOT.key("stacktrace"), &element.key("stacktrace"));
}
