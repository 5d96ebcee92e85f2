//! Names and values in two columns: the form of everything in an event that has no form of its own.

use serde_json::Value;

use super::json_text::{self, ValueText};

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: ValueText,
}

impl Row {
    fn new(name: &str, value: &Value) -> Self {
        Self { name: json_text::line(&Value::from(name)).unwrap_or_default(), value: ValueText::of(value) }
    }
}

/// Rows up to a maximum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    /// How many more there are.
    pub(crate) omitted: usize,
}

impl Rows {
    /// The members of an object, the pairs of an array of pairs (headers, cookies and tags come in either form), the
    /// numbered members of another array, or one row for anything else but null.
    pub(crate) fn from_value(value: &Value, rows_max: usize) -> Self {
        match value {
            Value::Null => Self::default(),
            Value::Object(object) => {
                Self::collect(object.iter().map(|(name, member)| Row::new(name, member)), rows_max)
            }
            Value::Array(members) => {
                let rows = members.iter().enumerate().map(|(place, member)| match pair(member) {
                    Some((name, value)) => Row::new(name, value),
                    None => Row::new(&place.to_string(), member),
                });
                Self::collect(rows, rows_max)
            }
            other => Self { rows: vec![Row::new("value", other)], omitted: 0 },
        }
    }

    /// As [`Self::from_value`], less the members of an object that are shown elsewhere, and less its nulls: for the
    /// protocol's own objects, in which SDKs send null for what they do not know.
    pub(crate) fn known_members(value: &Value, shown_elsewhere: &[&str], rows_max: usize) -> Self {
        let Value::Object(object) = value else { return Self::from_value(value, rows_max) };
        let members = object
            .iter()
            .filter(|(name, member)| !member.is_null() && !shown_elsewhere.contains(&name.as_str()))
            .map(|(name, member)| Row::new(name, member));
        Self::collect(members, rows_max)
    }

    fn collect(mut rows: impl Iterator<Item = Row>, rows_max: usize) -> Self {
        Self { rows: rows.by_ref().take(rows_max).collect(), omitted: rows.count() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows there are, shown or not.
    pub(crate) fn total(&self) -> usize {
        self.rows.len() + self.omitted
    }
}

/// `["name", value]`, or `{"key": "name", "value": value}` as tags of some SDKs.
fn pair(member: &Value) -> Option<(&str, &Value)> {
    match member {
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(name), value] => Some((name, value)),
            _ => None,
        },
        Value::Object(object) => Some((object.get("key")?.as_str()?, object.get("value")?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(value: &Value) -> Vec<(String, String)> {
        Rows::from_value(value, 3).rows.into_iter().map(|row| (row.name, row.value.text)).collect()
    }

    #[test]
    fn objects_pairs_and_lists_become_rows() {
        let expected = vec![("Host".to_owned(), "a".to_owned()), ("Accept".to_owned(), "b".to_owned())];
        assert_eq!(shown(&json!([["Host", "a"], ["Accept", "b"]])), expected);
        assert_eq!(shown(&json!([{"key": "Host", "value": "a"}, {"key": "Accept", "value": "b"}])), expected);
        assert_eq!(
            shown(&json!(["x", [1, 2, 3]])),
            [("0".to_owned(), "x".to_owned()), ("1".to_owned(), "[1,2,3]".to_owned())]
        );
        assert_eq!(shown(&json!("x=1")), [("value".to_owned(), "x=1".to_owned())]);
        assert!(Rows::from_value(&Value::Null, 3).is_empty());
    }

    #[test]
    fn nulls_are_values_in_an_applications_data_and_gaps_in_the_protocols_own() {
        let value = json!({"a": 1, "b": null, "c": 3});
        assert_eq!(Rows::from_value(&value, 9).rows.len(), 3);
        let known = Rows::known_members(&value, &["c"], 9);
        assert_eq!((known.rows.len(), known.rows[0].name.as_str()), (1, "a"));
        assert_eq!(Rows::known_members(&json!("x"), &["c"], 9), Rows::from_value(&json!("x"), 9));
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let rows = Rows::from_value(&json!([1, 2, 3, 4, 5]), 3);
        assert_eq!((rows.rows.len(), rows.omitted, rows.total()), (3, 2, 5));
    }
}
