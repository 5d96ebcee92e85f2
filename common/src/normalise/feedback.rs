//! Feedback: an event whose context `feedback` holds what a user wrote.

use super::field::{self, Field, text};
use super::trim::TextLimit;
use super::{EventContext, Rejected, normalise_event};
use crate::tree::{Document, Path, Value};

fn field_of(key: &str) -> Field {
    match key {
        "message" => Field::Scalar(TextLimit::of(4096, 0)),
        "name" | "source" | "associated_event_id" | "replay_id" => Field::Scalar(TextLimit::of(128, 0)),
        "contact_email" => Field::Scalar(TextLimit::of(75, 0)),
        "url" => Field::Scalar(TextLimit::of(1024, 0)),
        _ => Field::Any,
    }
}

/// Brings feedback into its normal form.
///
/// # Errors
/// [`Rejected`] if there is no message in it, or the payload is no object.
pub fn normalise_feedback(document: &mut Document<'_>, context: &EventContext<'_>) -> Result<(), Rejected> {
    const MISSING: Rejected = Rejected::new("missing_feedback", "feedback needs contexts.feedback.message");
    let Document { value, meta } = document;
    let Value::Object(event) = value else {
        return Err(Rejected::new("invalid_json", "feedback must be a JSON object"));
    };
    event.insert("type", "feedback");
    let feedback = event.get_mut("contexts").and_then(|contexts| contexts.get_mut("feedback"));
    let Some(Value::Object(feedback)) = feedback else { return Err(MISSING) };
    let path = Path::ROOT.key("contexts");
    field::apply(feedback, field_of, meta, &path.key("feedback"));
    if text(feedback, "message").is_none_or(|message| message.trim().is_empty()) {
        return Err(MISSING);
    }
    normalise_event(document, context)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::context;
    use super::*;
    use crate::tree::PythonFloats;

    #[test]
    fn feedback_is_an_event_with_a_message() {
        let json = r#"{"contexts":{"feedback":{"message":"broken","contact_email":"jane@example.com"}}}"#;
        let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
        normalise_feedback(&mut document, &context()).unwrap();
        let said = |key| document.value.get(key).and_then(Value::as_str).unwrap().to_owned();
        assert_eq!((said("type"), said("level")), ("feedback".to_owned(), "info".to_owned()));
        for broken in ["{}", r#"{"contexts":{"feedback":{"message":" "}}}"#, r#"{"contexts":{"feedback":5}}"#] {
            let mut document = Document::read(broken.as_bytes(), PythonFloats::Refuse).unwrap();
            assert_eq!(normalise_feedback(&mut document, &context()).unwrap_err().reason, "missing_feedback");
        }
    }
}
