//! How much of what a request holds; relay and aggregator count alike.

pub use picket_common::tally::Tally;
