//! Normalisation: bring what SDKs send into the form that later stages rely on.
//!
//! Here in this version: event payloads are JSON objects, and every envelope that makes an event has an id in its header, which is
//! the event's own. The header's id wins, else the payload's, else a new one. The work on the event's fields is not here yet.

use picket_common::envelope::{Item, ItemType};
use picket_common::ids::EventId;
use picket_common::tree::{Object, PythonFloats, Value};

use crate::limit::Limited;
use crate::opened::{Opened, OpenedItem, Texts};
use crate::refusal::Refusal;
use crate::submission::Random;

/// A submission whose events are JSON objects and whose envelope has an id where one is needed.
#[derive(Debug)]
pub struct Normalised<'t>(Opened<'t>);

impl<'t> Normalised<'t> {
    /// For the next stage.
    pub(crate) fn into_opened(self) -> Opened<'t> {
        self.0
    }
}

/// Opens the items and settles the event id.
///
/// # Errors
/// [`Refusal::Malformed`] if an event is no JSON object or has a nil or malformed id.
pub fn normalise<'t>(limited: Limited, texts: &'t Texts, random: Random) -> Result<Normalised<'t>, Refusal> {
    let submission = limited.into_submission();
    let floats = python_floats(submission.client.as_deref());
    let mut opened = Opened::open(submission, texts, floats)
        .map_err(|error| Refusal::malformed("invalid_json", error.to_string()))?;
    if opened.bare_items().any(Item::creates_event) {
        settle_event_id(&mut opened, random)?;
    }
    Ok(Normalised(opened))
}

fn settle_event_id(opened: &mut Opened<'_>, random: Random) -> Result<(), Refusal> {
    let mut payload_id = None;
    for OpenedItem { item, document } in &opened.items {
        let Some(document) = document else { continue };
        let event = document.value.as_object().ok_or_else(|| not_an_object(item.item_type()))?;
        payload_id = payload_id.or(written_id(event)?);
    }
    let id = match (opened.submission.envelope.event_id(), payload_id) {
        (Some(id), _) => id,
        (None, Some(text)) => {
            text.parse().map_err(|error| Refusal::malformed("invalid_event_id", format!("{error}")))?
        }
        (None, None) => EventId::from_random(random().ok_or_else(|| {
            Refusal::unavailable("internal", "the relay has no source of random numbers at the moment")
        })?),
    };
    opened.submission.envelope.set_event_id(id);
    for document in opened.items.iter_mut().filter_map(|opened| opened.document.as_mut()) {
        if let Some(event) = document.value.as_object_mut() {
            event.insert("event_id", id.to_string());
        }
    }
    Ok(())
}

fn written_id(event: &Object<'_>) -> Result<Option<String>, Refusal> {
    match event.get("event_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.to_string())),
        Some(_) => Err(Refusal::malformed("invalid_json", "event_id is not a string")),
    }
}

fn not_an_object(item_type: &ItemType) -> Refusal {
    let name = item_type.as_str();
    Refusal::malformed("invalid_json", format!("invalid JSON in the {name} item: expected an object"))
}

/// Old Python SDKs write floats as Python does, `NaN` and `Infinity`, which JSON does not have.
fn python_floats(client: Option<&str>) -> PythonFloats {
    match client {
        Some(client) if client.starts_with("raven-python/") || client.starts_with("sentry-python/") => {
            PythonFloats::Accept
        }
        _ => PythonFloats::Refuse,
    }
}
