//! What `project config` reads, and how settings and keys are shown.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
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
    if json {
        return print_json(&mut io::stdout().lock(), &settings.to_document());
    }
    eprint(&format!("the settings of project {project} are changed; connected relays have them at once"));
    Ok(())
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
