//! The command line of the bench: arguments in, results on standard output, progress on standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use picket_bench::accept;
use picket_bench::floor::Floor;
use picket_bench::link;
use picket_bench::load::{self, Pace, Plan, Summary};
use picket_bench::payload::{GZIP_LEVEL_DEFAULT, Generator, Recipe};
use picket_bench::scrub;
use picket_bench::setting::{Afterwards, SettingOptions};
use picket_bench::target::Target;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The relay's allocator, so that `scrub` measures what the relay does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Picket on this machine.
#[derive(Debug, Parser)]
#[command(name = "picket-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print the result as one JSON document.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare a relay (with its aggregator) with the floor server and count what arrives.
    Accept(AcceptArguments),
    /// Time each step of normalising and scrubbing one event, beside serde_json alone.
    Scrub(ScrubArguments),
    /// Fill a relay's spool while its aggregator is away, then drain it: rates, bytes on the wire, what depth and fsync cost.
    Link(LinkArguments),
    /// Send events to a DSN on this machine.
    Load(LoadArguments),
    /// Serve the floor: read, inflate, answer 200.
    Floor(FloorArguments),
}

#[derive(Debug, Args)]
struct PayloadArguments {
    /// Connections; each has one request under way at most.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// True problems that the events are drawn from, by Zipf's law.
    #[arg(long, default_value = "300")]
    problems: NonZeroU32,
    /// Compression level of the bodies.
    #[arg(long, default_value_t = GZIP_LEVEL_DEFAULT, value_parser = clap::value_parser!(u32).range(0..=9))]
    gzip_level: u32,
}

#[derive(Debug, Args)]
struct AcceptArguments {
    #[command(flatten)]
    payload: PayloadArguments,
    /// Requests of each closed-loop run.
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// Requests a second of each open-loop run; 0 leaves the open loop out.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Length of each open-loop run.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How often floor and relay take turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// What everything random follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What the aggregator does while requests are sent: work on the same processors, or wait as if it were on another machine.
    #[arg(long, value_enum, default_value_t = Aggregator::Running)]
    aggregator: Aggregator,
    /// After the rounds, keep the relay under the open loop's load for so long and watch its memory.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    soak: Duration,
    /// How long accepted events may take to become visible.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    visible_deadline: Duration,
    /// Directory below which the stores are made; should lie on a real disk.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Leave stores and logs in place.
    #[arg(long)]
    keep: bool,
    /// The relay's program, if it is not beside this one.
    #[arg(long)]
    relay_bin: Option<PathBuf>,
    /// The aggregator's program, if it is not beside this one.
    #[arg(long)]
    aggregator_bin: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Aggregator {
    Running,
    Paused,
}

#[derive(Debug, Args)]
struct ScrubArguments {
    /// Largest size of an event, in bytes.
    #[arg(long, default_value_t = 12 * 1024)]
    event_bytes: usize,
    /// How often each of 64 events is taken through all steps in a round.
    #[arg(long, default_value_t = 20)]
    repeats: u32,
    /// Rounds; the figures are their medians.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// What everything random follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct LinkArguments {
    #[command(flatten)]
    payload: PayloadArguments,
    /// Events of the backlog.
    #[arg(long, default_value_t = 20_000)]
    count: u64,
    /// How often it is filled and drained.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Measure accepting and draining with so many events in the spool, such as `10000,1000000`.
    #[arg(long, value_delimiter = ',')]
    depths: Vec<u64>,
    /// Compare with and without the fsync before the 200, at 64 connections.
    #[arg(long)]
    fsync: bool,
    /// What everything random follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory below which the stores are made; should lie on a real disk.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The relay's program, if it is not beside this one.
    #[arg(long)]
    relay_bin: Option<PathBuf>,
    /// The aggregator's program, if it is not beside this one.
    #[arg(long)]
    aggregator_bin: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct LoadArguments {
    #[command(flatten)]
    payload: PayloadArguments,
    /// Where to send to; must be on this machine.
    #[arg(long)]
    dsn: String,
    /// Requests to send; in an open loop rate times duration if not given.
    #[arg(long)]
    count: Option<u64>,
    /// Requests a second, ready or not (open loop). Without it each connection waits for its answer (closed loop).
    #[arg(long)]
    rate: Option<f64>,
    /// No request starts after this time.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// What everything random follows from; another seed gives other event ids. From the clock if not given.
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Debug, Args)]
struct FloorArguments {
    /// Loopback address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_target(false)
        .init();
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", whole_story(&error));
            ExitCode::FAILURE
        }
    }
}

/// One runtime for each command, with a thread for each processor: the floor so has as many as the relay.
fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let json = arguments.json;
    runtime.block_on(async {
        let work = async {
            match arguments.command {
                Command::Accept(arguments) => accept(arguments, json).await,
                Command::Scrub(arguments) => scrub(&arguments, json),
                Command::Link(arguments) => link(arguments, json).await,
                Command::Load(arguments) => load(arguments, json).await,
                Command::Floor(arguments) => floor(arguments).await,
            }
        };
        // Dropping the work ends the processes it started.
        tokio::select! {
            result = work => result,
            signal = interruption() => Err(anyhow::anyhow!("interrupted by {}", signal?)),
        }
    })
}

