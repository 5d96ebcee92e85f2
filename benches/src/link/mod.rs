//! The way from relay to aggregator: how fast a backlog drains, what it takes on the wire, whether depth costs anything, what the
//! fsync before the 200 costs.
//!
//! ```text
//!   drain:  aggregator stopped (SIGSTOP) ▸ fill the spool, closed loop ▸ aggregator goes on ▸ until the spool is empty
//!           baseline: the rate at which the same relay accepted those events just before
//!   wire:   payload bytes the relay sent for them, beside the gzip that the SDK sent for the same events
//!   depths: the same again on a spool that holds so many events already; medians of several runs at each depth
//!   fsync:  accepted/s at 64 connections with `spool.fsync` on and off, in turns
//! ```
//!
//! # Invariants
//! - Bodies are made while nothing is measured.
//! - The aggregator is stopped while events are accepted, so the relay has the processors to itself and the drain competes with
//!   an aggregator that works for real: the ratio is that of a machine that holds both, not flattered.
//! - Draining is timed from the moment the relay is connected again to the moment its spool is empty.

mod report;
mod spool_watch;

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::installation::Installation;
use crate::load::{self, Pace, Plan, Summary};
use crate::process;
use crate::setting::{BenchError, Bodies, Setting, SettingOptions};
use crate::target::Target;
pub use report::{DepthRun, DrainRun, FsyncReport, LinkReport, Spread, Wire};
use spool_watch::SpoolWatch;

/// Bodies made and sent at a time: they are in memory, some 6 KB each.
const CHUNK: u64 = 40_000;
/// Bodies before anything is measured.
const WARM_UP: u64 = 500;
/// Events accepted in one run at a depth.
const DEPTH_RUN: u64 = 4_000;
/// Runs at each depth.
const DEPTH_RUNS: usize = 5;
/// Connections of the runs with and without fsync.
const FSYNC_CONNECTIONS: usize = 64;
/// How long a relay may take to notice that its aggregator is gone, or is back.
const NOTICE_DEADLINE: Duration = Duration::from_secs(90);
/// How long a backlog may take to drain.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1800);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const LOAD_DEADLINE: Duration = Duration::from_secs(1800);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events of the backlog that is drained.
    pub count: u64,
    /// How often it is filled and drained.
    pub rounds: u32,
    /// Connections while it is filled.
    pub connections: usize,
    /// Events that are spooled already when accepting and draining are measured; empty leaves that out.
    pub depths: Vec<u64>,
    /// Whether to compare with and without fsync.
    pub fsync: bool,
    /// What to measure with.
    pub setting: SettingOptions,
}

/// Runs everything that the options ask for.
///
/// # Errors
/// [`BenchError`].
pub async fn run(options: Options) -> Result<LinkReport, BenchError> {
    if options.count == 0 {
        return Err(BenchError::Zero("count"));
    }
    if options.rounds == 0 {
        return Err(BenchError::Zero("rounds"));
    }
    let mut setting = Setting::prepare(options.setting.clone()).await?;

    let mut drains = Vec::new();
    let mut bench = Bench::start(&options, &setting, "drain", "").await?;
    bench.warm_up(&mut setting.bodies).await?;
    for round in 0..options.rounds {
        info!(round = round + 1, of = options.rounds, events = options.count, "backlog");
        drains.push(bench.fill_and_drain(&mut setting.bodies, options.count).await?);
    }
    bench.stop().await;

    let mut depths = Vec::new();
    for &depth in &options.depths {
        let mut bench = Bench::start(&options, &setting, &format!("depth-{depth}"), "").await?;
        bench.warm_up(&mut setting.bodies).await?;
        depths.push(bench.at_depth(&mut setting.bodies, depth).await?);
        bench.stop().await;
    }
    let fsync = match options.fsync {
        true => Some(compare_fsync(&options, &mut setting).await?),
        false => None,
    };
    let (connections, debug_build, machine) = (options.connections, setting.debug_build, setting.machine);
    Ok(LinkReport { machine, debug_build, connections, drains, depths, fsync })
}

