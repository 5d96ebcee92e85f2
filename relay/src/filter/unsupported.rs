//! Items that nothing stores yet: they are accepted, counted as `unsupported` and go no further.
//!
//! Here and not at the aggregator, so that what will be dropped takes no room in the spool (attachments would fill it, and then
//! events would be refused) and never lies on a disk unscrubbed. Sessions outnumber events; this makes them nearly free.

use picket_common::envelope::{Item, ItemType};

use crate::submission::Submission;
use crate::tally::Tally;

/// Takes the items out that have no store, and says how many they were.
pub(super) fn drop_unsupported(submission: &mut Submission) -> Tally {
    let dropped = Tally::of_items(submission.envelope.items().iter().filter(|item| !has_store(item)));
    submission.envelope.retain_items(has_store);
    dropped
}

fn has_store(item: &Item) -> bool {
    *item.item_type() == ItemType::Event
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use picket_common::category::DataCategory;
    use picket_common::envelope::Envelope;
    use picket_common::ids::{ProjectId, PublicKey};
    use picket_common::timestamp::Timestamp;

    #[test]
    fn events_stay_and_everything_else_is_counted_and_dropped() {
        let mut envelope = Envelope::empty();
        for item_type in [ItemType::Session, ItemType::Event, ItemType::Attachment, ItemType::Unknown("x".into())] {
            envelope.push(Item::new(item_type, Bytes::from_static(b"{}")));
        }
        let mut submission = Submission {
            project_id: ProjectId::new(1),
            public_key: PublicKey::from_random([1; 16]),
            received_at: Timestamp::EPOCH,
            client: None,
            envelope,
        };
        let dropped: Vec<_> = drop_unsupported(&mut submission).iter().collect();
        let expected = [(DataCategory::Session, 1), (DataCategory::Attachment, 2), (DataCategory::Default, 1)];
        assert_eq!(dropped, expected);
        assert_eq!(submission.envelope.items().len(), 1);
        assert_eq!(submission.envelope.items()[0].item_type(), &ItemType::Event);
    }
}
