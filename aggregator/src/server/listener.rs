//! A TCP listener: a router behind the server loop of [`picket_common::http_server`], with limits that fit people, scripts and
//! scrapers. Handlers find the peer's address as [`ConnectInfo`].

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use picket_common::http_server::{self, HttpLimits, Plain, RequestBody};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// What clients of the pages and of the admin listener may take.
const LIMITS: HttpLimits = HttpLimits {
    // A browser opens six, so this is more people than read one installation's issues at a time; with a head each it bounds
    // what they make us buffer at 64 MiB.
    max_connections: 1024,
    // Long enough for a bad line; also how long an idle connection is kept.
    header_timeout: Duration::from_secs(15),
    // The slowest page and the largest upload that people still wait for; matters only when all connections are in use.
    yield_after: Duration::from_secs(120),
    max_headers: 100,
    // Cookies and searches are far below.
    max_head_bytes: 64 * 1024,
    // For uploads that are refused: the slowest that people wait for.
    body_idle_timeout: Duration::from_secs(30),
    body_timeout: Duration::from_secs(300),
    // A page takes well under a second, a wide query a few; the unit file gives the whole stop 60.
    shutdown_timeout: Duration::from_secs(10),
};

/// Serves until `stop`, then finishes what is in flight within [`LIMITS`].
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_within(LIMITS, listener, router, stop).await;
}

async fn serve_within(limits: HttpLimits, listener: TcpListener, router: Router, stop: CancellationToken) {
    let handle = move |request, peer| respond(router.clone(), request, peer);
    http_server::serve(listener, Plain, limits, handle, || (), stop.cancelled_owned()).await;
}

async fn respond(router: Router, mut request: Request<RequestBody>, peer: SocketAddr) -> Response<Body> {
    request.extensions_mut().insert(ConnectInfo(peer));
    let Ok(response) = router.oneshot(request.map(Body::new)).await;
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    /// For what must come; nothing here takes a tenth of it.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_handler_finds_the_address_of_its_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let who = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string();
        tokio::spawn(serve(listener, Router::new().route("/", get(who)), CancellationToken::new()));
        stream.write_all(b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&stream.local_addr().unwrap().to_string()), "{answer}");
    }

    /// It once kept a stopping aggregator alive until systemd killed it.
    #[tokio::test]
    async fn a_half_sent_request_does_not_keep_a_stopping_aggregator_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(async || "here"));
        let limits = HttpLimits { shutdown_timeout: Duration::from_millis(50), ..LIMITS };
        let serving = tokio::spawn(serve_within(limits, listener, router, stop.clone()));
        // An answer first, so that the connection is known to be accepted.
        stream.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0; 15]).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
        stop.cancel();
        timeout(PATIENCE, serving).await.unwrap().unwrap();
    }
}
