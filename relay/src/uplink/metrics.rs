//! The uplink's metrics.

use picket_common::transport::TransportKind;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How the sending of a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum BatchResult {
    /// Stored by the aggregator.
    Acked,
    /// The aggregator had it already.
    Duplicate,
    /// To be sent again later.
    Retry,
    /// Refused for good; set aside.
    Refused,
    /// No answer: the stream or the connection broke.
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BatchLabels {
    result: BatchResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TransportLabels {
    kind: &'static str,
}

/// Handles on the metrics.
#[derive(Debug, Clone)]
pub(super) struct UplinkMetrics {
    batches: Family<BatchLabels, Counter>,
    pub(super) payload_bytes: Counter,
    connected: Gauge,
    transport: Family<TransportLabels, Gauge>,
    pub(super) ack_seconds: Histogram,
}

impl UplinkMetrics {
    /// Metrics that show themselves in `registry`.
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            batches: Family::default(),
            payload_bytes: Counter::default(),
            connected: Gauge::default(),
            transport: Family::default(),
            // 1 ms (same host) to 32 s (beyond the default reply timeout).
            ack_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
        };
        registry.register("uplink_batches", "Batches sent, by how that ended", metrics.batches.clone());
        registry.register("uplink_payload_bytes", "Compressed bytes of batches sent", metrics.payload_bytes.clone());
        registry.register("uplink_connected", "1 while an aggregator is connected", metrics.connected.clone());
        registry.register(
            "uplink_transport",
            "1 for the transport that the aggregator is connected by",
            metrics.transport.clone(),
        );
        metrics.set_transport(None);
        registry.register(
            "uplink_ack_seconds",
            "From the first byte of a batch to its acknowledgement",
            metrics.ack_seconds.clone(),
        );
        metrics
    }

    /// Shows whether, and by what, an aggregator is connected.
    pub(super) fn set_transport(&self, connected_by: Option<TransportKind>) {
        self.connected.set(i64::from(connected_by.is_some()));
        for kind in [TransportKind::Quic, TransportKind::Tcp] {
            let labels = TransportLabels { kind: kind.as_str() };
            self.transport.get_or_create(&labels).set(i64::from(connected_by == Some(kind)));
        }
    }

    pub(super) fn count(&self, result: BatchResult) {
        self.batches.get_or_create(&BatchLabels { result }).inc();
    }
}
