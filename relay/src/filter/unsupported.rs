//! Items that nothing stores yet: they are accepted, counted as `unsupported` and go no further.
//!
//! Here and not at the aggregator, so that what will be dropped takes no room in the spool (attachments would fill it, and then
//! events would be refused) and never lies on a disk unscrubbed. Sessions outnumber events; this makes them nearly free.

use picket_common::envelope::{Item, ItemType};
use picket_common::outcome::{Outcome, Reason};

use crate::client_report;
use crate::dropped::Dropped;
use crate::opened::Opened;

/// Takes the items out that have no store. Client reports are read here: they are counts themselves.
pub(super) fn drop_unsupported(opened: &mut Opened<'_>, dropped: &mut Dropped) {
    for item in opened.bare_items().filter(|item| *item.item_type() == ItemType::ClientReport) {
        client_report::count(item, opened.submission.received_at, dropped);
    }
    let ends = opened.bare_items().filter(|item| !has_store(item) && *item.item_type() != ItemType::ClientReport);
    dropped.note(Outcome::Unsupported, Reason::Borrowed("no_store"), ends);
    opened.items.retain(|opened| has_store(&opened.item));
}

fn has_store(item: &Item) -> bool {
    // Attachments have no store either, but belong to the events that have; the aggregator counts them with these.
    matches!(item.item_type(), ItemType::Event | ItemType::Security | ItemType::Attachment)
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
    fn events_and_their_attachments_stay_and_everything_else_is_counted_and_dropped() {
        let mut envelope = Envelope::empty();
        for item_type in [ItemType::Session, ItemType::Event, ItemType::Attachment, ItemType::Unknown("x".into())] {
            envelope.push(Item::new(item_type, Bytes::from_static(b"{}")));
        }
        let texts = Texts::of(&envelope);
        let mut opened = Opened::open(Submission::for_tests(envelope), &texts, PythonFloats::Refuse).unwrap();
        let mut dropped = Dropped::default();
        drop_unsupported(&mut opened, &mut dropped);
        let (outcome, _, tally) = dropped.iter().next().unwrap();
        assert_eq!(outcome, Outcome::Unsupported);
        let dropped: Vec<_> = tally.iter().collect();
        assert_eq!(dropped, [(DataCategory::Session, 1), (DataCategory::Default, 1)]);
        let kept: Vec<_> = opened.bare_items().map(|item| item.item_type().as_str()).collect();
        assert_eq!(kept, ["event", "attachment"]);
    }
}
