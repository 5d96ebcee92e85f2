//! What runs while the aggregator serves, and in which order it ends.
//!
//! | stage | task | what it does | told to stop |
//! | --- | --- | --- | --- |
//! | intake | intake | takes batches and reports from relays | first: no more batches |
//! | front | pages, metrics, commands | answer people, scrapers, commands | second |
//! | front | reload | reads the configuration again on SIGHUP | second |
//! | back | worker | carries insert plans out | last, finishes the plan under way |
//! | back | nodes | follows what other nodes change; only with PostgreSQL | last |
//! | back | journal | lives as long as the journal's commit thread | last |
//!
//! All of them are needed: one that ends early ends the aggregator (`picket_common::supervision`).

use std::sync::Arc;
use std::time::Duration;

use picket_common::config::reload::Reloader;
use picket_common::supervision::{SupervisedTask, Supervisor};
use picket_common::timestamp::Timestamp;
use prometheus_client::registry::Registry as Prometheus;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::reload::{ConfigSource, takes_effect};
use super::{Listeners, Stores, listener};
use crate::admin::{AdminContext, socket};
use crate::api;
use crate::config::AggregatorConfig;
use crate::intake::{Intake, IntakeMetrics, IntakeServer, LinkConfig, LiveRelays};
use crate::issues::Issues;
use crate::metrics;
use crate::nodes::{self, Following};
use crate::process::surroundings::Installed;
use crate::process::{ProcessMetrics, Refusals, Worker};
use crate::query::Query;
use crate::quota::QuotaAuthority;
use crate::stores::Registry;
use crate::web::{self, WebState};

/// How long pages, metrics and commands may take to end. More than a listener's own bound; it is for a command whose client
/// does not read the answer.
const FRONT_PATIENCE: Duration = Duration::from_secs(15);

/// The running tasks.
pub(super) struct Tasks {
    supervisor: Supervisor,
    intake: Stage,
    front: Stage,
    back: Stage,
}

/// Tasks that are told to stop together.
struct Stage {
    stop: CancellationToken,
    tasks: Vec<SupervisedTask>,
}

// === impl Tasks ===

impl Tasks {
    /// Starts everything, intake last: a batch finds all that it needs.
    pub(super) fn start(
        source: ConfigSource,
        stores: &Stores,
        listeners: Listeners,
        started_at: Timestamp,
    ) -> anyhow::Result<Self> {
        let ConfigSource { config, read, logs } = source;
        let config = &Arc::new(config);
        let mut prometheus = metrics::registry();
        let ours = prometheus.sub_registry_with_prefix("picket_aggregator");
        let reloader = Reloader::new((**config).clone(), read, takes_effect, Timestamp::now, ours);
        stores.journal.register_metrics(&mut prometheus);
        let live = LiveRelays::default();
        let settings = watch::Sender::new(config.link.clone());
        let intake = intake(config, stores, live.clone(), settings.subscribe(), &mut prometheus);
        let quotas = intake.quotas.clone();
        let intake = IntakeServer::bind(config.link_listen, intake)?;
        let worker = worker(config, stores, &mut prometheus);
        let supervisor = Supervisor::new();
        let query = Query::new(&stores.events, &stores.registry.database, stores.registry.projects.clone());
        let web_state = web_state(config, &stores.registry, query.clone());
        let pages = web::router(web_state.clone()).merge(api::router(web_state));
        let watched = metrics::router(Arc::new(prometheus), supervisor.clone());
        let admin = AdminContext {
            config: Arc::clone(config),
            registry: stores.registry.clone(),
            query: Some(query),
            journal: Some(stores.journal.clone()),
            live: Some(live),
            started_at: Some(started_at),
            config_status: Some(reloader.status()),
        };
        let apply = move |next: &Arc<AggregatorConfig>| {
            logs.set_level(&next.log)?;
            settings.send_replace(next.link.clone());
            Ok(())
        };

        let stop = CancellationToken::new();
        let mut back = vec![
            supervisor.spawn("worker", worker.run(stop.clone())),
            supervisor.spawn("journal", watch_journal(stores, stop.clone())),
        ];
        if let Some(node) = stores.node.clone() {
            let following = Following { node, projects: stores.registry.projects.clone(), quotas };
            back.push(supervisor.spawn("nodes", nodes::follow(following, stop.clone())));
        }
        let back = Stage { stop, tasks: back };
        let stop = CancellationToken::new();
        let front = vec![
            supervisor.spawn("pages", listener::serve(listeners.pages, pages, stop.clone())),
            supervisor.spawn("metrics", listener::serve(listeners.metrics, watched, stop.clone())),
            supervisor.spawn("commands", socket::serve(listeners.commands, admin, stop.clone())),
            supervisor.spawn("reload", reloader.run(listeners.hangup, apply, stop.clone())),
        ];
        let front = Stage { stop, tasks: front };
        let stop = CancellationToken::new();
        let intake = Stage { tasks: vec![supervisor.spawn("intake", intake.run(stop.clone()))], stop };
        Ok(Self { supervisor, intake, front, back })
    }

    /// Knows when one of them has ended early.
    pub(super) const fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Stops them, stage by stage.
    pub(super) async fn stop(self) {
        self.supervisor.stopping();
        info!("stopping: no more batches are taken");
        self.intake.stop().await;
        if tokio::time::timeout(FRONT_PATIENCE, self.front.stop()).await.is_err() {
            warn!(patience = ?FRONT_PATIENCE, "a listener did not end in time");
        }
        self.back.stop().await;
    }
}

impl Stage {
    async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.join().await;
        }
    }
}

/// Ends early if the journal's commit thread does, without which no batch is taken any more.
fn watch_journal(stores: &Stores, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
    let journal = stores.journal.clone();
    async move {
        stop.run_until_cancelled(journal.closed()).await;
    }
}

fn intake(
    config: &AggregatorConfig,
    stores: &Stores,
    live: LiveRelays,
    settings: watch::Receiver<LinkConfig>,
    prometheus: &mut Prometheus,
) -> Intake {
    Intake {
        config: config.link.clone(),
        settings,
        fleet: stores.registry.fleet.clone(),
        journal: stores.journal.clone(),
        projects: stores.registry.projects.watch(),
        quotas: QuotaAuthority::new(stores.registry.projects.watch(), Timestamp::now()),
        live,
        metrics: IntakeMetrics::register(prometheus),
        addresses: config.advertised(),
    }
}

fn worker(config: &AggregatorConfig, stores: &Stores, prometheus: &mut Prometheus) -> Worker {
    Worker {
        journal: stores.journal.clone(),
        surroundings: Installed { events: Arc::clone(&stores.events), issues: Issues::new(&stores.registry.database) },
        projects: stores.registry.projects.watch(),
        config: config.process.clone(),
        metrics: ProcessMetrics::register(prometheus),
        refusals: Refusals::default(),
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
