//! The event of a crash: merged from all that says something about it, with what a crash has by default.
//!
//! What comes later in this list wins: form fields, the event in MessagePack, the event item.

use std::time::Duration;

use bytes::Bytes;
use picket_common::envelope::{Item, ItemType};
use picket_common::tree::{Document, PythonFloats};
use serde_json::{Map, Value, json};

use super::{APPLE_REPORT, BREADCRUMBS, CrashError, EVENT_PAYLOAD, MINIDUMP, form, msgpack, small_payload};
use crate::config::LimitsConfig;

/// What is known of a crash.
#[derive(Debug, Default)]
pub(super) struct Parts {
    form: Map<String, Value>,
    packed: Map<String, Value>,
    item: Map<String, Value>,
    /// From each file, with the order given by the last of each.
    breadcrumbs: Vec<Vec<Value>>,
    /// Files that should have been part of the event and could not be read.
    unreadable: Vec<String>,
    mechanism: Option<&'static str>,
    /// Whether there is an event item that can't be read.
    has_broken_event: bool,
}

impl Parts {
    /// Takes an item in, if it is a part of the event; gives it back if not.
    ///
    /// # Errors
    /// [`CrashError::Read`] if its payload can't be read.
    pub(super) fn take(&mut self, item: Item, limits: &LimitsConfig) -> Result<Option<Item>, CrashError> {
        let kind = match (item.item_type(), item.attachment_type()) {
            (ItemType::Event, _) => Kind::Event,
            (ItemType::FormData, _) => Kind::Form,
            (ItemType::Attachment, Some(EVENT_PAYLOAD)) => Kind::Packed,
            (ItemType::Attachment, Some(BREADCRUMBS)) => Kind::Breadcrumbs,
            _ => return Ok(Some(item)),
        };
        let payload = small_payload(&item, limits.max_event_bytes.as_usize())?;
        let is_read = payload.is_some_and(|payload| self.read(kind, &payload));
        match kind {
            // An event that is too long or no JSON is refused further on, in the words that belong to it.
            Kind::Event if !is_read => {
                self.has_broken_event = true;
                return Ok(Some(item));
            }
            _ if !is_read => self.unreadable.push(item.header_text("filename").unwrap_or_default()),
            _ => {}
        }
        Ok(None)
    }

    /// Notes an item that is kept: a dump tells where the crash comes from.
    pub(super) fn note(&mut self, item: &Item) {
        let mechanism = match item.attachment_type() {
            Some(MINIDUMP) => "minidump",
            Some(APPLE_REPORT) => "applecrashreport",
            Some("unreal.context") => "unreal",
            // Reports of consoles.
            _ if item.creates_event() && *item.item_type() == ItemType::Attachment => "native",
            _ => return,
        };
        // A dump says more than what lies beside it.
        if self.mechanism.is_none_or(|known| matches!(known, "unreal" | "native")) {
            self.mechanism = Some(mechanism);
        }
    }

    fn read(&mut self, kind: Kind, payload: &[u8]) -> bool {
        match kind {
            Kind::Event => match json_object(payload) {
                Some(event) => self.item = event,
                None => return false,
            },
            Kind::Form => merge(&mut self.form, form::event(payload)),
            Kind::Packed => match msgpack::event(payload) {
                Some(event) => merge(&mut self.packed, event),
                None => return false,
            },
            Kind::Breadcrumbs => {
                let read = msgpack::breadcrumbs(payload);
                self.breadcrumbs.push(read.values);
                return read.is_whole;
            }
        }
        true
    }

    /// The event; `None` if the envelope has one that is broken, which is to be refused as such.
    pub(super) fn into_event(mut self) -> Option<Map<String, Value>> {
        if self.has_broken_event {
            return None;
        }
        let mut event = self.form;
        merge(&mut event, self.packed);
        merge(&mut event, self.item);
        // Reporters write two files in turns: the one whose last entry is newer comes last.
        self.breadcrumbs.sort_by(|one, other| timestamp_of_last(one).total_cmp(&timestamp_of_last(other)));
        let breadcrumbs: Vec<Value> = self.breadcrumbs.into_iter().flatten().collect();
        if !breadcrumbs.is_empty() && is_absent(&event, "breadcrumbs") {
            event.insert("breadcrumbs".to_owned(), json!({ "values": breadcrumbs }));
        }
        for name in self.unreadable {
            let errors = event.entry("errors").or_insert_with(|| json!([]));
            if let Value::Array(errors) = errors {
                errors.push(json!({ "type": "invalid_attachment", "name": name }));
            }
        }
        Some(with_defaults(event, self.mechanism))
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Event,
    Form,
    Packed,
    Breadcrumbs,
}

fn with_defaults(mut event: Map<String, Value>, mechanism: Option<&str>) -> Map<String, Value> {
    let Some(mechanism) = mechanism else { return event };
    if is_absent(&event, "platform") {
        event.insert("platform".to_owned(), json!("native"));
    }
    if is_absent(&event, "level") {
        event.insert("level".to_owned(), json!("fatal"));
    }
    if is_absent(&event, "exception") {
        let kind = match mechanism {
            "minidump" => "Minidump",
            "applecrashreport" => "AppleCrashReport",
            "unreal" => "UnrealCrash",
            _ => "NativeCrash",
        };
        let exception = json!({
            "type": kind,
            "value": "native crash, its stacks are in the attached report",
            "mechanism": { "type": mechanism, "handled": false, "synthetic": true },
        });
        event.insert("exception".to_owned(), json!({ "values": [exception] }));
    }
    event
}

/// A JSON object, repaired where SDKs are known to break it.
fn json_object(payload: &[u8]) -> Option<Map<String, Value>> {
    if let Ok(object) = serde_json::from_slice(payload) {
        return Some(object);
    }
    let document = Document::read(payload, PythonFloats::Accept).ok()?;
    let mut repaired = Vec::with_capacity(payload.len());
    document.write_json(&mut repaired);
    serde_json::from_slice(&repaired).ok()
}

fn is_absent(event: &Map<String, Value>, key: &str) -> bool {
    event.get(key).is_none_or(Value::is_null)
}

fn timestamp_of_last(breadcrumbs: &[Value]) -> f64 {
    let timestamp = breadcrumbs.last().and_then(|crumb| crumb.get("timestamp"));
    match timestamp {
        Some(Value::Number(seconds)) => seconds.as_f64().unwrap_or_default(),
        Some(Value::String(text)) => picket_common::timestamp::Timestamp::parse(text)
            .map_or(0.0, |at| Duration::from_millis(at.as_millis()).as_secs_f64()),
        _ => 0.0,
    }
}

/// Puts `other` over `object`, object by object; what is null there changes nothing.
pub(super) fn merge(object: &mut Map<String, Value>, other: Map<String, Value>) {
    for (key, value) in other {
        match (object.get_mut(&key), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            (Some(_), Value::Null) => {}
            (_, value) => {
                object.insert(key, value);
            }
        }
    }
}

/// The event's text, of at most `most` bytes if leaving out breadcrumbs and extra data can bring it there: a crash must not be
/// lost for what is beside it.
pub(super) fn written(mut event: Map<String, Value>, most: usize) -> Bytes {
    for expendable in ["breadcrumbs", "extra", ""] {
        // A map of JSON values always serialises.
        let text = serde_json::to_vec(&event).unwrap_or_default();
        if text.len() <= most || expendable.is_empty() {
            return Bytes::from(text);
        }
        event.remove(expendable);
    }
    Bytes::new()
}
