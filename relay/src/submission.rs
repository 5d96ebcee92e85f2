//! A request on its way through the stages: what the HTTP layer hands over, and what each stage passes on inside its own type.
//!
//! The stages know this module and the stage before them, not the pipeline that calls them.

use picket_common::envelope::Envelope;
use picket_common::ids::{ProjectId, PublicKey};
use picket_common::timestamp::Timestamp;

/// A request that was parsed and authorised; what every stage passes on inside its own type.
#[derive(Debug)]
pub struct Submission {
    /// The project it is for.
    pub project_id: ProjectId,
    /// The key it came under.
    pub public_key: PublicKey,
    /// When it was received.
    pub received_at: Timestamp,
    /// What the SDK calls itself (`name/version`), in its credentials or as its user agent.
    pub client: Option<Box<str>>,
    /// What it brought.
    pub envelope: Envelope,
}

/// A submission as the HTTP layer hands it over: authorised, not yet looked into.
#[derive(Debug)]
pub struct Accepted(pub(crate) Submission);

/// A source of random bytes for event ids, so that tests can hold it in their hand. `None` if the system has none.
pub type Random = fn() -> Option<[u8; 16]>;
