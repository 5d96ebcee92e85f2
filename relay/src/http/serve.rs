//! The listener: the relay's router behind the server loop of [`picket_common::http_server`], with the limits of `[http]`.
//!
//! What it adds: slashes are folded before the router sees a path, a panic of a handler is answered 500, open connections
//! are counted.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::FutureExt;
use hyper::body::Incoming;
use picket_common::http_server::{self, HttpLimits};
use tokio::net::TcpListener;
use tower::ServiceExt;
use tracing::error;

use super::{fold_slashes, internal_error};
use crate::config::HttpConfig;
use crate::metrics::RelayMetrics;

/// Longest head of a request, and so the most that a connection buffers. Old browser SDKs put whole events into the query.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Serves `router` on `listener` until `shutdown`, then finishes what is in flight. Connections are counted in `metrics`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &HttpConfig,
    metrics: Option<RelayMetrics>,
    shutdown: impl Future<Output = ()>,
) {
    let limits = HttpLimits {
        max_connections: config.max_connections,
        header_timeout: config.header_timeout.get(),
        max_headers: config.max_headers,
        max_head_bytes: MAX_HEAD_BYTES,
        shutdown_timeout: config.shutdown_timeout.get(),
    };
    let handle = move |request, _peer| respond(router.clone(), request);
    let opened = || metrics.as_ref().map(RelayMetrics::connection_opened);
    http_server::serve(listener, limits, handle, opened, shutdown).await;
}

async fn respond(router: Router, request: Request<Incoming>) -> Response<Body> {
    let request = fold_slashes(request).map(Body::new);
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Err(_panic) => {
            // The panic hook has logged where it came from.
            error!("a request handler panicked");
            internal_error()
        }
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
