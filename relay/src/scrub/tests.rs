#![allow(clippy::unwrap_used)]

mod any_event;
mod compat;
mod leaks;
mod secrets;
mod stage;
mod walk;

use picket_common::pii::{ScrubProfile, ScrubSettings};
use picket_common::timestamp::Timestamp;
use picket_common::tree::{Document, PythonFloats};
use serde_json::{Value, json};

use super::Scrubber;

/// An event after scrubbing.
fn scrubbed(settings: &ScrubSettings, event: &Value) -> Value {
    let scrubber = Scrubber::compile(settings).unwrap();
    let text = event.to_string();
    let mut document = Document::read(text.as_bytes(), PythonFloats::Refuse).unwrap();
    scrubber.scrub_event(&mut document);
    let once = document.to_json();
    let mut again = Document::read(&once, PythonFloats::Refuse).unwrap();
    scrubber.scrub_event(&mut again);
    let twice: Value = serde_json::from_slice(&again.to_json()).unwrap();
    let once: Value = serde_json::from_slice(&once).unwrap();
    assert_eq!(once, twice, "scrubbing twice changes something");
    once
}

fn with_rules(config: Value) -> ScrubSettings {
    ScrubSettings {
        pii_config: Some(serde_json::from_value(config).unwrap()),
        scrub_profile: ScrubProfile::Compat,
        ..ScrubSettings::default()
    }
}

fn compat() -> ScrubSettings {
    ScrubSettings { scrub_profile: ScrubProfile::Compat, ..ScrubSettings::of_new_project() }
}

fn strict() -> ScrubSettings {
    ScrubSettings::of_new_project()
}

/// The value at a path of keys and indices.
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('/').fold(value, |value, segment| match segment.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        _ => &value[segment],
    })
}

/// What was said of the value at a path.
fn meta<'v>(event: &'v Value, path: &str) -> &'v Value {
    &path.split('/').fold(&event["_meta"], |value, segment| &value[segment])[""]
}

fn is_null_or_missing(value: &Value) -> bool {
    *value == json!(null)
}
