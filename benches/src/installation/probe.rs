//! Small questions to a service: does it listen, what does this address answer. Polled, each poll and the whole with a deadline.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{InstallationError, Service};

/// Between two questions.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// What one answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read; `/metrics` is some tens of KB.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Waits until something listens on `address`.
pub(super) async fn until_connects(
    service: &mut Service,
    address: SocketAddr,
    deadline: Duration,
) -> Result<(), InstallationError> {
    let give_up = Instant::now() + deadline;
    while TcpStream::connect(address).await.is_err() {
        pause(service, address, give_up, deadline).await?;
    }
    Ok(())
}

/// Waits until `GET path` answers 200.
pub(super) async fn until_ok(
    service: &mut Service,
    address: SocketAddr,
    path: &str,
    deadline: Duration,
) -> Result<(), InstallationError> {
    let give_up = Instant::now() + deadline;
    while get(address, path).await.is_err() {
        pause(service, address, give_up, deadline).await?;
    }
    Ok(())
}

/// The text that `GET path` answers with 200; anything else is an error.
pub(super) async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    tokio::time::timeout(ANSWER_DEADLINE, exchange(address, path)).await.map_err(io::Error::other)?
}

async fn exchange(address: SocketAddr, path: &str) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let ask = async {
        let request =
            Request::get(path).header(HOST, address.to_string()).body(Empty::new()).map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
        match status {
            StatusCode::OK => Ok(String::from_utf8_lossy(&body).into_owned()),
            other => Err(io::Error::other(format!("{path} answered {other}"))),
        }
    };
    // The connection is driven here, not in a task: it ends with the question.
    let mut connection = std::pin::pin!(connection);
    let mut ask = std::pin::pin!(ask);
    tokio::select! {
        biased;
        answer = &mut ask => answer,
        ended = &mut connection => {
            ended.map_err(io::Error::other)?;
            ask.await
        }
    }
}

async fn pause(
    service: &mut Service,
    address: SocketAddr,
    give_up: Instant,
    deadline: Duration,
) -> Result<(), InstallationError> {
    service.must_run()?;
    if Instant::now() > give_up {
        return Err(InstallationError::NotReady { name: service.name(), address, deadline, log: service.log_tail() });
    }
    tokio::time::sleep(POLL_INTERVAL).await;
    Ok(())
}
