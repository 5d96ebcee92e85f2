//! What `project config` reads, and how settings and keys are shown.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use picket_common::project_config::ProjectSettings;
use picket_common::project_config::settings::MAX_SETTINGS_BYTES;
use serde_json::{Value, json};

use super::issue_text::one_line;
use super::output::{eprint, print_json};
use crate::admin::Reply;
use crate::projects::{KeyState, ProjectKey};

/// Longest text of a document: blanks and comments of a generous editor on top of what is taken.
const MAX_DOCUMENT_BYTES: u64 = 4 * MAX_SETTINGS_BYTES as u64;

/// A document of settings, from a file or stdin.
pub(super) fn read_settings(file: Option<&Path>) -> anyhow::Result<Value> {
    let (text, from) = match file {
        Some(path) => (bounded(std::fs::File::open(path)), path.display().to_string()),
        None => (bounded(Ok(io::stdin().lock())), "stdin".to_owned()),
    };
    let text = text.with_context(|| format!("can't read the settings from {from}"))?;
    serde_json::from_str(&text).with_context(|| format!("the settings from {from} are no JSON"))
}

fn bounded(source: io::Result<impl Read>) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = source?.take(MAX_DOCUMENT_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_DOCUMENT_BYTES {
        bail!("it is longer than {MAX_DOCUMENT_BYTES} bytes");
    }
    Ok(text)
}

/// Says that settings were changed; with `--json` shows what they are now.
pub(super) fn changed(reply: Reply, project: &str, json: bool) -> anyhow::Result<()> {
    let Reply::Settings(settings) = reply else {
        bail!("the aggregator answered something that was not asked");
    };
    if let Some(warning) = scrubbing_warning(&settings) {
        eprint(&format!("warning: project {project}: {warning}"));
    }
    if json {
        return print_json(&mut io::stdout().lock(), &settings.effective_document());
    }
    eprint(&format!("the settings of project {project} are changed; connected relays have them at once"));
    Ok(())
}

/// What an operator should know who has set `scrubData` to off, or has not set it where that means off.
fn scrubbing_warning(settings: &ProjectSettings) -> Option<String> {
    let switch = settings.datascrubbing_settings.scrub_data;
    if settings.scrub_profile.is_on(switch) {
        return None;
    }
    let cause = match switch {
        Some(_) => "datascrubbingSettings.scrubData is false",
        None => "datascrubbingSettings.scrubData is left out, which is off under scrubProfile compat",
    };
    let rest = if settings.pii_config.is_some() { "only the rules of piiConfig look for" } else { "nothing looks for" };
    Some(format!("scrubbing is off, {rest} passwords and other secrets in its events: {cause}"))
}

pub(super) fn key_json(key: &ProjectKey) -> Value {
    json!({
        "public_key": key.public_key,
        "project_id": key.project_id,
        "label": key.label,
        "enabled": key.state == KeyState::Enabled,
        "dsn": key.dsn,
        "created_at": key.created_at.to_rfc3339(),
    })
}

pub(super) fn print_keys(out: &mut impl Write, keys: &[ProjectKey]) -> anyhow::Result<()> {
    writeln!(out, "{:<32}  {:<8}  {:<16}  DSN", "PUBLIC KEY", "STATE", "LABEL")?;
    for key in keys {
        let label = one_line(&key.label);
        writeln!(out, "{:<32}  {:<8}  {label:<16}  {}", key.public_key.as_str(), state(key), key.dsn)?;
    }
    Ok(())
}

pub(super) fn print_key(out: &mut impl Write, key: &ProjectKey) -> anyhow::Result<()> {
    writeln!(out, "key      {}\nstate    {}\ndsn      {}", key.public_key, state(key), key.dsn)?;
    Ok(())
}

const fn state(key: &ProjectKey) -> &'static str {
    match key.state {
        KeyState::Enabled => "enabled",
        KeyState::Disabled => "disabled",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_that_leave_scrubbing_off_are_warned_of_with_the_cause() {
        let warning = |change| scrubbing_warning(&ProjectSettings::default().changed(&change).unwrap());
        let names = json!({ "sensitiveFields": ["nickname"] });
        assert_eq!(warning(json!({})), None);
        assert_eq!(warning(json!({ "datascrubbingSettings": names })), None);
        assert_eq!(warning(json!({ "scrubProfile": "compat" })), None, "a new project has its switches on");
        let left_out = warning(json!({ "datascrubbingSettings": names, "scrubProfile": "compat" })).unwrap();
        assert!(left_out.contains("nothing looks for") && left_out.contains("left out"), "{left_out}");
        let off = warning(json!({ "datascrubbingSettings": { "scrubData": false }, "piiConfig": {} })).unwrap();
        assert!(off.contains("only the rules of piiConfig") && off.contains("scrubData is false"), "{off}");
    }
}
