//! What intake counts.

use std::sync::atomic::AtomicU64;

use picket_common::transport::TransportKind;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::fleet::CertificateGauges;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchResult {
    Stored,
    Duplicate,
    Corrupt,
    Overlap,
    Retry,
}

/// What became of an attempt to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinResult {
    Joined,
    Refused,
    RateLimited,
    Failed,
}

/// The one label `transport`.
type TransportLabel = [(&'static str, &'static str); 1];

/// A connection that is counted while this lives.
#[derive(Debug)]
pub(super) struct CountedConnection {
    gauge: Gauge<u64, AtomicU64>,
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// The one label `result`.
type ResultLabel = [(&'static str, &'static str); 1];

/// Intake's metrics. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct IntakeMetrics {
    connections: Family<TransportLabel, Gauge<u64, AtomicU64>>,
    pub(super) sessions: Gauge<u64, AtomicU64>,
    pub(super) sessions_refused: Counter,
    pub(super) sessions_superseded: Counter,
    pub(super) spools_forked: Counter,
    pub(super) batches: Family<ResultLabel, Counter>,
    pub(super) records: Counter,
    pub(super) payload_bytes: Counter,
    pub(super) joins: Family<ResultLabel, Counter>,
    pub(super) certificates: CertificateGauges,
}

// === impl IntakeMetrics ===

impl IntakeMetrics {
    /// Makes the metrics and registers them under `picket_aggregator_…`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let ours = registry.sub_registry_with_prefix("picket_aggregator");
        for kind in [TransportKind::Quic, TransportKind::Tcp] {
            // So that 0 shows before the first.
            drop(metrics.connections.get_or_create(&[("transport", kind.as_str())]));
        }
        ours.register("connections", "Connections by transport, joining ones included", metrics.connections.clone());
        ours.register("sessions", "Relays connected", metrics.sessions.clone());
        ours.register(
            "sessions_refused",
            "Connections closed because the relay is unknown, revoked or broke the protocol",
            metrics.sessions_refused.clone(),
        );
        ours.register(
            "sessions_superseded",
            "Connections closed because the same spool connected again; many of them mean a copied relay",
            metrics.sessions_superseded.clone(),
        );
        ours.register(
            "spools_forked",
            "Spools that were told to take a new id, because a relay's data directory was copied or turned back",
            metrics.spools_forked.clone(),
        );
        ours.register("batches_received", "Batches, by what became of them", metrics.batches.clone());
        ours.register("records_received", "Records in batches that were stored", metrics.records.clone());
        ours.register_with_unit(
            "payload_received",
            "Compressed payload of batches that were stored",
            Unit::Bytes,
            metrics.payload_bytes.clone(),
        );
        ours.register_with_unit(
            "certificate_not_after",
            "When the link's server certificate and the authorities' expire, as Unix time",
            Unit::Seconds,
            metrics.certificates.clone(),
        );
        ours.register("joins", "Attempts to join, by what became of them", metrics.joins.clone());
        metrics
    }

    /// Counts a connection until the answer is dropped.
    pub(super) fn count_connection(&self, kind: TransportKind) -> CountedConnection {
        let gauge = self.connections.get_or_create_owned(&[("transport", kind.as_str())]);
        gauge.inc();
        CountedConnection { gauge }
    }

    pub(super) fn batch(&self, result: BatchResult) {
        let result = match result {
            BatchResult::Stored => "stored",
            BatchResult::Duplicate => "duplicate",
            BatchResult::Corrupt => "corrupt",
            BatchResult::Overlap => "overlap",
            BatchResult::Retry => "retry",
        };
        self.batches.get_or_create(&[("result", result)]).inc();
    }

    pub(super) fn join(&self, result: JoinResult) {
        let result = match result {
            JoinResult::Joined => "joined",
            JoinResult::Refused => "refused",
            JoinResult::RateLimited => "rate_limited",
            JoinResult::Failed => "failed",
        };
        self.joins.get_or_create(&[("result", result)]).inc();
    }
}
