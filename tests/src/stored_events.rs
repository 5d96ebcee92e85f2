//! All events in ClickHouse with how often each is there, read past the aggregator.
//!
//! The API answers one event at a time and would hide a second row of the same id; this looks at the rows. The aggregator is
//! stopped for it, and its engine's data served by `picket-test-clickhouse`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use picket_common::ids::EventId;

use crate::executable;
use crate::http::HttpClient;
use crate::port::free_address;
use crate::program::{Program, print_tail};
use crate::wait::{eventually, holds};

/// User at the test server.
pub const USER: &str = "picket";
/// How long the engine may take to open.
const OPEN_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);

/// A ClickHouse server in a process of its own: the embedded engine behind `picket-test-clickhouse`.
#[derive(Debug)]
pub struct ClickHouseServer {
    /// Where it listens.
    pub address: SocketAddr,
    password: String,
    http: HttpClient,
    program: Program,
}

impl ClickHouseServer {
    /// Serves the data in `data_path`, which is made where it is missing; its log goes beside it.
    ///
    /// # Panics
    /// If it does not open in time.
    #[must_use]
    #[track_caller]
    pub fn start(data_path: &Path, password: &str) -> Self {
        let address = free_address();
        let mut command = Command::new(executable::find_own("picket-test-clickhouse"));
        command.arg("--data-path").arg(data_path).arg("--library").arg(executable::fetched("libchdb.so"));
        command.arg("--listen").arg(address.to_string()).args(["--user", USER, "--password", password]);
        let log = data_path.with_extension("clickhouse.log");
        let mut program = Program::start("picket-test-clickhouse", command, &log);
        let http = HttpClient::new();
        eventually("the ClickHouse server answers", OPEN_PATIENCE, || {
            if let Some(status) = program.ended() {
                print_tail("picket-test-clickhouse", &log);
                panic!("picket-test-clickhouse ended: {status}");
            }
            let answer = http.get(address, "/ping", &[]).map_err(|error| error.0)?;
            holds(answer.status == 200, answer.status)
        });
        Self { address, password: password.to_owned(), http, program }
    }

    /// Runs a query and returns its rows, separated by tabs.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    #[track_caller]
    pub fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let headers = [("x-clickhouse-user", USER), ("x-clickhouse-key", self.password.as_str())];
        let answer = self.http.post(self.address, "/", &headers, sql.to_owned()).expect("an answer");
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.text().lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// Stops it.
    #[track_caller]
    pub fn stop(self) {
        let _took = self.program.stop(CLOSE_PATIENCE);
    }
}

/// How often each event is in the table `events` of a stopped aggregator; the payloads must be the same ones.
///
/// # Panics
/// If the data can't be opened, or the two tables differ.
#[must_use]
#[track_caller]
pub fn stored_events(clickhouse: &Path) -> HashMap<EventId, u64> {
    let server = ClickHouseServer::start(clickhouse, "for this test");
    let counts = |table: &str| -> HashMap<EventId, u64> {
        let sql =
            format!("SELECT replaceAll(toString(event_id), '-', ''), count() FROM picket.{table} GROUP BY event_id");
        let row = |row: Vec<String>| (row[0].parse().expect("an event id"), row[1].parse().expect("a count"));
        server.query(&sql).into_iter().map(row).collect()
    };
    let (events, payloads) = (counts("events"), counts("event_payloads"));
    server.stop();
    assert!(
        events == payloads,
        "{} events in `events`, {} in `event_payloads`: they differ",
        events.len(),
        payloads.len()
    );
    events
}
