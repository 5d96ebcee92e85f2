//! `picket-relay scrub`: what would go from an event, and why. The event is normalised first, as on its way through the relay,
//! but for what only a request can tell. Needs no configuration, data directory or aggregator.

use picket_common::normalise::{ClientHints, EventContext, IpInference, Rejected, normalise_event};
use picket_common::pii::{PiiError, ScrubProfile, ScrubSettings, validate};
use picket_common::project_config::settings::{InvalidSettings, read_scrubbing};
use picket_common::timestamp::Timestamp;
use picket_common::tree::{Document, MetaTree, PythonFloats, ReadError, RemarkKind};
use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

use super::scrubber::Scrubber;

/// Why a dry run did not come to an end.
#[derive(Debug, Error)]
pub enum DryRunError {
    /// The settings are no JSON.
    #[error("the settings are no JSON: {0}")]
    NotJson(serde_json::Error),
    /// A key of the settings is unknown, or its value of the wrong shape.
    #[error("{0}")]
    Settings(InvalidSettings),
    /// A rule or selector is wrong.
    #[error("{0}")]
    Rules(PiiError),
    /// The event is no JSON.
    #[error("the event can't be read: {0}")]
    Event(ReadError),
    /// The event can't be one.
    #[error("the event can't be taken: {0}")]
    Rejected(Rejected),
    /// The scrubbed event can't be shown.
    #[error("the scrubbed event is no JSON: {0}")]
    Output(serde_json::Error),
}

/// A scrubbed event with what was done to it.
#[derive(Debug, Serialize)]
pub struct DryRun {
    /// The event with its `_meta`.
    pub event: Box<RawValue>,
    /// What rules did, by path.
    pub remarks: Vec<RemarkAt>,
}

/// What a rule did where.
#[derive(Debug, Serialize)]
pub struct RemarkAt {
    /// Keys and indices, dotted.
    pub path: String,
    /// The rule.
    pub rule: String,
    /// The protocol's letter: `x` removed, `s` substituted, `m` masked, `p` pseudonymised.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// First byte in the new text; nothing where the value is meant as a whole.
    pub start: Option<usize>,
    /// The byte after the last.
    pub end: Option<usize>,
}

/// Reads settings: those of a new project without a text, else what is in it, as strictly as `project config set`: who tries
/// settings should not see the defaults at work instead. A profile that is given goes before the text's.
///
/// # Errors
/// [`DryRunError::NotJson`], [`DryRunError::Settings`] or [`DryRunError::Rules`].
pub fn settings(text: Option<&[u8]>, profile: Option<ScrubProfile>) -> Result<ScrubSettings, DryRunError> {
    let mut settings = match text {
        None => ScrubSettings::of_new_project(),
        Some(text) => {
            let document = serde_json::from_slice(text).map_err(DryRunError::NotJson)?;
            read_scrubbing(&document).map_err(DryRunError::Settings)?
        }
    };
    settings.scrub_profile = profile.unwrap_or(settings.scrub_profile);
    validate(&settings).map_err(DryRunError::Rules)?;
    Ok(settings)
}

/// Normalises and scrubs one event, as if it were received at `now`.
///
/// # Errors
/// [`DryRunError`] if settings or event can't be read.
pub fn dry_run(settings: &ScrubSettings, event: &[u8], now: Timestamp) -> Result<DryRun, DryRunError> {
    let scrubber = Scrubber::compile(settings).map_err(DryRunError::Rules)?;
    let mut document = Document::read(event, PythonFloats::Accept).map_err(DryRunError::Event)?;
    normalise_event(&mut document, &context(settings, now)).map_err(DryRunError::Rejected)?;
    scrubber.scrub_event(&mut document);
    let mut remarks = Vec::new();
    collect(&document.meta, "", &mut remarks);
    // Documents write UTF-8, and JSON.
    let text = String::from_utf8_lossy(&document.to_json()).into_owned();
    Ok(DryRun { event: RawValue::from_string(text).map_err(DryRunError::Output)?, remarks })
}

/// The surroundings of an event that did not come in a request.
fn context(settings: &ScrubSettings, now: Timestamp) -> EventContext<'static> {
    EventContext {
        event_id: None,
        received_at: now,
        sent_at: None,
        client_address: None,
        ip_inference: match settings.scrub_profile.is_on(settings.datascrubbing_settings.scrub_ip_addresses) {
            true => IpInference::Forbidden,
            false => IpInference::Allowed,
        },
        user_agent: None,
        client_hints: ClientHints::default(),
        client: None,
        // Samples are old: their times are not to be corrected.
        retention_days: u16::MAX,
    }
}

