//! One aggregator and one relay, joined, on free loopback ports and with all their files in one directory.
//!
//! ```text
//!   init ▸ serve ▸ project create ▸ relay invite ▸ join ▸ run ▸ wait for ready
//! ```
//!
//! The steps are those of an administrator, with the shipped binaries and documented commands only.
//! Dropping an installation kills what it started; [`Installation::stop`] ends it in good order first.

mod binaries;
mod error;
mod probe;
mod service;

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tracing::info;

pub use binaries::Binaries;
pub use error::InstallationError;
pub use service::Service;

/// What a start may take: the embedded engine opens in seconds, a debug build under load in many.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// What one administrative command may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);
/// What an orderly end may take before a process is killed.
pub const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A running aggregator with its relay.
pub struct Installation {
    binaries: Binaries,
    aggregator_files: Files,
    relay_files: Files,
    relay_metrics: SocketAddr,
    /// What events are sent to.
    pub dsn: String,
    /// The running relay.
    pub relay: Service,
    /// The running aggregator.
    pub aggregator: Service,
}

/// What the aggregator shows, summed over its issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Issues there are.
    pub issues: u64,
    /// Events counted in them.
    pub events: u64,
}

/// Configuration and data of one program.
struct Files {
    config: PathBuf,
    data: PathBuf,
}

/// One free port for each listener.
struct Ports {
    pages: u16,
    link: u16,
    aggregator_admin: u16,
    relay: u16,
    relay_admin: u16,
}

// === impl Installation ===

impl Installation {
    /// Sets up and starts both programs below `directory`, and waits until the relay says it is ready.
    ///
    /// # Errors
    /// [`InstallationError`] names the step that failed and where its log is.
    pub async fn start(binaries: Binaries, directory: &Path) -> Result<Self, InstallationError> {
        Self::start_with(binaries, directory, "").await
    }

    /// As [`Self::start`], with more sections of the relay's configuration.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        binaries: Binaries,
        directory: &Path,
        relay_sections: &str,
    ) -> Result<Self, InstallationError> {
        let ports = Ports::free().map_err(InstallationError::Ports)?;
        let aggregator_files = Files::write(directory, "aggregator", &ports.aggregator_config())?;
        let relay_files = Files::write(directory, "relay", &format!("{}{relay_sections}", ports.relay_config()))?;

        command(&binaries.aggregator, &["init"], &aggregator_files).await?;
        info!("starting the aggregator");
        let mut aggregator =
            Service::start("aggregator", &binaries.aggregator, &arguments(&["serve"], &aggregator_files), directory)?;
        aggregator.until_connects(loopback(ports.pages)).await?;

        let project =
            json_command(&binaries.aggregator, &["project", "create", "bench", "--json"], &aggregator_files).await?;
        let dsn = text_field(&project, "dsn", "project create")?;
        let invitation = json_command(&binaries.aggregator, &["relay", "invite", "--json"], &aggregator_files).await?;
        let token = text_field(&invitation, "token", "relay invite")?;

        info!("starting the relay");
        command(&binaries.relay, &["join", &token], &relay_files).await?;
        let mut relay = Service::start("relay", &binaries.relay, &arguments(&["run"], &relay_files), directory)?;
        let ready = "/api/relay/healthcheck/ready/";
        probe::until_ok(&mut relay, loopback(ports.relay), ready, START_DEADLINE).await?;
        let relay_metrics = loopback(ports.relay_admin);
        Ok(Self { binaries, aggregator_files, relay_files, relay_metrics, dsn, relay, aggregator })
    }

    /// What the aggregator shows now, by its own command. Costs a process and a query.
    ///
    /// # Errors
    /// When the command fails or its answer is no list of issues.
    pub async fn shown(&self) -> Result<Shown, InstallationError> {
        let issues =
            json_command(&self.binaries.aggregator, &["issues", "list", "--json"], &self.aggregator_files).await?;
        let issues = issues
            .as_array()
            .ok_or_else(|| InstallationError::Answer { command: "issues list".into(), missing: "a list".into() })?;
        let events = issues.iter().filter_map(|issue| count(&issue["count"])).sum();
        Ok(Shown { issues: issues.len() as u64, events })
    }

    /// A counter from the relay's `/metrics`, summed over its labels; none when the relay has no such metric.
    pub async fn relay_counter(&self, name: &str) -> Option<f64> {
        let text = probe::get(self.relay_metrics, "/metrics").await.ok()?;
        counter(&text, name)
    }

    /// The aggregator's data directory.
    #[must_use]
    pub fn aggregator_data(&self) -> &Path {
        &self.aggregator_files.data
    }

    /// The relay's data directory.
    #[must_use]
    pub fn relay_data(&self) -> &Path {
        &self.relay_files.data
    }

    /// Ends the relay, then the aggregator, in good order.
    ///
    /// # Errors
    /// [`InstallationError::DidNotStop`] for a process that had to be killed; the other one is ended all the same.
    pub async fn stop(mut self) -> Result<(), InstallationError> {
        let relay = self.relay.stop(STOP_DEADLINE).await;
        let aggregator = self.aggregator.stop(STOP_DEADLINE).await;
        relay.and(aggregator)
    }
}

