//! The types of items that are kept, each with how it is scrubbed, and the end of all others.
//!
//! What nothing here knows could not be scrubbed, so it must not be spooled. That is also what keeps it cheap: nobody reads or
//! rewrites its payload, and it takes no room on any disk. It has been through filters and quotas by now, whose answers SDKs
//! rely on whether or not anything is stored.

use picket_common::envelope::{Item, ItemType};
use picket_common::outcome::{Outcome, Reason};

use super::scrubber::Payload;
use crate::dropped::Dropped;
use crate::opened::Opened;

/// How an item is scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As JSON, by the fields that it has.
    Json(Payload),
    /// As bytes.
    File,
}

impl Kind {
    /// Of a type; `None` for one that is not kept. All are named, so that a new one needs a decision.
    pub(super) const fn of(item_type: &ItemType) -> Option<Self> {
        match item_type {
            ItemType::Event | ItemType::Security | ItemType::Feedback => Some(Self::Json(Payload::Event)),
            ItemType::UserReport => Some(Self::Json(Payload::UserReport)),
            ItemType::Session | ItemType::Sessions => Some(Self::Json(Payload::Session)),
            ItemType::CheckIn => Some(Self::Json(Payload::CheckIn)),
            ItemType::FormData => Some(Self::Json(Payload::FormData)),
            ItemType::Attachment => Some(Self::File),
            // Client reports are counted by the filters, the raw forms of crashes and browsers' reports taken apart before them.
            ItemType::ClientReport | ItemType::RawSecurity | ItemType::UnrealReport => None,
            ItemType::Transaction
            | ItemType::Span
            | ItemType::Profile
            | ItemType::ProfileChunk
            | ItemType::ReplayEvent
            | ItemType::ReplayRecording
            | ItemType::ReplayVideo
            | ItemType::Log
            | ItemType::TraceMetric
            | ItemType::Statsd
            | ItemType::MetricBuckets
            | ItemType::Unknown(_) => None,
        }
    }
}

fn is_kept(item: &Item) -> bool {
    Kind::of(item.item_type()).is_some()
}

/// Takes out what is not kept. It ends as `unsupported`.
pub(super) fn drop_unsupported(opened: &mut Opened<'_>, dropped: &mut Dropped) {
    if opened.bare_items().all(is_kept) {
        return;
    }
    let ends = opened.bare_items().filter(|item| !is_kept(item));
    dropped.note(Outcome::Unsupported, Reason::Borrowed("no_store"), ends);
    opened.items.retain(|opened| is_kept(&opened.item));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::opened::Texts;
    use crate::submission::Submission;
    use bytes::Bytes;
    use picket_common::category::DataCategory;
    use picket_common::envelope::Envelope;
    use picket_common::tree::PythonFloats;

    #[test]
    fn what_has_a_place_stays_and_everything_else_is_counted_and_dropped() {
        const KEPT: [&str; 9] = [
            "event",
            "security",
            "feedback",
            "user_report",
            "attachment",
            "session",
            "sessions",
            "check_in",
            "form_data",
        ];
        const ENDED: [(&str, DataCategory); 9] = [
            ("transaction", DataCategory::Transaction),
            ("span", DataCategory::Span),
            ("profile", DataCategory::Profile),
            ("profile_chunk", DataCategory::ProfileChunk),
            ("replay_event", DataCategory::Replay),
            ("trace_metric", DataCategory::TraceMetric),
            ("statsd", DataCategory::MetricBucket),
            ("metric_buckets", DataCategory::MetricBucket),
            ("of_tomorrow", DataCategory::Default),
        ];
        for (name, ends_as) in
            KEPT.map(|name| (name, None)).into_iter().chain(ENDED.map(|(name, as_)| (name, Some(as_))))
        {
            let mut envelope = Envelope::empty();
            envelope.push(Item::new(ItemType::from_name(name), Bytes::from_static(b"{}")));
            let texts = Texts::of(&envelope);
            let mut opened = Opened::open(Submission::for_tests(envelope), &texts, PythonFloats::Refuse).unwrap();
            let mut dropped = Dropped::default();
            drop_unsupported(&mut opened, &mut dropped);
            let ended = dropped.iter().next().map(|(outcome, _, tally)| (outcome, tally.iter().next().unwrap()));
            assert_eq!(ended, ends_as.map(|category| (Outcome::Unsupported, (category, 1))), "{name}");
            assert_eq!(opened.items.len(), usize::from(ends_as.is_none()), "{name}");
        }
    }
}
