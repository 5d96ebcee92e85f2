//! Outcomes: what became of each item. Everything received ends in exactly one.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The end of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Stored.
    Accepted,
    /// Dropped by an inbound filter.
    Filtered,
    /// Refused by a rate limit or quota.
    RateLimited,
    /// Malformed, too large or not authorised.
    Invalid,
    /// Well-formed data of a kind that has no store yet; counted and dropped.
    Unsupported,
    /// Dropped by Picket itself for a stated reason, such as an item that can't be scrubbed.
    Dropped,
    /// Dropped in the SDK, as it says in a client report.
    ClientDiscard,
}

impl Outcome {
    /// The name used in rows, metrics and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Filtered => "filtered",
            Self::RateLimited => "rate_limited",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Dropped => "dropped",
            Self::ClientDiscard => "client_discard",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an item ended so: a short stable word such as `invalid_json`, never text from the item.
pub type Reason = Cow<'static, str>;
