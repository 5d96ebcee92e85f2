//! Levels of events and breadcrumbs.

use super::field::invalid;
use crate::tree::{MetaTree, Path, Value};

/// Brings a level to one of the five names, or to null with an error.
pub(super) fn settle(value: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let level = match value {
        Value::Null => return,
        Value::String(text) => named(text),
        // The levels of Python's logging, as its first SDKs sent them.
        Value::Number(number) => match number.as_u64() {
            Some(10) => Some("debug"),
            Some(20) => Some("info"),
            Some(30) => Some("warning"),
            Some(40) => Some("error"),
            Some(50) => Some("fatal"),
            _ => None,
        },
        _ => None,
    };
    match level {
        None => invalid(value, "expected a level", meta, path),
        Some(level) if value.as_str() == Some(level) => {}
        Some(level) => *value = Value::from(level),
    }
}

fn named(text: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 8] = [
        ("debug", "debug"),
        ("info", "info"),
        ("log", "info"),
        ("warning", "warning"),
        ("warn", "warning"),
        ("error", "error"),
        ("fatal", "fatal"),
        ("critical", "fatal"),
    ];
    NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, level)| *level)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::read;

    #[test]
    fn levels_become_one_of_five_names() {
        for (json, expected) in [
            ("\"debug\"", "\"debug\""),
            ("\"info\"", "\"info\""),
            ("\"log\"", "\"info\""),
            ("\"warning\"", "\"warning\""),
            ("\"error\"", "\"error\""),
            ("\"fatal\"", "\"fatal\""),
            ("\"critical\"", "\"fatal\""),
            ("\"Error\"", "\"error\""),
            ("10", "\"debug\""),
            ("20", "\"info\""),
            ("30", "\"warning\""),
            ("40", "\"error\""),
            ("50", "\"fatal\""),
            ("null", "null"),
            ("\"loud\"", "null"),
            ("60", "null"),
            ("{}", "null"),
        ] {
            let (mut value, mut meta) = (read(json.as_bytes()).unwrap(), MetaTree::default());
            settle(&mut value, &mut meta, &Path::ROOT);
            assert_eq!(value.to_json(), expected, "{json}");
            assert_eq!(meta.meta.errors.len(), usize::from(expected == "null" && json != "null"), "{json}");
        }
    }
}
