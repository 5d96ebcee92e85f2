//! The relay: takes what Sentry SDKs send, makes it durable, and streams it to the aggregator.
//!
//! The way of a request is [`pipeline`]: accept ([`http`]) ▸ [`limit`] ▸ [`normalise`] ▸ [`filter`] ▸ [`quota`] ▸
//! [`scrub`] ▸ [`spool`]. Only then is it answered 200. Apart from requests, [`uplink`] sends what is spooled and
//! receives the projects' configuration ([`projects`]).
//!
//! Invariants:
//! - a 200 is written only after the record is on disk;
//! - every item received is counted in exactly one outcome: here if it ends here ([`outcome`]), else by the aggregator;
//! - a stage never reaches back, and takes only what the stage before it made;
//! - everything that a client can make grow has a bound in the configuration ([`config`]).

pub mod admin;
pub mod blob;
pub mod client_report;
pub mod config;
pub mod crash;
pub mod dropped;
pub mod filter;
pub mod http;
pub mod identity_store;
pub mod join;
mod key_request;
pub mod limit;
pub mod live_identity;
pub mod metrics;
pub mod normalise;
pub mod opened;
pub mod outcome;
pub mod pipeline;
pub mod projects;
pub mod quota;
pub mod rate_limit;
pub mod refusal;
pub mod reload;
pub mod run;
pub mod scrub;
pub mod spool;
pub mod spool_command;
pub mod staging;
pub mod status;
pub mod submission;
pub mod tally;
pub mod uplink;
