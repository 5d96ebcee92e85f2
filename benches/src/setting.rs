//! What every bench of a whole installation has before it measures: the programs, a directory for their stores, a look at the
//! machine, bodies that no run had before. Not here: starting programs ([`crate::installation`]) and what is measured.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use time::OffsetDateTime;
use tracing::{info, warn};

use crate::installation::{Binaries, InstallationError};
use crate::load::LoadError;
use crate::machine::Machine;
use crate::payload::{Generator, PayloadError, Pool, Recipe};
use crate::target::TargetError;

/// Whether the stores and logs stay when the bench is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// They stay, and the log says where.
    Keep,
    /// They go.
    Remove,
}

/// What to measure with.
#[derive(Debug, Clone)]
pub struct SettingOptions {
    /// What bodies are made from.
    pub seed: u64,
    /// True problems.
    pub problems: NonZeroU32,
    /// Compression level of gzip.
    pub gzip_level: u32,
    /// Where the stores are made; the system's temporary directory if none.
    pub data_dir: Option<PathBuf>,
    /// What becomes of the stores.
    pub afterwards: Afterwards,
    /// The relay's program, if not beside this one.
    pub relay_bin: Option<PathBuf>,
    /// The aggregator's program, if not beside this one.
    pub aggregator_bin: Option<PathBuf>,
}

/// Why a bench has no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Setting up, asking or ending the programs failed.
    #[error(transparent)]
    Installation(#[from] InstallationError),
    /// A load run failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Bodies could not be made.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The DSN of the new project is of no use.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Files or `/proc` could not be read.
    #[error("cannot {doing}: {source}")]
    Files {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A blocking step ended early.
    #[error("a step of the bench panicked; this is a bug in picket-bench: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    /// The relay did not do in time what it should.
    #[error("the relay's spool was not {wanted} within {} s; it holds {records} records", deadline.as_secs())]
    Spool {
        /// What was waited for.
        wanted: &'static str,
        /// How long.
        deadline: Duration,
        /// What it held at the end.
        records: u64,
    },
    /// The relay's metrics can't be read.
    #[error("the relay's metric {0} can't be read")]
    Metric(&'static str),
    /// Events were refused while the backlog was made, so the figures would mean something else.
    #[error("the relay refused or did not answer {0} of the backlog's events")]
    Refused(u64),
    /// The options make no sense.
    #[error("--{0} must be above zero")]
    Zero(&'static str),
}

/// The place of a bench.
pub(crate) struct Setting {
    pub(crate) binaries: Binaries,
    pub(crate) machine: Machine,
    pub(crate) bodies: Bodies,
    /// Whether this program or those under test are debug builds: figures that compare with nothing.
    pub(crate) debug_build: bool,
    directory: TempDir,
}

impl Setting {
    /// Finds the programs, makes the directory, tries the disk.
    pub(crate) async fn prepare(options: SettingOptions) -> Result<Self, BenchError> {
        let bodies = Bodies::new(&options)?;
        let directory = directory(&options)?;
        let binaries = Binaries::find(options.relay_bin, options.aggregator_bin)?;
        let debug_build = cfg!(debug_assertions) || binaries.look_like_debug_builds();
        if debug_build {
            warn!("debug builds are under test or testing: these figures compare with nothing, build with --release");
        }
        let stores = directory.path().to_owned();
        let machine = tokio::task::spawn_blocking(move || Machine::look(&stores))
            .await?
            .map_err(|source| BenchError::Files { doing: "try the disk", source })?;
        info!("{machine}");
        if machine.stores_in_memory() {
            warn!("the stores lie in memory, where fsync is free; name a directory on disk with --data-dir");
        }
        Ok(Self { binaries, machine, bodies, debug_build, directory })
    }

    /// Where the stores are made; they go with this value, unless they are kept.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// Fresh bodies, which no run had before.
pub(crate) struct Bodies {
    generator: Arc<Generator>,
    next: u64,
}

impl Bodies {
    fn new(options: &SettingOptions) -> Result<Self, BenchError> {
        let &SettingOptions { seed, problems, gzip_level, .. } = options;
        let recipe = Recipe { seed, problems, gzip_level, newest: OffsetDateTime::now_utc() };
        Ok(Self { generator: Arc::new(Generator::new(recipe)?), next: 0 })
    }

    /// The next `count` of them.
    pub(crate) async fn make(&mut self, count: u64) -> Result<Arc<Pool>, BenchError> {
        let generator = Arc::clone(&self.generator);
        let range = self.next..self.next + count;
        self.next = range.end;
        Ok(Arc::new(tokio::task::spawn_blocking(move || generator.pool(range)).await??))
    }
}

fn directory(options: &SettingOptions) -> Result<TempDir, BenchError> {
    let keep = options.afterwards == Afterwards::Keep;
    let mut builder = tempfile::Builder::new();
    builder.prefix("picket-bench-").disable_cleanup(keep);
    let directory = match &options.data_dir {
        Some(parent) => std::fs::create_dir_all(parent).and_then(|()| builder.tempdir_in(parent)),
        None => builder.tempdir(),
    }
    .map_err(|source| BenchError::Files { doing: "make a directory for the stores", source })?;
    if keep {
        info!(directory = %directory.path().display(), "stores and logs stay here");
    }
    Ok(directory)
}
