//! Reading events leniently: SDKs send every field in every shape, and a field of an unexpected type must never cost the event.

use serde_json::Value;

/// Look-ups that answer `None` for everything that is not there in the wanted shape.
pub trait Lenient {
    /// The text under a key, if it is one and not blank.
    fn text(&self, key: &str) -> Option<&str>;

    /// The value under a key as a list: itself, or the `values` inside it, the two forms that interfaces have.
    fn values(&self, key: &str) -> &[Value];

    /// Text, number or boolean under a key as text.
    fn scalar(&self, key: &str) -> Option<String>;
}

impl Lenient for Value {
    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
    }

    fn values(&self, key: &str) -> &[Value] {
        let list = match self.get(key) {
            Some(Value::Array(list)) => Some(list),
            Some(Value::Object(object)) => object.get("values").and_then(Value::as_array),
            _ => None,
        };
        list.map_or(&[], Vec::as_slice)
    }

    fn scalar(&self, key: &str) -> Option<String> {
        scalar(self.get(key)?)
    }
}

/// A text, number or boolean as text.
#[must_use]
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_of_another_shape_reads_as_absent() {
        let event = json!({"a": 1, "b": "  ", "c": {"values": [1]}, "d": [2], "e": {"values": 3}});
        assert_eq!(event.text("a"), None);
        assert_eq!(event.text("b"), None);
        assert_eq!(event.values("c").len(), 1);
        assert_eq!(event.values("d").len(), 1);
        assert!(event.values("e").is_empty() && event.values("x").is_empty());
        assert_eq!(event.scalar("a").as_deref(), Some("1"));
        assert!(json!("text").text("a").is_none());
    }
}
