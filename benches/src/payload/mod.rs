//! Request bodies like those of an SDK: an envelope with one event, about 20 to 25 KB of JSON, compressed with gzip.
//!
//! ```text
//! {"event_id":"…","sent_at":"…","trace":{…}}\n      envelope header
//! {"type":"event","length":N}\n                     item header
//! {…N bytes of JSON…}\n                             the event
//! ```
//!
//! # Invariants
//! - Body `i` of a recipe depends on the recipe and on `i` alone, not on the number of threads or on other bodies.
//! - No two bodies of a recipe share an event id.
//! - Bodies are made before a run, not in it: a compressed body cannot be patched, and making one costs more processor
//!   time than a good server spends on taking it. The memory this needs is bounded by [`POOL_BYTES_MAX`].

mod event;
mod problem;
mod vocabulary;

use std::collections::HashSet;
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::ops::Range;
use std::thread;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::random::SplitMix64;
use crate::zipf::Zipf;
use event::Surroundings;
use problem::Problem;

/// Compressed bytes that one pool may hold: about 170 000 bodies.
pub const POOL_BYTES_MAX: u64 = 1 << 30;
/// What a body is reckoned to take before it is made. Measured: 5.5 to 6.5 KB at levels 6 and 9.
const BODY_BYTES_EXPECTED: u64 = 6_300;
/// Problems a recipe may have. Each is kept in memory, about 25 KB.
pub const PROBLEMS_MAX: u32 = 10_000;
/// sentry-python's own default level for gzip.
pub const GZIP_LEVEL_DEFAULT: u32 = 9;

/// What the bodies are made from.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Everything random follows from this number.
    pub seed: u64,
    /// True problems that events are drawn from, by Zipf's law. At most [`PROBLEMS_MAX`].
    pub problems: NonZeroU32,
    /// Compression level of gzip, 0 to 9.
    pub gzip_level: u32,
    /// When the newest event happened; the others lie up to a minute before.
    pub newest: OffsetDateTime,
}

/// One request body and what is known about it.
#[derive(Debug, Clone)]
pub struct Body {
    /// 32 hexadecimal digits.
    pub event_id: String,
    /// The true problem behind the event.
    pub problem: u32,
    /// Size of the envelope before compression, in bytes.
    pub raw_bytes: u32,
    /// The compressed envelope.
    pub gzip: Bytes,
}

/// Why bodies could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// More bodies were asked for than memory is set aside for.
    #[error(
        "{count} bodies would take about {needed} bytes of memory, more than the {POOL_BYTES_MAX} set aside; lower --count, or --rate and --duration"
    )]
    TooMany {
        /// Bodies asked for.
        count: u64,
        /// Bytes they would take.
        needed: u64,
    },
    /// More problems were asked for than memory is set aside for.
    #[error("{0} problems are more than the {PROBLEMS_MAX} that are kept in memory; lower --problems")]
    TooManyProblems(u32),
    /// The event could not be written.
    #[error("cannot serialise or compress a generated event: {0}")]
    Write(#[from] io::Error),
    /// A generating thread ended early.
    #[error("a thread that makes bodies panicked; this is a bug in picket-bench")]
    Panicked,
}

/// Makes bodies from a recipe.
pub struct Generator {
    recipe: Recipe,
    problems: Vec<Problem>,
    zipf: Zipf,
    surroundings: Surroundings,
}

/// Bodies for one run, in sending order.
#[derive(Debug, Default)]
pub struct Pool {
    /// Each is to be sent once at most.
    pub bodies: Vec<Body>,
}

// === impl Generator ===

impl Generator {
    /// A generator for `recipe`; makes the problems at once.
    ///
    /// # Errors
    /// [`PayloadError::TooManyProblems`].
    pub fn new(recipe: Recipe) -> Result<Self, PayloadError> {
        if recipe.problems.get() > PROBLEMS_MAX {
            return Err(PayloadError::TooManyProblems(recipe.problems.get()));
        }
        Ok(Self {
            recipe,
            problems: (0..recipe.problems.get()).map(|index| Problem::new(recipe.seed, index)).collect(),
            zipf: Zipf::new(recipe.problems),
            // The complement keeps this stream apart from those of the events.
            surroundings: Surroundings::new(&mut SplitMix64::new(!recipe.seed)),
        })
    }

