//! What a run found: counts of each kind of answer and the distribution of latencies.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hyper::StatusCode;
use serde::Serialize;

use crate::payload::Body;

use super::connection::Answer;

/// Longest latency that is told apart from longer ones, in microseconds: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;
/// Digits that a recorded latency is exact to; costs about 200 KB a histogram.
const LATENCY_DIGITS: u8 = 3;
/// How many refusals and failures are kept word for word.
const COMPLAINTS_MAX: usize = 5;
/// Characters kept of each.
const COMPLAINT_CHARS_MAX: usize = 300;

/// The outcome of a run, or of one worker of it.
#[derive(Debug)]
pub struct Report {
    /// When the clock started.
    pub started: Instant,
    /// From there to the last answer.
    pub elapsed: Duration,
    /// Requests answered with 200.
    pub accepted: u64,
    /// Requests answered otherwise.
    pub refused: u64,
    /// Requests without an answer: the server may or may not have taken them.
    pub unanswered: u64,
    /// Bodies that never left because time was up.
    pub unsent: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections opened after the first ones.
    pub reconnects: u64,
    /// The true problems of the accepted events.
    pub problems: HashSet<u32>,
    /// The first few refusals and failures.
    pub complaints: Vec<String>,
    /// Latency of every request that left, in microseconds; an unanswered one with the time it was waited for.
    pub latency_us: Histogram<u64>,
}

/// A report as numbers to print.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Requests answered with 200, a second.
    pub accepted_per_second: f64,
    /// Seconds from the start to the last answer.
    pub seconds: f64,
    /// See [`Report::accepted`].
    pub accepted: u64,
    /// See [`Report::refused`].
    pub refused: u64,
    /// See [`Report::unanswered`].
    pub unanswered: u64,
    /// See [`Report::unsent`].
    pub unsent: u64,
    /// See [`Report::reconnects`].
    pub reconnects: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// See [`Report::latency_us`].
    pub latency_ms: LatencySummary,
    /// See [`Report::complaints`].
    pub complaints: Vec<String>,
}

/// Points of a latency distribution, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LatencySummary {
    /// Median.
    pub p50: f64,
    /// One in ten takes longer.
    pub p90: f64,
    /// One in a hundred takes longer.
    pub p99: f64,
    /// One in a thousand takes longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

// === impl Report ===

impl Report {
    #[expect(clippy::expect_used, reason = "the bounds are constants that the histogram allows, see its documentation")]
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            elapsed: Duration::ZERO,
            accepted: 0,
            refused: 0,
            unanswered: 0,
            unsent: 0,
            statuses: BTreeMap::new(),
            reconnects: 0,
            problems: HashSet::new(),
            complaints: Vec::new(),
            latency_us: Histogram::new_with_max(LATENCY_US_MAX, LATENCY_DIGITS).expect("constant bounds are valid"),
        }
    }

    pub(super) fn record_answer(&mut self, answer: &Answer, body: &Body, latency: Duration) {
        self.record(latency);
        *self.statuses.entry(answer.status.as_u16()).or_default() += 1;
        if answer.status == StatusCode::OK {
            self.accepted += 1;
            self.problems.insert(body.problem);
            return;
        }
        self.refused += 1;
        self.complain(&format!("{}: {}", answer.status.as_u16(), String::from_utf8_lossy(&answer.body)));
    }

    pub(super) fn record_no_answer(&mut self, why: &str, latency: Duration) {
        self.record(latency);
        self.unanswered += 1;
        self.complain(why);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.reconnects += other.reconnects;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.problems.extend(other.problems);
        for complaint in other.complaints {
            self.complain(&complaint);
        }
        // Both have the same bounds, and recording saturates at them.
        let merged = self.latency_us.add(&other.latency_us);
        debug_assert!(merged.is_ok(), "histograms of one kind add up");
    }

    /// Counts what never left of `count` bodies.
    pub(super) fn close(&mut self, count: u64) {
        self.unsent = count.saturating_sub(self.accepted + self.refused + self.unanswered);
    }

    /// The report as numbers to print.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let seconds = self.elapsed.as_secs_f64();
        Summary {
            accepted_per_second: if seconds > 0.0 { self.accepted as f64 / seconds } else { 0.0 },
            seconds,
            accepted: self.accepted,
            refused: self.refused,
            unanswered: self.unanswered,
            unsent: self.unsent,
            reconnects: self.reconnects,
            statuses: self.statuses.clone(),
            latency_ms: LatencySummary::of(&self.latency_us),
            complaints: self.complaints.clone(),
        }
    }

    fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
        self.latency_us.saturating_record(micros.max(1));
        self.elapsed = self.started.elapsed();
    }

    fn complain(&mut self, complaint: &str) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint.chars().take(COMPLAINT_CHARS_MAX).collect());
        }
    }
}

// === impl LatencySummary ===

impl LatencySummary {
    fn of(latency_us: &Histogram<u64>) -> Self {
        let at = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: latency_us.max() as f64 / 1000.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(latencies_us: impl Iterator<Item = u64>) -> Report {
        let mut report = Report::new(Instant::now());
        for micros in latencies_us {
            report.record_no_answer("", Duration::from_micros(micros));
        }
        report
    }

    #[test]
    fn percentiles_are_those_of_the_values_recorded() {
        let latency = filled((1..=1000).map(|step| step * 100)).summary().latency_ms;
        let close = |value: f64, wanted: f64| (value - wanted).abs() / wanted < 0.002;
        assert!(close(latency.p50, 50.0) && close(latency.p90, 90.0), "{latency:?}");
        assert!(close(latency.p99, 99.0) && close(latency.p999, 99.9), "{latency:?}");
        assert!(close(latency.max, 100.0), "{latency:?}");
    }

    #[test]
    fn merged_parts_have_the_percentiles_of_the_whole() {
        let mut merged = filled((1..=500).map(|step| step * 100));
        merged.merge(filled((501..=1000).map(|step| step * 100)));
        let whole = filled((1..=1000).map(|step| step * 100));
        assert_eq!(merged.latency_us, whole.latency_us);
        assert_eq!(merged.unanswered, 1000);
    }

    #[test]
    fn latencies_beyond_the_bounds_are_kept_at_the_bounds() {
        let latency = filled([0, u64::MAX / 1000].into_iter()).summary().latency_ms;
        assert!(latency.max >= 600_000.0, "{latency:?}");
    }

    #[test]
    fn only_the_first_complaints_are_kept_and_shortened() {
        let mut report = Report::new(Instant::now());
        for _ in 0..100 {
            report.record_no_answer(&"x".repeat(10_000), Duration::ZERO);
        }
        assert_eq!(report.complaints.len(), COMPLAINTS_MAX);
        assert!(report.complaints.iter().all(|complaint| complaint.len() == COMPLAINT_CHARS_MAX));
    }
}
