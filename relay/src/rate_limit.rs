//! Rate limits as clients are told of them: which categories stay away, for how long, and whose limit it is.
//!
//! The header `X-Sentry-Rate-Limits` is a list of `seconds:category;category:scope:reason`, comma separated. No category means
//! all of them. SDKs obey it on any status, so that an answer to a request that was taken may carry it too.
//!
//! What it does not do: decide who is limited (`limit`, `quota`).

use std::fmt::Write as _;
use std::time::Duration;

use picket_common::category::DataCategory;
use picket_common::outcome::Reason;

/// Whose limit was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// Everything of the organisation is limited.
    Organization,
    /// One project is.
    Project,
    /// One key is.
    Key,
}

impl LimitScope {
    /// The protocol's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Project => "project",
            Self::Key => "key",
        }
    }
}

/// One limit that a request met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// What is limited; nothing means everything.
    pub categories: Vec<DataCategory>,
    /// Whose limit it is.
    pub scope: LimitScope,
    /// Which limit, in a word; also the reason of the outcome.
    pub reason_code: Option<Reason>,
    /// When the client may come back. Told in whole seconds, rounded up, at least one.
    pub retry_after: Duration,
}

impl RateLimit {
    /// Whole seconds, never too few: who is told zero comes back at once and is refused again.
    fn seconds(&self) -> u64 {
        let whole = self.retry_after.as_secs();
        (whole + u64::from(self.retry_after.subsec_nanos() > 0)).max(1)
    }
}

/// The limits that a request met; may be none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimits(Vec<RateLimit>);

impl RateLimits {
    /// Whether no limit was met.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a limit.
    pub fn push(&mut self, limit: RateLimit) {
        self.0.push(limit);
    }

    /// Adds what another request met, each limit once.
    pub fn merge(&mut self, other: Self) {
        for limit in other.0 {
            if !self.0.contains(&limit) {
                self.0.push(limit);
            }
        }
    }

    /// The limits, in the order they were met.
    pub fn iter(&self) -> impl Iterator<Item = &RateLimit> {
        self.0.iter()
    }

    /// The longest wait, in seconds: the value of `Retry-After`. Zero if there is no limit.
    #[must_use]
    pub fn retry_after_seconds(&self) -> u64 {
        self.0.iter().map(RateLimit::seconds).max().unwrap_or_default()
    }

    /// The reason of the first limit that has one.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        self.0.iter().find_map(|limit| limit.reason_code.as_ref())
    }

    /// The value of `X-Sentry-Rate-Limits`: printable ASCII, whatever a reason code was configured to.
    #[must_use]
    pub fn header_value(&self) -> String {
        let mut text = String::new();
        for limit in &self.0 {
            if !text.is_empty() {
                text.push_str(", ");
            }
            // Writing into a string can't fail.
            let _ = write!(text, "{}:", limit.seconds());
            for (position, category) in limit.categories.iter().enumerate() {
                text.push_str(if position == 0 { "" } else { ";" });
                text.push_str(category.as_str());
            }
            let _ = write!(text, ":{}", limit.scope.as_str());
            if let Some(reason) = &limit.reason_code {
                text.push(':');
                text.extend(reason.chars().map(|letter| if is_word(letter) { letter } else { '_' }));
            }
        }
        text
    }
}

impl From<RateLimit> for RateLimits {
    fn from(limit: RateLimit) -> Self {
        Self(vec![limit])
    }
}

impl FromIterator<RateLimit> for RateLimits {
    fn from_iter<T: IntoIterator<Item = RateLimit>>(limits: T) -> Self {
        Self(limits.into_iter().collect())
    }
}

/// Letters that mean nothing in the header's grammar.
const fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(categories: &[DataCategory], scope: LimitScope, reason: Option<&'static str>, millis: u64) -> RateLimit {
        RateLimit {
            categories: categories.to_vec(),
            scope,
            reason_code: reason.map(Reason::Borrowed),
            retry_after: Duration::from_millis(millis),
        }
    }

    #[test]
    fn the_header_follows_the_grammar() {
        use DataCategory::{Error, Transaction};
        for (limits, header, seconds) in [
            (vec![], "", 0),
            (vec![limit(&[], LimitScope::Organization, None, 60_000)], "60::organization", 60),
            (vec![limit(&[Error], LimitScope::Key, Some("quota"), 1)], "1:error:key:quota", 1),
            (
                vec![
                    limit(&[Error, Transaction], LimitScope::Project, Some("a b:c,d"), 59_001),
                    limit(&[], LimitScope::Key, None, 0),
                ],
                "60:error;transaction:project:a_b_c_d, 1::key",
                60,
            ),
        ] {
            let limits: RateLimits = limits.into_iter().collect();
            assert_eq!((limits.header_value().as_str(), limits.retry_after_seconds()), (header, seconds));
        }
    }

    proptest! {
        #[test]
        fn no_reason_breaks_the_header(reason in "\\PC{0,30}") {
            let limits = RateLimits::from(RateLimit {
                categories: Vec::new(),
                scope: LimitScope::Key,
                reason_code: Some(Reason::Owned(reason)),
                retry_after: Duration::ZERO,
            });
            let header = limits.header_value();
            prop_assert_eq!(header.split(':').count(), 4);
            prop_assert!(header.is_ascii() && !header.contains([',', ' ', ';']));
        }
    }
}
