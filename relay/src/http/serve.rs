//! The listener: accepts connections, speaks HTTP/1.1 on each, and ends in good order.
//!
//! Tasks: one accepting task, owned by the caller of [`serve`]; one task a connection, at most `http.max_connections` of them (more
//! clients wait in the kernel's queue). On shutdown the listener closes, idle connections close, requests in flight
//! get `http.shutdown_timeout` to finish, then the rest is cut.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;
use tracing::{debug, error, warn};

use super::{fold_slashes, internal_error};
use crate::config::HttpConfig;
use crate::metrics::RelayMetrics;

/// Longest head of a request, and so the most that a connection buffers. Old browser SDKs put whole events into the query.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long to wait when the system can't give another connection (no file descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `shutdown`, then finishes what is in flight. Connections are counted in `metrics`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &HttpConfig,
    metrics: Option<RelayMetrics>,
    shutdown: impl Future<Output = ()>,
) {
    let connections = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(config.max_connections));
    let builder = builder(config);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => spawn_connection(stream, permit, &router, &builder, &connections, metrics.as_ref()),
            Err(failure) => {
                warn!(%failure, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closed first, so that clients go elsewhere while the rest finishes.
    drop(listener);
    if tokio::time::timeout(config.shutdown_timeout.get(), connections.shutdown()).await.is_err() {
        let cut = config.max_connections - permits.available_permits();
        warn!(cut, "requests were still in flight at the end of http.shutdown_timeout");
    }
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    // The permit first: a connection beyond the limit stays in the kernel's queue.
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _peer) = listener.accept().await?;
    Ok((stream, permit))
}

fn builder(config: &HttpConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout.get())
        .max_headers(config.max_headers)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
}

fn spawn_connection(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    router: &Router,
    builder: &http1::Builder,
    connections: &GracefulShutdown,
    metrics: Option<&RelayMetrics>,
) {
    // Answers are a few bytes that a client waits for. A failure costs speed only.
    let _ = stream.set_nodelay(true);
    let router = router.clone();
    let service = service_fn(move |request| respond(router.clone(), request));
    let connection = connections.watch(builder.serve_connection(TokioIo::new(stream), service));
    let open = metrics.map(RelayMetrics::connection_opened);
    tokio::spawn(async move {
        if let Err(failure) = connection.await {
            debug!(%failure, "connection ended early");
        }
        drop(open);
        drop(permit);
    });
}

async fn respond(router: Router, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let request = fold_slashes(request).map(Body::new);
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_panic) => {
            // The panic hook has logged where it came from.
            error!("a request handler panicked");
            Ok(internal_error())
        }
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
