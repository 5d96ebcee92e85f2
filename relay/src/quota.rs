//! Quotas: how much of which category a project, a key or the organisation may send.
//!
//! The work is not here yet: everything is admitted. This is the one place it will happen in, with the state that the
//! aggregator pushes; what it will refuse is answered 429 and counted as
//! [`rate_limited`](picket_common::outcome::Outcome::RateLimited).

use crate::filter::Filtered;
use crate::opened::Opened;

/// A submission that is within its quotas.
#[derive(Debug)]
pub struct Admitted<'t>(Opened<'t>);

impl<'t> Admitted<'t> {
    /// For the next stage.
    pub(crate) fn into_opened(self) -> Opened<'t> {
        self.0
    }
}

/// Checks and charges the quotas.
#[must_use]
pub fn admit(filtered: Filtered<'_>) -> Admitted<'_> {
    Admitted(filtered.into_opened())
}
