//! A running relay: what is started in which order, and how it ends.
//!
//! ```text
//! start   identity ▸ spool ▸ projects ▸ listeners ▸ uplink
//! end     listeners (requests in flight finish) ▸ uplink ▸ spool (what waits is committed)
//! ```
//!
//! Whatever ends first ends the rest in that order: a signal (exit 0), a spool that can't write any more (exit 1).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use picket_common::timestamp::Timestamp;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::config::{HttpConfig, RelayConfig};
use crate::http::serve::serve;
use crate::http::{self, Server};
use crate::limit::memory::MemoryBudget;
use crate::metrics::{self, RelayMetrics};
use crate::outcome::Outcomes;
use crate::pipeline::Pipeline;
use crate::projects::Projects;
use crate::spool::{Committer, Spool, SpoolError};
use crate::uplink::{self, UplinkParts, UplinkStatus};

/// Connections of the admin listener: a scraper, an operator, and room.
const ADMIN_CONNECTIONS: usize = 16;

/// Why a relay can't start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The relay's certificate or key is missing or unusable.
    #[error(transparent)]
    Identity(#[from] crate::join::LoadIdentityError),
    /// The spool can't be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// An address can't be listened on.
    #[error("can't listen on {address} ({key}): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The configuration key it came from.
        key: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The system refuses something that every process needs.
    #[error("can't {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The spool can't write any more.
    #[error("stopped because the spool failed: {0}")]
    SpoolFailed(Arc<str>),
}

/// Runs a relay until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`] if it can't start, or if its spool fails while it runs.
pub async fn run(config: RelayConfig) -> Result<(), RunError> {
    let started_at = Timestamp::now();
    let mut stop_signal = StopSignal::install()?;
    raise_open_files_limit();
    let identity = crate::join::load_identity(&config.data_dir)?;

    let mut registry = metrics::registry();
    let (spool, committer) = open_spool(&config).await?;
    spool.register_metrics(&mut registry);
    let projects = Projects::open(spool.clone())?;
    let outcomes = Outcomes::registered(&mut registry);
    let server = server(&config, &mut registry, spool.clone(), projects.clone(), outcomes.clone());

    let listener = listen(config.listen, "listen").await?;
    let admin_listener = listen(config.admin_listen, "admin_listen").await?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let stop = CancellationToken::new();
    let stop_uplink = CancellationToken::new();
    let (uplink_status, uplink_watch) = watch::channel(UplinkStatus::default());
    let parts = UplinkParts {
        identity,
        spool: spool.clone(),
        projects,
        outcomes,
        config: config.uplink.clone(),
        status: uplink_status,
    };
    let uplink = tokio::spawn(uplink::run(parts, &mut registry, stop_uplink.clone()));
    let admin =
        Arc::new(Admin { server: Arc::clone(&server), registry, uplink: uplink_watch, listen: address, started_at });
    let admin_config = HttpConfig { max_connections: ADMIN_CONNECTIONS, ..config.http.clone() };
    let admin_stop = stop_uplink.clone();
    let admin_task = tokio::spawn(async move {
        serve(admin_listener, admin::router(admin), &admin_config, None, admin_stop.cancelled_owned()).await;
    });
    let http_task = tokio::spawn({
        let (http, stop, router) = (config.http.clone(), stop.clone(), http::router(Arc::clone(&server)));
        let metrics = server.metrics.clone();
        async move { serve(listener, router, &http, Some(metrics), stop.cancelled_owned()).await }
    });
    info!(%address, ready = server.is_ready(), version = env!("CARGO_PKG_VERSION"), "relay is listening");

    let failure = tokio::select! {
        signal = stop_signal.received() => {
            info!(signal, "stopping: finishing the requests in flight");
            None
        }
        failure = spool.failed() => Some(failure),
    };
    stop.cancel();
    ended("http", http_task.await);
    stop_uplink.cancel();
    ended("uplink", uplink.await);
    ended("admin", admin_task.await);
    drop(server);
    committer.close().await;
    match failure {
        None => {
            info!("stopped");
            Ok(())
        }
        Some(failure) => Err(RunError::SpoolFailed(failure)),
    }
}

fn server(
    config: &RelayConfig,
    registry: &mut Registry,
    spool: Spool,
    projects: Projects,
    outcomes: Outcomes,
) -> Arc<Server> {
    Arc::new(Server {
        config: config.http.clone(),
        limits: config.limits.clone(),
        budget: MemoryBudget::new(config.limits.max_in_flight_bytes.as_usize()),
        projects,
        pipeline: Pipeline::new(config.limits.clone(), spool, outcomes.clone(), random),
        outcomes,
        metrics: RelayMetrics::registered(registry),
        clock: Timestamp::now,
    })
}

async fn open_spool(config: &RelayConfig) -> Result<(Spool, Committer), RunError> {
    let random = random().ok_or_else(|| RunError::System {
        action: "read random numbers from the system",
        source: io::Error::other("getrandom failed"),
    })?;
    let directory = config.data_dir.join("spool");
    let spool_config = config.spool.clone();
    let opened = tokio::task::spawn_blocking(move || Spool::open(&directory, &spool_config, random)).await;
    let opened = opened.map_err(|failure| RunError::System { action: "open the spool", source: failure.into() })?;
    Ok(opened?)
}

async fn listen(address: SocketAddr, key: &'static str) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, key, source })
}

fn ended(task: &'static str, result: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = result {
        warn!(task, %failure, "a task ended unexpectedly");
    }
}

/// 16 bytes from the system.
#[must_use]
pub fn random() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok().map(|()| bytes)
}

/// Connections and RocksDB's files both need descriptors; the soft limit that shells and systemd give is 1024.
fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(failure) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        warn!(%failure, "can't raise the limit of open files");
    }
}

/// SIGTERM and SIGINT.
struct StopSignal {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignal {
    fn install() -> Result<Self, RunError> {
        let install =
            |kind| signal(kind).map_err(|source| RunError::System { action: "install a signal handler", source });
        Ok(Self { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
