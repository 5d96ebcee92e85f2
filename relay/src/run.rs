//! A running relay: what is started in which order, and how it ends.
//!
//! ```text
//! start   identity ▸ spool ▸ projects ▸ staging ▸ listeners ▸ uplink
//! end     listeners (requests in flight finish) ▸ uplink ▸ spool (what waits is committed)
//! ```
//!
//! Whatever ends first ends the rest in that order: a signal (exit 0), a spool that can't write any more or a task that
//! ended although it was needed (exit 1, and systemd starts it anew).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use picket_common::http_server::{Plain, Transport};
use picket_common::supervision::{SupervisedTask, Supervisor, TaskEnded};
use picket_common::timestamp::Timestamp;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::config::{HttpConfig, RelayConfig};
use crate::http::serve::serve;
use crate::http::tls::{self, Certificates, SdkTransport, TlsError};
use crate::http::{self, Server};
use crate::identity_store::RelayIdentity;
use crate::limit::memory::MemoryBudget;
use crate::live_identity::LiveIdentity;
use crate::metrics::{self, RelayMetrics};
use crate::outcome::{self, Outcomes};
use crate::pipeline::Pipeline;
use crate::projects::Projects;
use crate::quota::keeper;
use crate::quota::table::Quotas;
use crate::spool::{Committer, Spool, SpoolError};
use crate::staging::{Staging, StagingError};
use crate::uplink::{self, UplinkParts, UplinkStatus};

/// Connections of the admin listener: a scraper, an operator, and room.
const ADMIN_CONNECTIONS: usize = 16;

/// Descriptors that are kept for what is no SDK's connection: RocksDB's files (64 at most), staged bodies, the link, the admin
/// listener, logs.
const OTHER_DESCRIPTORS: u64 = 512;

/// Why a relay can't start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The relay's certificate or key is missing or unusable.
    #[error(transparent)]
    Identity(#[from] crate::join::LoadIdentityError),
    /// The spool can't be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The place for large bodies can't be made.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The TLS certificate or its key is missing or unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
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
    /// A task ended that the relay can't do without.
    #[error("stopped because {0}")]
    TaskEnded(TaskEnded),
}

/// Runs a relay until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`] if it can't start, or if its spool fails or a task ends while it runs.
pub async fn run(mut config: RelayConfig) -> Result<(), RunError> {
    let mut stop_signal = StopSignal::install()?;
    raise_open_files_limit();
    keep_connections_within_open_files(&mut config.http);
    let identity = crate::join::load_identity(&config.data_dir)?;
    let (spool, committer) = open_spool(&config).await?;
    let listeners = Listeners::bind(&config).await?;
    let tasks = Tasks::start(&config, identity, &spool, listeners)?;

    let ended = until_told(stop_signal.received(), &spool, &tasks.supervisor).await;
    tasks.stop().await;
    committer.close().await;
    if ended.is_ok() {
        info!("stopped");
    }
    ended
}

/// Waits for the first of what ends a relay; an error is what it must not end by.
async fn until_told(
    signal: impl Future<Output = &'static str>,
    spool: &Spool,
    supervisor: &Supervisor,
) -> Result<(), RunError> {
    tokio::select! {
        signal = signal => {
            info!(signal, "stopping: finishing the requests in flight");
            Ok(())
        }
        failure = spool.failed() => Err(RunError::SpoolFailed(failure)),
        ended = supervisor.failed() => Err(RunError::TaskEnded(ended)),
    }
}

/// The sockets, bound before anything is told to serve, and what is spoken on them.
struct Listeners {
    sdks: TcpListener,
    certificates: Option<Arc<Certificates>>,
    hangup: Signal,
    admin: TcpListener,
}

impl Listeners {
    async fn bind(config: &RelayConfig) -> Result<Self, RunError> {
        Ok(Self {
            sdks: listen(config.listen, "listen").await?,
            certificates: Certificates::of_config(&config.tls)?.map(Arc::new),
            hangup: install(SignalKind::hangup())?,
            admin: listen(config.admin_listen, "admin_listen").await?,
        })
    }
}

/// What runs, and how it is told to end.
struct Tasks {
    supervisor: Supervisor,
    stop_http: CancellationToken,
    http: SupervisedTask,
    /// For outcomes, the uplink, the keeper of quotas, the admin listener and the certificates: they outlive the requests.
    stop_back: CancellationToken,
    back: [SupervisedTask; 5],
}

// === impl Tasks ===