    /// Body number `index`.
    ///
    /// # Errors
    /// [`PayloadError::Write`].
    pub fn body(&self, index: u64) -> Result<Body, PayloadError> {
        let (event_id, problem, event) = self.draw(index);
        let payload = serde_json::to_vec(&event).map_err(io::Error::from)?;
        let headers = json!({
            "event_id": event_id,
            "sent_at": event::timestamp(self.recipe.newest),
            "trace": {"trace_id": event["contexts"]["trace"]["trace_id"], "environment": event["environment"]},
        });
        let item = json!({"type": "event", "length": payload.len(), "content_type": "application/json"});
        let mut envelope = Vec::with_capacity(payload.len() + 400);
        writeln!(envelope, "{headers}\n{item}")?;
        envelope.extend_from_slice(&payload);
        envelope.push(b'\n');

        let mut encoder = GzEncoder::new(Vec::with_capacity(8 * 1024), Compression::new(self.recipe.gzip_level.min(9)));
        encoder.write_all(&envelope)?;
        let gzip = encoder.finish()?;
        Ok(Body { event_id, problem, raw_bytes: envelope.len() as u32, gzip: Bytes::from(gzip) })
    }

    /// The event of body number `index`.
    #[must_use]
    pub fn event(&self, index: u64) -> serde_json::Value {
        self.draw(index).2
    }

    /// Id, true problem and content of event number `index`.
    fn draw(&self, index: u64) -> (String, u32, serde_json::Value) {
        let mut random = SplitMix64::stream(self.recipe.seed, index);
        let problem = self.zipf.sample(&mut random);
        let event_id = event_id(&mut random);
        let at = self.recipe.newest - Duration::milliseconds(random.within(0..=60_000) as i64);
        let event = self.surroundings.event(&self.problems[problem as usize], &event_id, at, &mut random);
        (event_id, problem, event)
    }

    /// Bodies `range`, made on all processors. Blocks until they are there: about a millisecond of one processor each.
    ///
    /// # Errors
    /// [`PayloadError::TooMany`] before any work; otherwise as [`Generator::body`].
    pub fn pool(&self, range: Range<u64>) -> Result<Pool, PayloadError> {
        let count = range.end.saturating_sub(range.start);
        let needed = count.saturating_mul(BODY_BYTES_EXPECTED);
        if needed > POOL_BYTES_MAX {
            return Err(PayloadError::TooMany { count, needed });
        }
        let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
        let share = count.div_ceil(threads).max(1);
        thread::scope(|scope| {
            let parts: Vec<_> = (0..threads)
                .map(|part| {
                    let from = (range.start + part * share).min(range.end);
                    let to = (from + share).min(range.end);
                    scope.spawn(move || (from..to).map(|index| self.body(index)).collect::<Result<Vec<_>, _>>())
                })
                .collect();
            let mut bodies = Vec::with_capacity(count as usize);
            for part in parts {
                bodies.append(&mut part.join().map_err(|_| PayloadError::Panicked)??);
            }
            Ok(Pool { bodies })
        })
    }
}

// === impl Pool ===

impl Pool {
    /// Mean size of an envelope before compression, in bytes; 0 for an empty pool.
    #[must_use]
    pub fn mean_raw_bytes(&self) -> u64 {
        let sum: u64 = self.bodies.iter().map(|body| u64::from(body.raw_bytes)).sum();
        sum.checked_div(self.bodies.len() as u64).unwrap_or(0)
    }

    /// Mean size of a compressed envelope, in bytes; 0 for an empty pool.
    #[must_use]
    pub fn mean_gzip_bytes(&self) -> u64 {
        let sum: u64 = self.bodies.iter().map(|body| body.gzip.len() as u64).sum();
        sum.checked_div(self.bodies.len() as u64).unwrap_or(0)
    }

