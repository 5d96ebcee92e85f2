//! Sessions: single updates, and the counts that servers aggregate.
//!
//! A session belongs to a release, so one without is rejected, as is one from a clock that can't be right. Smaller faults are
//! repaired with an error in `_meta`, as in events. A clock drift is corrected as it is there, and marked at `timestamp` of an
//! update and at `aggregates`.

use std::time::Duration;

use super::attributes::{is_environment, is_release};
use super::clock::{drift, settle_field};
use super::field::{self, Field, invalid, null_with, text};
use super::ip_address::{self, AUTO};
use super::time_value::{Shift, Time};
use super::trim::TextLimit;
use super::{EventContext, IpInference, Rejected};
use crate::tree::{Document, MetaError, MetaTree, Object, Path, Value};

/// How far in the future a session may be updated.
const MAX_AHEAD: Duration = Duration::from_mins(1);
/// How long ago a session may have started.
const MAX_AGE: Duration = Duration::from_hours(5 * 24);
/// What an update may say of a session.
const STATUSES: [&str; 6] = ["ok", "exited", "crashed", "abnormal", "errored", "unhandled"];

fn field_of(key: &str) -> Field {
    match key {
        "sid" | "did" | "abnormal_mechanism" => Field::Scalar(TextLimit::of(200, 0)),
        "status" => Field::Text(TextLimit::NONE),
        "seq" | "errors" => Field::Unsigned,
        "init" => Field::Truth,
        "attrs" => Field::Object,
        _ => Field::Any,
    }
}

fn aggregate_field_of(key: &str) -> Field {
    match key {
        "did" => Field::Scalar(TextLimit::of(200, 0)),
        "exited" | "errored" | "abnormal" | "crashed" | "unhandled" => Field::Unsigned,
        _ => Field::Any,
    }
}

fn attribute_field_of(key: &str) -> Field {
    match key {
        "release" | "environment" | "ip_address" => Field::Scalar(TextLimit::NONE),
        "user_agent" => Field::Scalar(TextLimit::of(512, 0)),
        _ => Field::Any,
    }
}

/// Checks and repairs one update of a session.
///
/// # Errors
/// [`Rejected`] if it names no release, does not say when it started, or names times that can't be.
pub fn normalise_session(document: &mut Document<'_>, context: &EventContext<'_>) -> Result<(), Rejected> {
    let Document { value, meta } = document;
    let session = value.as_object_mut().ok_or(NOT_AN_OBJECT)?;
    field::apply(session, field_of, meta, &Path::ROOT);
    attributes(session, context, meta)?;
    if let Some(id @ Value::String(_)) = session.get_mut("sid")
        && id.as_str().is_none_or(|id| uuid::Uuid::try_parse(id).is_err())
    {
        invalid(id, "expected a UUID", meta, &Path::ROOT.key("sid"));
    }
    let status_path = Path::ROOT.key("status");
    if let Some(status @ Value::String(_)) = session.get_mut("status")
        && !status.as_str().is_some_and(|status| STATUSES.contains(&status))
    {
        invalid(status, "expected a session status", meta, &status_path);
    }
    let path = Path::ROOT.key("timestamp");
    let shift = drift(context, &path, meta);
    let updated = session.get_mut("timestamp").and_then(|value| settle_field(value, shift, meta, &path));
    let updated = updated.unwrap_or_else(|| Time::from(context.received_at));
    let started = session.get_mut("started").and_then(|value| {
        let path = Path::ROOT.key("started");
        settle_field(value, shift, meta, &path)
    });
    let started = started.ok_or(Rejected::new("invalid_timestamp", "a session needs a valid start time"))?;
    check_times(started, updated, context)?;
    // A session does not end before it starts; clocks are set back while one runs.
    session.insert("timestamp", updated.max(started).to_value());
    Ok(())
}