/// A running installation of its own.
struct Bench {
    installation: Installation,
    target: Target,
    connections: usize,
}

/// What accepting a backlog came to.
#[derive(Default)]
struct Filled {
    accepted: u64,
    seconds: f64,
    gzip_bytes: u64,
}

impl Bench {
    async fn start(options: &Options, setting: &Setting, name: &str, relay_config: &str) -> Result<Self, BenchError> {
        let below = setting.directory().join(name);
        std::fs::create_dir_all(&below)
            .map_err(|source| BenchError::Files { doing: "make a directory for the stores", source })?;
        // A backlog of a million events takes a few GB.
        let relay_config = format!("[spool]\nmax_bytes = \"100GiB\"\n{relay_config}");
        let installation = Installation::start_with(setting.binaries.clone(), &below, &relay_config).await?;
        let target = Target::from_dsn(&installation.dsn)?;
        Ok(Self { installation, target, connections: options.connections })
    }

    async fn warm_up(&mut self, bodies: &mut Bodies) -> Result<(), BenchError> {
        let pool = bodies.make(WARM_UP).await?;
        load::run(&self.target, pool, &plan(self.connections)).await?;
        self.watch().until_empty(DRAIN_DEADLINE).await
    }

    /// One round: what [`DrainRun`] says.
    async fn fill_and_drain(&mut self, bodies: &mut Bodies, count: u64) -> Result<DrainRun, BenchError> {
        self.part().await?;
        let before = self.watch().sent().await?;
        let filled = self.fill(bodies, count).await?;
        let memory_before = self.relay_memory()?;
        let drained = self.drain().await?;
        let sent = self.watch().sent().await?;
        let (batches, wire_bytes) = (sent.batches - before.batches, sent.payload_bytes - before.payload_bytes);
        let accepted = filled.accepted as f64;
        let run = DrainRun {
            events: filled.accepted,
            accepted_per_second: accepted / filled.seconds,
            drained_per_second: drained.records as f64 / drained.seconds,
            relay_rss_before: memory_before,
            relay_rss_peak: drained.relay_rss_peak,
            processors_busy: drained.processors_busy,
            wire: Wire {
                events_per_batch: accepted / batches,
                bytes_per_event: wire_bytes / accepted,
                gzip_bytes_per_event: filled.gzip_bytes as f64 / accepted,
            },
        };
        info!(
            accepted_per_second = run.accepted_per_second.round(),
            drained_per_second = run.drained_per_second.round(),
            "backlog drained"
        );
        Ok(run)
    }

    /// Accepts `depth` events, then measures accepting more of them and draining all.
    async fn at_depth(&mut self, bodies: &mut Bodies, depth: u64) -> Result<DepthRun, BenchError> {
        info!(depth, "filling");
        self.part().await?;
        self.fill(bodies, depth).await?;
        let mut accepting: Vec<Summary> = Vec::new();
        for _ in 0..DEPTH_RUNS {
            let pool = bodies.make(DEPTH_RUN).await?;
            let report = load::run(&self.target, pool, &plan(self.connections)).await?;
            refused(report.refused + report.unanswered + report.unsent)?;
            accepting.push(report.summary());
        }
        let memory = self.relay_memory()?;
        // What the first seconds are like is what depth could change; the rest is the same again.
        let drained = self.drain().await?;
        Ok(DepthRun {
            depth,
            accepted_per_second: Spread::of(accepting.iter().map(|run| run.accepted_per_second)),
            p50_ms: Spread::of(accepting.iter().map(|run| run.latency_ms.p50)),
            p99_ms: Spread::of(accepting.iter().map(|run| run.latency_ms.p99)),
            drained_per_second: Spread::of(drained.fifths),
            relay_rss: memory,
        })
    }

    /// Stops the aggregator and waits until the relay has noticed.
    async fn part(&mut self) -> Result<(), BenchError> {
        self.installation.aggregator.pause();
        self.watch().until_connected(false, NOTICE_DEADLINE).await
    }

