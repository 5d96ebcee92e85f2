//! The result: as JSON for programs, as lines for people.

use std::fmt;

use serde::Serialize;

use crate::machine::Machine;

/// Wire bytes an event, beside gzip's, that is asked for.
const WIRE_BOUND: f64 = 0.4;
/// How much faster than accepting a backlog should drain.
const DRAIN_AIM: f64 = 3.0;
/// Accepted a second with fsync, beside without, that is aimed at.
const FSYNC_AIM: f64 = 0.9;

/// See the module documentation.
#[derive(Debug, Serialize)]
pub struct LinkReport {
    /// Where it was measured.
    pub machine: Machine,
    /// A build without optimisation took part: the figures compare with nothing.
    pub debug_build: bool,
    /// Connections that filled the backlogs.
    pub connections: usize,
    /// One for each round.
    pub drains: Vec<DrainRun>,
    /// One for each depth.
    pub depths: Vec<DepthRun>,
    /// With and without fsync, if that was asked for.
    pub fsync: Option<FsyncReport>,
}

/// A backlog, accepted and then drained.
#[derive(Debug, Serialize)]
pub struct DrainRun {
    /// How many.
    pub events: u64,
    /// While the aggregator was away: the baseline.
    pub accepted_per_second: f64,
    /// Once it was back, until the relay's spool was empty.
    pub drained_per_second: f64,
    /// The relay's resident bytes with the whole backlog.
    pub relay_rss_before: u64,
    /// The most that was seen while it drained.
    pub relay_rss_peak: u64,
    /// Processors that relay and aggregator kept busy meanwhile.
    pub processors_busy: f64,
    /// What it took on the wire.
    pub wire: Wire,
}

/// Bytes for an event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Wire {
    /// Events in a batch, on average.
    pub events_per_batch: f64,
    /// Compressed payload of batches, for each event.
    pub bytes_per_event: f64,
    /// The SDK's gzip of the same events, one by one: the baseline.
    pub gzip_bytes_per_event: f64,
}

/// Accepting and draining with so many events in the spool.
#[derive(Debug, Serialize)]
pub struct DepthRun {
    /// Events spooled before.
    pub depth: u64,
    /// Accepted a second.
    pub accepted_per_second: Spread,
    /// Median latency.
    pub p50_ms: Spread,
    /// One in a hundred takes longer.
    pub p99_ms: Spread,
    /// Drained a second, in each fifth of the backlog.
    pub drained_per_second: Spread,
    /// The relay's resident bytes, full.
    pub relay_rss: u64,
}

/// What the fsync before the 200 costs.
#[derive(Debug, Serialize)]
pub struct FsyncReport {
    /// Connections of either run.
    pub connections: usize,
    /// Accepted a second, with it.
    pub with: Spread,
    /// Without it: the baseline.
    pub without: Spread,
}

/// A median and how far the runs lie apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub least: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        match (values.first(), values.get(values.len() / 2), values.last()) {
            (Some(&least), Some(&median), Some(&most)) => Self { least, median, most },
            _ => Self::default(),
        }
    }
}

impl Wire {
    fn ratio(&self) -> f64 {
        self.bytes_per_event / self.gzip_bytes_per_event
    }
}

impl DrainRun {
    fn ratio(&self) -> f64 {
        self.drained_per_second / self.accepted_per_second
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 100.0 { 2 } else { 0 };
        write!(f, "{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most)
    }
}

impl fmt::Display for LinkReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        writeln!(f, "{}", self.machine)?;
        if self.debug_build {
            writeln!(f, "DEBUG BUILD: these figures compare with nothing")?;
        }
        for run in &self.drains {
            let busy = run.processors_busy;
            writeln!(
                f,
                "drain: {} events accepted at {:.0}/s ({} connections), drained at {:.0}/s: ratio {:.2} (aim {DRAIN_AIM}); \
                 {busy:.1} processors busy; relay {:.0} MB full, {:.0} MB at most while draining",
                run.events,
                run.accepted_per_second,
                self.connections,
                run.drained_per_second,
                run.ratio(),
                megabytes(run.relay_rss_before),
                megabytes(run.relay_rss_peak),
            )?;
            writeln!(
                f,
                "wire:  {:.0} bytes an event in batches of {:.0}, gzip by itself {:.0}: ratio {:.2} (bound {WIRE_BOUND})",
                run.wire.bytes_per_event,
                run.wire.events_per_batch,
                run.wire.gzip_bytes_per_event,
                run.wire.ratio(),
            )?;
        }
        for run in &self.depths {
            writeln!(
                f,
                "depth {}: accepted {}/s, p50 {} ms, p99 {} ms; drained {}/s; relay {:.0} MB",
                run.depth,
                run.accepted_per_second,
                run.p50_ms,
                run.p99_ms,
                run.drained_per_second,
                megabytes(run.relay_rss),
            )?;
        }
        if let Some(fsync) = &self.fsync {
            writeln!(
                f,
                "fsync: {}/s with, {}/s without, {} connections: ratio {:.2} (aim {FSYNC_AIM})",
                fsync.with,
                fsync.without,
                fsync.connections,
                fsync.with.median / fsync.without.median,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_between_the_extremes() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { least: 1.0, median: 2.0, most: 3.0 });
        assert_eq!(Spread::of([]), Spread::default());
        assert_eq!(Spread::of([1.0, 2.0, 300.0]).to_string(), "2.00 (1.00 to 300.00)");
    }
}
