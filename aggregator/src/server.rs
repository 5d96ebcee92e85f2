//! `picket-aggregator serve`: opens the stores, starts the tasks, stops them in order.
//!
//! ```text
//! start:  data directory ▸ registry ▸ ClickHouse ▸ journal ▸ listeners bound ▸ tasks
//! stop:   intake (no more batches) ▸ pages, commands ▸ worker (plan under way) ▸ journal ▸ ClickHouse ▸ database
//! ```
//!
//! Whatever ends first ends the rest in that order: a signal (exit 0), a task that ended although it was needed (exit 1, and
//! systemd starts it anew). Nothing depends on a clean stop: whatever is killed at whatever instant comes back from the
//! journal.

mod listener;
mod tasks;

use std::sync::Arc;

use anyhow::Context as _;
use picket_common::supervision::Supervisor;
use picket_common::timestamp::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::admin::socket;
use crate::config::AggregatorConfig;
use crate::data_dir::{DataDir, LockedDataDir};
use crate::events::EventsStore;
use crate::journal::{Journal, JournalCommitter};
use crate::stores::{Registry, open_events};

use tasks::Tasks;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, or a task that ended while it was needed. Other faults are logged and retried.
pub async fn serve(config: AggregatorConfig) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let started_at = Timestamp::now();
    let directory = DataDir::new(&config.data_dir).lock_initialised()?;
    let stores = Stores::open(&directory, &config, started_at).await?;
    let listeners = Listeners::bind(&config, &directory).await?;
    let config = Arc::new(config);
    let tasks = Tasks::start(&config, &stores, listeners, started_at)?;
    info!(listen = %config.listen, public_url = %config.public_url, link = %config.link_listen, "serving");

    let ended = until_told(&stop, tasks.supervisor()).await;
    tasks.stop().await;
    stores.close().await;
    // A file that answers nobody would only cost the next command a refused connection, but it is ours to remove.
    let _ = std::fs::remove_file(directory.socket());
    if ended.is_ok() {
        info!("stopped");
    }
    ended
}

/// Waits for the first of what ends an aggregator; an error is what it must not end by.
async fn until_told(stop: &CancellationToken, supervisor: &Supervisor) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = supervisor.failed() => Err(anyhow::Error::new(ended).context("stopped")),
    }
}

/// Everything on disk that a serving aggregator holds open.
struct Stores {
    registry: Registry,
    events: Arc<EventsStore>,
    journal: Journal,
    committer: JournalCommitter,
}

// === impl Stores ===

impl Stores {
    async fn open(directory: &LockedDataDir, config: &AggregatorConfig, started_at: Timestamp) -> anyhow::Result<Self> {
        let registry = Registry::open(directory, config, started_at).await?;
        let events = Arc::new(open_events(directory, config).await?);
        let (journal, committer) = Journal::open(&directory.journal(), &config.journal)?;
        Ok(Self { registry, events, journal, committer })
    }

    /// Closes them once the tasks have ended.
    async fn close(self) {
        let Self { registry, events, journal, committer } = self;
        drop(journal);
        if let Err(failure) = tokio::task::spawn_blocking(move || committer.shutdown()).await {
            error!(%failure, "closing the journal failed");
        }
        close_events(events).await;
        registry.database.close().await;
    }
}

/// The sockets, bound before anything is told to serve, so that a taken port is an error and not a log line.
struct Listeners {
    pages: TcpListener,
    metrics: TcpListener,
    commands: tokio::net::UnixListener,
}

impl Listeners {
    async fn bind(config: &AggregatorConfig, directory: &LockedDataDir) -> anyhow::Result<Self> {
        let listen = async |address: std::net::SocketAddr, key: &str| {
            TcpListener::bind(address).await.with_context(|| format!("can't listen on {address} ({key})"))
        };
        let path = directory.socket();
        Ok(Self {
            pages: listen(config.listen, "listen").await?,
            metrics: listen(config.admin_listen, "admin_listen").await?,
            commands: socket::bind(&path).with_context(|| format!("can't listen on {}", path.display()))?,
        })
    }
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let raised = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        raised.cancel();
    });
    Ok(stop)
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
        let ended = until_told(&CancellationToken::new(), &supervisor).await;
        let reason = ended.map_err(|error| format!("{error:#}"));
        assert!(reason.as_ref().is_err_and(|reason| reason.contains("\"worker\" panicked")), "{reason:?}");
        worker.join().await;
    }

    #[tokio::test]
    async fn a_signal_ends_an_aggregator_without_an_error() {
        let stop = CancellationToken::new();
        stop.cancel();
        let ended = until_told(&stop, &Supervisor::new()).await;
        assert!(ended.is_ok(), "{ended:?}");
    }
}
