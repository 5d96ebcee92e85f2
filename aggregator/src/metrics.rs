//! The admin listener: `/metrics` for Prometheus and `/health` for whoever watches the process.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use picket_common::telemetry::{METRICS_CONTENT_TYPE, encode_metrics};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A registry that says which version this is.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let build: Family<[(&str, &str); 1], Gauge> = Family::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("picket_aggregator_build", "Always 1; the version is in the label", build);
    registry
}

/// Routes of the admin listener.
pub fn router(registry: Arc<Registry>) -> Router {
    let metrics = move || {
        let registry = Arc::clone(&registry);
        async move { ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], encode_metrics(&registry)).into_response() }
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(async || axum::Json(serde_json::json!({"is_healthy": true}))))
}