// === impl Files ===

impl Files {
    fn write(directory: &Path, program: &str, config: &str) -> Result<Self, InstallationError> {
        let files =
            Self { config: directory.join(format!("{program}.toml")), data: directory.join(format!("{program}-data")) };
        let failed = |source| InstallationError::Files { path: files.config.clone(), source };
        fs::create_dir_all(&files.data).map_err(failed)?;
        fs::write(&files.config, config).map_err(failed)?;
        Ok(files)
    }
}

// === impl Ports ===

impl Ports {
    /// Ports that were free a moment ago. All are held until all are known, so that no two are the same.
    fn free() -> std::io::Result<Self> {
        let link_udp = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        let link = link_udp.local_addr()?.port();
        let _link_tcp = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, link))?;
        let others: Vec<TcpListener> =
            (0..4).map(|_| TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
        let port = |index: usize| others[index].local_addr().map(|address| address.port());
        Ok(Self { pages: port(0)?, link, aggregator_admin: port(1)?, relay: port(2)?, relay_admin: port(3)? })
    }

    fn aggregator_config(&self) -> String {
        let Self { pages, link, aggregator_admin, relay, .. } = self;
        format!(
            "listen = \"127.0.0.1:{pages}\"\n\
             public_url = \"http://127.0.0.1:{pages}\"\n\
             link_listen = \"127.0.0.1:{link}\"\n\
             admin_listen = \"127.0.0.1:{aggregator_admin}\"\n\
             relay_url = \"http://127.0.0.1:{relay}\"\n"
        )
    }

    fn relay_config(&self) -> String {
        let Self { relay, relay_admin, .. } = self;
        format!("listen = \"127.0.0.1:{relay}\"\nadmin_listen = \"127.0.0.1:{relay_admin}\"\n")
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn arguments(command: &[&str], files: &Files) -> Vec<String> {
    let mut arguments: Vec<String> = command.iter().map(|&part| part.to_owned()).collect();
    arguments.push("--config".into());
    arguments.push(files.config.display().to_string());
    arguments.push("--data-dir".into());
    arguments.push(files.data.display().to_string());
    arguments
}

/// Runs an administrative command to its end; what it printed.
async fn command(program: &Path, command: &[&str], files: &Files) -> Result<String, InstallationError> {
    // The token of `join` is not for logs.
    let name = command.iter().take(2).filter(|part| part.len() < 32).copied().collect::<Vec<_>>().join(" ");
    service::output(program, &name, &arguments(command, files), COMMAND_DEADLINE).await
}

async fn json_command(program: &Path, parts: &[&str], files: &Files) -> Result<Value, InstallationError> {
    let text = command(program, parts, files).await?;
    serde_json::from_str(&text).map_err(|_| InstallationError::Answer {
        command: parts.iter().take(2).copied().collect::<Vec<_>>().join(" "),
        missing: "JSON".into(),
    })
}

fn text_field(answer: &Value, field: &str, command: &str) -> Result<String, InstallationError> {
    answer[field]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| InstallationError::Answer { command: command.to_owned(), missing: field.to_owned() })
}

/// A count, as a number or, as Sentry's API writes it, as text.
fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Sum of the samples of `name` in Prometheus text; none when there is no such sample.
fn counter(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .reduce(|sum, sample| sum + sample)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_counter_is_summed_over_its_labels_and_not_over_its_namesakes() {
        let text = "# TYPE wire_bytes counter\nwire_bytes_total{a=\"x y\"} 3\nwire_bytes_total{a=\"z\"} 4\nwire_bytes_total_more 9\n";
        assert_eq!(counter(text, "wire_bytes_total"), Some(7.0));
        assert_eq!(counter("plain 5\n", "plain"), Some(5.0));
        assert_eq!(counter(text, "missing"), None);
    }

    #[test]
    fn counts_are_read_as_numbers_and_as_text() {
        assert_eq!(count(&Value::from(7)), Some(7));
        assert_eq!(count(&Value::from("7")), Some(7));
        assert_eq!(count(&Value::Null), None);
    }

    #[test]
    fn no_two_listeners_get_the_same_port() {
        let ports = Ports::free().unwrap();
        let all = std::collections::HashSet::from([
            ports.pages,
            ports.link,
            ports.aggregator_admin,
            ports.relay,
            ports.relay_admin,
        ]);
        assert_eq!(all.len(), 5);
    }
}
