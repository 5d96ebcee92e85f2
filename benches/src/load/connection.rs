//! One keep-alive HTTP/1.1 connection, used by one worker. Not pooled: how many there are is part of the experiment.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::payload::Body;
use crate::target::Target;

/// Bytes of an answer that are read. Answers to SDKs are a few dozen bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No TCP connection.
    #[error("cannot connect to {address}: {source}; is the server listening there?")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The connection broke or spoke no HTTP.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The answer could not be read.
    #[error("cannot read the answer: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
    /// The target's parts do not make a request.
    #[error("cannot write a request for this DSN: {0}")]
    Request(#[from] hyper::http::Error),
}

/// What the server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// See the module documentation. Reconnects before the next request when the server has closed it.
pub(super) struct Connection {
    target: Target,
    authorization: HeaderValue,
    live: Option<Live>,
    opened: u64,
}

struct Live {
    sender: SendRequest<Full<Bytes>>,
    /// Drives the connection; ends with it.
    driver: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

// === impl Connection ===

impl Connection {
    /// Connects to `target`.
    pub(super) async fn open(target: &Target) -> Result<Self, ConnectionError> {
        let authorization = HeaderValue::from_str(&target.authorization).map_err(hyper::http::Error::from)?;
        let live = Live::open(target.address).await?;
        Ok(Self { target: target.clone(), authorization, live: Some(live), opened: 1 })
    }

    /// Sends one body and reads the whole answer.
    pub(super) async fn send(&mut self, body: &Body) -> Result<Answer, ConnectionError> {
        let request = Request::post(self.target.path.as_str())
            .header(HOST, self.target.authority.as_str())
            .header(USER_AGENT, concat!("picket-bench/", env!("CARGO_PKG_VERSION")))
            .header("x-sentry-auth", self.authorization.clone())
            .header(CONTENT_TYPE, "application/x-sentry-envelope")
            .header(CONTENT_ENCODING, "gzip")
            .body(Full::new(body.gzip.clone()))?;
        let answer = self.exchange(request).await;
        if answer.is_err() {
            self.give_up();
        }
        answer
    }

    /// Drops the connection; the next request opens another.
    pub(super) fn give_up(&mut self) {
        self.live = None;
    }

    /// How often a connection had to be opened after the first.
    pub(super) fn reconnects(&self) -> u64 {
        self.opened - 1
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, ConnectionError> {
        let response = self.live().await?.sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(ConnectionError::Answer)?
            .to_bytes();
        Ok(Answer { status, body })
    }

    /// The connection, opened anew if the server has closed it. Waits until it takes a request.
    async fn live(&mut self) -> Result<&mut Live, ConnectionError> {
        let mut live = match self.live.take() {
            Some(live) if !live.sender.is_closed() => live,
            _ => {
                self.opened += 1;
                Live::open(self.target.address).await?
            }
        };
        live.sender.ready().await?;
        Ok(self.live.insert(live))
    }
}

// === impl Live ===

impl Live {
    async fn open(address: SocketAddr) -> Result<Self, ConnectionError> {
        let stream = TcpStream::connect(address)
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| ConnectionError::Connect { address, source })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // An error reaches the worker through its request.
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }
}
