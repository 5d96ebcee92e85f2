//! What the stages drop from a request that is taken: each item with how and why it ended.
//!
//! Counted by the pipeline once the request is taken: one that is refused in the end is counted as refused, all of it. So no
//! item is counted twice.

use picket_common::envelope::Item;
use picket_common::outcome::{Outcome, Reason};

use crate::tally::Tally;

/// Dropped items.
#[derive(Debug, Default)]
pub struct Dropped(Vec<(Outcome, Reason, Tally)>);

impl Dropped {
    /// Notes items that end so.
    pub fn note<'a>(&mut self, outcome: Outcome, reason: Reason, items: impl IntoIterator<Item = &'a Item>) {
        self.add(outcome, reason, Tally::of_items(items));
    }

    /// Adds what was counted already.
    pub fn add(&mut self, outcome: Outcome, reason: Reason, tally: Tally) {
        if tally.iter().next().is_some() {
            self.0.push((outcome, reason, tally));
        }
    }

    /// Adds what another stage dropped.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// How, why and how much.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, &Reason, &Tally)> {
        self.0.iter().map(|(outcome, reason, tally)| (*outcome, reason, tally))
    }
}
