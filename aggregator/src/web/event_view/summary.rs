//! The facts of an event that have one line each.

use serde_json::{Map, Value};

use super::json_text::{self, ValueText};
use super::row::{Row, Rows};

/// Fields of the event with a line in the summary, and what the line is called.
const FIELDS: [(&str, &str); 11] = [
    ("level", "Level"),
    ("environment", "Environment"),
    ("release", "Release"),
    ("dist", "Distribution"),
    ("transaction", "Transaction"),
    ("server_name", "Server"),
    ("logger", "Logger"),
    ("platform", "Platform"),
    ("fingerprint", "Fingerprint"),
    ("type", "Type"),
    ("errors", "Processing errors"),
];

/// The summary of an event.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) rows: Rows,
}

impl Summary {
    pub(crate) fn from_event(event: &Map<String, Value>) -> Self {
        let rows = FIELDS.iter().filter_map(|(field, name)| {
            let value = event.get(*field)?;
            json_text::line(value)?;
            Some(Row { name: (*name).to_owned(), value: ValueText::of(value) })
        });
        Self { rows: Rows { rows: rows.collect(), omitted: 0 } }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn facts_that_are_there_get_a_line() {
        let event = json!({"release": "shop@1.2.3", "environment": "", "level": null});
        let summary = Summary::from_event(event.as_object().unwrap());
        assert_eq!(summary.rows.rows.len(), 1);
        assert_eq!(summary.rows.rows[0].name, "Release");
    }
}
