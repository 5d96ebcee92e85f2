//! An aggregator and its relays in one temporary directory.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use picket_common::dsn::Dsn;
use tempfile::TempDir;

use crate::aggregator::Aggregator;
use crate::ingest::{Ingest, Target};
use crate::relay::Relay;

/// The organisation's slug in every installation.
pub const ORGANISATION: &str = "picket";

/// How long an event may take to become visible on an idle machine's worth of two busy cores.
pub const ARRIVAL_PATIENCE: Duration = Duration::from_secs(20);

/// Held by the one installation that exists.
static TURN: Mutex<()> = Mutex::new(());

/// A whole Picket. What is not stopped is killed when it is dropped; relays are the test's own, and must be dropped before.
#[derive(Debug)]
pub struct Installation {
    /// The aggregator.
    pub aggregator: Aggregator,
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A project of an installation.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its slug, as paths have it.
    pub slug: String,
    /// Its DSN.
    pub dsn: Dsn,
}

impl Project {
    /// The project as seen at a relay.
    #[must_use]
    pub fn at(&self, relay: &Relay) -> Target {
        Target { relay: relay.listen, project: self.dsn.project_id(), key: self.dsn.public_key() }
    }
}

impl Installation {
    /// Lays one out, with `clickhouse` as further lines of that section of the aggregator's configuration; runs nothing yet.
    ///
    /// # Panics
    /// If there is no temporary directory to be had.
    #[must_use]
    pub fn prepare(clickhouse: &str) -> Self {
        // A test that failed while it held its turn has left nothing that the next one uses.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = TempDir::with_prefix("picket-test-").expect("a temporary directory");
        let aggregator = Aggregator::prepare(directory.path(), ORGANISATION, clickhouse);
        Self { aggregator, directory, _turn: turn }
    }

    /// One whose aggregator is prepared and serves, with a project.
    #[must_use]
    #[track_caller]
    pub fn start() -> (Self, Project) {
        let mut installation = Self::prepare("");
        installation.aggregator.init();
        installation.aggregator.start();
        let project = installation.create_project("Shop");
        (installation, project)
    }

    /// One with a relay that has joined and is ready.
    #[must_use]
    #[track_caller]
    pub fn start_with_relay() -> (Self, Project, Relay) {
        let (installation, project) = Self::start();
        let relay = installation.add_relay("relay");
        (installation, project, relay)
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a project.
    ///
    /// # Panics
    /// If the aggregator refuses.
    #[must_use]
    #[track_caller]
    pub fn create_project(&self, name: &str) -> Project {
        let made = self.aggregator.ask(&["project", "create", name]);
        let text = |key: &str| made[key].as_str().unwrap_or_else(|| panic!("{key} in {made}")).to_owned();
        Project { slug: text("slug"), dsn: text("dsn").parse().expect("a DSN") }
    }

    /// Adds a relay: invites it, lets it join, starts it and waits until it is ready and connected.
    #[must_use]
    #[track_caller]
    pub fn add_relay(&self, name: &str) -> Relay {
        let mut relay = self.join_relay(name, self.directory().join(name));
        relay.start();
        relay.wait_until("is connected", ARRIVAL_PATIENCE, |status| status["uplink"]["connected_to"].is_string());
        relay
    }

    /// Adds a relay whose data is in `data_dir`: invites it and lets it join, but does not start it.
    ///
    /// # Panics
    /// If it can't join.
    #[must_use]
    #[track_caller]
    pub fn join_relay(&self, name: &str, data_dir: PathBuf) -> Relay {
        let relay = Relay::prepare(self.directory(), name, data_dir);
        let invitation = self.aggregator.ask(&["relay", "invite", "--name", name]);
        let _joined = relay.run(&["join", invitation["token"].as_str().expect("a token")]).successful();
        relay
    }

    /// The same relay with its data directory at another place: a disk that was copied.
    ///
    /// # Panics
    /// If its configuration can't be written.
    #[must_use]
    pub fn move_relay(&self, relay: &Relay, data_dir: PathBuf) -> Relay {
        Relay::prepare(self.directory(), relay.name(), data_dir)
    }

    /// A connection to a relay for a project.
    #[must_use]
    pub fn ingest(project: &Project, relay: &Relay) -> Ingest {
        Ingest::new(project.at(relay))
    }
}
