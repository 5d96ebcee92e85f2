//! `picket-aggregator serve`: opens the stores, starts the tasks, stops them in order.
//!
//! ```text
//! start:  data directory ▸ registry ▸ ClickHouse ▸ journal ▸ listeners bound ▸ tasks
//! stop:   intake (no more batches) ▸ pages, commands ▸ worker (plan under way) ▸ journal ▸ ClickHouse ▸ database
//! ```
//!
//! Whatever ends first ends the rest in that order: a signal (exit 0), a task that ended although it was needed (exit 1, and
//! systemd starts it anew). The stop as a whole takes `shutdown_timeout` at most, also where ClickHouse does not answer; a second
//! signal ends it at once (exit 1). SIGHUP reads the configuration again (`reload`). Nothing depends on a clean stop: whatever is killed at whatever instant comes back from the
//! journal.

mod listener;
mod reload;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use picket_common::stop_signal::StopSignal;
use picket_common::supervision::Supervisor;
use picket_common::timestamp::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};

use crate::admin::socket;
use crate::config::AggregatorConfig;
use crate::data_dir::{DataDir, LockedDataDir};
use crate::events::{self, EventsStore};
use crate::journal::{Journal, JournalCommitter};
use crate::nodes::{Engine, Node, NodeId};
use crate::stores::{Registry, open_events};

use tasks::Tasks;

pub use reload::ConfigSource;

/// What is kept of `shutdown_timeout` for closing the stores.
const CLOSING_SHARE: u32 = 4;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, a task that ended while it was needed, or a second signal that cuts its stop short. Other faults
/// are logged and retried.
pub async fn serve(source: ConfigSource) -> anyhow::Result<()> {
    let mut stop_signal = StopSignal::install()?;
    // Before the stores are opened, which may take seconds: without a handler the signal would end the process.
    let hangup = signal(SignalKind::hangup()).context("can't install a signal handler")?;
    let config = Arc::new(source.config.clone());
    let started_at = Timestamp::now();
    let directory = DataDir::new(&config.data_dir).lock_initialised()?;
    let stores = Stores::open(&directory, &config, started_at).await?;
    let listeners = Listeners::bind(&config, &directory, hangup).await?;
    let tasks = Tasks::start(source, &stores, listeners, started_at)?;
    info!(listen = %config.listen, public_url = %config.public_url, link = %config.link_listen, "serving");

    let ended = until_told(stop_signal.received(), tasks.supervisor()).await;
    tokio::select! {
        () = stop(tasks, stores, config.shutdown_timeout.get()) => {}
        signal = stop_signal.received() => anyhow::bail!("stopped at once by a second signal ({signal}); nothing that was acknowledged is lost"),
    }
    // A file that answers nobody would only cost the next command a refused connection, but it is ours to remove.
    let _ = std::fs::remove_file(directory.socket());
    if ended.is_ok() {
        info!("stopped");
    }
    ended
}

/// Stops the tasks and closes the stores, each within its part of the time. Nothing depends on either: what was acknowledged is on
/// disk.
async fn stop(tasks: Tasks, stores: Stores, within: Duration) {
    let deadline = Instant::now() + within;
    if timeout_at(deadline - within / CLOSING_SHARE, tasks.stop()).await.is_err() {
        warn!(shutdown_timeout = ?within, "tasks did not end in time, what they were at goes on at the next start");
    }
    if timeout_at(deadline, stores.close()).await.is_err() {
        warn!(shutdown_timeout = ?within, "the stores were not closed in time, the next start finds them as after a crash");
    }
}

/// Waits for the first of what ends an aggregator; an error is what it must not end by.
async fn until_told(signal: impl Future<Output = &'static str>, supervisor: &Supervisor) -> anyhow::Result<()> {
    tokio::select! {
        signal = signal => {
            info!(signal, "stopping");
            Ok(())
        }
        ended = supervisor.failed() => Err(anyhow::Error::new(ended).context("stopped")),
    }
}

