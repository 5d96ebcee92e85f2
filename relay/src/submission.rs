//! A request on its way through the stages: what the HTTP layer hands over, and what each stage passes on inside its own type.
//!
//! The stages know this module and the stage before them, not the pipeline that calls them.

use std::net::IpAddr;
use std::sync::Arc;

use picket_common::envelope::Envelope;
use picket_common::ids::{EventId, PublicKey};
use picket_common::timestamp::Timestamp;

use crate::projects::Project;
use crate::rate_limit::RateLimits;

/// A request that was parsed and authorised; what every stage passes on inside its own type.
#[derive(Debug)]
pub struct Submission {
    /// The project it is for.
    pub project: Arc<Project>,
    /// The key it came under.
    pub public_key: PublicKey,
    /// When it was received.
    pub received_at: Timestamp,
    /// What the SDK calls itself (`name/version`), in its credentials or as its user agent.
    pub client: Option<Box<str>>,
    /// Who sent it.
    pub sender: Sender,
    /// What it brought.
    pub envelope: Envelope,
}

#[cfg(test)]
impl Submission {
    /// An envelope as project 1 would send it.
    pub(crate) fn for_tests(envelope: Envelope) -> Self {
        let config = picket_common::project_config::ProjectConfig {
            id: picket_common::ids::ProjectId::new(1),
            slug: "one".to_owned(),
            keys: Vec::new(),
            settings: picket_common::project_config::ProjectSettings::default(),
        };
        Self {
            project: Arc::new(Project::new(config)),
            public_key: PublicKey::from_random([1; 16]),
            received_at: Timestamp::EPOCH,
            client: None,
            sender: Sender::default(),
            envelope,
        }
    }
}

/// What a request's connection and headers tell of its sender, for normalisation and filters.
#[derive(Debug, Clone, Default)]
pub struct Sender {
    /// The client's address: the peer's, or what a trusted proxy says.
    pub address: Option<IpAddr>,
    /// `User-Agent`.
    pub user_agent: Option<Box<str>>,
    /// `Sec-CH-UA` and its kin: lower-case names and their values, in the order of the request.
    pub client_hints: Vec<(Box<str>, Box<str>)>,
}

/// A submission as the HTTP layer hands it over: authorised, not yet looked into.
#[derive(Debug)]
pub struct Accepted(pub(crate) Submission);

/// A source of random bytes for event ids, so that tests can hold it in their hand. `None` if the system has none.
pub type Random = fn() -> Option<[u8; 16]>;

/// What the client of a request that was taken is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// The event's id, if the request made an event.
    pub event_id: Option<EventId>,
    /// Limits that the client should keep to from now on, although this request was taken.
    pub limits: RateLimits,
}
