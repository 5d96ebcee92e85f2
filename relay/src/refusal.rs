//! Refusals: why a request is not taken, in words that its sender can act on.
//!
//! One enum for the whole way of a request, from its first header to the spool. Each variant is one thing that the client can
//! do about it, and maps to one status (`http::answer`) and one outcome. Texts never hold anything from a payload.

use std::time::Duration;

use picket_common::outcome::{Outcome, Reason};

use crate::rate_limit::{LimitScope, RateLimit, RateLimits};

/// How long clients are asked to stay away when the relay is short of something that comes back by itself.
pub const RETRY_SOON: Duration = Duration::from_secs(10);
/// How long clients are asked to stay away when the spool is full.
pub const RETRY_WHEN_DRAINED: Duration = Duration::from_secs(60);

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Credentials are missing, double or unreadable: 401.
    #[error("{detail}")]
    Unauthorised {
        /// What is wrong with them.
        detail: String,
    },
    /// The request itself is wrong: 400.
    #[error("{detail}")]
    Malformed {
        /// The outcome's reason.
        reason: &'static str,
        /// What was expected where.
        detail: String,
    },
    /// The project does not take this: 403.
    #[error("{detail}")]
    Forbidden {
        /// The outcome's reason, also the first cause in the answer.
        reason: &'static str,
        /// What the project does not allow.
        detail: String,
    },
    /// A body, an item or a number of items is over its limit: 413.
    #[error("{detail}")]
    TooLarge {
        /// What is too large: `envelope`, `store`, or the name of an item type.
        what: Box<str>,
        /// The limit.
        detail: String,
    },
    /// The client was too slow: 408.
    #[error("{detail}")]
    TooSlow {
        /// What did not come in time.
        detail: String,
    },
    /// An encoding that nobody speaks here: 415.
    #[error("{detail}")]
    UnsupportedEncoding {
        /// Which are spoken.
        detail: String,
    },
    /// A type of content that the endpoint does not take: 415.
    #[error("{detail}")]
    UnsupportedMediaType {
        /// Which are taken.
        detail: String,
    },
    /// The client shall send less: 429. This is what a limit of the operator or a quota says.
    #[error("{detail}")]
    RateLimited {
        /// The limits that were met; at least one. The first reason among them is the outcome's.
        limits: RateLimits,
        /// Which limit was hit.
        detail: String,
    },
    /// The spool has no room: 429, but not a limit that anybody set.
    #[error("the relay's spool is full: it takes new data when its aggregator has taken the old")]
    SpoolFull,
    /// The relay can't take anything at the moment: 503.
    #[error("{detail}")]
    Unavailable {
        /// The outcome's reason.
        reason: &'static str,
        /// When to try again.
        retry_after: Duration,
        /// What is missing.
        detail: String,
    },
}

impl Refusal {
    /// A fault in the request, with its outcome's reason.
    pub(crate) fn malformed(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::Malformed { reason, detail: detail.into() }
    }

    /// Something that the project does not allow.
    pub(crate) fn forbidden(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::Forbidden { reason, detail: detail.into() }
    }

    /// A passing shortage.
    pub(crate) fn unavailable(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::Unavailable { reason, retry_after: RETRY_SOON, detail: detail.into() }
    }

    /// What a client hears whose request met limits; `None` if it met none.
    #[must_use]
    pub(crate) fn of_limits(limits: &RateLimits) -> Option<Self> {
        let reason = limits.iter().next()?.reason_code.as_deref().unwrap_or("rate_limited");
        let detail = format!("the relay dropped data because a quota or rate limit is reached: {reason}");
        Some(Self::RateLimited { limits: limits.clone(), detail })
    }

    /// What the client is told to keep to; none for most refusals.
    #[must_use]
    pub fn rate_limits(&self) -> RateLimits {
        match self {
            Self::RateLimited { limits, .. } => limits.clone(),
            Self::SpoolFull => RateLimits::from(RateLimit {
                categories: Vec::new(),
                scope: LimitScope::Organization,
                reason_code: Some(Reason::Borrowed("spool_full")),
                retry_after: RETRY_WHEN_DRAINED,
            }),
            _ => RateLimits::default(),
        }
    }

    /// How the request's items are counted.
    #[must_use]
    pub fn outcome(&self) -> (Outcome, Reason) {
        match self {
            Self::Unauthorised { .. } => (Outcome::Invalid, Reason::Borrowed("auth")),
            Self::Malformed { reason, .. } | Self::Forbidden { reason, .. } => {
                (Outcome::Invalid, Reason::Borrowed(reason))
            }
            Self::TooLarge { what, .. } => (Outcome::Invalid, Reason::Owned(format!("too_large:{what}"))),
            Self::TooSlow { .. } => (Outcome::Invalid, Reason::Borrowed("timeout")),
            Self::UnsupportedEncoding { .. } => (Outcome::Invalid, Reason::Borrowed("invalid_compression")),
            Self::UnsupportedMediaType { .. } => (Outcome::Invalid, Reason::Borrowed("content_type")),
            Self::RateLimited { limits, .. } => {
                (Outcome::RateLimited, limits.reason().cloned().unwrap_or(Reason::Borrowed("rate_limited")))
            }
            Self::SpoolFull => (Outcome::RateLimited, Reason::Borrowed("spool_full")),
            Self::Unavailable { reason, .. } => (Outcome::Dropped, Reason::Borrowed(reason)),
        }
    }
}
