//! A running relay: what is started in which order, and how it ends.
//!
//! ```text
//! start   identity ▸ spool ▸ projects ▸ staging ▸ listeners ▸ uplink
//! end     listeners (requests in flight finish) ▸ uplink ▸ spool (what waits is committed)
//! ```
//!
//! Whatever ends first ends the rest in that order: a signal (exit 0), a spool that can't write any more or a task that
//! ended although it was needed (exit 1, and systemd starts it anew). Each step has its bound, so that the whole takes
//! `http.shutdown_timeout` and `uplink.shutdown_timeout` and a few seconds at most, whoever does not answer. A second signal ends it
//! at once (exit 1). SIGHUP reads the configuration again (`reload`).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use picket_common::config::reload::Reloader;
use picket_common::http_server::{Plain, Transport};
use picket_common::stop_signal::StopSignal;
use picket_common::supervision::{SupervisedTask, Supervisor, TaskEnded};
use picket_common::timestamp::Timestamp;
use prometheus_client::registry::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::config::{HttpConfig, RelayConfig};
use crate::http::Server;
use crate::http::front::Front;
use crate::http::serve::serve;
use crate::http::tls::{self, Certificates, SdkTransport, TlsError};
use crate::identity_store::RelayIdentity;
use crate::limit::memory::MemoryBudget;
use crate::live_identity::LiveIdentity;
use crate::metrics::{self, RelayMetrics};
use crate::outcome::{self, Outcomes};
use crate::pipeline::Pipeline;
use crate::projects::Projects;
use crate::quota::keeper;
use crate::quota::table::Quotas;
use crate::reload::{self, Applier, ConfigSource};
use crate::spool::{Committer, Spool, SpoolError, retention};
use crate::staging::{Staging, StagingError};
use crate::uplink::{self, UplinkParts, UplinkStatus};

/// Connections of the admin listener: a scraper, an operator, and room.
const ADMIN_CONNECTIONS: usize = 16;

/// How long the uplink and the tasks beside it may take beyond `uplink.shutdown_timeout`: a goodbye, and a write under way.
const BACK_MARGIN: Duration = Duration::from_secs(3);

/// How long the commit thread may take to end: one synced write, on a disk that is slow.
const COMMITTER_PATIENCE: Duration = Duration::from_secs(5);

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
    /// A second signal came while the relay stopped.
    #[error("stopped at once by a second signal ({0}); what was answered is on disk, requests in flight were cut off")]
    CutShort(&'static str),
    /// A task ended that the relay can't do without.
    #[error("stopped because {0}")]
    TaskEnded(TaskEnded),
}

/// Runs a relay until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`] if it can't start, or if its spool fails or a task ends while it runs, or if a second signal cuts its stop short.
pub async fn run(mut source: ConfigSource) -> Result<(), RunError> {
    let mut stop_signal = StopSignal::install().map_err(no_handler)?;
    // Before the spool is opened, which may take seconds: without a handler the signal would end the process.
    let hangup = signal(SignalKind::hangup()).map_err(no_handler)?;
    raise_open_files_limit();
    let config = &mut source.config;
    keep_connections_within_open_files(&mut config.http);
    let identity = crate::join::load_identity(&config.data_dir)?;
    let (spool, committer) = open_spool(config).await?;
    let listeners = Listeners::bind(config, hangup).await?;
    let tasks = Tasks::start(source, identity, &spool, listeners)?;

    let ended = until_told(stop_signal.received(), &spool, &tasks.supervisor).await;
    let stopping = async {
        tasks.stop().await;
        if timeout(COMMITTER_PATIENCE, committer.close()).await.is_err() {
            warn!(patience = ?COMMITTER_PATIENCE, "the spool was not closed in time; what was answered is on disk");
        }
    };
    tokio::select! {
        () = stopping => {}
        signal = stop_signal.received() => return Err(RunError::CutShort(signal)),
    }
    if ended.is_ok() {
        info!("stopped");
    }
    ended
}

