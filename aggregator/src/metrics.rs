//! The admin listener: `/metrics` for Prometheus and `/health` for whoever watches the process.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use picket_common::supervision::Supervisor;
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

/// Routes of the admin listener. `/health` is 200 while all tasks of `supervisor` run, else 503.
pub fn router(registry: Arc<Registry>, supervisor: Supervisor) -> Router {
    let metrics = move || {
        let registry = Arc::clone(&registry);
        async move { ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], encode_metrics(&registry)).into_response() }
    };
    let health = move || {
        let is_healthy = supervisor.is_running();
        let status = if is_healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        std::future::ready((status, axum::Json(serde_json::json!({"is_healthy": is_healthy}))))
    };
    Router::new().route("/metrics", get(metrics)).route("/health", get(health))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn health_is_refused_once_a_needed_task_has_ended() {
        let supervisor = Supervisor::new();
        let router = router(Arc::new(registry()), supervisor.clone());
        let ask = || async {
            router.clone().oneshot(Request::get("/health").body(Body::empty()).unwrap()).await.unwrap().status()
        };
        assert_eq!(ask().await, StatusCode::OK);
        supervisor.spawn("worker", async {}).join().await;
        assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE);
    }
}
