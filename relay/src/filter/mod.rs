//! Inbound filters: drop what a project does not want (browser extensions, crawlers, releases, addresses, messages).
//!
//! The projects' own filters are not here yet. This is the one place they will work in; what they drop will be answered 200 and
//! counted as [`filtered`](picket_common::outcome::Outcome::Filtered). What is here: items that nothing stores yet are dropped.

mod unsupported;

use crate::normalise::Normalised;
use crate::opened::Opened;
use crate::tally::Tally;

/// What the filters let through; it may have no items left.
#[derive(Debug)]
pub struct Filtered<'t> {
    opened: Opened<'t>,
    unsupported: Tally,
}

impl<'t> Filtered<'t> {
    /// For the next stage.
    pub(crate) fn into_opened(self) -> Opened<'t> {
        self.opened
    }

    /// What was dropped because nothing stores it. Counted by the caller once the request is taken: one that is refused in
    /// the end is counted as refused, all of it.
    pub(crate) fn take_unsupported(&mut self) -> Tally {
        std::mem::take(&mut self.unsupported)
    }
}

/// Applies the filters.
#[must_use]
pub fn apply(normalised: Normalised<'_>) -> Filtered<'_> {
    let mut opened = normalised.into_opened();
    let unsupported = unsupported::drop_unsupported(&mut opened);
    Filtered { opened, unsupported }
}