/// Checks and repairs aggregated sessions.
///
/// # Errors
/// [`Rejected`] if they name no release, or none of the aggregates is usable.
pub fn normalise_sessions(document: &mut Document<'_>, context: &EventContext<'_>) -> Result<(), Rejected> {
    let Document { value, meta } = document;
    let sessions = value.as_object_mut().ok_or(NOT_AN_OBJECT)?;
    field::apply(sessions, field_of, meta, &Path::ROOT);
    attributes(sessions, context, meta)?;
    let path = Path::ROOT.key("aggregates");
    let Some(Value::Array(aggregates)) = sessions.get_mut("aggregates") else {
        return Err(Rejected::new("invalid_session", "aggregated sessions need a list of aggregates"));
    };
    let shift = drift(context, &path, meta);
    for (index, aggregate) in aggregates.iter_mut().enumerate() {
        settle_aggregate(aggregate, shift, context, meta, &path.index(index));
    }
    match aggregates.iter().all(Value::is_null) {
        true => Err(Rejected::new("invalid_session", "none of the aggregated sessions has a valid start time")),
        false => Ok(()),
    }
}

const NOT_AN_OBJECT: Rejected = Rejected::new("invalid_json", "a session must be a JSON object");

/// Nulls an aggregate that can't be placed in time.
fn settle_aggregate(
    value: &mut Value<'_>,
    shift: Shift,
    context: &EventContext<'_>,
    meta: &mut MetaTree,
    path: &Path<'_>,
) {
    if value.is_null() {
        return;
    }
    let Value::Object(aggregate) = value else {
        return invalid(value, "expected an object", meta, path);
    };
    field::apply(aggregate, aggregate_field_of, meta, path);
    let started = aggregate.get_mut("started").and_then(|value| settle_field(value, shift, meta, &path.key("started")));
    let problem = match started {
        None => "expected a start time",
        Some(started) => match check_times(started, started, context) {
            Ok(()) => return,
            Err(rejected) => rejected.detail,
        },
    };
    null_with(value, MetaError::invalid_data(problem), meta, path);
}

fn check_times(started: Time, updated: Time, context: &EventContext<'_>) -> Result<(), Rejected> {
    if updated > Time::from(context.received_at.plus(MAX_AHEAD))
        || started > updated.max(Time::from(context.received_at.plus(MAX_AHEAD)))
    {
        return Err(Rejected::new("future_timestamp", "the session is in the future"));
    }
    if started < Time::from(context.received_at.minus(MAX_AGE)) {
        return Err(Rejected::new("past_timestamp", "the session started more than five days ago"));
    }
    Ok(())
}

