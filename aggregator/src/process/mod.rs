//! From the journal to ClickHouse: one plan after the other, each inserted exactly once in effect.
//!
//! ```text
//! cursor            plan: [first, end)                 journal's end
//!   ▼ read ▸ write plan (fsync) ▸ decode ▸ symbolicate ▸ group ▸ issue (SQL commit) ▸ insert (token) ▸ move cursor (fsync)
//! ```
//!
//! Invariants:
//! - the plan, the range of journal positions under a random id, is on disk before the first insert and is finished before
//!   the next one begins; after a crash the same plan is carried out again;
//! - what a plan inserts depends only on its journal entries and on the issues' mapping, which is never changed by a replay:
//!   no clock, no random number, no map order. So a repeated block is the same block under the same token;
//! - every item of every record ends in one outcome, inserted with the same plan;
//! - a record that can't be read or decoded, or that ClickHouse refuses for good, is set aside as a dead letter and counted
//!   (`parts`); the rest of its plan goes in. So is a row of the books (`refused_outcomes`);
//! - a failing store stops the way here, loudly; the journal fills, the relays' windows shrink, nothing is dropped.
//!
//! What it does not do: acknowledge relays (that is before), answer queries (that is after).

pub mod config;
mod decode;
mod face;
pub mod group;
pub mod lenient;
mod parts;
mod pipeline;
mod plan;
mod refused_outcomes;
mod row;
pub mod surroundings;
mod symbolicate;
mod worker;

pub use face::{culprit, level, main_exception, message};
pub use plan::InsertPlan;
pub use worker::{Pending, ProcessError, ProcessMetrics, Refusals, Worker};
