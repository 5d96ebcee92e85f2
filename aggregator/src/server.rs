//! `picket-aggregator serve`: opens the stores, starts the tasks, stops them in order.
//!
//! ```text
//! start:  data directory ▸ registry ▸ ClickHouse ▸ journal ▸ listeners bound ▸ tasks
//! stop:   intake (no more batches) ▸ pages, commands ▸ worker (plan under way) ▸ journal ▸ ClickHouse ▸ database
//! ```
//!
//! Nothing depends on a clean stop: whatever is killed at whatever instant comes back from the journal.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use picket_common::timestamp::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::admin::{AdminContext, socket};
use crate::config::AggregatorConfig;
use crate::data_dir::{DataDir, LockedDataDir};
use crate::events::EventsStore;
use crate::intake::{Intake, IntakeMetrics, IntakeServer, LiveRelays};
use crate::issues::Issues;
use crate::journal::Journal;
use crate::metrics;
use crate::process::{ProcessMetrics, Worker, relay_outcomes};
use crate::query::Query;
use crate::stores::{Registry, open_events};
use crate::web::{self, WebState};

/// Reports of outcomes that wait to be added up; beyond it relays wait.
const OUTCOME_QUEUE: usize = 256;

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting. Once it serves, faults are logged and retried.
pub async fn serve(config: AggregatorConfig) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let started_at = Timestamp::now();
    let directory = DataDir::new(&config.data_dir).lock_initialised()?;
    let registry = Registry::open(&directory, &config, started_at).await?;
    let events = Arc::new(open_events(&directory, &config).await?);
    let (journal, committer) = Journal::open(&directory.journal(), &config.journal)?;
    let listeners = Listeners::bind(&config, &directory).await?;

    let mut prometheus = metrics::registry();
    journal.register_metrics(&mut prometheus);
    let (outcomes, reports) = mpsc::channel(OUTCOME_QUEUE);
    let live = LiveRelays::default();
    let intake = Intake {
        config: config.link.clone(),
        fleet: registry.fleet.clone(),
        journal: journal.clone(),
        projects: registry.projects.watch(),
        outcomes,
        live: live.clone(),
        metrics: IntakeMetrics::register(&mut prometheus),
        addresses: config.advertised(),
    };
    let intake = IntakeServer::bind(config.link_listen, intake)?;
    let query = Query::new(&events, &registry.database, registry.projects.clone());
    let worker = Worker {
        journal: journal.clone(),
        events: Arc::clone(&events),
        issues: Issues::new(&registry.database),
        projects: registry.projects.watch(),
        config: config.process.clone(),
        metrics: ProcessMetrics::register(&mut prometheus),
    };
    let config = Arc::new(config);
    let admin = AdminContext {
        config: Arc::clone(&config),
        registry: registry.clone(),
        query: Some(query.clone()),
        journal: Some(journal.clone()),
        live: Some(live),
        started_at: Some(started_at),
    };
    let pages = web::router(web_state(&config, &registry, query));

    let (serving, working) = (CancellationToken::new(), CancellationToken::new());
    let front = [
        tokio::spawn(serve_http(listeners.pages, pages, serving.clone(), "pages")),
        tokio::spawn(serve_http(listeners.metrics, metrics::router(Arc::new(prometheus)), serving.clone(), "metrics")),
        tokio::spawn(socket::serve(listeners.commands, admin, serving.clone())),
    ];
    let back =
        [tokio::spawn(worker.run(working.clone())), tokio::spawn(relay_outcomes::run(reports, Arc::clone(&events)))];
    let intake = tokio::spawn(intake.run(stop.clone()));
    info!(listen = %config.listen, public_url = %config.public_url, link = %config.link_listen, "serving");

    stop.cancelled().await;
    info!("stopping: no more batches are taken");
    join("intake", intake).await;
    serving.cancel();
    for task in front {
        join("a listener", task).await;
    }
    working.cancel();
    for task in back {
        join("a worker", task).await;
    }
    drop(journal);
    tokio::task::spawn_blocking(move || committer.shutdown()).await?;
    close_events(events).await;
    registry.database.close().await;
    // A file that answers nobody would only cost the next command a refused connection, but it is ours to remove.
    let _ = std::fs::remove_file(directory.socket());
    info!("stopped");
    Ok(())
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

fn web_state(config: &AggregatorConfig, registry: &Registry, query: Query) -> WebState {
    WebState {
        query: Arc::new(query),
        accounts: registry.accounts.clone(),
        projects: registry.projects.clone(),
        public_url: config.public_url.clone(),
        organisation: config.organisation.clone(),
        relay_url: config.relay_url.clone(),
    }
}

async fn serve_http(listener: TcpListener, router: Router, stop: CancellationToken, what: &'static str) {
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(failure) = served {
        error!(%failure, what, "a listener failed");
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

async fn join(what: &'static str, task: JoinHandle<()>) {
    if let Err(failure) = task.await {
        error!(%failure, what, "a task did not end as it should");
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
