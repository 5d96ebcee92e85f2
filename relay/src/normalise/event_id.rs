//! The id of an envelope's event: the header's, else the payload's, else a new one.

use picket_common::envelope::ItemType;
use picket_common::ids::EventId;
use picket_common::tree::Value;

use crate::opened::{Opened, OpenedItem, is_event};
use crate::refusal::Refusal;
use crate::submission::Random;

/// Settles the id in the envelope's header. The payload gets it when its fields are normalised; one there that is no id counts as
/// missing.
///
/// # Errors
/// [`Refusal::Malformed`] if an event is no JSON object.
pub(super) fn settle(opened: &mut Opened<'_>, random: Random) -> Result<(), Refusal> {
    let mut written = None;
    for OpenedItem { item, document } in &opened.items {
        let Some(document) = document.as_ref().filter(|_| is_event(item.item_type())) else { continue };
        let event = document.value.as_object().ok_or_else(|| not_an_object(item.item_type()))?;
        let id = || event.get("event_id").and_then(Value::as_str)?.parse::<EventId>().ok();
        written = written.or_else(id);
    }
    if opened.submission.envelope.event_id().is_some() {
        return Ok(());
    }
    let id = match written {
        Some(id) => id,
        None => EventId::from_random(random().ok_or_else(|| {
            Refusal::unavailable("internal", "the relay has no source of random numbers at the moment")
        })?),
    };
    opened.submission.envelope.set_event_id(id);
    Ok(())
}

fn not_an_object(item_type: &ItemType) -> Refusal {
    let name = item_type.as_str();
    Refusal::malformed("invalid_json", format!("invalid JSON in the {name} item: expected an object"))
}
