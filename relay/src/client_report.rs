//! Client reports: what an SDK has dropped before it was sent, and why, in its own words.
//!
//! A report ends here as accepted, and what it tells is counted as `client_discard`, `rate_limited` or `filtered`; nothing of it
//! is spooled. One that can't be read ends as invalid. Neither is ever a reason to refuse a request. What happened when is not
//! believed: everything is counted in the hour in which the report arrived.
//!
//! How reports look, and the bounds for what clients make up, is in [`picket_common::normalise::ClientReport`].

use picket_common::envelope::{Item, ItemType};
use picket_common::normalise::ClientReport;
use picket_common::outcome::{Outcome, Reason};
use picket_common::timestamp::Timestamp;

use crate::dropped::Dropped;
use crate::tally::Tally;

/// Counts a client report, and what it tells.
pub fn count(item: &Item, received_at: Timestamp, dropped: &mut Dropped) {
    debug_assert_eq!(*item.item_type(), ItemType::ClientReport, "the caller picks client reports");
    let report = match ClientReport::read(item.payload(), received_at) {
        Ok(report) => report,
        Err(rejected) => return dropped.note(Outcome::Invalid, Reason::Borrowed(rejected.reason), [item]),
    };
    dropped.note(Outcome::Accepted, Reason::Borrowed(""), [item]);
    for told in report.discarded {
        let tally = Tally::of_quantity(told.category, told.quantity.into());
        dropped.add(told.outcome, Reason::Owned(told.reason.into()), tally);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;
    use picket_common::category::DataCategory;
    use proptest::prelude::*;

    type Told = (DataCategory, Outcome, String, u64);

    fn counted(payload: &[u8]) -> Vec<Told> {
        let mut dropped = Dropped::default();
        let item = Item::new(ItemType::ClientReport, Bytes::copy_from_slice(payload));
        count(&item, Timestamp::EPOCH, &mut dropped);
        let told = |(outcome, reason, tally): (Outcome, &Reason, &Tally)| {
            let told = |(category, quantity)| (category, outcome, reason.to_string(), quantity);
            tally.iter().map(told).collect::<Vec<_>>()
        };
        dropped.iter().flat_map(told).collect()
    }

    #[test]
    fn a_report_is_accepted_and_what_it_tells_is_counted() {
        let report = br#"{"discarded_events":[{"reason":"sample_rate","category":"transaction","quantity":7}],
            "filtered_events":[{"reason":"localhost","category":"error","quantity":2}]}"#;
        let expected: [Told; 3] = [
            (DataCategory::ClientReport, Outcome::Accepted, String::new(), 1),
            (DataCategory::Transaction, Outcome::ClientDiscard, "sample_rate".to_owned(), 7),
            (DataCategory::Error, Outcome::Filtered, "client_report:localhost".to_owned(), 2),
        ];
        assert_eq!(counted(report), expected);
    }

    #[test]
    fn a_report_that_can_not_be_read_is_one_invalid_item() {
        let expected = [(DataCategory::ClientReport, Outcome::Invalid, "invalid_json".to_owned(), 1)];
        assert_eq!(counted(b"nonsense"), expected);
    }

    proptest! {
        #[test]
        fn every_report_ends_in_exactly_one_outcome_of_its_own(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let counted = counted(&payload);
            let own = counted.iter().filter(|(category, ..)| *category == DataCategory::ClientReport).count();
            prop_assert_eq!(own, 1);
        }
    }
}
