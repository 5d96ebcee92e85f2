//! The event of a crash: merged from all that says something about it, with what a crash has by default.
//!
//! What comes later in this list wins: form fields, the event in MessagePack, the event item.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use picket_common::envelope::{Item, ItemType};
use picket_common::outcome::{Outcome, Reason};
use serde_json::{Map, Value, json};

use super::allowance::{Allowance, MAX_DECODED_BYTES, Shortage};
use super::{APPLE_REPORT, BREADCRUMBS, CrashError, EVENT_PAYLOAD, MINIDUMP, form, json, msgpack, small_payload};
use crate::config::LimitsConfig;
use crate::dropped::Dropped;

/// What is known of a crash.
#[derive(Debug)]
pub(super) struct Parts {
    form: Map<String, Value>,
    packed: Map<String, Value>,
    item: Map<String, Value>,
    /// From each file, with the order given by the last of each.
    breadcrumbs: Vec<Vec<Value>>,
    /// Files that should have been part of the event and could not be read, or not to their end.
    unreadable: Vec<String>,
    mechanism: Option<&'static str>,
    /// Whether there is an event item that can't be read.
    has_broken_event: bool,
    /// For all of the above.
    allowance: Allowance,
}

/// A part of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Event,
    Form,
    Packed,
    Breadcrumbs,
}

/// How far a part could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Whole,
    InPart,
    NotAtAll,
}

impl Kind {
    /// What part an item is, if it is one. What matters most comes first, should there be no memory for all.
    pub(super) fn of(item: &Item) -> Option<Self> {
        match (item.item_type(), item.attachment_type()) {
            (ItemType::Event, _) => Some(Self::Event),
            (ItemType::FormData, _) => Some(Self::Form),
            (ItemType::Attachment, Some(EVENT_PAYLOAD)) => Some(Self::Packed),
            (ItemType::Attachment, Some(BREADCRUMBS)) => Some(Self::Breadcrumbs),
            _ => None,
        }
    }
}

impl Parts {
    /// Nothing yet.
    pub(super) fn new(allowance: Allowance) -> Self {
        Self {
            form: Map::new(),
            packed: Map::new(),
            item: Map::new(),
            breadcrumbs: Vec::new(),
            unreadable: Vec::new(),
            mechanism: None,
            has_broken_event: false,
            allowance,
        }
    }

    /// Takes an item in, if it is a part of the event; gives it back if not. A file that is to be one and can't be read is noted
    /// in `dropped`.
    ///
    /// # Errors
    /// [`CrashError::Read`] if its payload can't be read; [`CrashError::TooMuch`] and [`CrashError::NoMemory`] if there is no
    /// memory for what is in it.
    pub(super) fn take(
        &mut self,
        item: Item,
        limits: &LimitsConfig,
        dropped: &mut Dropped,
    ) -> Result<Option<Item>, CrashError> {
        let Some(kind) = Kind::of(&item) else { return Ok(Some(item)) };
        let read = match small_payload(&item, limits.max_event_bytes.as_usize())? {
            Some(payload) => self.read(kind, &payload),
            None => Ok(Read::NotAtAll),
        };
        let read = match (kind, read) {
            (_, Ok(read)) => read,
            (Kind::Packed | Kind::Breadcrumbs, Err(Shortage::Spent)) => Read::NotAtAll,
            (_, Err(Shortage::Spent)) => {
                return Err(CrashError::TooMuch {
                    what: item.item_type().as_str().into(),
                    limit: MAX_DECODED_BYTES as u64,
                });
            }
            (_, Err(Shortage::NoMemory)) => return Err(CrashError::NoMemory),
        };
        if kind == Kind::Event && read != Read::Whole {
            // An event that is too long or no JSON is refused further on, in the words that belong to it.
            self.has_broken_event = true;
            return Ok(Some(item));
        }
        if read != Read::Whole {
            self.unreadable.push(item.header_text("filename").unwrap_or_default());
        }
        if read == Read::NotAtAll {
            dropped.note(Outcome::Invalid, Reason::Borrowed("invalid_attachment"), [&item]);
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

    fn read(&mut self, kind: Kind, payload: &[u8]) -> Result<Read, Shortage> {
        let allowance = &mut self.allowance;
        let is_read = match kind {
            Kind::Event => json::object(payload, allowance)?.map(|event| self.item = event).is_some(),
            Kind::Form => {
                json::merge(&mut self.form, form::event(payload, allowance)?);
                true
            }
            Kind::Packed => {
                msgpack::event(payload, allowance)?.map(|event| json::merge(&mut self.packed, event)).is_some()
            }
            Kind::Breadcrumbs => {
                let msgpack::Breadcrumbs { values, is_whole } = msgpack::breadcrumbs(payload, allowance)?;
                let has_some = !values.is_empty();
                self.breadcrumbs.push(values);
                match (is_whole, has_some) {
                    (true, _) => true,
                    (false, true) => return Ok(Read::InPart),
                    (false, false) => false,
                }
            }
        };
        Ok(if is_read { Read::Whole } else { Read::NotAtAll })
    }

    /// The event; `None` if the envelope has one that is broken, which is to be refused as such.
    /// The allowance stands for it as long as it is there.
    pub(super) fn into_event(mut self) -> Option<(Map<String, Value>, Allowance)> {
        if self.has_broken_event {
            return None;
        }
        let mut event = self.form;
        json::merge(&mut event, self.packed);
        json::merge(&mut event, self.item);
        // Reporters write two files in turns: the one whose last entry is newer comes last.
        self.breadcrumbs.sort_by(|one, other| timestamp_of_last(one).total_cmp(&timestamp_of_last(other)));
        let mut breadcrumbs: Vec<Value> = self.breadcrumbs.into_iter().flatten().collect();
        breadcrumbs.drain(..breadcrumbs.len().saturating_sub(msgpack::MAX_BREADCRUMBS));
        if !breadcrumbs.is_empty() && is_absent(&event, "breadcrumbs") {
            event.insert("breadcrumbs".to_owned(), json!({ "values": breadcrumbs }));
        }
        for name in self.unreadable {
            let errors = event.entry("errors").or_insert_with(|| json!([]));
            if let Value::Array(errors) = errors {
                errors.push(json!({ "type": "invalid_attachment", "name": name }));
            }
        }
        Some((with_defaults(event, self.mechanism), self.allowance))
    }
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
            "value": "native crash; its stacks are in the crash report, which is not stored yet",
            "mechanism": { "type": mechanism, "handled": false, "synthetic": true },
        });
        event.insert("exception".to_owned(), json!({ "values": [exception] }));
    }
    event
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

/// The event's text, of at most `most` bytes if leaving out breadcrumbs and extra data can bring it there: a crash must not be
/// lost for what is beside it.
///
/// # Errors
/// [`CrashError::TooLong`] if it can't.
pub(super) fn written(mut event: Map<String, Value>, most: usize) -> Result<Bytes, CrashError> {
    for expendable in ["breadcrumbs", "extra", ""] {
        let mut text = Bounded { text: Vec::new(), most };
        // A map of JSON values always serialises, if there is room for it.
        if serde_json::to_writer(&mut text, &event).is_ok() {
            return Ok(Bytes::from(text.text));
        }
        event.remove(expendable);
    }
    Err(CrashError::TooLong { what: "event", limit: most as u64 })
}

/// Takes so many bytes: what is cut off in the end is not written first.
struct Bounded {
    text: Vec<u8>,
    most: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
