//! Limits: how much one request may bring, and how much all requests together may hold in memory.
//!
//! - [`enforce`]: sizes and numbers of items, by type. One offending item refuses the whole envelope (413, naming the type).
//! - [`memory`]: the process-wide budget for bodies in flight.
//! - [`rates`]: requests a second, by who makes them; asked by the HTTP layer before a body is read.

pub mod memory;
pub mod rates;

use picket_common::envelope::{Envelope, Item, ItemType};

use crate::config::LimitsConfig;
use crate::opened::Texts;
use crate::refusal::Refusal;
use crate::submission::{Accepted, Submission};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The protocol reserves this type for use between servers and has it refused at the door.
const INTERNAL_ITEM_TYPE: &str = "integration";

/// A submission whose items are within their limits.
#[derive(Debug)]
pub struct Limited(Submission);

impl Limited {
    /// For the next stage.
    pub(crate) fn into_submission(self) -> Submission {
        self.0
    }

    /// What the opened items will borrow from.
    pub(crate) fn texts(&self) -> Texts {
        Texts::of(&self.0.envelope)
    }
}

/// Item types that share one limit. The numbers are the protocol's own where configuration has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Event,
    Attachment,
    Session,
    ClientReport,
    CheckIn,
    Profile,
    Replay,
    Log,
    TraceMetric,
    Span,
    MetricBuckets,
    Unlimited,
}

/// Number of [`Class`] variants.
const CLASSES: usize = Class::Unlimited as usize + 1;

impl Class {
    const fn of(item_type: &ItemType) -> Self {
        match item_type {
            ItemType::Event
            | ItemType::Transaction
            | ItemType::Security
            | ItemType::RawSecurity
            | ItemType::Feedback
            | ItemType::FormData
            | ItemType::ReplayEvent => Self::Event,
            ItemType::Attachment | ItemType::UnrealReport | ItemType::UserReport => Self::Attachment,
            ItemType::Session | ItemType::Sessions => Self::Session,
            ItemType::ClientReport => Self::ClientReport,
            ItemType::CheckIn => Self::CheckIn,
            ItemType::Profile | ItemType::ProfileChunk => Self::Profile,
            ItemType::ReplayRecording | ItemType::ReplayVideo => Self::Replay,
            ItemType::Log => Self::Log,
            ItemType::TraceMetric => Self::TraceMetric,
            ItemType::Span => Self::Span,
            ItemType::Statsd | ItemType::MetricBuckets => Self::MetricBuckets,
            ItemType::Unknown(_) => Self::Unlimited,
        }
    }

    /// Longest payload and most items in one envelope.
    fn bounds(self, limits: &LimitsConfig) -> (usize, usize) {
        match self {
            // A form and an event may come together; `check_items` bounds the events among them to one.
            Self::Event => (limits.max_event_bytes.as_usize(), limits.max_items),
            Self::Attachment => (limits.max_attachment_bytes.as_usize(), 30),
            Self::Session => (10 * MIB, 100),
            Self::ClientReport => (100 * KIB, 100),
            Self::CheckIn => (100 * KIB, 1),
            Self::Profile => (50 * MIB, 1),
            Self::Replay => (10 * MIB, limits.max_items),
            Self::Log | Self::TraceMetric => (12 * MIB, 1),
            Self::Span => (12 * MIB, 25),
            Self::MetricBuckets => (MIB, 1),
            Self::Unlimited => (usize::MAX, limits.max_items),
        }
    }
}

/// Checks every item of a request.
///
/// # Errors
/// [`Refusal::TooLarge`] for the first item that is too long or one too many.
pub fn enforce(accepted: Accepted, limits: &LimitsConfig) -> Result<Limited, Refusal> {
    let Accepted(submission) = accepted;
    check_items(&submission.envelope, limits)?;
    Ok(Limited(submission))
}

pub(crate) fn check_items(envelope: &Envelope, limits: &LimitsConfig) -> Result<(), Refusal> {
    let mut counts = [0_usize; CLASSES];
    let mut events = 0_usize;
    let mut attached = 0_u64;
    for item in envelope.items() {
        if item.item_type().as_str() == INTERNAL_ITEM_TYPE {
            let detail = format!("items of type {INTERNAL_ITEM_TYPE} can't be posted");
            return Err(Refusal::malformed("invalid_envelope", detail));
        }
        let class = Class::of(item.item_type());
        let (max_bytes, max_count) = class.bounds(limits);
        if item.payload_len() > max_bytes as u64 {
            return Err(too_long(item, max_bytes));
        }
        let count = &mut counts[class as usize];
        *count += 1;
        if *count > max_count {
            return Err(too_many(item, max_count));
        }
        if class == Class::Attachment {
            attached = attached.saturating_add(item.payload_len());
            if attached > limits.max_attachments_bytes.as_u64() {
                return Err(too_much(item, limits.max_attachments_bytes.as_u64()));
            }
        }
        if is_event(item.item_type()) {
            events += 1;
            if events > 1 {
                return Err(too_many(item, 1));
            }
        }
    }
    Ok(())
}

