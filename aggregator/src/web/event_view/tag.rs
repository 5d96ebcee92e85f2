//! Tags: short names and values that events are searched by.

use serde_json::Value;

use super::row::Rows;

/// Tags shown; relays keep 200.
const TAGS_MAX: usize = 200;

/// Tags of an event.
#[derive(Debug, Default)]
pub(crate) struct Tags(pub(crate) Rows);

impl Tags {
    /// Reads the forms that SDKs send: an object, pairs, or `{"key", "value"}` objects.
    pub(crate) fn from_value(tags: &Value) -> Self {
        let mut rows = Rows::from_value(tags, TAGS_MAX);
        rows.rows.sort_by(|one, other| one.name.cmp(&other.name));
        Self(rows)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tags_are_sorted_by_name() {
        let tags = Tags::from_value(&json!([["b", "1"], ["a", "2"]]));
        let names: Vec<_> = tags.0.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
