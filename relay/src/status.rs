//! Status: what an operator asks first, as one structure, from a running relay.
//!
//! The admin listener answers it as JSON; `picket-relay status` asks that listener and prints one screen.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use picket_common::config::reload::ConfigStatus;
use picket_common::config::{ByteSize, Span};
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::spool::SpoolStatus;
use crate::uplink::UplinkStatus;

/// How long a running relay may take for each step of its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// How a relay fares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Version of the binary.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Where SDKs reach it.
    pub listen: SocketAddr,
    /// Whether it takes requests.
    pub ready: bool,
    /// Revision of the projects' configuration; absent until one was received.
    pub config_revision: Option<u64>,
    /// How many projects that configuration has.
    pub projects: usize,
    /// Requests answered 200 since the start.
    pub accepted_total: u64,
    /// Open HTTP connections.
    pub connections: i64,
    /// Memory reserved for request bodies, in bytes.
    pub in_flight_bytes: u64,
    /// What waits for an aggregator.
    pub spool: SpoolStatus,
    /// Counts of outcomes that are on disk and in no batch yet.
    #[serde(default)]
    pub outcomes_waiting: u64,
    /// When the configuration was read, and how the last reload went.
    #[serde(default)]
    pub config: Option<ConfigStatus>,
    /// Until when the certificate is good by which the aggregator knows this relay.
    #[serde(default)]
    pub certificate_expires_at: Option<Timestamp>,
    /// The link to the aggregator.
    pub uplink: UplinkStatus,
}

/// Why a relay's status can't be had.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody listens there.
    #[error("no relay answers at {address}: {source}; is it running, and is admin_listen the one it was started with?")]
    NotRunning {
        /// `admin_listen` of the configuration.
        address: SocketAddr,
        /// What connecting said.
        source: std::io::Error,
    },
    /// Somebody listens there, but what it says is no status.
    #[error("what answers at {address} is not a relay of this version: {problem}")]
    NotARelay {
        /// `admin_listen` of the configuration.
        address: SocketAddr,
        /// What is wrong with the answer.
        problem: String,
    },
}

/// Asks the relay whose admin listener is at `address`. Blocking, for at most a few seconds.
///
/// # Errors
/// [`StatusError`] if no relay answers.
pub fn ask(address: SocketAddr) -> Result<RelayStatus, StatusError> {
    let not_running = |source| StatusError::NotRunning { address, source };
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(not_running)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(not_running)?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    let request = format!("GET /status HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(not_running)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).map_err(not_running)?;
    parse(&answer).map_err(|problem| StatusError::NotARelay { address, problem })
}

fn parse(answer: &str) -> Result<RelayStatus, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let status_line = head.lines().next().unwrap_or_default();
    if !status_line.contains(" 200 ") {
        return Err(format!("it answered {status_line:?}"));
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}

impl RelayStatus {
    /// One screen for people.
    #[must_use]
    pub fn screen(&self, now: Timestamp) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{name:<14}{value}");
        };
        let state = if self.ready { "ready" } else { "not ready: no configuration received yet" };
        line("relay", format!("{} (pid {}), {state}", self.version, self.pid));
        line("running since", format!("{} ({})", self.started_at.to_rfc3339(), age(now, self.started_at)));
        line("listening on", self.listen.to_string());
        line(
            "projects",
            match self.config_revision {
                Some(revision) => format!("{} (configuration {revision})", self.projects),
                None => "none received".to_owned(),
            },
        );
        line("accepted", format!("{} requests", self.accepted_total));
        line("connections", self.connections.to_string());
        line("in flight", ByteSize::bytes(self.in_flight_bytes).to_string());
        line("spool", self.spool.line(now));
        if let Some(reload) = self.config.as_ref().and_then(|config| config.last_reload.as_ref()) {
            line("configuration", reload.to_string());
        }
        line("uplink", self.uplink.to_string());
        if let Some(expires_at) = self.certificate_expires_at {
            line("certificate", format!("good until {}", expires_at.to_rfc3339()));
        }
        text
    }
}

/// In whole seconds; nobody reads more.
fn age(now: Timestamp, then: Timestamp) -> String {
    Span::secs(now.since(then).as_secs()).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::ids::SpoolId;

    fn status() -> RelayStatus {
        RelayStatus {
            version: "1.2.3".to_owned(),
            pid: 42,
            started_at: Timestamp::from_millis(1_763_820_306_000),
            listen: SocketAddr::from(([0, 0, 0, 0], 3000)),
            ready: false,
            config_revision: None,
            projects: 0,
            accepted_total: 5,
            connections: 2,
            in_flight_bytes: 0,
            spool: SpoolStatus {
                id: SpoolId::from_random([5; 16]),
                former_ids: Vec::new(),
                format_version: 2,
                lanes: Vec::new(),
                quarantined_bytes: 0,
                free_disk_bytes: Some(1 << 40),
                min_free_bytes: 0,
                batches: 1,
                records: 3,
                bytes: 2048,
                budget_bytes: 1 << 30,
                oldest_received_at: Some(Timestamp::from_millis(1_763_820_307_000)),
                quarantined_batches: 0,
                has_room: true,
            },
            outcomes_waiting: 0,
            config: None,
            certificate_expires_at: Some(Timestamp::from_millis(1_771_596_306_000)),
            uplink: UplinkStatus::default(),
        }
    }

    fn answering(answer: String) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn a_running_relay_is_asked_and_its_answer_is_one_screen() {
        let json = serde_json::to_string(&status()).unwrap();
        let told = ask(answering(format!("HTTP/1.0 200 OK\r\n\r\n{json}"))).unwrap();
        assert_eq!(told, status());
        let screen = told.screen(Timestamp::from_millis(1_763_820_366_000));
        assert!(screen.lines().count() < 24, "{screen}");
        for part in ["1.2.3 (pid 42), not ready", "3 records in 1 batches", "(1m)", "oldest 59s old"] {
            assert!(screen.contains(part), "{part} is missing in\n{screen}");
        }
    }

    #[test]
    fn a_relay_that_does_not_run_is_said_to_not_run() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let message = ask(address).unwrap_err().to_string();
        assert!(message.contains("no relay answers") && message.contains("admin_listen"), "{message}");
    }

    #[test]
    fn something_else_on_the_port_is_no_relay() {
        for answer in ["HTTP/1.0 404 Not Found\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nhello", "hello"] {
            let told = ask(answering(answer.to_owned()));
            assert!(matches!(told, Err(StatusError::NotARelay { .. })), "{told:?}");
        }
    }
}
