//! The language that says what personal data is and what becomes of it.
//!
//! ```text
//! datascrubbingSettings ──convert──▶ Ruleset ─┐
//! piiConfig ─────────────read──────▶ Ruleset ─┴─compile──▶ [(selector, [compiled rule])]
//!                                                               │
//!                                       the relay walks an event with them (picket-relay, scrub)
//! ```
//!
//! Here because both sides need it: the aggregator checks what operators set ([`validate`]), the relay applies it ([`compile()`]).
//! What lives here: the form of the settings, selectors, rules, the built-in rules, the detectors that find things in a
//! text, and rules over bytes ([`attachment`], [`minidump`]). What does not: events and the walk over them.
//!
//! Invariants:
//! - a compiled rule needs nothing but itself; it is shared between threads and never changes;
//! - whatever an operator writes either compiles within stated bounds or is refused with an error that names the rule or the
//!   selector.

pub mod attachment;
pub mod builtin;
pub mod compile;
mod convert;
pub mod detect;
pub mod minidump;
pub mod pseudonym;
pub mod rule;
pub mod ruleset;
pub mod selector;
pub mod settings;

pub use compile::{CompiledApplication, CompiledSettings, compile, validate};
pub use convert::convert;
pub use rule::{CompiledRule, Redaction, RuleKind};
pub use ruleset::{PiiError, Ruleset};
pub use selector::Selector;
pub use settings::{DataScrubbingSettings, PiiConfig, ScrubProfile, ScrubSettings};