    async fn fill(&mut self, bodies: &mut Bodies, count: u64) -> Result<Filled, BenchError> {
        let mut filled = Filled::default();
        let mut left = count;
        while left > 0 {
            let pool = bodies.make(left.min(CHUNK)).await?;
            left -= pool.bodies.len() as u64;
            let gzip_bytes: u64 = pool.bodies.iter().map(|body| body.gzip.len() as u64).sum();
            let report = load::run(&self.target, pool, &plan(self.connections)).await?;
            refused(report.refused + report.unanswered + report.unsent)?;
            filled.accepted += report.accepted;
            filled.seconds += report.elapsed.as_secs_f64();
            filled.gzip_bytes += gzip_bytes;
        }
        Ok(filled)
    }

    /// Lets the aggregator go on and waits until the relay's spool is empty.
    async fn drain(&mut self) -> Result<spool_watch::Drained, BenchError> {
        let pids = [self.installation.relay.pid(), self.installation.aggregator.pid()];
        let cpu = || -> Result<Duration, BenchError> {
            let times = pids.iter().map(|&pid| process::cpu_time(pid));
            let total: std::io::Result<Duration> = times.sum();
            total.map_err(|source| BenchError::Files { doing: "read processor times", source })
        };
        self.installation.aggregator.resume();
        let watch = self.watch();
        watch.until_connected(true, NOTICE_DEADLINE).await?;
        let (cpu_before, started) = (cpu()?, Instant::now());
        let mut drained = watch.drain(pids[0], DRAIN_DEADLINE).await?;
        drained.processors_busy = (cpu()? - cpu_before).as_secs_f64() / started.elapsed().as_secs_f64();
        self.installation.relay.must_run()?;
        self.installation.aggregator.must_run()?;
        Ok(drained)
    }

    fn watch(&self) -> SpoolWatch<'_> {
        SpoolWatch::new(&self.installation)
    }

    fn relay_memory(&self) -> Result<u64, BenchError> {
        let memory = process::memory(self.installation.relay.pid());
        memory.map(|memory| memory.rss).map_err(|source| BenchError::Files { doing: "read the relay's memory", source })
    }

    async fn stop(self) {
        if let Err(error) = self.installation.stop().await {
            warn!(%error, "a program did not end in good order");
        }
    }
}

/// Two relays, one with fsync and one without, take the same number of events in turns.
async fn compare_fsync(options: &Options, setting: &mut Setting) -> Result<FsyncReport, BenchError> {
    info!(connections = FSYNC_CONNECTIONS, "with and without fsync");
    let mut with = Bench::start(options, setting, "fsync-on", "").await?;
    let mut without = Bench::start(options, setting, "fsync-off", "fsync = false\n").await?;
    for bench in [&mut with, &mut without] {
        bench.connections = FSYNC_CONNECTIONS;
        bench.warm_up(&mut setting.bodies).await?;
        bench.part().await?;
    }
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for round in 0..DEPTH_RUNS {
        let mut turns = [(&with, &mut on), (&without, &mut off)];
        if round % 2 == 1 {
            turns.reverse();
        }
        for (bench, rates) in turns {
            let pool = setting.bodies.make(2 * DEPTH_RUN).await?;
            let report = load::run(&bench.target, pool, &plan(FSYNC_CONNECTIONS)).await?;
            refused(report.refused + report.unanswered + report.unsent)?;
            rates.push(report.summary().accepted_per_second);
        }
    }
    for bench in [with, without] {
        bench.installation.aggregator.resume();
        bench.stop().await;
    }
    Ok(FsyncReport { connections: FSYNC_CONNECTIONS, with: Spread::of(on), without: Spread::of(off) })
}

const fn refused(events: u64) -> Result<(), BenchError> {
    if events == 0 { Ok(()) } else { Err(BenchError::Refused(events)) }
}

const fn plan(connections: usize) -> Plan {
    Plan { pace: Pace::Closed, connections, duration_max: LOAD_DEADLINE, request_timeout: REQUEST_TIMEOUT }
}
