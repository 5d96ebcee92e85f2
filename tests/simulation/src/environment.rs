//! What everything in a run shares: virtual time, chance, and the trace.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_common::timestamp::Timestamp;

use crate::random::Random;

/// Milliseconds of virtual time since the beginning of the run.
pub type Millis = u64;

/// When a run begins, by the wall clock: 22 November 2026.
const BEGINNING: u64 = 1_795_305_600_000;
/// Lines of the trace that are kept.
const TRACE_LINES: usize = 400;

/// Whether a run keeps a trace. Seeds run without one; a seed that fails is run once more with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// Keep none.
    Off,
    /// Keep the last lines.
    On,
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Environment {
    trace: Trace,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    now: Millis,
    random: Random,
    lines: VecDeque<String>,
}

// === impl Environment ===

impl Environment {
    /// Time zero of a seed.
    #[must_use]
    pub fn new(seed: u64, trace: Trace) -> Self {
        let inner = Inner { now: 0, random: Random::new(seed), lines: VecDeque::new() };
        Self { trace, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.lock().now
    }

    /// The time of day.
    #[must_use]
    pub fn time_of_day(&self) -> Timestamp {
        Timestamp::from_millis(BEGINNING + self.now())
    }

    /// Time goes on; never back.
    pub fn go_to(&self, now: Millis) {
        let mut inner = self.lock();
        inner.now = inner.now.max(now);
    }

    /// A number of `least..=most`.
    #[must_use]
    pub fn between(&self, least: u64, most: u64) -> u64 {
        self.lock().random.between(least, most)
    }

    /// True in so many of a thousand cases.
    #[must_use]
    pub fn chance(&self, permille: u64) -> bool {
        self.lock().random.chance(permille)
    }

    /// Any number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.lock().random.number()
    }

    /// Sixteen bytes, for ids.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        self.lock().random.bytes()
    }

    /// Adds a line to the trace, if there is one.
    pub fn note(&self, line: impl FnOnce() -> String) {
        if self.trace == Trace::Off {
            return;
        }
        let line = line();
        let mut inner = self.lock();
        let line = format!("{:>9} ms  {line}", inner.now);
        if inner.lines.len() == TRACE_LINES {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
    }

    /// The trace.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
