//! The relay's own metrics: requests, connections, memory. Spool, uplink and outcomes bring theirs.
//!
//! Names start with `picket_relay_`; units are in the names; each has a help text.

use std::time::Duration;

use axum::http::StatusCode;
use picket_common::category::DataCategory;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What every metric's name starts with.
pub const PREFIX: &str = "picket_relay";

/// Which endpoint a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/envelope/`.
    Envelope,
    /// `/store/` by POST.
    Store,
    /// `/store/` by GET.
    Pixel,
    /// `/cron/…`.
    CheckIn,
    /// `/minidump/`.
    Minidump,
    /// `/unreal/…`.
    Unreal,
    /// `/events/…/attachments/`.
    Attachments,
    /// `/security/` and `/csp-report/`.
    Security,
    /// `/nel/`.
    Nel,
    /// `/integration/otlp/v1/traces`.
    OtlpTraces,
    /// `/integration/otlp/v1/logs`.
    OtlpLogs,
    /// `/integration/vercel/logs`.
    Vercel,
}

impl Endpoint {
    /// What a request to it is counted as when nobody has looked inside.
    pub(crate) const fn category(self) -> DataCategory {
        match self {
            Self::Envelope => DataCategory::Default,
            Self::Store | Self::Pixel => DataCategory::Error,
            Self::CheckIn => DataCategory::Monitor,
            Self::Minidump | Self::Unreal => DataCategory::Error,
            Self::Attachments => DataCategory::Attachment,
            Self::Security => DataCategory::Security,
            Self::OtlpTraces => DataCategory::Span,
            Self::Nel | Self::OtlpLogs | Self::Vercel => DataCategory::LogItem,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Store => "store",
            Self::Pixel => "pixel",
            Self::CheckIn => "check_in",
            Self::Minidump => "minidump",
            Self::Unreal => "unreal",
            Self::Attachments => "attachments",
            Self::Security => "security",
            Self::Nel => "nel",
            Self::OtlpTraces => "otlp_traces",
            Self::OtlpLogs => "otlp_logs",
            Self::Vercel => "vercel",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    status: u16,
}

/// Handles on the metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct RelayMetrics {
    requests: Family<RequestLabels, Counter>,
    accepted: Counter,
    received_bytes: Counter,
    duration_seconds: Histogram,
    connections: Gauge,
    in_flight_bytes: Gauge,
    staged_bytes: Gauge,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RelayMetrics {
    /// Metrics that show themselves in `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            accepted: Counter::default(),
            received_bytes: Counter::default(),
            // 0.5 ms (an idle disk) to 16 s (a client on a bad line).
            duration_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            connections: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            staged_bytes: Gauge::default(),
        };
        registry.register("requests", "Requests answered, by endpoint and status", metrics.requests.clone());
        registry.register(
            "accepted_requests",
            "Requests answered with success: what was kept of them is on disk, the rest is counted in the outcomes",
            metrics.accepted.clone(),
        );
        registry.register(
            "received_bytes",
            "Bytes of request bodies as they came over the wire",
            metrics.received_bytes.clone(),
        );
        registry.register(
            "request_duration_seconds",
            "From the head of a request to its answer, by all endpoints that take data",
            metrics.duration_seconds.clone(),
        );
        registry.register("connections", "Open HTTP connections", metrics.connections.clone());
        registry.register(
            "in_flight_bytes",
            "Memory reserved for request bodies, bounded by limits.max_in_flight_bytes",
            metrics.in_flight_bytes.clone(),
        );
        registry.register(
            "staged_bytes",
            "Large bodies that wait on disk, sealed, bounded by limits.max_staged_bytes",
            metrics.staged_bytes.clone(),
        );
        metrics
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, endpoint: Endpoint, status: StatusCode, took: Duration, received: usize) {
        self.requests.get_or_create(&RequestLabels { endpoint: endpoint.as_str(), status: status.as_u16() }).inc();
        if status.is_success() {
            self.accepted.inc();
        }
        self.received_bytes.inc_by(received as u64);
        self.duration_seconds.observe(took.as_secs_f64());
    }

    /// Counts a connection as open for as long as the answer lives.
    pub(crate) fn connection_opened(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Takes over figures that are kept elsewhere, before the metrics are read.
    pub(crate) fn set_body_bytes(&self, in_flight: usize, staged: usize) {
        self.in_flight_bytes.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        self.staged_bytes.set(i64::try_from(staged).unwrap_or(i64::MAX));
    }

    /// Requests answered 200 since the start.
    #[must_use]
    pub fn accepted_total(&self) -> u64 {
        self.accepted.get()
    }

    /// Open connections.
    #[must_use]
    pub fn open_connections(&self) -> i64 {
        self.connections.get()
    }
}

/// A registry whose metrics all start with [`PREFIX`].
#[must_use]
pub fn registry() -> Registry {
    Registry::with_prefix(PREFIX)
}
