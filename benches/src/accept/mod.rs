//! Floor and relay in turn, on this machine, with the same bodies, until every accepted event is counted.
//!
//! ```text
//!   start both ▸ warm up ▸ for each round: closed loop, open loop, each against floor and relay ▸ settle ▸ measure disk ▸ stop
//!                                          └─ after each relay run: wait until the aggregator shows what was accepted
//! ```
//!
//! # Invariants
//! - Floor and relay see the same bodies in the same round; which of the two goes first alternates.
//! - A run starts only when the events of the one before are visible, so runs do not pay for each other.
//! - With [`Alongside::Running`] the aggregator works while the relay is under load, as on a machine that holds both, and the ratio
//!   of relay to floor includes what it takes from the processors: several times what the relay takes. With
//!   [`Alongside::Paused`] it is stopped while requests are sent, as if it were on another machine; it takes everything afterwards.

mod report;
mod resources;
mod soak;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::disk;
use crate::installation::{Installation, InstallationError, STOP_DEADLINE, Service};
use crate::load::{self, Pace, Plan, Report as LoadReport};
use crate::payload::Pool;
use crate::setting::{BenchError, Setting, SettingOptions};
use crate::target::Target;
pub use report::{AcceptReport, Comparison, Payload, RelayRun, Truth};
use resources::Resources;
pub use resources::{ProcessUse, Used};
pub use soak::Soak;

/// Bodies of the warm-up: enough to fill caches, open files and pass the first inserts.
const WARM_UP: u64 = 500;
/// Between two looks at what the aggregator shows. Each look costs a process, so not more often.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Rest before memory is called idle, and between looks while the disk settles.
const REST: Duration = Duration::from_secs(2);
/// Looks while the disk settles: merges and compactions may go on, but not for ever in our figures.
const SETTLE_LOOKS_MAX: u32 = 10;
/// The counter of compressed payload bytes that the relay sent to the aggregator.
const WIRE_BYTES_METRIC: &str = "picket_relay_uplink_payload_bytes_total";

/// What the aggregator does while requests are sent to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alongside {
    /// It works, on the same processors.
    Running,
    /// It is stopped until the last request is answered.
    Paused,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the aggregator does meanwhile.
    pub alongside: Alongside,
    /// After the rounds, how long the relay alone is kept under the open loop's load, its memory watched; zero leaves that out.
    pub soak: Duration,
    /// Requests of a closed-loop run.
    pub count: u64,
    /// Connections of every run.
    pub connections: usize,
    /// Requests a second of an open-loop run; 0 leaves the open loop out.
    pub rate: f64,
    /// Length of an open-loop run.
    pub duration: Duration,
    /// How often floor and relay take turns. At least 1.
    pub rounds: u32,
    /// How long accepted events may take to become visible.
    pub visible_deadline: Duration,
    /// What to measure with.
    pub setting: SettingOptions,
}

/// Everything that is running during a run.
struct Bench {
    options: Options,
    setting: Setting,
    floor: Service,
    floor_target: Target,
    installation: Installation,
    relay_target: Target,
    truth: Truth,
    payload: Payload,
}

/// Runs the whole comparison.
///
/// # Errors
/// [`BenchError`]; refused, lost or doubled events are no errors but part of the report.
pub async fn run(options: Options) -> Result<AcceptReport, BenchError> {
    if options.count == 0 {
        return Err(BenchError::Zero("count"));
    }
    if options.rounds == 0 {
        return Err(BenchError::Zero("rounds"));
    }
    let setting = Setting::prepare(options.setting.clone()).await?;
    let mut bench = Bench::start(options, setting).await?;
    bench.warm_up().await?;
    let mut resources = Resources::begin(&bench.installation, &bench.floor).await?;
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for round in 0..bench.options.rounds {
        info!(round = round + 1, of = bench.options.rounds, "closed loop");
        closed.push(bench.compare(round, Pace::Closed, &mut resources).await?);
        if bench.options.rate > 0.0 {
            info!(round = round + 1, of = bench.options.rounds, rate = bench.options.rate, "open loop");
            let pace = Pace::Open { rate: bench.options.rate };
            open.push(bench.compare(round, pace, &mut resources).await?);
        }
    }
    let soak = bench.soak(&mut resources).await?;
    bench.settle().await?;
    let resources = resources.finish(&bench.installation).await?;
    let shown = bench.installation.shown().await?;
    bench.truth.shown(shown);
    let (connections, alongside) = (bench.options.connections, bench.options.alongside);
    let (truth, payload) = (bench.truth.clone(), bench.payload.clone());
    let (machine, debug_build) = (bench.setting.machine.clone(), bench.setting.debug_build);
    let stop_complaints = bench.stop().await;
    Ok(AcceptReport {
        machine,
        debug_build,
        connections,
        alongside,
        payload,
        closed,
        open,
        soak,
        resources,
        truth,
        stop_complaints,
    })
}

// === impl Bench ===

impl Bench {
    async fn start(options: Options, setting: Setting) -> Result<Self, BenchError> {
        let (floor, address) = start_floor(setting.directory()).await?;
        // The floor asks for no key; any project will do.
        let floor_target = Target::from_dsn(&format!("http://floor@{address}/1"))?;
        let installation = Installation::start(setting.binaries.clone(), setting.directory()).await?;
        let relay_target = Target::from_dsn(&installation.dsn)?;
        Ok(Self {
            options,
            setting,
            floor,
            floor_target,
            installation,
            relay_target,
            truth: Truth::default(),
            payload: Payload::default(),
        })
    }

