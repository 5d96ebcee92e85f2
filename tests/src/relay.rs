//! A relay of an installation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use crate::aggregator::{Start, command};
use crate::executable::Build;
use crate::http::HttpClient;
use crate::port::free_address;
use crate::program::{Finished, Program, print_tail};
use crate::wait::{eventually, holds};

/// How long it may take to start, with two busy cores.
pub const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to stop: its own bounds (10 s for requests, 5 s for the uplink) and some time for the machine.
pub const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A relay: its files, its addresses and, while it runs, its process.
#[derive(Debug)]
pub struct Relay {
    /// Where SDKs reach it.
    pub listen: SocketAddr,
    /// Status and metrics.
    pub admin: SocketAddr,
    /// Identity and spool.
    pub data_dir: PathBuf,
    name: String,
    config: PathBuf,
    log: PathBuf,
    program: Option<Program>,
    http: HttpClient,
}

impl Relay {
    /// Lays out a relay in `directory`: configuration and addresses, nothing is run yet.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn prepare(directory: &Path, name: &str, data_dir: PathBuf) -> Self {
        let this = Self {
            listen: free_address(),
            admin: free_address(),
            data_dir,
            name: name.to_owned(),
            config: directory.join(format!("{name}.toml")),
            log: directory.join(format!("{name}.log")),
            program: None,
            http: HttpClient::new(),
        };
        // Short waits: a test that takes an aggregator away should not wait for a backoff that suits a data centre.
        // A reply may take long only where a failpoint holds it, and then the test wants the relay to ask again soon.
        let text = format!(
            "data_dir = {:?}\nlisten = \"{}\"\nadmin_listen = \"{}\"\n[log]\nlevel = \"info,picket_relay=debug\"\n\
             format = \"console\"\n[spool]\nmin_free_bytes = 0\n[uplink]\nbackoff_min = \"100ms\"\nbackoff_max = \"1s\"\n\
             connect_timeout = \"5s\"\nstatistics_interval = \"1s\"\n",
            this.data_dir, this.listen, this.admin,
        );
        std::fs::write(&this.config, text).expect("a configuration file");
        this
    }

    /// Adds lines to the end of its configuration: keys of `[uplink]`, then other sections.
    ///
    /// # Panics
    /// If the file can't be written.
    pub fn configure(&self, lines: &str) {
        let text = std::fs::read_to_string(&self.config).expect("its configuration");
        std::fs::write(&self.config, format!("{text}{lines}\n")).expect("a configuration file");
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// Runs one of its commands to the end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = command("picket-relay", Build::Normal);
        Finished::of(command.arg("--config").arg(&self.config).args(arguments))
    }

    /// Starts it and waits until it is ready to take events.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_as(&Start::default());
    }

    /// Starts it as told and waits until it is ready to take events.
    #[track_caller]
    pub fn start_as(&mut self, start: &Start<'_>) {
        self.launch(start);
        self.wait_until("is ready", START_PATIENCE, |status| status["ready"] == true);
    }

    /// Starts it without waiting for anything.
    ///
    /// # Panics
    /// If it runs already.
    #[track_caller]
    pub fn launch(&mut self, start: &Start<'_>) {
        assert!(self.program.is_none(), "{} runs already", self.name);
        let mut command = command("picket-relay", start.build);
        command.arg("--config").arg(&self.config).arg("run").envs(start.environment.iter().copied());
        self.program = Some(Program::start(&self.name, command, &self.log));
    }

    /// Waits until its status is as wanted, and returns it.
    ///
    /// # Panics
    /// If that takes longer than `within`, or it ends.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, within: Duration, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{} {what}", self.name);
        eventually(&what, within, || {
            if let Some(status) = self.program.as_mut().and_then(Program::ended) {
                print_tail(&self.name, &self.log);
                panic!("{} ended: {status}", self.name);
            }
            let status = self.status()?;
            if is_wanted(&status) { Ok(status) } else { Err(status.to_string()) }
        })
    }

    /// Waits until an aggregator has acknowledged all that was accepted.
    #[track_caller]
    pub fn wait_until_drained(&mut self, within: Duration) {
        self.wait_until("has delivered everything", within, |status| status["spool"]["records"] == 0);
    }

    /// Its status, from its admin listener.
    ///
    /// # Errors
    /// What kept it from answering.
    pub fn status(&self) -> Result<Value, String> {
        let answer = self.http.get(self.admin, "/status", &[]).map_err(|error| error.0)?;
        holds(answer.status == 200, answer.status)?;
        Ok(answer.json())
    }

    /// How many requests it has answered, by status, at all endpoints that take data.
    ///
    /// # Panics
    /// If it does not answer, or its metrics are not understood.
    #[must_use]
    #[track_caller]
    pub fn answers_by_status(&self) -> BTreeMap<u16, u64> {
        let mut answers = BTreeMap::new();
        for line in self.metrics().lines().filter(|line| line.starts_with("picket_relay_requests_total{")) {
            let (_, status) = line.split_once("status=\"").expect("a status");
            let (status, _) = status.split_once('"').expect("the end of a status");
            let (_, count) = line.rsplit_once(' ').expect("a value");
            *answers.entry(status.parse().expect("a status")).or_default() += count.parse::<u64>().expect("a count");
        }
        answers
    }

    /// The value of a metric without labels.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        metric(&self.metrics(), name)
    }

    /// Its metrics, as Prometheus reads them.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    #[track_caller]
    pub fn metrics(&self) -> String {
        let answer = self.http.get(self.admin, "/metrics", &[]).expect("an answer");
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// The most memory it ever had resident, in bytes.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        let pid = self.program.as_ref().expect("the relay runs").pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells the peak");
        let kilobytes: u64 = line.split_whitespace().nth(1).expect("a value").parse().expect("a number");
        kilobytes * 1024
    }

    /// `kill -9`.
    #[track_caller]
    pub fn kill(&mut self) {
        self.program.take().expect("the relay runs").kill();
    }

    /// Stops it (SIGTERM), which must end it with 0, and returns how long that took.
    #[track_caller]
    pub fn stop(&mut self) -> Duration {
        self.program.take().expect("the relay runs").stop(STOP_PATIENCE)
    }

    /// Stops its execution (SIGSTOP) until [`Self::resume`].
    pub fn pause(&self) {
        self.program.as_ref().expect("the relay runs").pause();
    }

    /// Lets it run on.
    pub fn resume(&self) {
        self.program.as_ref().expect("the relay runs").resume();
    }

    /// The running process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    #[track_caller]
    pub const fn process(&self) -> &Program {
        self.program.as_ref().expect("the relay runs")
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
        self.program.take().expect("the relay runs").wait_for_end(within)
    }

    /// Everything it has logged.
    #[must_use]
    pub fn logged(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

/// The value of a metric without labels in Prometheus text.
#[must_use]
#[track_caller]
pub fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().expect("a whole number")
}
