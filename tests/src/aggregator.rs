//! The aggregator of an installation.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;

use crate::api::Api;
use crate::executable::{self, Build};
use crate::http::HttpClient;
use crate::port::free_address;
use crate::program::{Finished, Program, print_tail};
use crate::wait::{eventually, holds};

/// How long it may take to start, with two busy cores and a cold page cache.
pub const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to stop: its own bounds (10 s for connections, 10 s for queries) and some time for the machine.
pub const STOP_PATIENCE: Duration = Duration::from_secs(25);
/// What a token for reading everything may do.
const READ_SCOPES: &str = "event:read,project:read,org:read";

/// The aggregator: its files, its addresses and, while it runs, its process.
#[derive(Debug)]
pub struct Aggregator {
    /// Pages and API.
    pub pages: SocketAddr,
    /// Where relays connect.
    pub link: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// What the first admin logs in with; `None` until [`Self::init`].
    pub admin_login: Option<(String, String)>,
    config: PathBuf,
    log: PathBuf,
    program: Option<Program>,
}

/// How an aggregator or a relay is started.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// Which binary.
    pub build: Build,
    /// Environment variables, such as `FAILPOINTS` or keys of the configuration.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Default for Start<'_> {
    fn default() -> Self {
        Self { build: Build::Normal, environment: &[] }
    }
}

impl<'a> Start<'a> {
    /// The build with failpoints, and one of them set.
    #[must_use]
    pub const fn with_failpoint(environment: &'a [(&'a str, &'a str)]) -> Self {
        Self { build: Build::Failpoints, environment }
    }
}

/// A command of one of the two programs, free of what the tester's own environment says about their configuration.
pub(crate) fn command(name: &str, build: Build) -> Command {
    let mut command = Command::new(executable::find(name, build));
    for (variable, _) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if text.starts_with("PICKET_AGGREGATOR__") || text.starts_with("PICKET_RELAY__") || text == "FAILPOINTS" {
            command.env_remove(&variable);
        }
    }
    command
}

