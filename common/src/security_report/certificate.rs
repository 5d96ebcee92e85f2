//! Reports about certificates: Expect-CT, Expect-Staple, public key pins. Browsers have given them up; old ones still send them.

use std::borrow::Cow;

use super::{Described, SecurityReportError, text};
use crate::tree::{Object, Value};

/// One of these kinds of report.
pub(super) struct Kind {
    name: &'static str,
    /// What the message says, before the host.
    failure: &'static str,
    /// Fields of the report that become tags, in `snake_case`.
    tags: &'static [&'static str],
}

pub(super) const EXPECT_CT: Kind =
    Kind { name: "expectct", failure: "Expect-CT failed for", tags: &["hostname", "port"] };
pub(super) const EXPECT_STAPLE: Kind = Kind {
    name: "expectstaple",
    failure: "Expect-Staple failed for",
    tags: &["hostname", "port", "response_status", "cert_status"],
};
pub(super) const HPKP: Kind = Kind {
    name: "hpkp",
    failure: "Public key pinning validation failed for",
    tags: &["hostname", "port", "include_subdomains"],
};

pub(super) fn describe<'a>(body: &Object<'a>, kind: &Kind) -> Result<Described<'a>, SecurityReportError> {
    let report = with_snake_keys(body);
    let hostname = text(&report, "hostname")
        .ok_or(SecurityReportError::Incomplete { kind: kind.name, field: "a hostname" })?
        .to_owned();
    let tags = kind.tags.iter().filter_map(|&name| Some((name, scalar(report.get(name)?)?))).collect();
    Ok(Described {
        kind: kind.name,
        message: format!("{} '{hostname}'", kind.failure),
        url: Some(format!("https://{hostname}/")),
        culprit: hostname,
        tags,
        referrer: None,
        user_agent: None,
        happened_at: text(&report, "date_time").map(str::to_owned),
        report,
    })
}

/// A scalar as text; nothing of anything else.
fn scalar(value: &Value<'_>) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_json()),
        _ => None,
    }
}

/// Recursion is bounded by the depth that the reader allows.
fn with_snake_keys<'a>(object: &Object<'a>) -> Object<'a> {
    object.iter().map(|(key, value)| (Cow::Owned(key.replace('-', "_")), with_snake_keys_within(value))).collect()
}

fn with_snake_keys_within<'a>(value: &Value<'a>) -> Value<'a> {
    match value {
        Value::Object(object) => Value::from(with_snake_keys(object)),
        Value::Array(items) => Value::from(items.iter().map(with_snake_keys_within).collect::<Vec<_>>()),
        other => other.clone(),
    }
}
