//! What the journal counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The journal's metrics. Clones share their values.
#[derive(Debug, Clone)]
pub(super) struct JournalMetrics {
    pub(super) backlog_batches: Gauge<u64, AtomicU64>,
    pub(super) backlog_bytes: Gauge<u64, AtomicU64>,
    pub(super) commit_seconds: Histogram,
    pub(super) commit_batches: Histogram,
    pub(super) failed_commits: Counter,
    pub(super) corrupt_entries: Counter,
    pub(super) reopened: Counter,
    pub(super) dead_letters: Gauge<u64, AtomicU64>,
    pub(super) dead_letter_bytes: Gauge<u64, AtomicU64>,
    pub(super) dead_letters_set_aside: Family<[(&'static str, &'static str); 1], Counter>,
    pub(super) dead_letters_evicted: Counter,
    pub(super) dead_letters_replayed: Counter,
}

// === impl JournalMetrics ===

impl JournalMetrics {
    pub(super) fn new() -> Self {
        Self {
            backlog_batches: Gauge::default(),
            backlog_bytes: Gauge::default(),
            // 0.25 ms to 4 s: an fsync takes from a fraction of a millisecond to a stall of seconds.
            commit_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 15)),
            commit_batches: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            failed_commits: Counter::default(),
            corrupt_entries: Counter::default(),
            reopened: Counter::default(),
            dead_letters: Gauge::default(),
            dead_letter_bytes: Gauge::default(),
            dead_letters_set_aside: Family::default(),
            dead_letters_evicted: Counter::default(),
            dead_letters_replayed: Counter::default(),
        }
    }

    /// Registers under `picket_aggregator_journal_…`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let journal = registry.sub_registry_with_prefix("picket_aggregator_journal");
        journal.register("batches", "Batches that wait to be processed", self.backlog_batches.clone());
        journal.register_with_unit(
            "size",
            "Payload of the batches that wait to be processed",
            Unit::Bytes,
            self.backlog_bytes.clone(),
        );
        journal.register_with_unit(
            "commit_duration",
            "Time of one group commit, from its first batch to the end of the fsync",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        journal.register("commit_batches", "Batches in one group commit", self.commit_batches.clone());
        journal.register("commit_failures", "Group commits that failed", self.failed_commits.clone());
        let help = "Times that the database was opened anew after a write that failed";
        journal.register("reopened", help, self.reopened.clone());
        journal.register(
            "corrupt_entries",
            "Entries that were damaged on disk and skipped; each is a batch lost",
            self.corrupt_entries.clone(),
        );
        journal.register("dead_letters", "Dead letters that are kept", self.dead_letters.clone());
        let help = "Bytes of the dead letters that are kept";
        journal.register_with_unit("dead_letters_size", help, Unit::Bytes, self.dead_letter_bytes.clone());
        let help = "Records and batches set aside as dead letters, by reason";
        journal.register("dead_letters_set_aside", help, self.dead_letters_set_aside.clone());
        let help = "Dead letters that went because newer ones needed the room";
        journal.register("dead_letters_evicted", help, self.dead_letters_evicted.clone());
        let help = "Dead letters that were appended to the journal again";
        journal.register("dead_letters_replayed", help, self.dead_letters_replayed.clone());
    }
}
