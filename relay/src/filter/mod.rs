//! Inbound filters: drop what a project does not want (browser extensions, crawlers, releases, addresses, messages).
//!
//! The work is not here yet: every item passes. This is the one place it will happen in; what it will drop is answered 200
//! and counted as [`filtered`](picket_common::outcome::Outcome::Filtered).

use crate::normalise::Normalised;
use crate::pipeline::Submission;

/// A submission that the project's filters let through.
#[derive(Debug)]
pub struct Filtered(Submission);

impl Filtered {
    /// For the next stage.
    pub(crate) fn into_submission(self) -> Submission {
        self.0
    }
}

/// Applies the project's filters.
#[must_use]
pub fn apply(normalised: Normalised) -> Filtered {
    Filtered(normalised.into_submission())
}
