//! Measures Picket from outside: a load generator, a floor to compare with, and side-by-side runs of both.
//!
//! ```text
//!   payload ──▶ load ──HTTP──▶ floor          (bare hyper: the least any server must do)
//!                    └─HTTP──▶ installation   (the real picket-relay and picket-aggregator binaries)
//!                                  │
//!   scrub: the relay's functions for one event, timed step by step
//!   accept: runs both in turn, waits until every accepted event is counted, prints the table
//!   link: what accept leaves out, the way from the spool to the aggregator
//!   setting: what accept and link have before they begin
//! ```
//!
//! # Invariants
//! - What is measured is the binaries that ship; only [`scrub`] calls functions of `picket-common` and `picket-relay`.
//! - Every request of a run carries an event id no other request carries, because everything is counted afterwards.
//! - Latency in an open loop runs from the moment a request was *meant* to leave, so a stall shows in every
//!   request it delayed and not only in the one that met it.
//! - Only loopback addresses are spoken to, every wait has a deadline, and only processes started here are ended.

pub mod accept;
pub mod disk;
pub mod floor;
pub mod installation;
pub mod link;
pub mod load;
pub mod machine;
pub mod payload;
pub mod process;
pub mod random;
pub mod scrub;
pub mod setting;
pub mod target;
pub mod zipf;
