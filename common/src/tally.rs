//! How much of what a request or an item holds, in the units that quotas and outcomes are counted in.
//!
//! | item | counts as |
//! | --- | --- |
//! | attachment, Unreal report | its bytes, and one attachment item |
//! | log, span, metric container | what its header says it holds (`item_count`), at least one, and for logs and metrics its bytes |
//! | everything else, also a `sessions` item with many aggregates | one |
//!
//! Invariants:
//! - both sides count with this module, so that what the relay refuses and what the aggregator stores add up;
//! - an item counts once in each category that it counts in;
//! - what a client claims to have put into a container is bounded by what its payload can hold.

use crate::category::DataCategory;
use crate::envelope::{Envelope, Item, ItemType};

/// Shortest entry of a container: a digit and a comma, or a protobuf field that is empty.
const MIN_ENTRY_BYTES: u64 = 2;

/// How much of which category there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(Vec<(DataCategory, u64)>);

impl Tally {
    /// Counts an envelope's items.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Self {
        Self::of_items(envelope.items())
    }

    /// Counts items.
    #[must_use]
    pub fn of_items<'a>(items: impl IntoIterator<Item = &'a Item>) -> Self {
        let mut tally = Self::default();
        for item in items {
            tally.add_item(item, item.payload_len());
        }
        tally
    }

    /// Counts an item whose payload has so many bytes, wherever it is.
    #[must_use]
    pub fn of_item(item: &Item, payload_bytes: u64) -> Self {
        let mut tally = Self::default();
        tally.add_item(item, payload_bytes);
        tally
    }

    /// One item of a category, for a request that was refused before it was read.
    #[must_use]
    pub fn one(category: DataCategory) -> Self {
        Self(vec![(category, 1)])
    }

    /// So much of a category.
    #[must_use]
    pub fn of_quantity(category: DataCategory, quantity: u64) -> Self {
        Self(vec![(category, quantity)])
    }

    /// Whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Category and quantity, each category once.
    pub fn iter(&self) -> impl Iterator<Item = (DataCategory, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Adds what another tally has.
    pub fn merge(&mut self, other: &Self) {
        for (category, quantity) in other.iter() {
            self.add(category, quantity);
        }
    }

    fn add_item(&mut self, item: &Item, payload_bytes: u64) {
        let category = item.item_type().category();
        let entries = || item.item_count().unwrap_or(1).clamp(1, payload_bytes.div_ceil(MIN_ENTRY_BYTES).max(1));
        match item.item_type() {
            ItemType::Attachment | ItemType::UnrealReport => {
                self.add(DataCategory::Attachment, payload_bytes);
                self.add(DataCategory::AttachmentItem, 1);
            }
            ItemType::Log => {
                self.add(category, entries());
                self.add(DataCategory::LogByte, payload_bytes);
            }
            ItemType::TraceMetric => {
                self.add(category, entries());
                self.add(DataCategory::TraceMetricByte, payload_bytes);
            }
            ItemType::Span => self.add(category, entries()),
            _ => self.add(category, 1),
        }
    }

    /// Adds so much of a category.
    pub fn add(&mut self, category: DataCategory, quantity: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == category) {
            Some((_, total)) => *total = total.saturating_add(quantity),
            None => self.0.push((category, quantity)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;

    fn counted(envelope: &str) -> Vec<(DataCategory, u64)> {
        let envelope = Envelope::parse(Bytes::copy_from_slice(envelope.as_bytes()), 100).unwrap();
        Tally::of(&envelope).iter().collect()
    }

    #[test]
    fn attachments_count_their_bytes_and_their_number_and_other_items_one() {
        let mut envelope = Envelope::empty();
        for (item_type, payload) in
            [(ItemType::Event, "{}"), (ItemType::Attachment, "12345"), (ItemType::Attachment, "678")]
        {
            envelope.push(Item::new(item_type, Bytes::from(payload)));
        }
        let counted: Vec<_> = Tally::of(&envelope).iter().collect();
        let expected = [(DataCategory::Error, 1), (DataCategory::Attachment, 8), (DataCategory::AttachmentItem, 2)];
        assert_eq!(counted, expected);
    }

    #[test]
    fn a_container_counts_what_it_holds() {
        let log = r#"{"items":[{"body":"a"},{"body":"b"},{"body":"c"}]}"#;
        let counted = counted(&format!("{{}}\n{{\"type\":\"log\",\"item_count\":3}}\n{log}\n"));
        assert_eq!(counted, [(DataCategory::LogItem, 3), (DataCategory::LogByte, log.len() as u64)]);
    }

    #[test]
    fn a_container_that_claims_more_than_it_can_hold_or_nonsense_is_not_believed() {
        for (claim, expected) in [("18446744073709551615", 6), ("0", 1), ("-1", 1), ("\"many\"", 1), ("2.5", 1)] {
            let counted = counted(&format!("{{}}\n{{\"type\":\"span\",\"item_count\":{claim}}}\n[{{}},{{}},{{}}]..\n"));
            assert_eq!(counted, [(DataCategory::Span, expected)], "{claim}");
        }
    }
}
