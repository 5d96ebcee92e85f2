//! The listener: the relay's router behind the server loop of [`picket_common::http_server`], with the limits of `[http]`.
//!
//! What it adds: slashes are folded before the router sees a path, handlers are told the peer's address, open connections are
//! counted.

use std::future::Future;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use picket_common::http_server::{self, HttpLimits, RequestBody, Transport};
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::fold_slashes;
use crate::config::HttpConfig;
use crate::metrics::RelayMetrics;

/// The address at the other end of a request's connection: the client's, or its last proxy's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Serves on `listener` until `shutdown`, then finishes what is in flight. Each request is answered by what `router` gives then.
/// Connections are counted in `metrics`.
pub async fn serve(
    listener: TcpListener,
    transport: impl Transport,
    router: impl Fn() -> Router + Clone + Send + 'static,
    config: &HttpConfig,
    metrics: Option<RelayMetrics>,
    shutdown: impl Future<Output = ()>,
) {
    let limits = HttpLimits {
        max_connections: config.max_connections,
        header_timeout: config.header_timeout.get(),
        yield_after: config.yield_after.get(),
        max_headers: config.max_headers,
        max_head_bytes: config.max_head_bytes.as_usize(),
        body_idle_timeout: config.body_idle_timeout.get(),
        body_timeout: config.body_timeout.get(),
        shutdown_timeout: config.shutdown_timeout.get(),
    };
    let handle = move |request, peer| respond(router(), request, peer);
    let opened = || metrics.as_ref().map(RelayMetrics::connection_opened);
    http_server::serve(listener, transport, limits, handle, opened, shutdown).await;
}

async fn respond(router: Router, request: Request<RequestBody>, peer: SocketAddr) -> Response<Body> {
    let mut request = fold_slashes(request).map(Body::new);
    request.extensions_mut().insert(Peer(peer));
    let Ok(response) = router.oneshot(request).await;
    response
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