fn no_handler(source: io::Error) -> RunError {
    RunError::System { action: "install a signal handler", source }
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
    async fn bind(config: &RelayConfig, hangup: Signal) -> Result<Self, RunError> {
        Ok(Self {
            sdks: listen(config.listen, "listen").await?,
            certificates: Certificates::of_config(&config.tls)?.map(Arc::new),
            hangup,
            admin: listen(config.admin_listen, "admin_listen").await?,
        })
    }
}

/// What runs, and how it is told to end.
struct Tasks {
    supervisor: Supervisor,
    stop_http: CancellationToken,
    http: SupervisedTask,
    /// For outcomes, the spool's retention, the uplink, the keeper of quotas, the admin listener and the certificates: they
    /// outlive the requests.
    stop_back: CancellationToken,
    back: [SupervisedTask; 7],
    /// How long those may take to end.
    back_patience: Duration,
}

// === impl Tasks ===

impl Tasks {
    fn start(
        source: ConfigSource,
        identity: RelayIdentity,
        spool: &Spool,
        listeners: Listeners,
    ) -> Result<Self, RunError> {
        let ConfigSource { config, read, logs } = source;
        let mut registry = metrics::registry();
        let read = move || {
            let mut next = read()?;
            keep_connections_within_open_files(&mut next.http);
            Ok(next)
        };
        let reloader =
            Reloader::new(config.clone(), Arc::new(read), reload::takes_effect, Timestamp::now, &mut registry);
        let config = &config;
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
        let dropping = retention::run(spool.clone(), Timestamp::now, stop_back.clone());
        let retention = supervisor.spawn("retention", dropping);
        let admin = Admin {
            server: Arc::clone(&server),
            registry,
            uplink: uplink_status,
            config: reloader.status(),
            identity,
            listen: address,
            started_at: Timestamp::now(),
        };
        let admin_config = HttpConfig { max_connections: ADMIN_CONNECTIONS, ..config.http.clone() };
        let admin_pages = admin::router(Arc::new(admin));
        let admin_pages = move || admin_pages.clone();
        let serving = serve_until(listeners.admin, Plain, admin_pages, admin_config, None, stop_back.clone());
        let admin = supervisor.spawn("admin", serving);
        let (ready, counted) = (server.is_ready(), Some(server.metrics.clone()));
        let transport = listeners.certificates.clone().map_or(SdkTransport::Plain, SdkTransport::Tls);
        let front = Front::new(server);
        let (answering, http_config) = (front.clone(), config.http.clone());
        let router = move || answering.router();
        let serving = serve_until(listeners.sdks, transport, router, http_config, counted, stop_http.clone());
        let http = supervisor.spawn("http", serving);
        let tls = listeners.certificates.is_some();
        let applier = Applier { logs, certificates: listeners.certificates.clone(), front };
        let reloading = reloader.run(listeners.hangup, move |next| applier.apply(next), stop_back.clone());
        let reloading = supervisor.spawn("reload", reloading);
        let freshening = tls::keep_fresh(listeners.certificates, stop_back.clone());
        let certificates = supervisor.spawn("certificates", freshening);
        info!(%address, tls, ready, version = env!("CARGO_PKG_VERSION"), "relay is listening");
        let back = [outcomes, retention, uplink, keeper, admin, certificates, reloading];
        let back_patience = config.uplink.shutdown_timeout.get() + BACK_MARGIN;
        Ok(Self { supervisor, stop_http, http, stop_back, back, back_patience })
    }

    async fn stop(self) {
        self.supervisor.stopping();
        self.stop_http.cancel();
        self.http.join().await;
        self.stop_back.cancel();
        let all = async {
            for task in self.back {
                task.join().await;
            }
        };
        if timeout(self.back_patience, all).await.is_err() {
            warn!(patience = ?self.back_patience, "the uplink did not end in time; what it has not delivered is on disk");
        }
    }
}

async fn serve_until(
    listener: TcpListener,
    transport: impl Transport,
    router: impl Fn() -> Router + Clone + Send + 'static,
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
