//! Security reports: what browsers send by themselves when a page breaks a policy, as events.
//!
//! | report | told by | becomes |
//! | --- | --- | --- |
//! | content security policy | `{"csp-report": {…}}`, or `{"type": "csp-violation", "body": {…}}` of the Reporting API | `csp` |
//! | Expect-CT | `{"expect-ct-report": {…}}` | `expectct` |
//! | Expect-Staple | `{"expect-staple-report": {…}}` | `expectstaple` |
//! | public key pins | an object with `known-pins` | `hpkp` |
//!
//! An event gets the report under that name with keys as `snake_case`, a message and a culprit that say what was broken, tags to
//! search by, the page's address as its request, and the logger of the report's kind. Its time is the report's own `date-time`, or,
//! in the Reporting API, its `age` before it was received: browsers gather reports and send them minutes later.
//!
//! What it does not do: judge a report (filters), remove personal data (scrubbing), or take lists of reports apart.

mod certificate;
mod csp;

use std::time::Duration;

use crate::timestamp::Timestamp;
use crate::tree::{Document, Number, Object, PythonFloats, Value};

/// Why a text is no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecurityReportError {
    /// It is no JSON object.
    #[error("expected a security report as a JSON object")]
    NotJson,
    /// It is of a kind that is not known here.
    #[error("unknown kind of security report: expected CSP, Expect-CT, Expect-Staple or HPKP")]
    UnknownKind,
    /// What makes a report of its kind is missing.
    #[error("a {kind} report without {field}")]
    Incomplete {
        /// The kind.
        kind: &'static str,
        /// What is missing.
        field: &'static str,
    },
}

/// What a report does not say itself.
#[derive(Debug, Clone, Copy)]
pub struct Reporter<'a> {
    /// The browser's `User-Agent`, if the report names none.
    pub user_agent: Option<&'a str>,
    /// The release that the page's owner put into the address that reports go to.
    pub release: Option<&'a str>,
    /// The environment, likewise.
    pub environment: Option<&'a str>,
    /// When the report was received.
    pub received_at: Timestamp,
}

/// What all kinds make of a report.
struct Described<'a> {
    /// The kind: the logger, and the key that the report is under.
    kind: &'static str,
    message: String,
    culprit: String,
    tags: Vec<(&'static str, String)>,
    /// The page.
    url: Option<String>,
    referrer: Option<String>,
    user_agent: Option<String>,
    /// When it happened, as the report tells it; normalisation judges it.
    happened_at: Option<String>,
    report: Object<'a>,
}

/// The event that a report stands for, as JSON.
///
/// # Errors
/// [`SecurityReportError`] if it is none of the known reports.
pub fn event_of(report: &[u8], reporter: &Reporter<'_>) -> Result<Vec<u8>, SecurityReportError> {
    let document = Document::read(report, PythonFloats::Refuse).map_err(|_| SecurityReportError::NotJson)?;
    let report = document.value.as_object().ok_or(SecurityReportError::NotJson)?;
    let described = describe(report, reporter.received_at)?;
    let mut json = Vec::new();
    Value::from(event(described, reporter)).write_json(&mut json);
    Ok(json)
}

fn describe<'a>(report: &Object<'a>, received_at: Timestamp) -> Result<Described<'a>, SecurityReportError> {
    let body = |key| report.get(key).and_then(Value::as_object);
    if let Some(body) = body("csp-report") {
        return csp::describe(body, None);
    }
    if report.get("type").and_then(Value::as_str) == Some("csp-violation") {
        let incomplete = SecurityReportError::Incomplete { kind: "csp", field: "body" };
        let described = csp::describe(body("body").ok_or(incomplete)?, text(report, "user_agent"))?;
        // Reporting API §3.2: milliseconds between the report and the attempt to send it.
        let age = report.get("age").and_then(Value::as_number).and_then(Number::as_u64);
        let happened_at = age.map(|millis| received_at.minus(Duration::from_millis(millis)).to_rfc3339());
        return Ok(Described { happened_at, ..described });
    }
    if let Some(body) = body("expect-ct-report") {
        return certificate::describe(body, &certificate::EXPECT_CT);
    }
    if let Some(body) = body("expect-staple-report") {
        return certificate::describe(body, &certificate::EXPECT_STAPLE);
    }
    if report.contains("known-pins") {
        return certificate::describe(report, &certificate::HPKP);
    }
    Err(SecurityReportError::UnknownKind)
}

fn event<'a>(described: Described<'a>, reporter: &Reporter<'a>) -> Object<'a> {
    let Described { kind, message, culprit, tags, url, referrer, user_agent, happened_at, report } = described;
    let mut event = Object::new();
    event.insert("logger", kind_logger(kind));
    event.insert("platform", "other");
    event.insert("logentry", object([("formatted", Value::from(message))]));
    event.insert("culprit", culprit);
    if let Some(happened_at) = happened_at {
        event.insert("timestamp", happened_at);
    }
    let pair = |(name, value): (&'static str, String)| Value::from(vec![Value::from(name), Value::from(value)]);
    event.insert("tags", tags.into_iter().map(pair).collect::<Vec<_>>());
    let user_agent = user_agent.map(Value::from).or_else(|| reporter.user_agent.map(Value::from));
    let headers: Vec<_> = [("User-Agent", user_agent), ("Referer", referrer.map(Value::from))]
        .into_iter()
        .filter_map(|(name, value)| Some(Value::from(vec![Value::from(name), value?])))
        .collect();
    let mut request = Object::new();
    if let Some(url) = url {
        request.insert("url", url);
    }
    if !headers.is_empty() {
        request.insert("headers", headers);
    }
    if !request.is_empty() {
        event.insert("request", request);
    }
    // Normalisation puts the client's address here, where the project lets it.
    event.insert("user", object([("ip_address", Value::from("{{auto}}"))]));
    for (key, value) in [("release", reporter.release), ("environment", reporter.environment)] {
        if let Some(value) = value {
            event.insert(key, value);
        }
    }
    event.insert(kind, report);
    event
}

/// The logger's name is the kind's, but the protocol writes two of them with a hyphen.
const fn kind_logger(kind: &'static str) -> &'static str {
    match kind.as_bytes() {
        b"expectct" => "expect-ct",
        b"expectstaple" => "expect-staple",
        _ => kind,
    }
}

fn object<'a, const N: usize>(fields: [(&'static str, Value<'a>); N]) -> Object<'a> {
    let mut object = Object::new();
    for (key, value) in fields {
        object.insert(key, value);
    }
    object
}

/// A text of an object that says something.
fn text<'o>(object: &'o Object<'_>, key: &str) -> Option<&'o str> {
    object.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
