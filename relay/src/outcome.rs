//! Outcomes of items that end on the relay: counted in the spool, shown as a metric.
//!
//! ```text
//! refused request          ─ refused ─▸ spool's ledger ─ settle (fsync) ─▸ answer
//! request with a record    ─ counts ──▸ the record's own write (fsync) ──▸ answer
//! request with none left   ─ counts ──▸ spool's ledger ─ settle (fsync) ─▸ answer
//! ```
//!
//! Invariants:
//! - what an answered request of a project held is counted on disk before the answer goes out. A request that names no project
//!   of ours is counted too, but not waited for: `kill -9` can lose the last [`SEAL_INTERVAL`] of these;
//! - a count reaches the aggregator exactly once, in a record of the spool (`spool::counts`);
//! - the number of metric series is bounded by [`MAX_SERIES`]; what clients report, be it SDKs or other relays, has one series for all their reasons.
//!
//! What is not counted here: items that went into the spool. The aggregator counts those.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use picket_common::category::DataCategory;
use picket_common::ids::ProjectId;
use picket_common::normalise::TOLD_BY_CLIENT;
use picket_common::outcome::{Outcome, OutcomeCount, OutcomeKey, Reason};
use picket_common::timestamp::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::dropped::Dropped;
use crate::refusal::Refusal;
use crate::spool::Spool;
use crate::tally::Tally;

/// Most metric series: about 2 MB.
pub const MAX_SERIES: usize = 10_000;
/// How often what was counted is put into a batch.
pub const SEAL_INTERVAL: Duration = Duration::from_secs(1);
/// With more batches than this waiting, nobody reads the counts soon: they are sealed every [`BACKLOG_TICKS`] only, so that days
/// without an aggregator add few small batches.
const BACKLOG_BATCHES: u64 = 100;
/// In a backlog, counts are sealed once in so many [`SEAL_INTERVAL`]s.
const BACKLOG_TICKS: u32 = 60;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    project: String,
    category: &'static str,
    outcome: &'static str,
    reason: String,
}

impl From<&OutcomeKey> for Labels {
    fn from(key: &OutcomeKey) -> Self {
        let reason = match (key.outcome, &*key.reason) {
            (Outcome::ClientDiscard, _) => "",
            (_, told) if told.starts_with(TOLD_BY_CLIENT) => TOLD_BY_CLIENT.trim_end_matches(':'),
            (_, reason) => reason,
        };
        Self {
            project: key.project_id.map_or_else(String::new, |id| id.to_string()),
            category: key.category.as_str(),
            outcome: key.outcome.as_str(),
            reason: reason.to_owned(),
        }
    }
}

/// The counter. Clones share it.
#[derive(Debug, Clone)]
pub struct Outcomes {
    spool: Spool,
    clock: fn() -> Timestamp,
    metric: Family<Labels, Counter>,
    series: Arc<AtomicUsize>,
}

// === impl Outcomes ===

impl Outcomes {
    /// A counter that counts into `spool`.
    #[must_use]
    pub fn new(spool: Spool, clock: fn() -> Timestamp) -> Self {
        Self { spool, clock, metric: Family::default(), series: Arc::default() }
    }

