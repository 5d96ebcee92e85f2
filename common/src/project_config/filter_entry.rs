//! What all lists of inbound filters have in common: how long they may be, networks among them, and what is said of a wrong entry.

use std::net::IpAddr;

use ipnet::IpNet;

/// Most patterns, addresses, sources or filters in one list: each event is compared with all of them.
pub const MAX_ENTRIES: usize = 500;

/// Why filters can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct InvalidFilter {
    /// The key below `filterSettings`: `releases.releases[2]`.
    pub at: String,
    /// What is wrong with its value, and what would be right.
    pub problem: String,
}

// === impl InvalidFilter ===

impl InvalidFilter {
    pub(super) fn new(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { at: at.into(), problem: problem.into() }
    }
}

/// An address, alone or as a network; `None` for anything else.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
