//! The result of a comparison: as JSON for programs, as a table for people.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::installation::Shown;
use crate::load::{Report as LoadReport, Summary};
use crate::machine::Machine;

use super::{Alongside, ProcessUse, Soak, Used};

/// See the module documentation.
#[derive(Debug, Serialize)]
pub struct AcceptReport {
    /// Where it was measured.
    pub machine: Machine,
    /// A build without optimisation took part: the figures compare with nothing.
    pub debug_build: bool,
    /// Connections of every run.
    pub connections: usize,
    /// What the aggregator did meanwhile.
    pub alongside: Alongside,
    /// The bodies that were sent.
    pub payload: Payload,
    /// Rounds with the pace set by the server.
    pub closed: Vec<Comparison>,
    /// Rounds with the pace set by the clock.
    pub open: Vec<Comparison>,
    /// The relay under load for minutes, if that was asked for.
    pub soak: Option<Soak>,
    /// Memory, processor time, wire and disk.
    pub resources: Used,
    /// Whether everything that was accepted was counted once.
    pub truth: Truth,
    /// What went wrong while the programs were ended.
    pub stop_complaints: Vec<String>,
}

/// Mean sizes of the bodies of the last run, in bytes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Payload {
    /// Before compression.
    pub raw_bytes_mean: u64,
    /// As sent.
    pub gzip_bytes_mean: u64,
}

/// The same bodies against both servers.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Bare hyper.
    pub floor: Summary,
    /// The relay.
    pub relay: RelayRun,
}

/// A run against the relay.
#[derive(Debug, Serialize)]
pub struct RelayRun {
    /// What the client saw.
    pub load: Summary,
    /// Seconds from the first byte until the aggregator showed every accepted event; none if it did not in time.
    pub visible_after_seconds: Option<f64>,
    /// Accepted events divided by that time.
    pub end_to_end_per_second: Option<f64>,
}

/// What was sent and what became of it, warm-up included.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Truth {
    /// Events answered with 200.
    pub accepted: u64,
    /// Requests without an answer; their events may or may not be shown.
    pub unanswered: u64,
    /// True problems among the accepted events.
    #[serde(serialize_with = "as_count")]
    pub problems: HashSet<u32>,
    /// Events that the aggregator shows at the end.
    pub visible: u64,
    /// Issues that it made of them.
    pub issues: u64,
}

// === impl RelayRun ===

impl RelayRun {
    pub(super) fn new(load: Summary, visible_after: Option<Duration>) -> Self {
        let seconds = visible_after.map(|duration| duration.as_secs_f64());
        Self {
            visible_after_seconds: seconds,
            end_to_end_per_second: seconds.map(|seconds| load.accepted as f64 / seconds),
            load,
        }
    }
}

// === impl Truth ===

impl Truth {
    pub(super) fn sent(&mut self, run: &LoadReport) {
        self.accepted += run.accepted;
        self.unanswered += run.unanswered;
        self.problems.extend(&run.problems);
    }

    pub(super) fn shown(&mut self, shown: Shown) {
        self.visible = shown.events;
        self.issues = shown.issues;
    }

    /// Accepted events that are not shown. Unanswered ones may hide as many, see [`Truth::unanswered`].
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.accepted.saturating_sub(self.visible)
    }

    /// Shown events beyond all that can have been taken.
    #[must_use]
    pub fn doubled(&self) -> u64 {
        self.visible.saturating_sub(self.accepted + self.unanswered)
    }
}

fn as_count<S: Serializer>(problems: &HashSet<u32>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(problems.len() as u64)
}

/// Median, smallest and largest of a figure over the rounds.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

// === impl Spread ===

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] };
        Some(Self { median, least, most })
    }

    fn text(values: impl Iterator<Item = f64>, digits: usize) -> String {
        match Self::of(values) {
            None => "n/a".to_owned(),
            Some(Self { median, least, most }) => {
                format!("{median:.digits$} [{least:.digits$}–{most:.digits$}]")
            }
        }
    }
}

// === impl AcceptReport ===

impl fmt::Display for AcceptReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.machine)?;
        if self.debug_build {
            writeln!(formatter, "DEBUG BUILD: these figures compare with nothing")?;
        }
        let Payload { raw_bytes_mean, gzip_bytes_mean } = self.payload;
        writeln!(
            formatter,
            "events of {raw_bytes_mean} bytes, {gzip_bytes_mean} as gzip; {} connections; median [least–most] of {} rounds",
            self.connections,
            self.closed.len(),
        )?;
        if self.alongside == Alongside::Paused {
            writeln!(formatter, "the aggregator was stopped while requests were sent")?;
        }
        write_comparisons(formatter, "closed loop", &self.closed)?;
        write_comparisons(formatter, "open loop", &self.open)?;
        if let Some(soak) = &self.soak {
            write!(formatter, "{soak}")?;
        }
        self.write_resources(formatter)?;
        self.write_truth(formatter)
    }
}

