//! The message strategy: the text as the programmer wrote it, before its parameters were filled in.

use serde_json::Value;

use super::Variant;
use crate::process::lenient::Lenient;

/// The variant of an event's message, if it has one.
pub(super) fn variant(event: &Value) -> Option<Variant> {
    let text = template(event)?;
    Some(Variant::new("default", vec![text.trim().to_owned()]))
}

fn template(event: &Value) -> Option<&str> {
    for key in ["logentry", "message"] {
        if let Some(entry) = event.get(key).filter(|entry| entry.is_object())
            && let Some(text) = entry.text("message").or_else(|| entry.text("formatted"))
        {
            return Some(text);
        }
    }
    event.text("message").or_else(|| event.text("logentry"))
}
