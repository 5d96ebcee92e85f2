//! Scrubbing: remove personal data before anything touches the disk.
//!
//! ```text
//! Admitted ─▸ each item by what it is: JSON walked in step with its schema ([`walk`], [`schema`]) · files as bytes
//!             headers of envelope and items ─▸ Scrubbed ─▸ Record
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | `scrubber` | a project's settings, compiled |
//! | `plan` | which rules apply to a value |
//! | `schema` | what may be touched, per field |
//! | `walk` | the walk over a payload; `graphql`, `key_cache`, `fields` serve it |
//! | `belief` | which annotations of a client are believed |
//! | [`text`] | rules on one text |
//! | `file` | which rules apply to the bytes of a file |
//! | `kind` | which types of items are kept, and how each is scrubbed |
//! | `stage` | a whole submission |
//! | [`dry_run`] | `picket-relay scrub` |
//!
//! Invariants:
//! - the spool takes records only, and a record of a request is made from [`Scrubbed`] only: no code path can spool what did
//!   not come through here;
//! - an item of a type that can't be scrubbed ends here, as `unsupported`;
//! - settings that can't be compiled refuse the request; nothing passes unscrubbed for that;
//! - no value of a payload gets into a log or an error.

mod belief;
pub mod dry_run;
mod fields;
mod file;
mod file_kind;
mod graphql;
mod kind;
mod memory;
mod plan;
mod schema;
mod scrubber;
mod stage;
pub mod text;
mod walk;

pub use scrubber::{Payload, Scrubber};
pub use stage::{Scrubbed, Spoolable, scrub};

#[cfg(test)]
mod tests;
