//! Running the real SDKs: scripts of ours in `tests/sdk/`, against a DSN.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::executable::{cache_directory, fetched};
use crate::program::Finished;

/// Runs a script with `sentry-sdk` and returns what it printed.
///
/// # Panics
/// If it fails.
#[must_use]
#[track_caller]
pub fn python(script: &str, dsn: &str) -> Value {
    run(Command::new(fetched("sdk/python/bin/python")), script, dsn)
}

/// Runs a script with `@sentry/node` and returns what it printed.
///
/// # Panics
/// If it fails.
#[must_use]
#[track_caller]
pub fn node(script: &str, dsn: &str) -> Value {
    let mut command = Command::new(fetched("sdk/node/bin-node"));
    let _package = fetched("sdk/node/node_modules/@sentry/node");
    command.env("SDK_DIRECTORY", cache_directory().join("sdk/node"));
    run(command, script, dsn)
}

#[track_caller]
fn run(mut command: Command, script: &str, dsn: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(script);
    // The SDKs read these themselves; a proxy of the tester's must not be asked for loopback.
    for variable in ["SENTRY_DSN", "SENTRY_RELEASE", "SENTRY_ENVIRONMENT", "http_proxy", "HTTP_PROXY"] {
        command.env_remove(variable);
    }
    Finished::of(command.arg(path).arg(dsn)).json()
}
