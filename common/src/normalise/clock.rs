//! The event's own times, and clocks that are wrong.
//!
//! 1. The client said when it sent the request, and that is 55 minutes or more off: every time is moved by the difference
//!    (`clock_drift`). Less than that may be the network, or a queue in the SDK.
//! 2. The event is older than the project keeps events, or more than a minute in the future: every time is moved so that the event
//!    happened when it was received (`past_timestamp`, `future_timestamp`).
//!
//! Both are said as errors about `timestamp`, with `sdk_time` and `server_time`. A drift that is said there was corrected before and
//! is left alone; the second can't happen twice.

use std::time::Duration;

use super::field::{invalid, null_with};
use super::time_value::{self, Shift, Time};
use super::{EventContext, Rejected};
use crate::tree::{MetaError, MetaTree, Object, Path, Value};

/// Least difference between the clocks that is corrected.
const LEAST_DRIFT: Duration = Duration::from_mins(55);
/// How far in the future an event may be.
const MAX_AHEAD: Duration = Duration::from_mins(1);
/// The error that marks a corrected drift.
const CLOCK_DRIFT: &str = "clock_drift";

/// Settles the event's times. Returns by how much the other times in it are to be moved.
///
/// # Errors
/// [`Rejected`] for a transaction that does not say when it started and ended, also after its times were moved.
pub(super) fn settle(
    event: &mut Object<'_>,
    context: &EventContext<'_>,
    meta: &mut MetaTree,
) -> Result<Shift, Rejected> {
    let is_transaction = event.get("type").and_then(Value::as_str) == Some("transaction");
    if is_transaction {
        check_transaction(event)?;
    }
    let path = Path::ROOT.key("timestamp");
    let received = Time::from(context.received_at);
    let drift = drift(context, &path, meta);
    let sent = event.get_mut("timestamp").and_then(|value| settle_field(value, drift, meta, &path));
    let outside = sent.map_or(Shift::NONE, |sent| outside(sent, received, context, meta, &path));
    let shift = drift.and(outside);
    let happened = sent.filter(|_| outside == Shift::NONE);
    if happened.is_none() {
        event.insert("timestamp", received.to_value());
    }
    event.insert("received", received.to_value());
    if let Some(started) = event.get_mut("start_timestamp") {
        settle_field(started, shift, meta, &Path::ROOT.key("start_timestamp"));
    }
    if is_transaction {
        // What was moved out of the years that can be named is not there any more.
        check_transaction(event)?;
        settle_spans(event, shift, meta);
    }
    Ok(shift)
}

/// The drift that is to be corrected, noted at `path`.
pub(super) fn drift(context: &EventContext<'_>, path: &Path<'_>, meta: &mut MetaTree) -> Shift {
    let Some(sent_at) = context.sent_at else { return Shift::NONE };
    let shift = Shift::between(Time::from(sent_at), Time::from(context.received_at));
    let is_corrected = meta.get(path).is_some_and(|meta| meta.errors.iter().any(|error| error.kind == CLOCK_DRIFT));
    if shift.length() < LEAST_DRIFT || is_corrected {
        return Shift::NONE;
    }
    let error = clock_error(CLOCK_DRIFT, sent_at.to_rfc3339(), context.received_at.to_rfc3339());
    meta.at(path).add_error(error);
    shift
}

/// Brings a time into its form, moved; what is none becomes null. Returns it.
pub(super) fn settle_field(value: &mut Value<'_>, shift: Shift, meta: &mut MetaTree, path: &Path<'_>) -> Option<Time> {
    if value.is_null() {
        return None;
    }
    match time_value::settle(value, shift) {
        Ok(time) => Some(time),
        Err(reason) => {
            invalid(value, reason, meta, path);
            None
        }
    }
}

/// How far a time outside of what the project keeps is moved.
fn outside(sent: Time, received: Time, context: &EventContext<'_>, meta: &mut MetaTree, path: &Path<'_>) -> Shift {
    let retention = Duration::from_hours(24 * u64::from(context.retention_days));
    let kind = if sent < Time::from(context.received_at.minus(retention)) {
        "past_timestamp"
    } else if sent > Time::from(context.received_at.plus(MAX_AHEAD)) {
        "future_timestamp"
    } else {
        return Shift::NONE;
    };
    meta.at(path).add_error(clock_error(kind, sent.to_text(), received.to_text()));
    Shift::between(sent, received)
}

fn clock_error(kind: &'static str, sdk_time: String, server_time: String) -> MetaError {
    MetaError::new(kind).with("sdk_time", sdk_time).with("server_time", server_time)
}

fn check_transaction(event: &Object<'_>) -> Result<(), Rejected> {
    const REASON: &str = "invalid_transaction";
    let time = |key| event.get(key).and_then(|value| Time::read(value).ok());
    let Some(end) = time("timestamp") else {
        return Err(Rejected::new(REASON, "a transaction needs a valid timestamp"));
    };
    let Some(start) = time("start_timestamp") else {
        return Err(Rejected::new(REASON, "a transaction needs a valid start_timestamp"));
    };
    if end < start {
        return Err(Rejected::new(REASON, "a transaction must not end before it starts"));
    }
    Ok(())
}

/// Spans without valid times are dropped.
fn settle_spans(event: &mut Object<'_>, shift: Shift, meta: &mut MetaTree) {
    let path = Path::ROOT.key("spans");
    let spans = event.get_mut("spans").and_then(Value::as_array_mut);
    for (index, span) in spans.into_iter().flatten().enumerate() {
        let path = path.index(index);
        for key in ["timestamp", "start_timestamp"] {
            let Some(value) = span.get_mut(key) else { continue };
            if let Err(reason) = time_value::settle(value, shift) {
                null_with(span, MetaError::invalid_data(reason), meta, &path);
                break;
            }
        }
    }
}