/// Everything on disk that a serving aggregator holds open.
struct Stores {
    registry: Registry,
    /// Who this is among others; none with SQLite, where it is alone.
    node: Option<Node>,
    events: Arc<EventsStore>,
    journal: Journal,
    committer: JournalCommitter,
}

// === impl Stores ===

impl Stores {
    async fn open(directory: &LockedDataDir, config: &AggregatorConfig, started_at: Timestamp) -> anyhow::Result<Self> {
        let registry = Registry::open(directory, config, started_at).await?;
        let node = register_node(directory, config, &registry, started_at).await?;
        let events = Arc::new(open_events(directory, config).await?);
        let (journal, committer) = match &node {
            Some(node) => {
                let ledger = Arc::new(node.ledger(tokio::runtime::Handle::current()));
                Journal::open_shared(&directory.journal(), &config.journal, ledger)?
            }
            None => Journal::open(&directory.journal(), &config.journal)?,
        };
        Ok(Self { registry, node, events, journal, committer })
    }

    /// Closes them once the tasks have ended.
    async fn close(self) {
        let Self { registry, node: _, events, journal, committer } = self;
        drop(journal);
        if let Err(failure) = tokio::task::spawn_blocking(move || committer.shutdown()).await {
            error!(%failure, "closing the journal failed");
        }
        close_events(events).await;
        registry.database.close().await;
    }
}

async fn register_node(
    directory: &LockedDataDir,
    config: &AggregatorConfig,
    registry: &Registry,
    now: Timestamp,
) -> anyhow::Result<Option<Node>> {
    if !registry.database.is_shared() {
        return Ok(None);
    }
    let id = NodeId::open_or_create(&directory.node())?;
    let is_embedded = config.clickhouse.url == events::config::EMBEDDED;
    let engine = if is_embedded { Engine::Embedded } else { Engine::Server };
    Ok(Some(Node::register(&registry.database, id, &config.advertised().join(", "), engine, now).await?))
}

/// The sockets, bound before anything is told to serve, so that a taken port is an error and not a log line.
struct Listeners {
    pages: TcpListener,
    metrics: TcpListener,
    commands: tokio::net::UnixListener,
    hangup: Signal,
}

impl Listeners {
    async fn bind(config: &AggregatorConfig, directory: &LockedDataDir, hangup: Signal) -> anyhow::Result<Self> {
        let listen = async |address: std::net::SocketAddr, key: &str| {
            TcpListener::bind(address).await.with_context(|| format!("can't listen on {address} ({key})"))
        };
        let path = directory.socket();
        Ok(Self {
            pages: listen(config.listen, "listen").await?,
            metrics: listen(config.admin_listen, "admin_listen").await?,
            commands: socket::bind(&path).with_context(|| format!("can't listen on {}", path.display()))?,
            hangup,
        })
    }
}

async fn close_events(events: Arc<EventsStore>) {
    match Arc::try_unwrap(events) {
        Ok(events) => {
            if let Err(failure) = events.close().await {
                error!(%failure, "closing the events store failed");
            }
        }
        // A request that is still answered holds it; the engine is safe against the end of the process.
        Err(_) => info!("the events store is in use to the end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_aggregator_does_not_go_on_without_one_of_its_tasks() {
        let supervisor = Supervisor::new();
        let worker = supervisor.spawn("worker", async { panic!("on purpose") });
        let ended = until_told(std::future::pending(), &supervisor).await;
        let reason = ended.map_err(|error| format!("{error:#}"));
        assert!(reason.as_ref().is_err_and(|reason| reason.contains("\"worker\" panicked")), "{reason:?}");
        worker.join().await;
    }

    #[tokio::test]
    async fn a_signal_ends_an_aggregator_without_an_error() {
        let ended = until_told(async { "SIGTERM" }, &Supervisor::new()).await;
        assert!(ended.is_ok(), "{ended:?}");
    }
}
