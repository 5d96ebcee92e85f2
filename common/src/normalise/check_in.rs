//! Check-ins of cron monitors.

use super::attributes::is_release;
use super::field::{self, Field, invalid, text};
use super::trim::{Bag, TextLimit, trim_bag};
use super::{EventContext, Rejected};
use crate::tree::{Document, MetaTree, Object, Path, Value};

/// Longest slug, in characters.
const MAX_SLUG_CHARS: usize = 50;
/// Longest environment and time zone, in characters.
const MAX_NAME_CHARS: usize = 64;
/// What a client may say. That a check-in was missed is mostly for the server to find, but who watches jobs by other means may say it.
const STATUSES: [&str; 4] = ["ok", "error", "in_progress", "missed"];

fn field_of(key: &str) -> Field {
    match key {
        "check_in_id" | "monitor_slug" | "environment" | "release" => Field::Scalar(TextLimit::NONE),
        "status" => Field::Text(TextLimit::NONE),
        "monitor_config" | "contexts" => Field::Object,
        _ => Field::Any,
    }
}

fn monitor_field_of(key: &str) -> Field {
    match key {
        "checkin_margin" | "max_runtime" | "failure_issue_threshold" | "recovery_threshold" => Field::Unsigned,
        "timezone" | "owner" => Field::Scalar(TextLimit::NONE),
        "schedule" => Field::Object,
        _ => Field::Any,
    }
}

/// Checks and repairs a check-in. Its slug becomes lower-case letters, digits, `-` and `_`.
///
/// # Errors
/// [`Rejected`] if it names no monitor, an environment or time zone that is too long, or an id that is none.
pub fn normalise_check_in(document: &mut Document<'_>, _context: &EventContext<'_>) -> Result<(), Rejected> {
    let Document { value, meta } = document;
    let Value::Object(check_in) = value else {
        return Err(Rejected::new("invalid_json", "a check-in must be a JSON object"));
    };
    field::apply(check_in, field_of, meta, &Path::ROOT);
    slug(check_in)?;
    id(check_in)?;
    if text(check_in, "environment").is_some_and(is_too_long) {
        return Err(Rejected::new("invalid_environment", "the environment has more than 64 characters"));
    }
    if !text(check_in, "status").is_some_and(|status| STATUSES.contains(&status)) {
        check_in.insert("status", "unknown");
    }
    if let Some(release @ Value::String(_)) = check_in.get_mut("release")
        && !release.as_str().is_some_and(is_release)
    {
        invalid(release, "expected the name of a release", meta, &Path::ROOT.key("release"));
    }
    duration(check_in, meta);
    monitor(check_in, meta)?;
    if let Some(contexts) = check_in.get_mut("contexts") {
        trim_bag(contexts, Bag::of(8192, 7), meta, &Path::ROOT.key("contexts"));
    }
    Ok(())
}

fn is_too_long(name: &str) -> bool {
    name.chars().nth(MAX_NAME_CHARS).is_some()
}

fn slug(check_in: &mut Object<'_>) -> Result<(), Rejected> {
    const EMPTY: Rejected = Rejected::new("missing_slug", "a check-in needs the slug of its monitor");
    let sent = text(check_in, "monitor_slug").ok_or(EMPTY)?;
    let slug = slugified(sent);
    if slug.is_empty() {
        return Err(EMPTY);
    }
    if slug != sent {
        check_in.insert("monitor_slug", slug);
    }
    Ok(())
}

