//! The floor: the least that any server must do with an envelope, to compare the relay with.
//!
//! Bare hyper over HTTP/1.1: read the body, inflate it, answer 200 with the event's id. No authentication, no parsing
//! beyond the first line, no disk. What the relay takes longer than this is the price of what it promises.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections, [`BODY_BYTES_MAX`] as sent, [`RAW_BYTES_MAX`] inflated.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;

/// Connections served at once; more wait to be accepted.
pub const CONNECTIONS_MAX: usize = 1024;
/// Largest body as sent, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Largest body inflated, in bytes.
pub const RAW_BYTES_MAX: u64 = 20 << 20;
/// What most events inflate to; saves the buffer from growing step by step.
const RAW_BYTES_USUAL: usize = 32 * 1024;

/// Why the floor could not be served.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// The address is not loopback.
    #[error("{0} is not a loopback address; the floor server has no authentication, listen on 127.0.0.1")]
    NotLoopback(SocketAddr),
    /// The address could not be bound.
    #[error("cannot listen on {address}: {source}; choose another port or 0")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Accepting failed.
    #[error("cannot accept connections: {0}")]
    Accept(io::Error),
}

/// A bound floor server.
pub struct Floor {
    listener: TcpListener,
    address: SocketAddr,
}

// === impl Floor ===

impl Floor {
    /// Binds `address`, which must be loopback; port 0 takes a free one.
    ///
    /// # Errors
    /// [`FloorError::NotLoopback`], [`FloorError::Bind`].
    pub async fn bind(address: SocketAddr) -> Result<Self, FloorError> {
        if !address.ip().is_loopback() {
            return Err(FloorError::NotLoopback(address));
        }
        let bind = |source| FloorError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped; the connections, one task each, end with their clients.
    ///
    /// # Errors
    /// [`FloorError::Accept`] when the listener fails.
    pub async fn serve(self) -> Result<Infallible, FloorError> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            let (stream, _) = self.listener.accept().await.map_err(FloorError::Accept)?;
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "cannot set nodelay");
            }
            tokio::spawn(async move {
                let service = service_fn(answer);
                if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                    debug!(%error, "connection ended");
                }
                drop(place);
            });
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => match inflate(body.aggregate()) {
            Ok(raw) => json(StatusCode::OK, format!("{{\"id\":\"{}\"}}", event_id(&raw))),
            Err(_) => json(StatusCode::BAD_REQUEST, r#"{"detail":"body is not gzip"}"#.to_owned()),
        },
        Err(_) => json(StatusCode::PAYLOAD_TOO_LARGE, r#"{"detail":"body too large"}"#.to_owned()),
    };
    Ok(response)
}

fn inflate(body: impl Buf) -> io::Result<Vec<u8>> {
    let mut raw = Vec::with_capacity(RAW_BYTES_USUAL);
    MultiGzDecoder::new(body.reader()).take(RAW_BYTES_MAX).read_to_end(&mut raw)?;
    Ok(raw)
}

/// The id in the envelope's first line, or nothing.
fn event_id(raw: &[u8]) -> &str {
    const KEY: &[u8] = b"\"event_id\":\"";
    let header = raw.split(|&byte| byte == b'\n').next().unwrap_or_default();
    header
        .windows(KEY.len())
        .position(|window| window == KEY)
        .and_then(|position| header.get(position + KEY.len()..position + KEY.len() + 32))
        .filter(|id| id.iter().all(u8::is_ascii_hexdigit))
        .and_then(|id| std::str::from_utf8(id).ok())
        .unwrap_or_default()
}

fn json(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_id_is_read_from_the_first_line_only() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(event_id(format!("{{\"event_id\":\"{id}\"}}\n{{}}").as_bytes()), id);
        assert_eq!(event_id(format!("{{}}\n{{\"event_id\":\"{id}\"}}").as_bytes()), "");
        assert_eq!(event_id(b"{\"event_id\":\"short"), "");
    }

    #[tokio::test]
    async fn the_floor_is_not_served_to_other_machines() {
        let error = Floor::bind("0.0.0.0:0".parse().unwrap()).await.err().unwrap();
        assert!(matches!(error, FloorError::NotLoopback(_)));
    }
}
