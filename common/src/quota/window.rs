//! Buckets and windows: what is counted together, and what relay and aggregator say of it on the control stream.
//!
//! ```text
//! relay ──QuotaUse { is_complete, windows: [WindowUse] }──▶ aggregator      a changed window, at most every 100 ms
//! relay ◀─QuotaShares { relays, windows: [WindowShare] }─── aggregator      an answer, a recall, "exhausted"
//! ```
//!
//! All amounts are totals since the window began and only ever grow, so a message may be lost, repeated or late: the larger
//! number is the newer one. What a relay may admit in the window is `base + granted - released`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Quota, QuotaScope};
use crate::ids::{ProjectId, PublicKey};
use crate::timestamp::Timestamp;

/// What a quota counts together: one counter for all relays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuotaBucket {
    /// The quota's id.
    pub quota: Arc<str>,
    /// Whose data.
    pub scope: QuotaScope,
    /// The project's number or the public key; empty for the organisation.
    #[serde(default)]
    pub of: Arc<str>,
    /// Length of the windows, in seconds; never 0 in a bucket that [`QuotaBucket::of`] made.
    pub seconds: u64,
}

/// A window by its number: how many windows of its length fit between the Unix epoch and its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WindowNumber(pub u64);

/// What a relay says of a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowUse {
    /// What is counted.
    pub bucket: QuotaBucket,
    /// In which window.
    pub number: WindowNumber,
    /// What the relay gave itself when the window began: the limit divided by the number of relays.
    pub base: u64,
    /// What it knows to have been granted.
    pub granted: u64,
    /// What it gave back.
    pub released: u64,
    /// What it admitted.
    pub used: u64,
    /// How much more it would like; not a total.
    #[serde(default)]
    pub wants: u64,
}

/// What the aggregator says of a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowShare {
    /// What is counted.
    pub bucket: QuotaBucket,
    /// In which window.
    pub number: WindowNumber,
    /// What the relay has been granted beyond its base.
    pub granted: u64,
    /// Nothing is left for anyone until the window ends. Not a total: the last word counts.
    #[serde(default)]
    pub is_exhausted: bool,
    /// Another relay needs it: give back what is not needed soon.
    #[serde(default)]
    pub is_recalled: bool,
    /// With a recall: what the relay is taken to have given itself. A relay that has not begun the window begins it with
    /// this, to give most of it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
}

// === impl QuotaBucket ===

impl QuotaBucket {
    /// The bucket that data of a project under a key falls into; `None` if the quota counts other projects or keys, or
    /// counts nothing.
    #[must_use]
    pub fn of(quota: &Quota, project: ProjectId, key: &PublicKey) -> Option<Self> {
        if !quota.is_enforced() || !applies_to(quota, project, key) {
            return None;
        }
        let of = match quota.scope {
            QuotaScope::Organization | QuotaScope::Unknown => "".into(),
            QuotaScope::Project => project.to_string().into(),
            QuotaScope::Key => key.as_str().into(),
        };
        let (id, seconds) = (quota.id.as_deref()?, quota.window.filter(|&seconds| seconds > 0)?);
        Some(Self { quota: id.into(), scope: quota.scope, of, seconds })
    }

    /// The window that a moment falls into.
    #[must_use]
    pub const fn window_at(&self, at: Timestamp) -> WindowNumber {
        // A length of 0 can only come from a broken peer.
        let seconds = if self.seconds == 0 { 1 } else { self.seconds };
        WindowNumber(at.as_seconds() / seconds)
    }

    /// When a window ends.
    #[must_use]
    pub const fn end_of(&self, number: WindowNumber) -> Timestamp {
        Timestamp::from_millis(number.0.saturating_add(1).saturating_mul(self.seconds).saturating_mul(1000))
    }
}

/// Whether a quota counts data of a project under a key.
#[must_use]
pub fn applies_to(quota: &Quota, project: ProjectId, key: &PublicKey) -> bool {
    let Some(only) = quota.scope_id.as_deref() else { return true };
    match quota.scope {
        // There is one organisation an installation.
        QuotaScope::Organization => true,
        QuotaScope::Project => only.parse() == Ok(project),
        QuotaScope::Key => only == key.as_str(),
        QuotaScope::Unknown => false,
    }
}

/// What a relay gives itself of a window: an equal part of the limit, rounded up so that no relay begins with nothing.
#[must_use]
pub fn base_share(limit: u64, relays: u32) -> u64 {
    limit.div_ceil(u64::from(relays.max(1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bucket(json: &str, project: u64) -> Option<QuotaBucket> {
        QuotaBucket::of(&serde_json::from_str(json).unwrap(), ProjectId::new(project), &PublicKey::from_random([7; 16]))
    }

    #[test]
    fn the_scope_decides_who_shares_a_bucket() {
        let all = r#"{"id":"q","limit":5,"window":60}"#;
        assert_eq!(bucket(all, 1), bucket(all, 2));
        let each = r#"{"id":"q","limit":5,"window":60,"scope":"project"}"#;
        assert_ne!(bucket(each, 1), bucket(each, 2));
        let only = r#"{"id":"q","limit":5,"window":60,"scope":"project","scopeId":"2"}"#;
        assert_eq!((bucket(only, 1), bucket(only, 2)), (None, bucket(each, 2)));
        let key = format!(r#"{{"id":"q","limit":5,"window":60,"scope":"key","scopeId":"{}"}}"#, "07".repeat(16));
        assert_eq!(bucket(&key, 1).unwrap().of.as_ref(), "07".repeat(16));
    }

    #[test]
    fn windows_lie_on_a_grid_and_end_where_the_next_begins() {
        let minute = bucket(r#"{"id":"q","limit":5,"window":60}"#, 1).unwrap();
        let number = minute.window_at(Timestamp::from_millis(119_999));
        assert_eq!(number, WindowNumber(1));
        assert_eq!(minute.end_of(number), Timestamp::from_millis(120_000));
        assert_eq!(minute.window_at(minute.end_of(number)), WindowNumber(2));
    }

    #[test]
    fn no_relay_begins_with_nothing_and_together_they_exceed_the_limit_by_less_than_their_number() {
        for limit in 1..200 {
            for relays in 1..20 {
                let all = base_share(limit, relays) * u64::from(relays);
                assert!(base_share(limit, relays) > 0 && all >= limit && all < limit + u64::from(relays));
            }
        }
    }
}
