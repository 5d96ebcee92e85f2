//! How much of what a request holds, in the units that outcomes are counted in.

use picket_common::category::DataCategory;
use picket_common::envelope::{Envelope, Item};

/// How much of which category a request holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(Vec<(DataCategory, u64)>);

impl Tally {
    /// Counts an envelope's items; attachments count their bytes.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Self {
        Self::of_items(envelope.items())
    }

    /// Counts items; attachments count their bytes.
    pub fn of_items<'a>(items: impl IntoIterator<Item = &'a Item>) -> Self {
        let mut tally = Self::default();
        for item in items {
            tally.add(item.item_type().category(), item.quantity());
        }
        tally
    }

    /// One item of a category, for a request that was refused before it was read.
    #[must_use]
    pub fn one(category: DataCategory) -> Self {
        Self(vec![(category, 1)])
    }

    /// Category and quantity, each category once.
    pub fn iter(&self) -> impl Iterator<Item = (DataCategory, u64)> + '_ {
        self.0.iter().copied()
    }

    fn add(&mut self, category: DataCategory, quantity: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == category) {
            Some((_, total)) => *total += quantity,
            None => self.0.push((category, quantity)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use picket_common::envelope::ItemType;

    #[test]
    fn a_tally_counts_items_but_bytes_of_attachments() {
        let mut envelope = Envelope::empty();
        for (item_type, payload) in
            [(ItemType::Event, "{}"), (ItemType::Attachment, "12345"), (ItemType::Attachment, "678")]
        {
            envelope.push(Item::new(item_type, Bytes::from(payload)));
        }
        let counted: Vec<_> = Tally::of(&envelope).iter().collect();
        assert_eq!(counted, [(DataCategory::Error, 1), (DataCategory::Attachment, 8)]);
    }
}
