//! Health: whether the process lives, and whether it can take requests.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::routing::get;

use crate::http::{Server, answer};

/// `GET /api/relay/healthcheck/{live,ready}/`, and what relays behind this one ask before they send.
pub(in crate::http) fn routes() -> Router<Arc<Server>> {
    Router::new()
        .route("/api/relay/healthcheck/live/", get(live))
        .route("/api/relay/healthcheck/ready/", get(ready))
        .route("/api/0/relays/live/", get(live))
}

async fn live() -> Response<Body> {
    health(StatusCode::OK)
}

async fn ready(State(server): State<Arc<Server>>) -> Response<Body> {
    health(if server.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
}

fn health(status: StatusCode) -> Response<Body> {
    answer::json(status, format!("{{\"is_healthy\":{}}}", status.is_success()))
}
