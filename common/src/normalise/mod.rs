//! Normalisation: what SDKs send, brought into the one form that filters, scrubbing, grouping and the pages rely on.
//!
//! One function for each kind of item, all on the tree of [`crate::tree`], in place. Each file holds one concern; an event goes
//! through them in the order of [`normalise_event`].
//!
//! ```text
//! legacy names ▸ shapes ▸ times ▸ attributes ▸ request ▸ contexts and user agent ▸ user and address ▸ tags
//!              ▸ debug images ▸ exceptions, threads, stack traces ▸ log entry ▸ breadcrumbs ▸ type
//! ```
//!
//! Invariants:
//! - a field that is wrong never costs the event: it becomes `null` (or its default) with an `invalid_data` error in `_meta`, and
//!   the value that was there if it is short. [`Rejected`] is for what can't be an event at all;
//! - what is cut leaves a `!limit` remark with the exact bytes and the original length in characters;
//! - doing it twice changes nothing, neither in the event nor in its `_meta` (property-tested in `tests.rs`). What can't be told
//!   from the event alone, such as a clock drift that was already corrected, is told from its `_meta`;
//! - the work is linear in the size of the event, and strings that are not changed stay borrowed from the payload;
//! - nothing panics, whatever the tree.
//!
//! What is not here: `sentry_user`, the one text that names a user. It would copy personal data to a second place before scrubbing
//! has seen it, so the aggregator makes it from the scrubbed event.

mod attributes;
mod body;
mod breadcrumbs;
mod check_in;
mod client_report;
mod clock;
mod contexts;
mod debug_images;
mod errno;
mod event_context;
mod exception;
mod feedback;
mod field;
mod frame;
mod header;
mod interface_list;
mod ip_address;
mod legacy;
mod level;
mod logentry;
mod mechanism;
mod message_format;
mod pairs;
mod raw_description;
mod request;
mod session;
mod signal;
mod stacktrace;
mod system;
mod tags;
mod time_value;
mod trim;
mod user;
mod user_agent;
mod user_report;

#[cfg(test)]
mod tests;

pub use check_in::normalise_check_in;
pub use client_report::{ClientReport, Discarded, TOLD as TOLD_BY_CLIENT};
pub use event_context::{ClientHints, EventContext, IpInference};
pub use feedback::normalise_feedback;
pub use header::header;
pub use message_format::format as fill_message;
pub use session::{normalise_session, normalise_sessions};
pub use user_report::normalise_user_report;

use crate::tree::{Document, MetaTree, Object, Path, Value};

/// Why an item can't be taken at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Rejected {
    /// A stable word, the reason of the item's outcome.
    pub reason: &'static str,
    /// What is missing or wrong, for the answer to the client. Never anything of the payload.
    pub detail: &'static str,
}

// === impl Rejected ===

impl Rejected {
    const fn new(reason: &'static str, detail: &'static str) -> Self {
        Self { reason, detail }
    }
}

/// Brings an event into its normal form: errors, messages, security reports, feedback, and what transactions share with them.
///
/// # Errors
/// [`Rejected`] if the payload is no object, or is a transaction without valid times.
pub fn normalise_event(document: &mut Document<'_>, context: &EventContext<'_>) -> Result<(), Rejected> {
    let Document { value, meta } = document;
    let Value::Object(event) = value else {
        return Err(Rejected::new("invalid_json", "an event must be a JSON object"));
    };
    legacy::rename(event, meta);
    field::apply(event, attributes::field_of, meta, &Path::ROOT);
    let shift = clock::settle(event, context, meta)?;
    attributes::normalise(event, context, meta);
    request::normalise(event, meta);
    contexts::normalise(event, context, meta);
    user::normalise(event, context, meta);
    tags::normalise(event, meta);
    debug_images::normalise(event, meta);
    // After contexts and images, which tell the system that numbers of signals belong to.
    exception::normalise(event, meta);
    stacktrace::normalise_threads(event, meta);
    logentry::normalise(event, meta);
    breadcrumbs::normalise(event, shift, meta);
    infer_type(event);
    Ok(())
}

/// `transaction` and `feedback` are honoured; exceptions make an error, reports of browsers are what their interface says.
fn infer_type(event: &mut Object<'_>) {
    const REPORTS: [&str; 4] = ["csp", "hpkp", "expectct", "expectstaple"];
    let kind = match event.get("type").and_then(Value::as_str) {
        Some("transaction" | "feedback") => return,
        _ if has_exception(event) => "error",
        _ => {
            let is_there = |name: &&str| event.get(name).is_some_and(|report| !report.is_null());
            REPORTS.into_iter().find(is_there).unwrap_or("default")
        }
    };
    event.insert("type", kind);
}

fn has_exception(event: &Object<'_>) -> bool {
    let values = event.get("exception").and_then(|exception| exception.get("values")).and_then(Value::as_array);
    values.is_some_and(|values| values.iter().any(|exception| !exception.is_null()))
}

/// Takes what is said about the value at `from` (a key of the node at `parent`) and says it about `to`.
fn move_meta(meta: &mut MetaTree, from: &Path<'_>, to: &Path<'_>) {
    if let Some(moved) = take_meta(meta, from) {
        meta.node(to).merge(moved);
    }
}

/// Takes out what is said about the value at a path and below, for a value that is moved or thrown away.
fn take_meta(meta: &mut MetaTree, path: &Path<'_>) -> Option<MetaTree> {
    let (parent, segment) = path.split()?;
    meta.find(path)?;
    let parent = meta.node(parent);
    match segment {
        crate::tree::Segment::Key(key) => parent.remove_child(key),
        crate::tree::Segment::Index(index) => parent.remove_child(&index.to_string()),
    }
}
