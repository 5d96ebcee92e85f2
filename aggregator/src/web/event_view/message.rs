//! The message of an event: the template it was logged with, its parameters, and the two put together.

use serde_json::{Map, Value};

use super::json_text;
use super::row::Rows;

/// Parameters shown of a message.
const PARAMETERS_MAX: usize = 50;

/// A logged message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) text: String,
    /// The text before its parameters were put in, where that differs.
    pub(crate) template: Option<String>,
    pub(crate) parameters: Rows,
}

impl Message {
    /// Reads `logentry`, or `message`, which is a string or has the same form.
    pub(crate) fn from_event(event: &Map<String, Value>) -> Option<Self> {
        ["logentry", "message"].iter().filter_map(|name| event.get(*name)).find_map(Self::from_value)
    }

    fn from_value(entry: &Value) -> Option<Self> {
        if !entry.is_object() {
            return Some(Self { text: json_text::paragraph(entry)?, template: None, parameters: Rows::default() });
        }
        let part = |name: &str| entry.get(name).and_then(json_text::paragraph);
        let template = part("message");
        let text = part("formatted").or_else(|| template.clone())?;
        let parameters = Rows::from_value(entry.get("params").unwrap_or(&Value::Null), PARAMETERS_MAX);
        Some(Self { template: template.filter(|template| *template != text), text, parameters })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn message(event: &Value) -> Option<Message> {
        Message::from_event(event.as_object().unwrap())
    }

    #[test]
    fn a_formatted_message_keeps_its_template_and_parameters() {
        let read =
            message(&json!({"logentry": {"message": "%s left", "formatted": "3 left", "params": ["3"]}})).unwrap();
        assert_eq!(read.text, "3 left");
        assert_eq!(read.template.as_deref(), Some("%s left"));
        assert_eq!(read.parameters.rows[0].value.text, "3");
    }

    #[test]
    fn a_plain_message_of_any_form_is_read() {
        for event in [
            json!({"message": "hello"}),
            json!({"logentry": {"message": "hello"}}),
            json!({"message": {"formatted": "hello"}}),
        ] {
            let read = message(&event).unwrap();
            assert_eq!((read.text.as_str(), read.template), ("hello", None), "{event}");
        }
        assert_eq!(message(&json!({"message": [1]})).unwrap().text, "[1]");
        for event in [json!({}), json!({"message": ""}), json!({"logentry": {}, "message": null})] {
            assert!(message(&event).is_none(), "{event}");
        }
    }
}