/// Waits for a signal to end; its name.
async fn interruption() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.context("cannot listen for Ctrl-C").map(|()| "Ctrl-C"),
        _ = terminate.recv() => Ok("SIGTERM"),
    }
}

async fn accept(arguments: AcceptArguments, json: bool) -> anyhow::Result<()> {
    let alongside = match arguments.aggregator {
        Aggregator::Running => accept::Alongside::Running,
        Aggregator::Paused => accept::Alongside::Paused,
    };
    let report = accept::run(accept::Options {
        alongside,
        soak: arguments.soak,
        count: arguments.count,
        connections: arguments.payload.connections,
        rate: arguments.rate,
        duration: arguments.duration,
        rounds: arguments.rounds,
        visible_deadline: arguments.visible_deadline,
        setting: SettingOptions {
            seed: arguments.seed,
            problems: arguments.payload.problems,
            gzip_level: arguments.payload.gzip_level,
            data_dir: arguments.data_dir,
            afterwards: if arguments.keep { Afterwards::Keep } else { Afterwards::Remove },
            relay_bin: arguments.relay_bin,
            aggregator_bin: arguments.aggregator_bin,
        },
    })
    .await?;
    print(&report, json, || report.to_string())?;
    anyhow::ensure!(report.truth.lost() == 0, "{} accepted events are not visible", report.truth.lost());
    anyhow::ensure!(report.truth.doubled() == 0, "{} events were counted twice", report.truth.doubled());
    Ok(())
}

/// Keeps its thread busy: nothing else runs meanwhile.
fn scrub(arguments: &ScrubArguments, json: bool) -> anyhow::Result<()> {
    let &ScrubArguments { event_bytes, repeats, rounds, seed } = arguments;
    let report = scrub::run(scrub::Options { event_bytes, repeats, rounds, seed })?;
    print(&report, json, || report.to_string())
}

async fn link(arguments: LinkArguments, json: bool) -> anyhow::Result<()> {
    let report = link::run(link::Options {
        count: arguments.count,
        rounds: arguments.rounds,
        connections: arguments.payload.connections,
        depths: arguments.depths,
        fsync: arguments.fsync,
        setting: SettingOptions {
            seed: arguments.seed,
            problems: arguments.payload.problems,
            gzip_level: arguments.payload.gzip_level,
            data_dir: arguments.data_dir,
            afterwards: Afterwards::Remove,
            relay_bin: arguments.relay_bin,
            aggregator_bin: arguments.aggregator_bin,
        },
    })
    .await?;
    print(&report, json, || report.to_string())
}

async fn load(arguments: LoadArguments, json: bool) -> anyhow::Result<()> {
    let target = Target::from_dsn(&arguments.dsn)?;
    let pace = arguments.rate.map_or(Pace::Closed, |rate| Pace::Open { rate });
    let count = arguments.count.unwrap_or_else(|| match pace {
        Pace::Closed => 2000,
        Pace::Open { rate } => (rate * arguments.duration.as_secs_f64()).ceil() as u64,
    });
    let newest = OffsetDateTime::now_utc();
    let seed = arguments.seed.unwrap_or_else(clock_seed);
    let recipe =
        Recipe { seed, problems: arguments.payload.problems, gzip_level: arguments.payload.gzip_level, newest };
    tracing::info!(count, seed, "making bodies");
    let pool = tokio::task::spawn_blocking(move || Generator::new(recipe)?.pool(0..count)).await??;
    let plan = Plan {
        pace,
        connections: arguments.payload.connections,
        duration_max: arguments.duration,
        request_timeout: Duration::from_secs(30),
    };
    tracing::info!("sending");
    let summary = load::run(&target, Arc::new(pool), &plan).await?.summary();
    print(&summary, json, || load_text(&summary))
}

async fn floor(arguments: FloorArguments) -> anyhow::Result<()> {
    let floor = Floor::bind(arguments.listen).await?;
    tracing::info!(address = %floor.address(), "floor listening");
    match floor.serve().await? {}
}

fn load_text(summary: &Summary) -> String {
    let latency = summary.latency_ms;
    let mut text = format!(
        "{:.1} accepted/s over {:.2} s; p50 {:.2}, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2} ms\n\
         {} accepted, {} refused, {} unanswered, {} never sent, {} reconnects; statuses {:?}\n",
        summary.accepted_per_second,
        summary.seconds,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        latency.max,
        summary.accepted,
        summary.refused,
        summary.unanswered,
        summary.unsent,
        summary.reconnects,
        summary.statuses,
    );
    for complaint in &summary.complaints {
        text.push_str(&format!("  {complaint}\n"));
    }
    text
}

/// The error and its causes; a cause that the text already quotes is not repeated.
fn whole_story(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |story, part| match story {
        story if story.is_empty() => part,
        story if story.contains(&part) => story,
        story => format!("{story}: {part}"),
    })
}

fn print(result: &impl Serialize, json: bool, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let output = if json { format!("{}\n", serde_json::to_string_pretty(result)?) } else { text() };
    io::stdout().lock().write_all(output.as_bytes()).context("cannot write the result to standard output")
}

/// Nanoseconds of the clock: two runs against one server must not share event ids.
fn clock_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
