//! Fields: what the well-known keys of an object may hold, checked and repaired in one pass over the object.
//!
//! | came | expected | becomes |
//! | --- | --- | --- |
//! | number, boolean | text that may be a scalar | its text; `True` and `False` as Python, the first SDK, wrote them |
//! | anything | text that may be written | its JSON text |
//! | `[]` | object | `{}`: PHP has one type for both |
//! | number | address | hexadecimal with `0x` |
//! | everything else of a wrong kind | | `null`, with an `invalid_data` error |

use super::take_meta;
use super::trim::{Bag, TextLimit, trim_bag, trim_text};
use crate::tree::{MetaError, MetaTree, Number, Object, Path, Value};

/// Longest original value that is kept beside an error, in bytes of JSON: enough to see what went wrong.
const MAX_ORIGINAL_BYTES: usize = 500;

/// What a field holds, with the limit it is cut to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// Anything; another place looks at it, or none.
    Any,
    /// Text.
    Text(TextLimit),
    /// Text; a number or boolean is taken as its text.
    Scalar(TextLimit),
    /// Text; what is none is taken as its JSON text.
    Written(TextLimit),
    /// An integer from zero up.
    Unsigned,
    /// A truth value.
    Truth,
    /// An address in memory.
    Address,
    /// An object.
    Object,
    /// An object whose values may be anything.
    Map(Bag),
    /// Anything, bounded.
    Bag(Bag),
    /// A list.
    Array,
}

/// Checks every key of an object against what `field_of` says of it.
pub(super) fn apply(object: &mut Object<'_>, field_of: fn(&str) -> Field, meta: &mut MetaTree, path: &Path<'_>) {
    for (key, value) in object.iter_mut() {
        if !value.is_null() {
            settle(value, field_of(key), meta, &path.key(key));
        }
    }
}

/// Repairs one value that is not null.
pub(super) fn settle(value: &mut Value<'_>, field: Field, meta: &mut MetaTree, path: &Path<'_>) {
    match field {
        Field::Any => {}
        Field::Text(limit) => match value {
            Value::String(_) => trim_text(value, limit, meta, path),
            _ => invalid(value, "expected a string", meta, path),
        },
        Field::Scalar(limit) => match scalar(value) {
            Ok(()) => trim_text(value, limit, meta, path),
            Err(()) => invalid(value, "expected a string, number or boolean", meta, path),
        },
        Field::Written(limit) => {
            if scalar(value).is_err() {
                drop(take_meta(meta, path));
                *value = Value::from(value.to_json());
            }
            trim_text(value, limit, meta, path);
        }
        Field::Unsigned => match unsigned(value) {
            Some(number) => *value = Value::from(number),
            None => invalid(value, "expected an unsigned integer", meta, path),
        },
        Field::Truth if value.as_bool().is_some() => {}
        Field::Truth => invalid(value, "expected a boolean", meta, path),
        Field::Address => address(value, meta, path),
        Field::Object => object(value, meta, path),
        Field::Map(bag) => {
            object(value, meta, path);
            trim_bag(value, bag, meta, path);
        }
        Field::Bag(bag) => trim_bag(value, bag, meta, path),
        Field::Array if value.as_array().is_some() => {}
        Field::Array => invalid(value, "expected a list", meta, path),
    }
}

/// Puts `null` in the place of a value that can't be used, and says so.
pub(super) fn invalid(value: &mut Value<'_>, reason: &'static str, meta: &mut MetaTree, path: &Path<'_>) {
    null_with(value, MetaError::invalid_data(reason), meta, path);
}

/// Puts `null` in the place of a value, and says why. A short original is kept; scrubbing sees it there, too.
pub(super) fn null_with(value: &mut Value<'_>, error: MetaError, meta: &mut MetaTree, path: &Path<'_>) {
    let node = meta.node(path);
    node.clear_children();
    node.meta.add_error(error);
    let original = value.take();
    if node.meta.original_value.is_none() && !original.is_null() && is_short(&original, &mut { MAX_ORIGINAL_BYTES }) {
        node.meta.original_value = Some(original.into_owned());
    }
}

/// Makes a number or boolean its text.
pub(super) fn scalar(value: &mut Value<'_>) -> Result<(), ()> {
    *value = match value {
        Value::String(_) => return Ok(()),
        Value::Bool(truth) => Value::from(if *truth { "True" } else { "False" }),
        Value::Number(number) => Value::from(number.to_string()),
        _ => return Err(()),
    };
    Ok(())
}

