//! Outcomes: what became of each item. Everything received ends in exactly one.
//!
//! What ends on a relay is counted there by [`OutcomeKey`] and travels as a record of its own kind in the spool
//! (`docs/decisions/0009-outcomes-ride-in-the-spool.md`); what is spooled is counted by the aggregator.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::category::DataCategory;
use crate::ids::ProjectId;
use crate::timestamp::Timestamp;

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

/// Longest reason, in characters.
pub const MAX_REASON_CHARS: usize = 64;

/// What is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutcomeKey {
    /// The hour in which it happened, by the relay's clock: when it began.
    pub hour: Timestamp,
    /// The project; absent where the request named none that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    /// The kind of data.
    pub category: DataCategory,
    /// The end.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
}

/// How much ended how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCount {
    /// What is counted.
    #[serde(flatten)]
    pub key: OutcomeKey,
    /// How much, in the unit of the category.
    pub quantity: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_count_reads_back_as_it_was_written() {
        let key = OutcomeKey {
            hour: Timestamp::from_millis(3_600_000),
            project_id: Some(ProjectId::new(7)),
            category: DataCategory::LogItem,
            outcome: Outcome::RateLimited,
            reason: Reason::Borrowed("quota"),
        };
        let count = OutcomeCount { key, quantity: 3 };
        let text = serde_json::to_string(&count).unwrap();
        assert_eq!(serde_json::from_str::<OutcomeCount>(&text).unwrap(), count);
    }
}