    /// Fresh bodies, which no run had before.
    async fn fresh(&mut self, count: u64) -> Result<Arc<Pool>, BenchError> {
        info!(count, "making bodies");
        let pool = self.setting.bodies.make(count).await?;
        self.payload = Payload { raw_bytes_mean: pool.mean_raw_bytes(), gzip_bytes_mean: pool.mean_gzip_bytes() };
        Ok(pool)
    }

    async fn warm_up(&mut self) -> Result<(), BenchError> {
        info!("warming up");
        let pool = self.fresh(WARM_UP).await?;
        let plan = self.plan(Pace::Closed);
        load::run(&self.floor_target, Arc::clone(&pool), &plan).await?;
        let run = load::run(&self.relay_target, pool, &plan).await?;
        self.truth.sent(&run);
        self.until_visible(&run).await?;
        tokio::time::sleep(REST).await;
        Ok(())
    }

    fn plan(&self, pace: Pace) -> Plan {
        let request_timeout = Duration::from_secs(30);
        let duration_max = match pace {
            // Room for the last requests to leave; those that do not are reported as unsent.
            Pace::Open { .. } => self.options.duration + request_timeout,
            Pace::Closed => Duration::from_secs(600),
        };
        Plan { pace, connections: self.options.connections, duration_max, request_timeout }
    }

    async fn compare(&mut self, round: u32, pace: Pace, resources: &mut Resources) -> Result<Comparison, BenchError> {
        let count = match pace {
            Pace::Closed => self.options.count,
            Pace::Open { rate } => (rate * self.options.duration.as_secs_f64()).ceil() as u64,
        };
        let pool = self.fresh(count).await?;
        let plan = self.plan(pace);
        let (floor, relay) = if round.is_multiple_of(2) {
            let floor = self.run_floor(&pool, &plan, resources).await?;
            (floor, self.run_relay(&pool, &plan, resources).await?)
        } else {
            let relay = self.run_relay(&pool, &plan, resources).await?;
            (self.run_floor(&pool, &plan, resources).await?, relay)
        };
        Ok(Comparison { floor: floor.summary(), relay })
    }

    async fn run_floor(
        &mut self,
        pool: &Arc<Pool>,
        plan: &Plan,
        resources: &mut Resources,
    ) -> Result<LoadReport, BenchError> {
        let report = load::run(&self.floor_target, Arc::clone(pool), plan).await?;
        self.floor.must_run()?;
        resources.count_floor(report.accepted);
        Ok(report)
    }

    async fn run_relay(
        &mut self,
        pool: &Arc<Pool>,
        plan: &Plan,
        resources: &mut Resources,
    ) -> Result<RelayRun, BenchError> {
        let alongside = self.options.alongside;
        if alongside == Alongside::Paused {
            self.installation.aggregator.pause();
        }
        let report = load::run(&self.relay_target, Arc::clone(pool), plan).await;
        self.installation.aggregator.resume();
        let report = report?;
        self.truth.sent(&report);
        resources.count_relay(report.accepted);
        let visible_after = self.until_visible(&report).await?;
        let run = RelayRun::new(report.summary(), visible_after);
        info!(
            accepted_per_second = run.load.accepted_per_second.round(),
            end_to_end_per_second = run.end_to_end_per_second.map(f64::round),
            "relay run done",
        );
        Ok(run)
    }

    /// Waits until the aggregator shows all that was accepted so far; the time since the first byte of `run`, or none
    /// if the deadline passed.
    async fn until_visible(&mut self, run: &LoadReport) -> Result<Option<Duration>, BenchError> {
        let give_up = Instant::now() + self.options.visible_deadline;
        loop {
            self.installation.relay.must_run()?;
            self.installation.aggregator.must_run()?;
            let asked = Instant::now();
            let shown = self.installation.shown().await?;
            if shown.events >= self.truth.accepted {
                // Visible at the latest when the answer that shows it was asked for and computed.
                return Ok(Some(run.started.elapsed()));
            }
            if asked > give_up {
                let missing = self.truth.accepted - shown.events;
                warn!(missing, "events are not visible within the deadline");
                return Ok(None);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until the aggregator's directory no longer changes, within bounds.
    async fn settle(&self) -> Result<(), BenchError> {
        info!("letting merges settle");
        let mut before = None;
        for _ in 0..SETTLE_LOOKS_MAX {
            let now = disk::usage_by_entry(self.installation.aggregator_data())
                .map_err(|source| BenchError::Files { doing: "measure the aggregator's directory", source })?;
            if before.as_ref() == Some(&now) {
                break;
            }
            before = Some(now);
            tokio::time::sleep(REST).await;
        }
        Ok(())
    }

    async fn stop(mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        // The floor knows no orderly end: it holds nothing.
        let _ = self.floor.stop(STOP_DEADLINE).await;
        if let Err(error) = self.installation.stop().await {
            complaints.push(error.to_string());
        }
        complaints
    }
}

/// The floor as a process of its own: this program again.
async fn start_floor(directory: &Path) -> Result<(Service, std::net::SocketAddr), BenchError> {
    let own = std::env::current_exe().map_err(InstallationError::OwnPath)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(InstallationError::Ports)?;
    let address = listener.local_addr().map_err(InstallationError::Ports)?;
    drop(listener);
    let arguments = ["floor".to_owned(), "--listen".to_owned(), address.to_string()];
    let mut floor = Service::start("floor", &own, &arguments, directory)?;
    floor.until_connects(address).await?;
    Ok((floor, address))
}
