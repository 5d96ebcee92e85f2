//! User reports: the first form of feedback, about one event.

use super::field::{self, Field, text};
use super::trim::TextLimit;
use super::{EventContext, Rejected};
use crate::ids::EventId;
use crate::tree::{Document, Path, Value};

fn field_of(key: &str) -> Field {
    match key {
        "event_id" => Field::Text(TextLimit::NONE),
        "name" => Field::Scalar(TextLimit::of(128, 0)),
        "email" => Field::Scalar(TextLimit::of(75, 0)),
        "comments" => Field::Scalar(TextLimit::of(4096, 0)),
        _ => Field::Any,
    }
}

/// Checks and repairs a user report.
///
/// # Errors
/// [`Rejected`] if it names no event.
pub fn normalise_user_report(document: &mut Document<'_>, context: &EventContext<'_>) -> Result<(), Rejected> {
    let Document { value, meta } = document;
    let Value::Object(report) = value else {
        return Err(Rejected::new("invalid_json", "a user report must be a JSON object"));
    };
    field::apply(report, field_of, meta, &Path::ROOT);
    let sent = text(report, "event_id").and_then(|id| id.parse::<EventId>().ok());
    let Some(id) = sent.or(context.event_id) else {
        return Err(Rejected::new("invalid_event_id", "a user report needs the id of its event"));
    };
    report.insert("event_id", id.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::context;
    use super::*;
    use crate::tree::PythonFloats;

    #[test]
    fn a_report_names_its_event() {
        let settled = |json: &str| {
            let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
            let context = EventContext { event_id: None, ..context() };
            normalise_user_report(&mut document, &context).map(|()| document.value.to_json())
        };
        assert_eq!(
            settled(r#"{"event_id":"FC6D8C0C-43FC-4630-AD85-0EE518F1B9D0","name":7}"#).unwrap(),
            r#"{"event_id":"fc6d8c0c43fc4630ad850ee518f1b9d0","name":"7"}"#
        );
        for broken in ["{}", r#"{"event_id":"x"}"#, r#"{"event_id":5}"#] {
            assert_eq!(settled(broken).unwrap_err().reason, "invalid_event_id");
        }
    }
}
