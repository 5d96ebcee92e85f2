//! Breadcrumbs: what the program did before the event, newest first.

use picket_common::timestamp::Timestamp;
use serde_json::Value;

use super::row::Rows;
use super::{json_text, values_of};

/// Breadcrumbs shown, counted from the newest. SDKs keep 100.
const BREADCRUMBS_MAX: usize = 100;
/// Values shown of a breadcrumb's data.
const DATA_ROWS_MAX: usize = 30;

/// Breadcrumbs, newest first.
#[derive(Debug, Default)]
pub(crate) struct Breadcrumbs {
    pub(crate) breadcrumbs: Vec<Breadcrumb>,
    /// How many older ones there are.
    pub(crate) omitted: usize,
}

/// One breadcrumb.
#[derive(Debug)]
pub(crate) struct Breadcrumb {
    /// The time of day; what was sent where that is no time.
    pub(crate) time: Option<String>,
    /// The whole time in UTC, where it could be read.
    pub(crate) datetime: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) category: Option<String>,
    pub(crate) level: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) data: Rows,
}

impl Breadcrumbs {
    pub(crate) fn from_value(breadcrumbs: &Value) -> Self {
        let mut newest_first = values_of(breadcrumbs).into_iter().rev();
        let breadcrumbs = newest_first.by_ref().take(BREADCRUMBS_MAX).map(Breadcrumb::from_value).collect();
        Self { breadcrumbs, omitted: newest_first.count() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.breadcrumbs.is_empty()
    }
}

impl Breadcrumb {
    fn from_value(breadcrumb: &Value) -> Self {
        let sent = breadcrumb.get("timestamp").unwrap_or(&Value::Null);
        let datetime = read_time(sent).map(Timestamp::to_rfc3339);
        let time_of_day = datetime.as_deref().and_then(|text| text.get(11..23)).map(str::to_owned);
        let message =
            if breadcrumb.is_object() { breadcrumb.get("message").unwrap_or(&Value::Null) } else { breadcrumb };
        Self {
            time: time_of_day.or_else(|| json_text::line(sent)),
            datetime,
            kind: json_text::line_of(breadcrumb, "type"),
            category: json_text::line_of(breadcrumb, "category"),
            level: json_text::line_of(breadcrumb, "level"),
            message: json_text::paragraph(message),
            data: Rows::from_value(breadcrumb.get("data").unwrap_or(&Value::Null), DATA_ROWS_MAX),
        }
    }
}

/// SDKs send seconds since the epoch or RFC 3339.
fn read_time(sent: &Value) -> Option<Timestamp> {
    match sent {
        Value::Number(seconds) => Timestamp::from_float_seconds(seconds.as_f64()?),
        Value::String(text) => Timestamp::parse(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_comes_first_with_its_time_of_day() {
        let read = Breadcrumbs::from_value(&json!({"values": [
            {"timestamp": "2025-11-22T14:05:06.789Z", "message": "old"},
            {"timestamp": 1_763_820_306.789, "category": "query", "message": "new", "data": {"rows": 3}},
        ]}));
        assert_eq!(read.breadcrumbs[0].message.as_deref(), Some("new"));
        assert_eq!(read.breadcrumbs[0].data.rows[0].name, "rows");
        for breadcrumb in &read.breadcrumbs {
            assert_eq!(breadcrumb.time.as_deref(), Some("14:05:06.789"));
            assert_eq!(breadcrumb.datetime.as_deref(), Some("2025-11-22T14:05:06.789Z"));
        }
    }

    #[test]
    fn odd_breadcrumbs_show_what_was_sent() {
        let read = Breadcrumbs::from_value(&json!(["text", {"timestamp": ["x"], "message": {"a": 1}, "data": "d"}]));
        assert_eq!(read.breadcrumbs[0].time.as_deref(), Some(r#"["x"]"#));
        assert_eq!(read.breadcrumbs[0].message.as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(read.breadcrumbs[0].data.rows[0].value.text, "d");
        assert_eq!(read.breadcrumbs[1].message.as_deref(), Some("text"));
    }

    #[test]
    fn the_oldest_are_left_out_first() {
        let many: Vec<_> = (0..130).map(|number| json!({"message": number})).collect();
        let read = Breadcrumbs::from_value(&json!(many));
        assert_eq!((read.breadcrumbs.len(), read.omitted), (BREADCRUMBS_MAX, 30));
        assert_eq!(read.breadcrumbs[0].message.as_deref(), Some("129"));
    }
}
