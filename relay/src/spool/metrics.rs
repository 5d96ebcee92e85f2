//! The spool's metrics. They exist whether or not anyone registers them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::quarantine::SetAsideReason;

/// Label of [`SpoolMetrics::quarantined`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct QuarantineLabels {
    pub(super) reason: &'static str,
}

/// Counters, gauges and histograms of one spool.
#[derive(Debug)]
pub(super) struct SpoolMetrics {
    pub(super) records: Gauge,
    pub(super) bytes: Gauge,
    pub(super) commit_duration_seconds: Histogram,
    pub(super) commit_records: Histogram,
    pub(super) quarantined: Family<QuarantineLabels, Counter>,
    pub(super) forks: Counter,
    pub(super) expired_records: Counter,
    pub(super) failed_writes: Counter,
    pub(super) reopened: Counter,
}

impl SpoolMetrics {
    pub(super) fn new() -> Self {
        Self {
            records: Gauge::default(),
            bytes: Gauge::default(),
            // 0.25 ms (a battery-backed cache) to 8 s (a disk in trouble).
            commit_duration_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            // 1 to 2048 records a commit.
            commit_records: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            quarantined: Family::default(),
            forks: Counter::default(),
            expired_records: Counter::default(),
            failed_writes: Counter::default(),
            reopened: Counter::default(),
        }
    }

    pub(super) fn count_quarantined(&self, reason: SetAsideReason) {
        self.quarantined.get_or_create(&QuarantineLabels { reason: reason.as_str() }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "spool_records",
            "Records accepted and not yet acknowledged by an aggregator",
            self.records.clone(),
        );
        registry.register("spool_bytes", "Stored bytes of those records", self.bytes.clone());
        registry.register(
            "spool_commit_duration_seconds",
            "Time to compress, write and fsync one commit",
            self.commit_duration_seconds.clone(),
        );
        registry.register("spool_commit_records", "Records that shared one fsync", self.commit_records.clone());
        registry.register(
            "spool_quarantined_batches",
            "Batches set aside because they are damaged or were refused for good",
            self.quarantined.clone(),
        );
        registry.register(
            "spool_forks",
            "How often the spool took a new id, because its directory was copied or turned back",
            self.forks.clone(),
        );
        registry.register(
            "spool_failed_writes",
            "How often a write to the spool failed; requests are answered 503 until its database was opened anew",
            self.failed_writes.clone(),
        );
        registry.register(
            "spool_reopened",
            "How often the spool's database was opened anew after a write that failed",
            self.reopened.clone(),
        );
        registry.register(
            "spool_expired_records",
            "Accepted records dropped because they were older than spool.max_age",
            self.expired_records.clone(),
        );
    }
}