/// The text at a key, if it is one and not empty.
pub(super) fn text<'v>(object: &'v Object<'_>, key: &str) -> Option<&'v str> {
    object.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Whether there is nothing at a key: no value, null or an empty text.
pub(super) fn is_blank(object: &Object<'_>, key: &str) -> bool {
    match object.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

/// An object; an empty list becomes one.
pub(super) fn object(value: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    match value {
        Value::Object(_) => {}
        Value::Array(elements) if elements.is_empty() => *value = Value::Object(Object::new()),
        _ => invalid(value, "expected an object", meta, path),
    }
}

fn unsigned(value: &Value<'_>) -> Option<u64> {
    match value.as_number()? {
        Number::Unsigned(number) => Some(number),
        // Lua and JavaScript have one type for both. Above 2^53 doubles are no longer exact.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in range")]
        Number::Float(number) if number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number) => {
            Some(number as u64)
        }
        _ => None,
    }
}

fn address(value: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    match value {
        Value::String(text) if is_address(text) => {}
        Value::Number(Number::Unsigned(number)) => *value = Value::from(format!("{number:#x}")),
        _ => invalid(value, "expected an address", meta, path),
    }
}

/// Hexadecimal with `0x`, or decimal.
fn is_address(text: &str) -> bool {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) && u64::from_str_radix(digits, radix).is_ok()
}

/// Whether a value takes no more than so many bytes as JSON, found out without writing it.
fn is_short(value: &Value<'_>, budget: &mut usize) -> bool {
    let cost = match value {
        Value::String(text) => text.len() + 2,
        Value::Array(_) | Value::Object(_) => 2,
        _ => 8,
    };
    let Some(left) = budget.checked_sub(cost) else { return false };
    *budget = left;
    match value {
        Value::Array(elements) => elements.iter().all(|element| is_short(element, budget)),
        Value::Object(object) => object.iter().all(|(key, value)| {
            *budget = budget.saturating_sub(key.len() + 4);
            is_short(value, budget)
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::read;

    const LIMIT: TextLimit = TextLimit::of(20, 0);

    fn settled(json: &str, field: Field) -> (String, String) {
        let (mut value, mut meta) = (read(json.as_bytes()).unwrap(), MetaTree::default());
        settle(&mut value, field, &mut meta, &Path::ROOT);
        (value.to_json(), meta.to_value().to_json())
    }

    #[test]
    fn values_become_what_their_field_holds() {
        for (json, field, expected) in [
            ("\"a\"", Field::Text(LIMIT), "\"a\""),
            ("7", Field::Scalar(LIMIT), "\"7\""),
            ("1.5", Field::Scalar(LIMIT), "\"1.5\""),
            ("true", Field::Scalar(LIMIT), "\"True\""),
            ("{\"a\":1}", Field::Written(LIMIT), "\"{\\\"a\\\":1}\""),
            ("7", Field::Unsigned, "7"),
            ("7.0", Field::Unsigned, "7"),
            ("4096", Field::Address, "\"0x1000\""),
            ("\"0xFF\"", Field::Address, "\"0xFF\""),
            ("[]", Field::Object, "{}"),
            ("[1]", Field::Array, "[1]"),
        ] {
            assert_eq!(settled(json, field), (expected.to_owned(), "{}".to_owned()), "{json}");
        }
    }

    #[test]
    fn what_does_not_fit_becomes_null_with_the_reason_and_the_original() {
        for (json, field, reason) in [
            ("7", Field::Text(LIMIT), "expected a string"),
            ("{}", Field::Scalar(LIMIT), "expected a string, number or boolean"),
            ("-7", Field::Unsigned, "expected an unsigned integer"),
            ("\"7\"", Field::Unsigned, "expected an unsigned integer"),
            ("7.5", Field::Unsigned, "expected an unsigned integer"),
            ("1", Field::Truth, "expected a boolean"),
            ("\"0xzz\"", Field::Address, "expected an address"),
            ("[1]", Field::Object, "expected an object"),
            ("{}", Field::Array, "expected a list"),
        ] {
            let meta = format!(r#"{{"":{{"err":[["invalid_data",{{"reason":"{reason}"}}]],"val":{json}}}}}"#);
            assert_eq!(settled(json, field), ("null".to_owned(), meta), "{json}");
        }
    }

    #[test]
    fn a_long_original_is_not_kept() {
        let (_, meta) = settled(&format!("[{}1]", "1,".repeat(1000)), Field::Object);
        assert_eq!(meta, r#"{"":{"err":[["invalid_data",{"reason":"expected an object"}]]}}"#);
    }
}
