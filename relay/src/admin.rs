//! The admin listener: `/metrics` for Prometheus, `/status` for `picket-relay status`. Unauthenticated, so on loopback unless
//! the operator decides otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use picket_common::config::reload::ConfigStatus;
use picket_common::telemetry::{METRICS_CONTENT_TYPE, encode_metrics};
use picket_common::timestamp::Timestamp;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::http::Server;
use crate::live_identity::LiveIdentity;
use crate::status::RelayStatus;
use crate::uplink::UplinkStatus;

/// What the admin pages show.
pub struct Admin {
    /// The relay's front.
    pub server: Arc<Server>,
    /// All metrics.
    pub registry: Registry,
    /// How the link fares.
    pub uplink: watch::Receiver<UplinkStatus>,
    /// How its configuration fares.
    pub config: watch::Receiver<ConfigStatus>,
    /// Who the relay is.
    pub identity: LiveIdentity,
    /// Where SDKs reach the relay.
    pub listen: SocketAddr,
    /// When the process started.
    pub started_at: Timestamp,
}

/// The routes.
pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /metrics and /status here\n") })
        .with_state(admin)
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response<Body> {
    admin.server.metrics.set_body_bytes(admin.server.budget.used(), admin.server.staging.used());
    let mut response = encode_metrics(&admin.registry).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_CONTENT_TYPE));
    response
}

async fn status(State(admin): State<Arc<Admin>>) -> Response<Body> {
    axum::Json(admin.status()).into_response()
}

impl Admin {
    fn status(&self) -> RelayStatus {
        let projects = self.server.projects.current();
        let spool = self.server.pipeline.spool();
        RelayStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started_at,
            listen: self.listen,
            ready: self.server.is_ready(),
            config_revision: projects.as_ref().map(|index| index.revision()),
            projects: projects.as_ref().map_or(0, |index| index.projects().len()),
            accepted_total: self.server.metrics.accepted_total(),
            connections: self.server.metrics.open_connections(),
            in_flight_bytes: self.server.budget.used() as u64,
            spool: spool.status(),
            outcomes_waiting: spool.counts_waiting(),
            config: Some(self.config.borrow().clone()),
            certificate_expires_at: Some(self.identity.current().validity.not_after),
            uplink: self.uplink.borrow().clone(),
        }
    }
}
