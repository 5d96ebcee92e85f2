//! MessagePack, as native crash reporters write events and breadcrumbs, read as JSON, so that the stages see it.
//!
//! Bounded by the payload and by [`MAX_DEPTH`]. What JSON does not have becomes the nearest that it has: binary data a text,
//! a key that is no text its text, a number that is not finite null.

use serde_json::{Map, Number, Value};

/// Deepest nesting. The JSON parser that reads it next takes 128 levels.
const MAX_DEPTH: usize = 100;
/// Most breadcrumbs kept: the newest, as many as SDKs keep.
const MAX_BREADCRUMBS: usize = 100;

/// An event; `None` if the bytes are no map.
pub(super) fn event(mut bytes: &[u8]) -> Option<Map<String, Value>> {
    match value(rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH).ok()?) {
        Value::Object(event) => Some(event),
        _ => None,
    }
}

/// Breadcrumbs, as far as they can be read.
pub(super) struct Breadcrumbs {
    /// The newest of them, in their order.
    pub(super) values: Vec<Value>,
    /// Whether there was nothing else. A crash may have cut the last one off.
    pub(super) is_whole: bool,
}

/// Breadcrumbs: one map after the other, or arrays of maps.
pub(super) fn breadcrumbs(mut bytes: &[u8]) -> Breadcrumbs {
    let mut values = Vec::new();
    let mut is_whole = true;
    while !bytes.is_empty() {
        match rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH).map(value) {
            Ok(crumb @ Value::Object(_)) => values.push(crumb),
            Ok(Value::Array(several)) => values.extend(several.into_iter().filter(Value::is_object)),
            Ok(_) => is_whole = false,
            Err(_) => {
                is_whole = false;
                break;
            }
        }
    }
    values.drain(..values.len().saturating_sub(MAX_BREADCRUMBS));
    Breadcrumbs { values, is_whole }
}

fn value(packed: rmpv::Value) -> Value {
    match packed {
        rmpv::Value::Nil | rmpv::Value::Ext(..) => Value::Null,
        rmpv::Value::Boolean(flag) => Value::Bool(flag),
        rmpv::Value::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::Null,
        },
        rmpv::Value::F32(number) => float(f64::from(number)),
        rmpv::Value::F64(number) => float(number),
        rmpv::Value::String(text) => Value::from(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        rmpv::Value::Binary(bytes) => Value::from(String::from_utf8_lossy(&bytes).into_owned()),
        rmpv::Value::Array(values) => Value::Array(values.into_iter().map(value).collect()),
        rmpv::Value::Map(pairs) => {
            Value::Object(pairs.into_iter().map(|(key, packed)| (key_text(key), value(packed))).collect())
        }
    }
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn key_text(key: rmpv::Value) -> String {
    match value(key) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
