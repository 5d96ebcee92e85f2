//! Normalisation: bring what SDKs send into the form that later stages rely on. The rules are in
//! [`picket_common::normalise`]; here they meet the request.
//!
//! Invariants:
//! - an envelope that makes an event has an id in its header, which is the event's own: the header's, else the payload's, else a
//!   new one;
//! - an event is refused only if it is no JSON object; a field that is wrong is repaired, with a word about it in `_meta`;
//! - an item that can't be used (a session without a release, a check-in without a monitor) is dropped and counted as
//!   [`Invalid`](Outcome::Invalid) under the reason's word. The rest of the envelope is taken: sending it again would not help.
//!
//! | module | what |
//! | --- | --- |
//! | `event_id` | the one id of the envelope |
//! | `surroundings` | what the request tells normalisation |
//!
//! Transactions are at most opened, because nothing stores them: filters may still name them.

mod event_id;
mod surroundings;
#[cfg(test)]
mod tests;

use picket_common::envelope::{Item, ItemType};
use picket_common::normalise::{
    EventContext, Rejected, normalise_check_in, normalise_event, normalise_feedback, normalise_session,
    normalise_sessions, normalise_user_report,
};
use picket_common::outcome::{Outcome, Reason};
use picket_common::tree::PythonFloats;

use crate::dropped::Dropped;
use crate::limit::Limited;
use crate::opened::{Opened, OpenedItem, Texts, goes_with_an_event, has_document, is_event};
use crate::refusal::Refusal;
use crate::submission::Random;

/// A submission in its normal form.
#[derive(Debug)]
pub struct Normalised<'t> {
    opened: Opened<'t>,
    dropped: Dropped,
}

impl<'t> Normalised<'t> {
    /// For the next stage.
    pub(crate) fn into_opened(self) -> Opened<'t> {
        self.opened
    }

    /// What was dropped.
    pub(crate) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }
}

/// Opens the items, settles the event id and normalises what is in the items.
///
/// # Errors
/// [`Refusal::Malformed`] if an event is no JSON object.
pub fn normalise<'t>(limited: Limited, texts: &'t Texts, random: Random) -> Result<Normalised<'t>, Refusal> {
    let submission = limited.into_submission();
    let floats = python_floats(submission.client.as_deref());
    let mut opened = Opened::open(submission, texts, floats)
        .map_err(|error| Refusal::malformed("invalid_json", error.to_string()))?;
    if opened.bare_items().any(Item::creates_event) {
        event_id::settle(&mut opened, random)?;
    }
    let mut dropped = Dropped::default();
    normalise_items(&mut opened, &mut dropped);
    Ok(Normalised { opened, dropped })
}

fn normalise_items(opened: &mut Opened<'_>, dropped: &mut Dropped) {
    let Opened { submission, items } = opened;
    let context = surroundings::context_of(submission);
    let mut has_lost_its_event = None;
    items.retain_mut(|opened| {
        let Err(Rejected { reason, .. }) = normalise_item(opened, &context) else { return true };
        dropped.note(Outcome::Invalid, Reason::Borrowed(reason), [&opened.item]);
        if is_event(opened.item.item_type()) {
            has_lost_its_event = Some(reason);
        }
        false
    });
    if let Some(reason) = has_lost_its_event {
        let goes = |opened: &OpenedItem<'_>| goes_with_an_event(opened.item.item_type());
        let companions = items.iter().filter(|opened| goes(opened)).map(|opened| &opened.item);
        dropped.note(Outcome::Invalid, Reason::Borrowed(reason), companions);
        items.retain(|opened| !goes(opened));
    }
}

fn normalise_item(opened: &mut OpenedItem<'_>, context: &EventContext<'_>) -> Result<(), Rejected> {
    let item_type = opened.item.item_type();
    let Some(document) = &mut opened.document else {
        return match has_document(item_type) && *item_type != ItemType::Transaction {
            true => Err(Rejected { reason: "invalid_json", detail: "the item is not JSON" }),
            false => Ok(()),
        };
    };
    match item_type {
        ItemType::Event | ItemType::Security => normalise_event(document, context),
        ItemType::Feedback => normalise_feedback(document, context),
        ItemType::Session => normalise_session(document, context),
        ItemType::Sessions => normalise_sessions(document, context),
        ItemType::CheckIn => normalise_check_in(document, context),
        ItemType::UserReport => normalise_user_report(document, context),
        _ => Ok(()),
    }
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