impl AcceptReport {
    fn write_resources(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "\n{:<12} {:>22} {:>22} {:>14}",
            "process", "idle RSS (PSS) MB", "peak RSS (PSS) MB", "CPU ms/event"
        )?;
        let used = &self.resources;
        for (name, process) in [("floor", &used.floor), ("relay", &used.relay), ("aggregator", &used.aggregator)] {
            write_process(formatter, name, process)?;
        }
        let wire = used.wire_bytes_per_event.map_or_else(|| "n/a".to_owned(), |bytes| format!("{bytes:.0}"));
        writeln!(
            formatter,
            "\nbytes an event: {} raw, {} gzip from the SDK, {wire} from relay to aggregator, {:.0} on the aggregator's disk",
            self.payload.raw_bytes_mean, self.payload.gzip_bytes_mean, used.aggregator_disk_bytes_per_event,
        )?;
        let entries: Vec<String> =
            used.aggregator_disk_by_entry.iter().map(|(name, bytes)| format!("{name} {bytes:.0}")).collect();
        writeln!(formatter, "  of which by directory: {}", entries.join(", "))?;
        writeln!(formatter, "  the relay's directory grew by {} bytes in all", used.relay_disk_growth_bytes)
    }

    fn write_truth(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let truth = &self.truth;
        writeln!(
            formatter,
            "\ncounted: {} accepted, {} visible, {} lost, {} doubled, {} unanswered; {} issues for {} true problems",
            truth.accepted,
            truth.visible,
            truth.lost(),
            truth.doubled(),
            truth.unanswered,
            truth.issues,
            truth.problems.len(),
        )?;
        for complaint in &self.stop_complaints {
            writeln!(formatter, "while stopping: {complaint}")?;
        }
        Ok(())
    }
}

fn write_comparisons(formatter: &mut fmt::Formatter<'_>, title: &str, rounds: &[Comparison]) -> fmt::Result {
    if rounds.is_empty() {
        return Ok(());
    }
    writeln!(formatter, "\n{title:<16} {:>22} {:>22} {:>20}", "floor", "relay", "relay/floor")?;
    type Figure = (&'static str, usize, fn(&Summary) -> f64);
    const FIGURES: [Figure; 5] = [
        ("accepted/s", 0, |run| run.accepted_per_second),
        ("p50 ms", 2, |run| run.latency_ms.p50),
        ("p90 ms", 2, |run| run.latency_ms.p90),
        ("p99 ms", 2, |run| run.latency_ms.p99),
        ("p99.9 ms", 2, |run| run.latency_ms.p999),
    ];
    for (name, digits, figure) in FIGURES {
        let floor = Spread::text(rounds.iter().map(|round| figure(&round.floor)), digits);
        let relay = Spread::text(rounds.iter().map(|round| figure(&round.relay.load)), digits);
        let ratio = rounds.iter().map(|round| figure(&round.relay.load) / figure(&round.floor));
        writeln!(formatter, "{name:<16} {floor:>22} {relay:>22} {:>20}", Spread::text(ratio, 2))?;
    }
    let end_to_end = rounds.iter().filter_map(|round| round.relay.end_to_end_per_second);
    writeln!(formatter, "{:<16} {:>22} {:>22}", "end to end/s", "", Spread::text(end_to_end, 0))?;
    write_failures(formatter, rounds)
}

/// Names what was not accepted; nothing when all was.
fn write_failures(formatter: &mut fmt::Formatter<'_>, rounds: &[Comparison]) -> fmt::Result {
    let floor: Vec<&Summary> = rounds.iter().map(|round| &round.floor).collect();
    let relay: Vec<&Summary> = rounds.iter().map(|round| &round.relay.load).collect();
    for (name, runs) in [("floor", floor), ("relay", relay)] {
        let sum = |field: fn(&Summary) -> u64| runs.iter().map(|run| field(run)).sum::<u64>();
        let (refused, unanswered, unsent) = (sum(|run| run.refused), sum(|run| run.unanswered), sum(|run| run.unsent));
        if refused + unanswered + unsent == 0 {
            continue;
        }
        writeln!(formatter, "{name}: {refused} refused, {unanswered} unanswered, {unsent} never sent")?;
        for complaint in runs.iter().flat_map(|run| &run.complaints).take(3) {
            writeln!(formatter, "  {complaint}")?;
        }
    }
    Ok(())
}

fn write_process(formatter: &mut fmt::Formatter<'_>, name: &str, process: &ProcessUse) -> fmt::Result {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let pair = |rss, pss| format!("{:.0} ({:.0})", megabytes(rss), megabytes(pss));
    writeln!(
        formatter,
        "{name:<12} {:>22} {:>22} {:>14.3}",
        pair(process.idle.rss, process.idle.pss),
        pair(process.rss_peak, process.pss_peak),
        process.cpu_ms_per_event,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_spread_has_the_middle_and_both_ends() {
        assert_eq!(Spread::text([3.0, 1.0, 2.0].into_iter(), 0), "2 [1–3]");
        assert_eq!(Spread::text([4.0, 1.0].into_iter(), 1), "2.5 [1.0–4.0]");
        assert_eq!(Spread::text(std::iter::empty(), 0), "n/a");
    }

    #[test]
    fn an_unanswered_event_that_is_shown_is_neither_lost_nor_doubled() {
        let truth = Truth { accepted: 10, unanswered: 1, visible: 11, ..Truth::default() };
        assert_eq!((truth.lost(), truth.doubled()), (0, 0));
        let truth = Truth { accepted: 10, visible: 12, ..Truth::default() };
        assert_eq!((truth.lost(), truth.doubled()), (0, 2));
        let truth = Truth { accepted: 10, visible: 7, ..Truth::default() };
        assert_eq!((truth.lost(), truth.doubled()), (3, 0));
    }
}
