//! What normalising and scrubbing one event takes of one processor, step by step, in this process.
//!
//! ```text
//!   payload ─read▸ tree ─normalise▸ ─filter▸ ─scrub▸ ─write▸ payload        and beside it: serde_json::Value, parsed and written
//! ```
//!
//! The other benches look at the shipped programs from outside; here the library's functions are called, because a microsecond of one
//! step does not show from outside.
//!
//! # Invariants
//! - Steps and baseline take turns on the same events in the same process.
//! - Each figure is the median over [`Options::rounds`] of a round's mean, so that what else the machine does shows in one round, not in
//!   the figure.

use std::fmt;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use picket_common::normalise::{ClientHints, EventContext, IpInference, normalise_event};
use picket_common::pii::{PiiError, ScrubProfile, ScrubSettings};
use picket_common::project_config::filters::FilterSettings;
use picket_common::timestamp::Timestamp;
use picket_common::tree::{Document, PythonFloats, ReadError};
use picket_relay::filter::compiled::{Filters, Sent};
use picket_relay::scrub::Scrubber;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::payload::{GZIP_LEVEL_DEFAULT, Generator, PayloadError, Recipe};

/// Different events in a round: more than a predictor of branches learns by heart.
const EVENTS: u64 = 64;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Size of an event, in bytes; frames are left out of the generated ones until they are no larger.
    pub event_bytes: usize,
    /// How often each event is taken through all steps in a round.
    pub repeats: u32,
    /// Rounds; at least 1.
    pub rounds: u32,
    /// What events are made from.
    pub seed: u64,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// Events could not be made.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// An event could not be written as JSON.
    #[error("cannot write a generated event: {0}")]
    Write(#[from] serde_json::Error),
    /// The default rules can't be compiled.
    #[error("the default rules of a profile can't be compiled; this is a bug in picket-common: {0}")]
    Rules(#[from] PiiError),
    /// A generated event is no event.
    #[error("a generated event can't be read; this is a bug in picket-bench: {0}")]
    Read(#[from] ReadError),
    /// A generated event is refused.
    #[error("a generated event is refused: {0}")]
    Refused(#[from] picket_common::normalise::Rejected),
    /// The options make no sense.
    #[error("--{0} must be above zero")]
    Zero(&'static str),
}

/// Microseconds of each step for one event.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Steps {
    /// Parsing, with the check for what must be repaired.
    pub read: f64,
    /// Normalisation.
    pub normalise: f64,
    /// Inbound filters.
    pub filter: f64,
    /// Scrubbing.
    pub scrub: f64,
    /// Writing it as JSON, with `_meta`.
    pub write: f64,
}

/// A profile's figures.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileReport {
    /// The profile.
    pub profile: &'static str,
    /// Its steps.
    pub steps: Steps,
    /// All of them.
    pub total_us: f64,
    /// Normalisation and scrubbing alone.
    pub normalise_and_scrub_us: f64,
    /// All of them, divided by the baseline.
    pub ratio: f64,
}

/// See the module documentation. Times are microseconds for one event on one processor.
#[derive(Debug, Clone, Serialize)]
pub struct ScrubReport {
    /// A build without optimisation: the figures compare with nothing.
    pub debug_build: bool,
    /// Mean size of an event, in bytes.
    pub event_bytes_mean: usize,
    /// `serde_json::Value` of the same event, parsed and written.
    pub baseline_us: f64,
    /// Both profiles, with the switches that new projects have.
    pub profiles: Vec<ProfileReport>,
}

/// Runs the bench on the calling thread.
///
/// # Errors
/// [`ScrubError`].
pub fn run(options: Options) -> Result<ScrubReport, ScrubError> {
    if options.rounds == 0 {
        return Err(ScrubError::Zero("rounds"));
    }
    if options.repeats == 0 {
        return Err(ScrubError::Zero("repeats"));
    }
    let events = events(&options)?;
    let compiled =
        |scrub_profile| Scrubber::compile(&ScrubSettings { scrub_profile, ..ScrubSettings::of_new_project() });
    let scrubbers = [compiled(ScrubProfile::Compat)?, compiled(ScrubProfile::Strict)?];
    let filters = Filters::new(&FilterSettings::default());
    let mut baseline = Vec::new();
    let mut rounds = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds {
        baseline.push(parse_and_write(&events, options.repeats)?);
        for (scrubber, rounds) in scrubbers.iter().zip(&mut rounds) {
            rounds.push(take_through(&events, options.repeats, &filters, scrubber)?);
        }
    }
    let baseline_us = median(baseline);
    let report = |(profile, rounds): (&'static str, Vec<Steps>)| {
        let steps = median_steps(&rounds);
        let total_us = steps.read + steps.normalise + steps.filter + steps.scrub + steps.write;
        ProfileReport {
            profile,
            steps,
            total_us,
            normalise_and_scrub_us: steps.normalise + steps.scrub,
            ratio: total_us / baseline_us,
        }
    };
    Ok(ScrubReport {
        debug_build: cfg!(debug_assertions),
        event_bytes_mean: events.iter().map(Vec::len).sum::<usize>() / events.len().max(1),
        baseline_us,
        profiles: ["compat", "strict"].into_iter().zip(rounds).map(report).collect(),
    })
}

/// Generated events, with frames left out until they are small enough.
fn events(options: &Options) -> Result<Vec<Vec<u8>>, ScrubError> {
    let recipe = Recipe {
        seed: options.seed,
        problems: NonZeroU32::MIN.saturating_add(299),
        gzip_level: GZIP_LEVEL_DEFAULT,
        newest: OffsetDateTime::now_utc(),
    };
    let generator = Generator::new(recipe)?;
    (0..EVENTS).map(|index| shortened(generator.event(index), options.event_bytes)).collect()
}

fn shortened(mut event: Value, most_bytes: usize) -> Result<Vec<u8>, ScrubError> {
    loop {
        let text = serde_json::to_vec(&event)?;
        if text.len() <= most_bytes {
            return Ok(text);
        }
        let longest = event["exception"]["values"]
            .as_array_mut()
            .and_then(|values| {
                values
                    .iter_mut()
                    .filter_map(|value| value["stacktrace"]["frames"].as_array_mut())
                    .max_by_key(|frames| frames.len())
            })
            .filter(|frames| frames.len() > 1);
        match longest {
            Some(frames) => frames.remove(0),
            None => return Ok(text),
        };
    }
}

fn parse_and_write(events: &[Vec<u8>], repeats: u32) -> Result<f64, ScrubError> {
    let started = Instant::now();
    for _ in 0..repeats {
        for event in events {
            let value: Value = serde_json::from_slice(black_box(event))?;
            black_box(serde_json::to_vec(&value)?);
        }
    }
    Ok(microseconds(started.elapsed(), events.len(), repeats))
}

fn take_through(events: &[Vec<u8>], repeats: u32, filters: &Filters, scrubber: &Scrubber) -> Result<Steps, ScrubError> {
    let context = EventContext {
        event_id: None,
        received_at: Timestamp::now(),
        sent_at: None,
        client_address: Some(std::net::IpAddr::from([192, 0, 2, 7])),
        ip_inference: IpInference::Forbidden,
        user_agent: Some("sentry.python.django/2.44.0"),
        client_hints: ClientHints::default(),
        client: Some("sentry.python.django/2.44.0"),
        retention_days: 90,
    };
    let mut taken = [Duration::ZERO; 5];
    for _ in 0..repeats {
        for event in events {
            let mut clock = StepClock::start(&mut taken);
            let mut document = Document::read(black_box(event), PythonFloats::Refuse)?;
            clock.step();
            normalise_event(&mut document, &context)?;
            clock.step();
            let sent =
                Sent { event: &document.value, client_address: context.client_address, user_agent: context.user_agent };
            black_box(filters.verdict(sent));
            clock.step();
            scrubber.scrub_event(&mut document);
            clock.step();
            let mut json = Vec::with_capacity(event.len() + event.len() / 4);
            document.write_json(&mut json);
            black_box(json);
            drop(document);
            clock.step();
        }
    }
    let [read, normalise, filter, scrub, write] = taken.map(|taken| microseconds(taken, events.len(), repeats));
    Ok(Steps { read, normalise, filter, scrub, write })
}

/// Adds the time since the step before to one sum after the other.
struct StepClock<'a> {
    sums: std::slice::IterMut<'a, Duration>,
    last: Instant,
}

impl<'a> StepClock<'a> {
    fn start(sums: &'a mut [Duration; 5]) -> Self {
        Self { sums: sums.iter_mut(), last: Instant::now() }
    }

    fn step(&mut self) {
        let now = Instant::now();
        if let Some(sum) = self.sums.next() {
            *sum += now - self.last;
        }
        self.last = now;
    }
}

fn microseconds(taken: Duration, events: usize, repeats: u32) -> f64 {
    taken.as_secs_f64() * 1e6 / (events as f64 * f64::from(repeats))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn median_steps(rounds: &[Steps]) -> Steps {
    let of = |step: fn(&Steps) -> f64| median(rounds.iter().map(step).collect());
    Steps {
        read: of(|steps| steps.read),
        normalise: of(|steps| steps.normalise),
        filter: of(|steps| steps.filter),
        scrub: of(|steps| steps.scrub),
        write: of(|steps| steps.write),
    }
}

impl fmt::Display for ScrubReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.debug_build {
            writeln!(formatter, "DEBUG BUILD: these figures compare with nothing")?;
        }
        writeln!(
            formatter,
            "events of {} bytes; µs an event on one processor, share of the whole",
            self.event_bytes_mean
        )?;
        writeln!(formatter, "serde_json::Value, parsed and written: {:.1} µs", self.baseline_us)?;
        writeln!(
            formatter,
            "\n{:<8} {:>13} {:>13} {:>13} {:>13} {:>13} {:>9} {:>16} {:>9}",
            "profile", "read", "normalise", "filter", "scrub", "write", "all", "normalise+scrub", "baseline"
        )?;
        for ProfileReport { profile, steps, total_us, normalise_and_scrub_us, ratio } in &self.profiles {
            let part = |us: f64| format!("{us:.1} ({:.0} %)", 100.0 * us / total_us);
            writeln!(
                formatter,
                "{profile:<8} {:>13} {:>13} {:>13} {:>13} {:>13} {total_us:>9.1} {normalise_and_scrub_us:>16.1} {ratio:>8.2}x",
                part(steps.read),
                part(steps.normalise),
                part(steps.filter),
                part(steps.scrub),
                part(steps.write),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_step_of_both_profiles_is_measured_on_events_of_the_wanted_size() {
        let report = run(Options { event_bytes: 12 * 1024, repeats: 1, rounds: 1, seed: 1 }).unwrap();
        assert!((8 * 1024..=12 * 1024).contains(&report.event_bytes_mean), "{}", report.event_bytes_mean);
        assert!(report.baseline_us > 0.0);
        let names: Vec<_> = report.profiles.iter().map(|profile| profile.profile).collect();
        assert_eq!(names, ["compat", "strict"]);
        for ProfileReport { steps, .. } in &report.profiles {
            assert!(steps.read > 0.0 && steps.normalise > 0.0 && steps.scrub > 0.0 && steps.write > 0.0, "{steps:?}");
        }
    }
}