    /// Shows it in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "outcomes",
            "Items that ended on this relay, by project, category, outcome and reason; attachments count bytes",
            self.metric.clone(),
        );
    }

    /// Counts `quantity` of a category as ended; durable after [`Self::settle`].
    pub fn record(
        &self,
        project_id: Option<ProjectId>,
        category: DataCategory,
        outcome: Outcome,
        reason: Reason,
        quantity: u64,
    ) {
        let hour = (self.clock)().start_of_hour();
        let key = OutcomeKey { hour, project_id, category, outcome, reason };
        self.count(vec![OutcomeCount { key, quantity }]);
    }

    /// Counts everything in a refused request; durable after [`Self::settle`].
    pub fn refused(&self, project_id: Option<ProjectId>, tally: &Tally, refusal: &Refusal) {
        let (outcome, reason) = refusal.outcome();
        let mut refused = Dropped::default();
        refused.add(outcome, reason, tally.clone());
        self.count(self.counts_of(project_id, &refused));
    }

    /// What was dropped of a request of a project, as it is counted now.
    #[must_use]
    pub fn counts_of(&self, project_id: Option<ProjectId>, dropped: &Dropped) -> Vec<OutcomeCount> {
        let hour = (self.clock)().start_of_hour();
        let mut counts = Vec::new();
        for (outcome, reason, tally) in dropped.iter() {
            let key = |category| OutcomeKey { hour, project_id, category, outcome, reason: reason.clone() };
            let count = |(category, quantity)| OutcomeCount { key: key(category), quantity };
            counts.extend(tally.iter().filter(|(_, quantity)| *quantity > 0).map(count));
        }
        counts
    }

    /// Counts; durable after [`Self::settle`].
    pub fn count(&self, counts: Vec<OutcomeCount>) {
        if counts.is_empty() {
            return;
        }
        self.show(&counts);
        self.spool.count(counts);
    }

    /// Shows counts in the metric that were stored with a record.
    pub fn show(&self, counts: &[OutcomeCount]) {
        for OutcomeCount { key, quantity } in counts {
            let mut labels = Labels::from(key);
            let is_new = self.metric.get(&labels).is_none();
            if is_new && self.series.fetch_add(1, Ordering::Relaxed) >= MAX_SERIES {
                labels = Labels { project: String::new(), reason: "other".to_owned(), ..labels };
            }
            self.metric.get_or_create(&labels).inc_by(*quantity);
        }
    }

    /// Waits until everything that was counted before is on disk. A spool that has failed or is closing is not waited for: the
    /// relay is about to end, and what it refuses meanwhile is in no count.
    pub async fn settle(&self) {
        if let Err(failure) = self.spool.settle().await {
            debug!(%failure, "outcomes could not be written");
        }
    }
}

