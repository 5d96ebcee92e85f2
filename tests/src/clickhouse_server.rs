//! A ClickHouse server in a process of its own: the embedded engine behind `picket-test-clickhouse`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::executable;
use crate::http::HttpClient;
use crate::port::free_address;
use crate::program::{Program, print_tail};
use crate::wait::{eventually, holds};

/// User at the server.
pub const USER: &str = "picket";
/// How long the engine may take to open.
const OPEN_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);

/// The server. Killed when dropped.
#[derive(Debug)]
pub struct ClickHouseServer {
    /// Where it listens.
    pub address: SocketAddr,
    data_path: PathBuf,
    password: String,
    http: HttpClient,
    program: Option<Program>,
}

impl ClickHouseServer {
    /// Serves the data in `data_path`, which is made where it is missing; its log goes beside it.
    ///
    /// # Panics
    /// If it does not open in time.
    #[must_use]
    #[track_caller]
    pub fn start(data_path: &Path, password: &str) -> Self {
        let mut this = Self {
            address: free_address(),
            data_path: data_path.to_owned(),
            password: password.to_owned(),
            http: HttpClient::new(),
            program: None,
        };
        this.launch();
        this
    }

    #[track_caller]
    fn launch(&mut self) {
        let mut command = Command::new(executable::find_own("picket-test-clickhouse"));
        command.arg("--data-path").arg(&self.data_path).arg("--library").arg(executable::fetched("libchdb.so"));
        command.arg("--listen").arg(self.address.to_string()).args(["--user", USER, "--password", &self.password]);
        let log = self.data_path.with_extension("clickhouse.log");
        let mut program = Program::start("picket-test-clickhouse", command, &log);
        eventually("the ClickHouse server answers", OPEN_PATIENCE, || {
            if let Some(status) = program.ended() {
                print_tail("picket-test-clickhouse", &log);
                panic!("picket-test-clickhouse ended: {status}");
            }
            let answer = self.http.get(self.address, "/ping", &[]).map_err(|error| error.0)?;
            holds(answer.status == 200, answer.status)
        });
        self.program = Some(program);
    }

    /// `kill -9`; then it is started anew at the same address.
    ///
    /// # Panics
    /// If it had ended by itself, or does not open in time.
    #[track_caller]
    pub fn kill_and_restart(&mut self) {
        self.program.take().expect("the server runs").kill();
        self.launch();
    }

    /// Runs a query and returns its rows.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let headers = [("x-clickhouse-user", USER), ("x-clickhouse-key", self.password.as_str())];
        // A connection of its own: the server closes idle ones, and a test may have been busy elsewhere.
        let answer = HttpClient::new().post(self.address, "/", &headers, sql.to_owned()).expect("an answer");
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.text().lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// Lets it hang (SIGSTOP) until [`Self::resume`].
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.program.as_ref().expect("the server runs").pause();
    }

    /// Lets it run on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&self) {
        self.program.as_ref().expect("the server runs").resume();
    }

    /// Stops it.
    #[track_caller]
    pub fn stop(mut self) {
        let _took = self.program.take().expect("the server runs").stop(CLOSE_PATIENCE);
    }
}
