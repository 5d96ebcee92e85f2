//! The language that says what personal data is and what becomes of it.
//!
//! ```text
//! settings (JSON) ──convert──▶ rules + applications ──compile──▶ [(selector, [compiled rule])]
//!                                                                      │
//!                                              the relay walks an event with them (picket-relay, scrub)
//! ```
//!
//! Here because both sides need it: the aggregator checks what operators set, the relay applies it. What lives here: the form
//! of the settings, selectors, rules, the built-in rules, and the detectors that find things in a text. What does not: events.
//!
//! Invariants:
//! - a compiled rule needs nothing but itself; it is shared between threads and never changes;
//! - whatever an operator writes either compiles within stated bounds or is refused with an error that names the rule or the
//!   selector.

pub mod detect;
pub mod rule;
pub mod sensitive_name;