/// Puts what was counted into batches until `stop`. What is not in one then is on disk and will be after the next start.
pub async fn run(spool: Spool, clock: fn() -> Timestamp, stop: CancellationToken) {
    let mut ticks = interval(SEAL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut since_sealed = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        since_sealed += 1;
        if spool.usage().batches > BACKLOG_BATCHES && since_sealed < BACKLOG_TICKS {
            continue;
        }
        since_sealed = 0;
        if let Err(failure) = spool.seal_counts(clock()).await {
            warn!(%failure, "outcomes stay on this relay");
            // Whatever it was, it is final; the relay learns of it from the spool.
            stop.cancelled().await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spool::{Committer, ReadLimit, SpoolConfig};
    use picket_common::envelope::{Item, ItemType};
    use picket_common::ids::Sequence;
    use picket_common::record::{RecordKind, RecordReader};

    const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

    fn no_linger() -> SpoolConfig {
        SpoolConfig { linger: picket_common::config::Span::millis(0), ..SpoolConfig::default() }
    }

    fn open(directory: &std::path::Path) -> (Outcomes, Committer) {
        let (spool, committer) = Spool::open(directory, &no_linger(), [1; 16]).unwrap();
        (Outcomes::new(spool, || NOW), committer)
    }

    fn count(outcomes: &Outcomes, project: u64, reason: &'static str, quantity: u64) {
        let project = Some(ProjectId::new(project));
        outcomes.record(project, DataCategory::Error, Outcome::Invalid, Reason::Borrowed(reason), quantity);
    }

    /// Everything in records, in order.
    fn sealed(outcomes: &Outcomes) -> Vec<OutcomeCount> {
        let limit = ReadLimit { batches: 100, bytes: u64::MAX, oversized: crate::spool::Oversized::Take };
        let batches = outcomes.spool.read_from(Sequence::FIRST, limit).unwrap();
        let records = batches.into_iter().flat_map(|batch| {
            let raw = zstd::bulk::decompress(&batch.payload, usize::try_from(batch.header.raw_bytes).unwrap()).unwrap();
            RecordReader::new(raw.into()).map(Result::unwrap).collect::<Vec<_>>()
        });
        let of_kind = records.filter(|record| record.header.kind == RecordKind::Outcomes);
        of_kind.flat_map(|record| serde_json::from_slice::<Vec<OutcomeCount>>(&record.body).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_was_settled_is_there_after_a_kill_and_is_sealed_once() {
        let directory = tempfile::tempdir().unwrap();
        let (outcomes, committer) = open(directory.path());
        count(&outcomes, 7, "cors", 1);
        count(&outcomes, 7, "cors", 2);
        count(&outcomes, 8, "auth", 5);
        outcomes.settle().await;
        // As after kill -9: what is on disk now is all there is.
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        drop(outcomes);
        committer.close().await;

        let (outcomes, committer) = open(copy.path());
        outcomes.spool.seal_counts(NOW).await.unwrap();
        outcomes.spool.seal_counts(NOW).await.unwrap();
        outcomes.settle().await;
        let told: Vec<_> =
            sealed(&outcomes).iter().map(|count| (count.key.project_id.unwrap().get(), count.quantity)).collect();
        assert_eq!(told, [(7, 3), (8, 5)]);
        assert_eq!(sealed(&outcomes)[0].key.hour, NOW.start_of_hour());
        drop(outcomes);
        committer.close().await;
    }

    #[tokio::test]
    async fn what_was_not_waited_for_is_written_when_the_relay_stops() {
        let directory = tempfile::tempdir().unwrap();
        let (outcomes, committer) = open(directory.path());
        count(&outcomes, 7, "cors", 1);
        drop(outcomes);
        committer.close().await;
        let (outcomes, _committer) = open(directory.path());
        outcomes.spool.seal_counts(NOW).await.unwrap();
        outcomes.settle().await;
        assert_eq!(sealed(&outcomes)[0].quantity, 1);
    }

    #[tokio::test]
    async fn a_full_spool_still_counts_and_seals_when_it_has_room_again() {
        let directory = tempfile::tempdir().unwrap();
        // Nothing has so much free space.
        let full = picket_common::config::ByteSize::bytes(u64::MAX / 2);
        let config = SpoolConfig { min_free_bytes: full, ..no_linger() };
        let (spool, committer) = Spool::open(directory.path(), &config, [1; 16]).unwrap();
        let outcomes = Outcomes::new(spool, || NOW);
        count(&outcomes, 7, "spool_full", 4);
        outcomes.spool.seal_counts(NOW).await.unwrap();
        outcomes.settle().await;
        assert_eq!(sealed(&outcomes), []);
        drop(outcomes);
        committer.close().await;
        let (outcomes, _committer) = open(directory.path());
        outcomes.spool.seal_counts(NOW).await.unwrap();
        outcomes.settle().await;
        assert_eq!(sealed(&outcomes)[0].quantity, 4);
    }

    #[tokio::test]
    async fn reasons_that_clients_make_up_are_counted_and_make_no_series() {
        let directory = tempfile::tempdir().unwrap();
        let (outcomes, _committer) = open(directory.path());
        let mut registry = Registry::with_prefix("picket_relay");
        outcomes.register(&mut registry);
        for list in ["discarded_events", "rate_limited_events", "filtered_events", "filtered_sampling_events"] {
            let entry = |number| format!(r#"{{"reason":"made_up_{number}","category":"error","quantity":1}}"#);
            let entries = (0..500).map(entry).collect::<Vec<_>>().join(",");
            let payload = format!(r#"{{"{list}":[{entries}]}}"#);
            let item = Item::new(ItemType::ClientReport, payload.into());
            let mut dropped = Dropped::default();
            crate::client_report::count(&item, NOW, &mut dropped);
            outcomes.count(outcomes.counts_of(Some(ProjectId::new(7)), &dropped));
        }
        let text = picket_common::telemetry::encode_metrics(&registry);
        let series: Vec<_> = text.lines().filter(|line| line.starts_with("picket_relay_outcomes_total{")).collect();
        // The reports themselves, and one for each outcome that they tell of.
        assert_eq!(series.len(), 4, "{series:?}");
        assert!(text.contains(r#"outcome="filtered",reason="client_report"} 1000"#), "{series:?}");
    }

    #[tokio::test]
    async fn counts_are_shown_and_the_number_of_series_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let (outcomes, _committer) = open(directory.path());
        let mut registry = Registry::with_prefix("picket_relay");
        outcomes.register(&mut registry);
        count(&outcomes, 7, "cors", 3);
        for project in 0..MAX_SERIES as u64 + 10 {
            count(&outcomes, 100 + project, "auth", 1);
        }
        let text = picket_common::telemetry::encode_metrics(&registry);
        let line = r#"picket_relay_outcomes_total{project="7",category="error",outcome="invalid",reason="cors"} 3"#;
        assert!(text.contains(line), "no {line}");
        assert!(text.lines().count() < MAX_SERIES + 10);
        assert!(text.contains(r#"{project="",category="error",outcome="invalid",reason="other"} 11"#));
    }
}