impl Aggregator {
    /// Lays out an aggregator in `directory`: configuration and addresses, nothing is run yet.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn prepare(directory: &Path, organisation: &str, clickhouse: &str) -> Self {
        let this = Self {
            pages: free_address(),
            link: free_address(),
            admin: free_address(),
            data_dir: directory.join("aggregator"),
            admin_login: None,
            config: directory.join("aggregator.toml"),
            log: directory.join("aggregator.log"),
            program: None,
        };
        let library = executable::fetched("libchdb.so");
        let text = format!(
            "data_dir = {:?}\nlisten = \"{}\"\npublic_url = \"http://{}\"\norganisation = \"{organisation}\"\n\
             link_listen = \"{}\"\nadmin_listen = \"{}\"\n[log]\nlevel = \"info,picket_aggregator=debug\"\nformat = \"console\"\n\
             [clickhouse]\nlibrary = {library:?}\n{clickhouse}\n",
            this.data_dir, this.pages, this.pages, this.link, this.admin,
        );
        std::fs::write(&this.config, text).expect("a configuration file");
        this
    }

    /// Tells relays to connect to these addresses instead of its own. Before [`Self::init`].
    ///
    /// # Panics
    /// If the file can't be written.
    pub fn advertise(&self, addresses: &[SocketAddr]) {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let text = std::fs::read_to_string(&self.config).expect("its configuration");
        std::fs::write(&self.config, format!("link_advertise = {addresses:?}\n{text}")).expect("a configuration file");
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// Runs one of its commands to the end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = command("picket-aggregator", Build::Normal);
        Finished::of(command.arg("--config").arg(&self.config).args(arguments))
    }

    /// Runs one of its commands, which must succeed, and reads its answer.
    #[must_use]
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).json()
    }

    /// Prepares its data directory and keeps the admin's password.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn init(&mut self) {
        let facts = self.ask(&["init"]);
        let text = |key: &str| facts[key].as_str().unwrap_or_else(|| panic!("{key} in {facts}")).to_owned();
        self.admin_login = Some((text("admin_email"), text("admin_password")));
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_as(&Start::default());
    }

    /// Starts it as told and waits until it serves.
    #[track_caller]
    pub fn start_as(&mut self, start: &Start<'_>) {
        self.launch(start);
        self.wait_until_serving();
    }

    /// Starts it as told, without waiting for anything.
    ///
    /// # Panics
    /// If it runs already.
    #[track_caller]
    pub fn launch(&mut self, start: &Start<'_>) {
        assert!(self.program.is_none(), "the aggregator runs already");
        let mut command = command("picket-aggregator", start.build);
        command.arg("--config").arg(&self.config).arg("serve").envs(start.environment.iter().copied());
        self.program = Some(Program::start("aggregator", command, &self.log));
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// If it does not in time, or ends.
    #[track_caller]
    pub fn wait_until_serving(&mut self) {
        let program = self.program.as_mut().expect("the aggregator runs");
        let http = HttpClient::new();
        eventually("the aggregator serves", START_PATIENCE, || {
            if let Some(status) = program.ended() {
                print_tail("aggregator", &self.log);
                panic!("the aggregator ended while it started: {status}");
            }
            let answer = http.get(self.admin, "/health", &[]).map_err(|error| error.0)?;
            holds(answer.status == 200, answer.status)
        });
    }

    /// Batches that it has acknowledged and not yet finished.
    ///
    /// # Panics
    /// If its status has no such number.
    #[must_use]
    #[track_caller]
    pub fn journal_batches(&self) -> u64 {
        self.ask(&["status"])["journal"]["batches"].as_u64().expect("a number of batches")
    }

    /// Waits until everything it has acknowledged is in ClickHouse.
    #[track_caller]
    pub fn wait_until_processed(&self, within: Duration) {
        eventually("the journal is empty", within, || {
            let batches = self.journal_batches();
            holds(batches == 0, batches)
        });
    }

    /// The value of a metric without labels.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let answer = HttpClient::new().get(self.admin, "/metrics", &[]).expect("an answer");
        crate::relay::metric(&answer.text(), name)
    }

    /// Where its embedded engine keeps its data.
    #[must_use]
    pub fn clickhouse_data(&self) -> PathBuf {
        self.data_dir.join("clickhouse")
    }

    /// Its process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.program.as_ref().expect("the aggregator runs").pid()
    }

    /// Stops its execution (SIGSTOP); only [`Self::kill`] follows.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn pause(&self) {
        self.program.as_ref().expect("the aggregator runs").pause();
    }

    /// Whether it was started and not stopped or killed since.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.program.is_some()
    }

    /// `kill -9`.
    #[track_caller]
    pub fn kill(&mut self) {
        self.program.take().expect("the aggregator runs").kill();
    }

    /// Stops it (SIGTERM), which must end it with 0, and returns how long that took.
    #[track_caller]
    pub fn stop(&mut self) -> Duration {
        self.program.take().expect("the aggregator runs").stop(STOP_PATIENCE)
    }

    /// The running process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    #[track_caller]
    pub const fn process(&self) -> &Program {
        self.program.as_ref().expect("the aggregator runs")
    }

    /// How it ended by itself, if it has; it can be started anew then.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.program.as_mut()?.ended()?;
        self.program = None;
        Some(status)
    }

    /// Waits until it has ended by itself, after a signal; how it did, and after how long.
    #[track_caller]
    pub fn wait_for_end(&mut self, within: Duration) -> (ExitStatus, Duration) {
        self.program.take().expect("the aggregator runs").wait_for_end(within)
    }

    /// Everything it has logged.
    #[must_use]
    pub fn logged(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its API, with a new token.
    #[must_use]
    #[track_caller]
    pub fn api(&self) -> Api {
        let made = self.ask(&["token", "create", "--scopes", READ_SCOPES]);
        Api::new(self.pages, made["token"].as_str().expect("a token"))
    }
}