/// Whether an item is the one event that an envelope may have, in whatever form.
const fn is_event(item_type: &ItemType) -> bool {
    matches!(
        item_type,
        ItemType::Event | ItemType::Transaction | ItemType::Security | ItemType::RawSecurity | ItemType::Feedback
    )
}

/// How many bytes the attachments of an envelope and their like have together.
pub(crate) fn attached_bytes(envelope: &Envelope) -> u64 {
    let attached = envelope.items().iter().filter(|item| Class::of(item.item_type()) == Class::Attachment);
    attached.fold(0, |sum, item| sum.saturating_add(item.payload_len()))
}

fn too_long(item: &Item, max_bytes: usize) -> Refusal {
    let name = item.item_type().as_str();
    let detail =
        format!("item of type {name} is too large: it has {} bytes, the limit is {max_bytes}", item.payload_len());
    Refusal::TooLarge { what: name.into(), detail }
}

fn too_much(item: &Item, max_bytes: u64) -> Refusal {
    let name = item.item_type().as_str();
    let detail =
        format!("the items of type {name} and their like are too large together: the limit is {max_bytes} bytes");
    Refusal::TooLarge { what: name.into(), detail }
}

fn too_many(item: &Item, max_count: usize) -> Refusal {
    let name = item.item_type().as_str();
    let detail = format!("too many items of type {name} in one envelope: the limit is {max_count}");
    Refusal::TooLarge { what: name.into(), detail }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;
    use picket_common::config::ByteSize;

    fn envelope(items: &[(ItemType, usize)]) -> Envelope {
        let mut envelope = Envelope::empty();
        for (item_type, length) in items {
            envelope.push(Item::new(item_type.clone(), Bytes::from(vec![b' '; *length])));
        }
        envelope
    }

    fn refused(items: &[(ItemType, usize)]) -> Option<String> {
        let limits = LimitsConfig { max_event_bytes: ByteSize::bytes(10), ..LimitsConfig::default() };
        match check_items(&envelope(items), &limits) {
            Ok(()) => None,
            Err(Refusal::TooLarge { what, .. }) => Some(what.into()),
            Err(other) => unreachable!("{other}"),
        }
    }

    #[test]
    fn an_item_at_its_limit_passes_and_one_byte_more_is_refused_by_name() {
        assert_eq!(refused(&[(ItemType::Event, 10)]), None);
        assert_eq!(refused(&[(ItemType::Event, 11)]).unwrap(), "event");
        assert_eq!(refused(&[(ItemType::CheckIn, 100 * KIB)]), None);
        assert_eq!(refused(&[(ItemType::CheckIn, 100 * KIB + 1)]).unwrap(), "check_in");
    }

    #[test]
    fn an_envelope_carries_one_event_and_its_companions() {
        assert_eq!(refused(&[(ItemType::Event, 1), (ItemType::Attachment, 50), (ItemType::Session, 2)]), None);
        assert_eq!(refused(&[(ItemType::Event, 1), (ItemType::Transaction, 1)]).unwrap(), "transaction");
        assert_eq!(refused(&vec![(ItemType::Attachment, 0); 31]).unwrap(), "attachment");
        let mut many = vec![(ItemType::Feedback, 10); 2];
        assert_eq!(refused(&many).unwrap(), "feedback");
        many[0].0 = ItemType::RawSecurity;
        assert_eq!(refused(&many).unwrap(), "feedback");
        assert_eq!(refused(&[(ItemType::Log, 9), (ItemType::TraceMetric, 9)]), None);
        assert_eq!(refused(&[(ItemType::Log, 9), (ItemType::Log, 9)]).unwrap(), "log");
    }

    #[test]
    fn attachments_have_a_limit_for_their_sum() {
        let limits = LimitsConfig { max_attachments_bytes: ByteSize::bytes(10), ..LimitsConfig::default() };
        let check = |lengths: &[usize]| {
            let items: Vec<_> = lengths.iter().map(|length| (ItemType::Attachment, *length)).collect();
            check_items(&envelope(&items), &limits)
        };
        assert_eq!(check(&[5, 5]), Ok(()));
        assert!(matches!(check(&[5, 6]), Err(Refusal::TooLarge { what, .. }) if &*what == "attachment"));
    }

    #[test]
    fn the_type_that_servers_use_among_themselves_is_refused() {
        let envelope = envelope(&[(ItemType::Event, 1), (ItemType::from_name(INTERNAL_ITEM_TYPE), 1)]);
        let refusal = check_items(&envelope, &LimitsConfig::default()).unwrap_err();
        assert!(matches!(refusal, Refusal::Malformed { reason: "invalid_envelope", .. }), "{refusal}");
    }

    #[test]
    fn unknown_items_have_no_limit_of_their_own() {
        assert_eq!(refused(&vec![(ItemType::Unknown("sparkle".into()), 500); 100]), None);
    }
}