    /// The true problems that the pool has at least one event of.
    #[must_use]
    pub fn problems(&self) -> HashSet<u32> {
        self.bodies.iter().map(|body| body.problem).collect()
    }
}

/// A random identifier in the form of a version 4 UUID.
fn event_id(random: &mut SplitMix64) -> String {
    let mut digits = random.hex(32);
    digits.replace_range(12..13, "4");
    digits.replace_range(16..17, random.pick(&["8", "9", "a", "b"]));
    digits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use serde_json::Value;
    use time::macros::datetime;

    use super::*;

    fn generator(seed: u64) -> Generator {
        Generator::new(Recipe {
            seed,
            problems: NonZeroU32::new(300).unwrap(),
            gzip_level: 6,
            newest: datetime!(2026-11-22 12:00:00 UTC),
        })
        .unwrap()
    }

    fn inflate(body: &Body) -> Vec<u8> {
        let mut raw = Vec::new();
        GzDecoder::new(&body.gzip[..]).read_to_end(&mut raw).unwrap();
        raw
    }

    #[test]
    fn bodies_are_as_large_as_those_of_an_sdk() {
        let pool = generator(1).pool(0..400).unwrap();
        let mean = pool.mean_raw_bytes();
        assert!((20_000..=25_500).contains(&mean), "mean raw size is {mean}");
        let smallest = pool.bodies.iter().map(|body| body.raw_bytes).min().unwrap();
        let largest = pool.bodies.iter().map(|body| body.raw_bytes).max().unwrap();
        assert!(smallest > 14_000 && largest < 38_000, "sizes run from {smallest} to {largest}");
        let gzip = pool.mean_gzip_bytes();
        assert!((5_000..=6_500).contains(&gzip), "mean compressed size is {gzip}");
    }

    #[test]
    fn the_same_recipe_gives_the_same_bytes_in_any_order() {
        let pool = generator(5).pool(0..40).unwrap();
        let single = generator(5).body(37).unwrap();
        assert_eq!(pool.bodies[37].gzip, single.gzip);
        assert_ne!(generator(6).body(37).unwrap().gzip, single.gzip);
    }

    #[test]
    fn no_event_id_comes_twice() {
        let pool = generator(1).pool(0..500).unwrap();
        let later = generator(1).pool(500..1000).unwrap();
        let ids: HashSet<&String> = pool.bodies.iter().chain(&later.bodies).map(|body| &body.event_id).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.chars().all(|digit| digit.is_ascii_hexdigit())));
    }

    #[test]
    fn a_body_is_an_envelope_with_one_event_of_the_stated_length() {
        let body = generator(1).body(3).unwrap();
        let raw = inflate(&body);
        assert_eq!(raw.len(), body.raw_bytes as usize);
        let mut lines = raw.splitn(3, |&byte| byte == b'\n');
        let header: Value = serde_json::from_slice(lines.next().unwrap()).unwrap();
        let item: Value = serde_json::from_slice(lines.next().unwrap()).unwrap();
        let rest = lines.next().unwrap();
        assert_eq!(header["event_id"], body.event_id.as_str());
        assert_eq!(item["type"], "event");
        assert_eq!(item["length"], rest.len() - 1);
        let event: Value = serde_json::from_slice(&rest[..rest.len() - 1]).unwrap();
        assert_eq!(event["event_id"], body.event_id.as_str());
        for part in ["exception", "breadcrumbs", "request", "user", "contexts", "tags", "modules", "sdk"] {
            assert!(!event[part].is_null(), "{part} is missing");
        }
    }

    #[test]
    fn more_bodies_than_memory_is_set_aside_for_are_refused_before_any_work() {
        let error = generator(1).pool(0..10_000_000).unwrap_err();
        assert!(error.to_string().contains("lower --count"), "{error}");
    }
}