fn attributes(session: &mut Object<'_>, context: &EventContext<'_>, meta: &mut MetaTree) -> Result<(), Rejected> {
    const MISSING: Rejected = Rejected::new("missing_release", "a session needs the name of its release");
    let path = Path::ROOT.key("attrs");
    let Some(Value::Object(attributes)) = session.get_mut("attrs") else { return Err(MISSING) };
    field::apply(attributes, attribute_field_of, meta, &path);
    let release = text(attributes, "release").map(str::trim).ok_or(MISSING)?;
    if !is_release(release) {
        return Err(Rejected::new("invalid_release", "the name of the session's release is not valid"));
    }
    if let Some(environment @ Value::String(_)) = attributes.get_mut("environment")
        && !environment.as_str().is_some_and(is_environment)
    {
        invalid(environment, "expected an environment name", meta, &path.key("environment"));
    }
    ip_address::check(attributes, meta, &path);
    if text(attributes, "ip_address") == Some(AUTO) {
        match context.client_address.filter(|_| context.ip_inference == IpInference::Allowed) {
            Some(address) => drop(attributes.insert("ip_address", address.to_string())),
            None => drop(attributes.remove("ip_address")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::context;
    use super::*;
    use crate::timestamp::Timestamp;
    use crate::tree::PythonFloats;

    type Normalise = fn(&mut Document<'_>, &EventContext<'_>) -> Result<(), Rejected>;

    fn settled(json: &str, context: &EventContext<'_>, normalise: Normalise) -> Result<String, &'static str> {
        let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
        normalise(&mut document, context).map_err(|rejected| rejected.reason)?;
        let once = String::from_utf8(document.to_json()).unwrap();
        let mut again = Document::read(once.as_bytes(), PythonFloats::Refuse).unwrap();
        normalise(&mut again, context).unwrap();
        assert_eq!(String::from_utf8(again.to_json()).unwrap(), once);
        Ok(once)
    }

    #[test]
    fn an_update_is_settled_or_rejected_with_a_word() {
        // The context's time of receipt is 2025-11-22T14:05:06.789Z.
        for (came, expected) in [
            (
                r#"{"sid":"7c7b6585-f901-4351-bf8d-02711b721929","started":"2025-11-22T14:05:00Z","timestamp":"2025-11-22T14:05:06Z","status":"ok","attrs":{"release":"a@1"}}"#,
                Ok(
                    r#"{"sid":"7c7b6585-f901-4351-bf8d-02711b721929","started":1763820300.0,"timestamp":1763820306.0,"status":"ok","attrs":{"release":"a@1"}}"#,
                ),
            ),
            (
                r#"{"started":1763820300,"attrs":{"release":"a","ip_address":"{{auto}}"}}"#,
                Ok(
                    r#"{"started":1763820300.0,"attrs":{"release":"a","ip_address":"192.0.2.9"},"timestamp":1763820306.789}"#,
                ),
            ),
            (
                r#"{"started":1763820300,"timestamp":1763820200,"attrs":{"release":"a"}}"#,
                Ok(r#"{"started":1763820300.0,"timestamp":1763820300.0,"attrs":{"release":"a"}}"#),
            ),
            (r#"{"started":1763820300,"attrs":{}}"#, Err("missing_release")),
            (r#"{"started":1763820300}"#, Err("missing_release")),
            (r#"{"started":1763820300,"attrs":{"release":"latest"}}"#, Err("invalid_release")),
            (r#"{"attrs":{"release":"a"}}"#, Err("invalid_timestamp")),
            (r#"{"started":"soon","attrs":{"release":"a"}}"#, Err("invalid_timestamp")),
            (r#"{"started":1763000000,"attrs":{"release":"a"}}"#, Err("past_timestamp")),
            (r#"{"started":1763830000,"attrs":{"release":"a"}}"#, Err("future_timestamp")),
            ("[]", Err("invalid_json")),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(settled(came, &context(), normalise_session), expected, "{came}");
        }
    }

    #[test]
    fn aggregates_that_cannot_be_placed_are_nulled() {
        let came = r#"{"aggregates":[{"started":1763820300,"exited":2},{"started":"soon"}],"attrs":{"release":"a"}}"#;
        let once = settled(came, &context(), normalise_sessions).unwrap();
        assert!(once.starts_with(
            r#"{"aggregates":[{"started":1763820300.0,"exited":2},null],"attrs":{"release":"a"},"_meta""#
        ));
        for (came, reason) in [
            (r#"{"aggregates":[],"attrs":{"release":"a"}}"#, "invalid_session"),
            (r#"{"aggregates":[{"started":0}],"attrs":{"release":"a"}}"#, "invalid_session"),
            (r#"{"attrs":{"release":"a"}}"#, "invalid_session"),
            (r#"{"aggregates":[{"started":1763820300}]}"#, "missing_release"),
        ] {
            assert_eq!(settled(came, &context(), normalise_sessions), Err(reason));
        }
    }

    #[test]
    fn a_wrong_clock_is_corrected_once() {
        let context = EventContext { sent_at: Timestamp::parse("2025-11-22T12:05:06.789Z"), ..context() };
        let once = settled(r#"{"started":1763813100,"attrs":{"release":"a"}}"#, &context, normalise_session).unwrap();
        assert!(once.starts_with(r#"{"started":1763820300.0,"#) && once.contains("clock_drift"), "{once}");
    }
}
