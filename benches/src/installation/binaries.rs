//! Where the programs under test are: beside this program, unless named.

use std::env;
use std::path::{Path, PathBuf};

use super::InstallationError;

/// Paths of the two programs; both exist.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `picket-relay`.
    pub relay: PathBuf,
    /// `picket-aggregator`.
    pub aggregator: PathBuf,
}

// === impl Binaries ===

impl Binaries {
    /// The named programs, or those in the directory of the running one.
    ///
    /// # Errors
    /// [`InstallationError::NoBinary`] for the first that is missing.
    pub fn find(relay: Option<PathBuf>, aggregator: Option<PathBuf>) -> Result<Self, InstallationError> {
        let own = env::current_exe().map_err(InstallationError::OwnPath)?;
        let beside = own.parent().unwrap_or(Path::new("."));
        Ok(Self {
            relay: existing(relay, beside, "picket-relay", "relay-bin")?,
            aggregator: existing(aggregator, beside, "picket-aggregator", "aggregator-bin")?,
        })
    }

    /// Whether a path says that this is a debug build, whose figures compare with nothing.
    #[must_use]
    pub fn look_like_debug_builds(&self) -> bool {
        [&self.relay, &self.aggregator].iter().any(|path| path.components().any(|part| part.as_os_str() == "debug"))
    }
}

fn existing(
    named: Option<PathBuf>,
    beside: &Path,
    name: &'static str,
    option: &'static str,
) -> Result<PathBuf, InstallationError> {
    let path = named.unwrap_or_else(|| beside.join(name));
    if path.is_file() { Ok(path) } else { Err(InstallationError::NoBinary { name, path, option }) }
}
