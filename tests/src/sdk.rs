//! Running the real SDKs: scripts of ours in `tests/sdk/`, against a DSN. `packaging/setup.sh test` installs them at the versions
//! that it pins.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::executable::{cache_directory, fetched};
use crate::program::Finished;

/// An SDK, by what it is called and how old it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// `sentry-sdk` as it is now, for Python.
    Python,
    /// The last `sentry-sdk` of version 1.
    PythonOne,
    /// The last `raven`, which came before `sentry-sdk`.
    Raven,
    /// `@sentry/node` as it is now.
    Node,
    /// The last `@sentry/node` of version 8.
    NodeEight,
}

impl Sdk {
    /// Runs a script with the SDK and returns what it printed.
    ///
    /// # Panics
    /// If the SDK is not installed, or the script fails.
    #[must_use]
    #[track_caller]
    pub fn run(self, script: &str, dsn: &str) -> Value {
        let mut command = match self {
            Self::Python => Command::new(fetched("sdk/python/bin/python")),
            Self::PythonOne => Command::new(fetched("sdk/python-1/bin/python")),
            Self::Raven => Command::new(fetched("sdk/raven/bin/python")),
            Self::Node => node("sdk/node"),
            Self::NodeEight => node("sdk/node-8"),
        };
        // The SDKs read these themselves; a proxy of the tester's must not be asked for loopback.
        for variable in ["SENTRY_DSN", "SENTRY_RELEASE", "SENTRY_ENVIRONMENT", "http_proxy", "HTTP_PROXY"] {
            command.env_remove(variable);
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(script);
        Finished::of(command.arg(script).arg(dsn)).json()
    }
}

#[track_caller]
fn node(directory: &str) -> Command {
    let _package = fetched(&format!("{directory}/node_modules/@sentry/node"));
    let mut command = Command::new(fetched("sdk/node/bin-node"));
    command.env("SDK_DIRECTORY", cache_directory().join(directory));
    command
}