impl Tasks {
    fn start(
        config: &RelayConfig,
        identity: RelayIdentity,
        spool: &Spool,
        listeners: Listeners,
    ) -> Result<Self, RunError> {
        let mut registry = metrics::registry();
        spool.register_metrics(&mut registry);
        let projects = Projects::open(spool.clone())?;
        let max_staged_bytes = config.limits.max_staged_bytes.as_usize();
        let staging = Staging::open(&config.data_dir.join("staging"), max_staged_bytes, random)?;
        let outcomes = Outcomes::new(spool.clone(), Timestamp::now);
        outcomes.register(&mut registry);
        let quotas = Quotas::new(keeper::stored(spool)?, tokio::time::Instant::now());
        let pipeline = Pipeline::new(config.limits.clone(), quotas.clone(), spool.clone(), outcomes.clone(), random);
        let server = server(config, &mut registry, pipeline, staging, projects.clone(), outcomes);
        let address = listeners.sdks.local_addr().unwrap_or(config.listen);
        let (status, uplink_status) = watch::channel(UplinkStatus::default());
        let uplink = config.uplink.clone();
        let kept = (quotas.clone(), spool.clone());
        let data_dir = config.data_dir.clone();
        let identity = LiveIdentity::new(identity, data_dir.clone());
        identity.register(&mut registry);
        let (live, spool_of) = (identity.clone(), spool.clone());
        let parts = UplinkParts { identity: live, data_dir, spool: spool_of, projects, quotas, config: uplink, status };

        let supervisor = Supervisor::new();
        let (stop_http, stop_back) = (CancellationToken::new(), CancellationToken::new());
        let uplink = supervisor.spawn("uplink", uplink::run(parts, &mut registry, stop_back.clone()));
        let keeper = supervisor.spawn("quotas", keeper::run(kept.0, kept.1, stop_back.clone()));
        let sealing = outcome::run(spool.clone(), Timestamp::now, stop_back.clone());
        let outcomes = supervisor.spawn("outcomes", sealing);
        let admin = Admin {
            server: Arc::clone(&server),
            registry,
            uplink: uplink_status,
            identity,
            listen: address,
            started_at: Timestamp::now(),
        };
        let admin_config = HttpConfig { max_connections: ADMIN_CONNECTIONS, ..config.http.clone() };
        let admin_pages = admin::router(Arc::new(admin));
        let serving = serve_until(listeners.admin, Plain, admin_pages, admin_config, None, stop_back.clone());
        let admin = supervisor.spawn("admin", serving);
        let (ready, counted) = (server.is_ready(), Some(server.metrics.clone()));
        let transport = listeners.certificates.clone().map_or(SdkTransport::Plain, SdkTransport::Tls);
        let (router, http_config) = (http::router(server), config.http.clone());
        let serving = serve_until(listeners.sdks, transport, router, http_config, counted, stop_http.clone());
        let http = supervisor.spawn("http", serving);
        let tls = listeners.certificates.is_some();
        let freshening = tls::keep_fresh(listeners.certificates, listeners.hangup, stop_back.clone());
        let certificates = supervisor.spawn("certificates", freshening);
        info!(%address, tls, ready, version = env!("CARGO_PKG_VERSION"), "relay is listening");
        Ok(Self { supervisor, stop_http, http, stop_back, back: [outcomes, uplink, keeper, admin, certificates] })
    }

    async fn stop(self) {
        self.supervisor.stopping();
        self.stop_http.cancel();
        self.http.join().await;
        self.stop_back.cancel();
        for task in self.back {
            task.join().await;
        }
    }
}

async fn serve_until(
    listener: TcpListener,
    transport: impl Transport,
    router: Router,
    config: HttpConfig,
    metrics: Option<RelayMetrics>,
    stop: CancellationToken,
) {
    serve(listener, transport, router, &config, metrics, stop.cancelled_owned()).await;
}

fn server(
    config: &RelayConfig,
    registry: &mut Registry,
    pipeline: Pipeline,
    staging: Staging,
    projects: Projects,
    outcomes: Outcomes,
) -> Arc<Server> {
    Arc::new(Server {
        config: config.http.clone(),
        limits: config.limits.clone(),
        budget: MemoryBudget::new(config.limits.max_in_flight_bytes.as_usize()),
        decoding: crate::crash::decoding_budget(),
        staging,
        random,
        projects,
        pipeline,
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

/// More connections than descriptors would leave none for the spool, and a spool that can't open a file takes nothing more.
fn keep_connections_within_open_files(config: &mut HttpConfig) {
    let Some(most) = getrlimit(Resource::Nofile).current else { return };
    let room = usize::try_from(most.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(usize::MAX).max(1);
    if config.max_connections > room {
        warn!(open_files = most, configured = config.max_connections, used = room, "http.max_connections is lowered");
        config.max_connections = room;
    }
}

fn install(kind: SignalKind) -> Result<Signal, RunError> {
    signal(kind).map_err(|source| RunError::System { action: "install a signal handler", source })
}

/// SIGTERM and SIGINT.
struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    fn install() -> Result<Self, RunError> {
        Ok(Self { terminate: install(SignalKind::terminate())?, interrupt: install(SignalKind::interrupt())? })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spool::SpoolConfig;

    #[tokio::test]
    async fn a_relay_does_not_go_on_without_one_of_its_tasks() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, _committer) =
            Spool::open(&directory.path().join("spool"), &SpoolConfig::default(), [1; 16]).unwrap();
        let supervisor = Supervisor::new();
        let uplink = supervisor.spawn("uplink", async { panic!("on purpose") });
        let ended = until_told(std::future::pending(), &spool, &supervisor).await;
        assert!(matches!(ended, Err(RunError::TaskEnded(TaskEnded { task: "uplink", .. }))), "{ended:?}");
        uplink.join().await;
    }

    #[tokio::test]
    async fn a_signal_ends_a_relay_without_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, _committer) =
            Spool::open(&directory.path().join("spool"), &SpoolConfig::default(), [1; 16]).unwrap();
        let ended = until_told(async { "SIGTERM" }, &spool, &Supervisor::new()).await;
        assert!(ended.is_ok(), "{ended:?}");
    }
}
