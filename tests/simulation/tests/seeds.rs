//! Thousands of runs of the simulation: each must end with everything that was answered in the tables, once.
//!
//! `PICKET_SIM_SEED=N` runs one seed and prints its trace. `PICKET_SIM_SEEDS=N` runs so many. `PICKET_SOAK=1` runs a hundred times as
//! many as usual.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use picket_simulation::environment::{Environment, Trace};
use picket_simulation::relay::RelayFlaw;
use picket_simulation::spool::SpoolFlaw;
use picket_simulation::world::{Report, run};

/// Seeds in an ordinary run.
const SEEDS: u64 = 3_000;
/// Seeds within which a flaw must show.
const SEEDS_FOR_A_FLAW: u64 = 400;

/// Runs a seed; says why it fails, if it does.
fn outcome(seed: u64, flaw: RelayFlaw, environment: &Environment) -> Result<Report, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| run(seed, environment, flaw)));
    ran.map_err(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    })
}

/// A failing seed is told once, with its trace, and not by the hook as well.
fn without_hook() {
    std::panic::set_hook(Box::new(|_| {}));
}

fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The lowest seed below `seeds` that fails, and what all the others add up to.
fn first_failure(seeds: u64, flaw: RelayFlaw) -> (Option<u64>, Report) {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let run_some = || {
        let mut sum = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || seed > failed.load(Ordering::Relaxed) {
                return sum;
            }
            match outcome(seed, flaw, &Environment::new(seed, Trace::Off)) {
                Ok(report) => sum = sum.plus(report),
                Err(_) => drop(failed.fetch_min(seed, Ordering::Relaxed)),
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let sum = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run_some)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).fold(Report::default(), Report::plus)
    });
    let failed = failed.into_inner();
    ((failed != u64::MAX).then_some(failed), sum)
}

/// Runs a seed with its trace; whether it passes, and what to read.
fn tell(seed: u64, flaw: RelayFlaw) -> (bool, String) {
    let environment = Environment::new(seed, Trace::On);
    let outcome = outcome(seed, flaw, &environment);
    let told = match &outcome {
        Ok(report) => format!("passes: {report:?}"),
        Err(problem) => format!("fails: {problem}"),
    };
    (outcome.is_ok(), format!("{}\nseed {seed} {told}", environment.lines().join("\n")))
}

#[test]
fn whatever_fails_every_answered_event_is_stored_once() {
    without_hook();
    if let Some(seed) = number_from_environment("PICKET_SIM_SEED") {
        let (passes, told) = tell(seed, RelayFlaw::None);
        eprintln!("{told}");
        assert!(passes, "seed {seed} fails");
        return;
    }
    let times = if std::env::var("PICKET_SOAK").is_ok_and(|soak| soak == "1") { 100 } else { 1 };
    let seeds = number_from_environment("PICKET_SIM_SEEDS").unwrap_or(SEEDS * times);
    let (failed, sum) = first_failure(seeds, RelayFlaw::None);
    if let Some(seed) = failed {
        let (_, told) = tell(seed, RelayFlaw::None);
        eprintln!("{told}\nreplay: PICKET_SIM_SEED={seed} cargo test --workspace --test seeds -- --nocapture");
        panic!("seed {seed} fails");
    }
    eprintln!("{seeds} seeds: {sum:?}");
    // Something must have happened, or nothing was shown.
    let has_happened = sum.cuts > seeds / 4 && sum.duplicates > seeds / 20 && sum.forks > seeds / 20;
    assert!(seeds < SEEDS || has_happened, "{sum:?}");
}

#[test]
fn a_seed_runs_the_same_way_each_time() {
    without_hook();
    for seed in 0..20 {
        assert_eq!(tell(seed, RelayFlaw::None), tell(seed, RelayFlaw::None));
    }
}

#[test]
fn flawed_relays_are_found() {
    without_hook();
    for flaw in [
        RelayFlaw::ForgetsInFlight,
        RelayFlaw::Spool(SpoolFlaw::AnswersBeforeSync),
        RelayFlaw::Spool(SpoolFlaw::CutsAgain),
    ] {
        let (failed, _) = first_failure(SEEDS_FOR_A_FLAW, flaw);
        assert!(failed.is_some(), "{flaw:?} passes {SEEDS_FOR_A_FLAW} seeds");
        eprintln!("{flaw:?} is found by seed {failed:?}");
    }
}