fn collect(node: &MetaTree, path: &str, remarks: &mut Vec<RemarkAt>) {
    remarks.extend(node.meta.remarks.iter().map(|remark| RemarkAt {
        path: path.to_owned(),
        rule: remark.rule.to_string(),
        kind: remark.kind.letter(),
        start: remark.range.map(|(start, _)| start),
        end: remark.range.map(|(_, end)| end),
    }));
    for (segment, child) in node.children() {
        let below = if path.is_empty() { segment.to_owned() } else { format!("{path}.{segment}") };
        collect(child, &below, remarks);
    }
}

impl std::fmt::Display for RemarkAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let done = match RemarkKind::from_letter(self.kind) {
            Some(RemarkKind::Removed) => "removed",
            Some(RemarkKind::Substituted) => "replaced",
            Some(RemarkKind::Masked) => "masked",
            Some(RemarkKind::Pseudonymised) => "hashed",
            Some(RemarkKind::Encrypted) => "encrypted",
            Some(RemarkKind::Annotated) | None => "marked",
        };
        write!(f, "{}: {done} by {}", self.path, self.rule)?;
        match (self.start, self.end) {
            (Some(start), Some(end)) => write!(f, ", now bytes {start} to {end}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_goes_is_told_with_rule_and_path() {
        let settings = settings(None, None).unwrap();
        let event = br#"{"message":"hi","extra":{"x":"password: abc"},"user":{"ip_address":"1.2.3.4"}}"#;
        let run = dry_run(&settings, event, Timestamp::EPOCH).unwrap();
        let lines: Vec<String> = run.remarks.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "extra.x: replaced by @secretpair:filter, now bytes 10 to 20",
                "user.ip_address: removed by @anything:remove"
            ]
        );
        assert!(run.event.get().contains("\"_meta\""));
        let json = serde_json::to_value(&run).unwrap();
        assert_eq!(json["remarks"][0]["type"], "s");
        assert_eq!(json["remarks"][1]["start"], serde_json::Value::Null);
    }

    #[test]
    fn a_profile_goes_before_that_of_the_settings() {
        let text = br#"{"datascrubbingSettings":{"scrubData":true,"scrubDefaults":true},"scrubProfile":"strict"}"#;
        let event = br#"{"extra":{"author":"Eve"}}"#;
        let of =
            |profile| dry_run(&settings(Some(text), profile).unwrap(), event, Timestamp::EPOCH).unwrap().remarks.len();
        assert_eq!((of(None), of(Some(ScrubProfile::Compat))), (0, 1));
    }

    #[test]
    fn bad_settings_are_an_error_that_names_the_rule() {
        for (text, words) in [
            (r#"{"piiConfig":{"rules":{"order":{"type":"pattern","pattern":"("}}}}"#, "`order`"),
            (r#"{"piiConfig":{"applications":{"$strin":["@ip"]}}}"#, "`$strin`"),
            (r#"{"piiConfig":{"applications":{"$string":["nope"]}}}"#, "`nope`"),
            (r#"{"piiConfig":7}"#, "piiConfig: invalid type"),
            (r#"{"piiConfig":[]}"#, "piiConfig: expected an object"),
            (r#"{"piiConfig":{"rule":{}}}"#, "piiConfig.rule: unknown setting"),
            (
                r#"{"piiConfig":{"rules":{"order":{"type":"email","hideIner":true}}}}"#,
                "`order`: it has an unknown key `hideIner`",
            ),
            (r#"{"datascrubbingSettings":{"scrubdata":false}}"#, "datascrubbingSettings.scrubdata: unknown setting"),
            (
                r#"{"dataScrubbingSettings":{}}"#,
                "dataScrubbingSettings: unknown setting; there are datascrubbingSettings,",
            ),
            (r#"{"scrubProfile":"lax"}"#, "scrubProfile: unknown variant `lax`"),
            ("[]", "the document: expected"),
            ("{", "no JSON"),
        ] {
            let error = settings(Some(text.as_bytes()), None).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let settings = settings(None, None).unwrap();
        let run = |event| dry_run(&settings, event, Timestamp::EPOCH);
        assert!(matches!(run(b"nonsense"), Err(DryRunError::Event(_))));
        assert!(matches!(run(b"[]"), Err(DryRunError::Rejected(_))));
    }
}