/// Lower-case letters, digits, `_`, and single `-` between them for everything else.
fn slugified(text: &str) -> String {
    let mut slug = String::with_capacity(text.len().min(MAX_SLUG_CHARS));
    for character in text.chars().map(|character| character.to_ascii_lowercase()) {
        if slug.len() == MAX_SLUG_CHARS {
            break;
        }
        match character {
            'a'..='z' | '0'..='9' | '_' => slug.push(character),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// A UUID; the nil one means the check-in that is open. None is made here.
fn id(check_in: &mut Object<'_>) -> Result<(), Rejected> {
    let Some(sent) = text(check_in, "check_in_id") else { return Ok(()) };
    let uuid = uuid::Uuid::try_parse(sent)
        .map_err(|_| Rejected::new("invalid_check_in_id", "the id of the check-in is no UUID"))?;
    check_in.insert("check_in_id", uuid.as_simple().to_string());
    Ok(())
}

/// In seconds.
fn duration(check_in: &mut Object<'_>, meta: &mut MetaTree) {
    let Some(value) = check_in.get_mut("duration").filter(|value| !value.is_null()) else { return };
    if !value.as_number().is_some_and(|seconds| seconds.as_f64() >= 0.0) {
        invalid(value, "expected a duration in seconds", meta, &Path::ROOT.key("duration"));
    }
}

fn monitor(check_in: &mut Object<'_>, meta: &mut MetaTree) -> Result<(), Rejected> {
    let path = Path::ROOT.key("monitor_config");
    let Some(value @ Value::Object(_)) = check_in.get_mut("monitor_config") else { return Ok(()) };
    let Value::Object(monitor) = value else { return Ok(()) };
    field::apply(monitor, monitor_field_of, meta, &path);
    if text(monitor, "timezone").is_some_and(is_too_long) {
        return Err(Rejected::new("invalid_timezone", "the time zone has more than 64 characters"));
    }
    let kind = monitor.get("schedule").and_then(|schedule| schedule.get("type")).and_then(Value::as_str);
    if !matches!(kind, Some("crontab" | "interval")) {
        invalid(value, "expected a monitor with a schedule of type crontab or interval", meta, &path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::context;
    use super::*;
    use crate::tree::PythonFloats;

    fn settled(json: &str) -> Result<String, &'static str> {
        let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
        normalise_check_in(&mut document, &context()).map_err(|rejected| rejected.reason)?;
        let once = document.value.to_json();
        normalise_check_in(&mut document, &context()).unwrap();
        assert_eq!(document.value.to_json(), once);
        Ok(once)
    }

    #[test]
    fn a_check_in_is_settled_or_rejected_with_a_word() {
        let long = "x".repeat(65);
        for (came, expected) in [
            (r#"{"monitor_slug":"My Job!","status":"ok"}"#, Ok(r#"{"monitor_slug":"my-job","status":"ok"}"#)),
            (r#"{"monitor_slug":"a","status":"missed"}"#, Ok(r#"{"monitor_slug":"a","status":"missed"}"#)),
            (r#"{"monitor_slug":"a","status":"late"}"#, Ok(r#"{"monitor_slug":"a","status":"unknown"}"#)),
            (
                r#"{"check_in_id":"8CFF04A7-C713-4101-9014-047FC635300B","monitor_slug":"a","status":"ok","duration":-1}"#,
                Ok(
                    r#"{"check_in_id":"8cff04a7c71341019014047fc635300b","monitor_slug":"a","status":"ok","duration":null}"#,
                ),
            ),
            (
                r#"{"monitor_slug":"a","status":"ok","monitor_config":{"schedule":{"type":"crontab","value":"* * * * *"}}}"#,
                Ok(
                    r#"{"monitor_slug":"a","status":"ok","monitor_config":{"schedule":{"type":"crontab","value":"* * * * *"}}}"#,
                ),
            ),
            (
                r#"{"monitor_slug":"a","status":"ok","monitor_config":{"schedule":{"type":"odd"}}}"#,
                Ok(r#"{"monitor_slug":"a","status":"ok","monitor_config":null}"#),
            ),
            (r#"{"status":"ok"}"#, Err("missing_slug")),
            (r#"{"monitor_slug":"!!"}"#, Err("missing_slug")),
            (r#"{"monitor_slug":"a","check_in_id":"x"}"#, Err("invalid_check_in_id")),
            (&format!(r#"{{"monitor_slug":"a","environment":"{long}"}}"#), Err("invalid_environment")),
            (&format!(r#"{{"monitor_slug":"a","monitor_config":{{"timezone":"{long}"}}}}"#), Err("invalid_timezone")),
            ("[]", Err("invalid_json")),
        ] {
            assert_eq!(settled(came), expected.map(str::to_owned), "{came}");
        }
    }

    #[test]
    fn slugs_are_short_and_plain() {
        for (text, slug) in [
            ("Nightly Backup (EU)", "nightly-backup-eu"),
            ("a__b--c", "a__b-c"),
            ("-x-", "x"),
            ("é", ""),
            (&"ab ".repeat(40), "ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab-ab"),
        ] {
            assert_eq!(slugified(text), slug);
            assert_eq!(slugified(slug), slug);
        }
    }
}
