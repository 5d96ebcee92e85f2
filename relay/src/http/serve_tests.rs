#![allow(clippy::unwrap_used)]
use std::net::SocketAddr;
use std::sync::Arc;

use picket_common::config::{ByteSize, Span};
use picket_common::http_server::Plain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::http::router;
use crate::http::tests::{KEY, Relay, relay};

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn serve_with(relay: &Relay, config: HttpConfig) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let (router, metrics) = (router(Arc::clone(&relay.server)), relay.server.metrics.clone());
    let task = tokio::spawn(async move {
        serve(listener, Plain, move || router.clone(), &config, Some(metrics), async { drop(stopped.await) }).await;
    });
    Running { address, stop, task }
}

fn head(length: usize) -> String {
    format!("POST /api/7/store/?sentry_key={KEY} HTTP/1.1\r\nhost: relay\r\ncontent-length: {length}\r\n")
}

async fn answer(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_request_in_flight_is_finished_after_the_signal_and_no_new_one_begins() {
    let relay = relay();
    let running = serve_with(&relay, HttpConfig::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // The relay asks for the body, so the request is in its hands.
    stream.write_all(format!("{}expect: 100-continue\r\n\r\n", head(2)).as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    running.stop.send(()).unwrap();
    while TcpStream::connect(running.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"{}").await.unwrap();
    let answer = answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    running.task.await.unwrap();
    assert_eq!(relay.server.metrics.open_connections(), 0);
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut_at_the_end_of_the_timeout() {
    let relay = relay();
    let config = HttpConfig { shutdown_timeout: Span::millis(20), ..HttpConfig::default() };
    let running = serve_with(&relay, config).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(format!("{}expect: 100-continue\r\n\r\n", head(2)).as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 25]).await.unwrap();
    running.stop.send(()).unwrap();
    running.task.await.unwrap();
}

#[tokio::test]
async fn a_client_that_sends_no_head_is_cut_off() {
    let config = HttpConfig { header_timeout: Span::millis(50), ..HttpConfig::default() };
    let running = serve_with(&relay(), config).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"POST /api/7/store/ HTTP/1.1\r\nhos").await.unwrap();
    let answer = answer(stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_pauses_within_a_body_is_answered_408() {
    let mut relay = relay();
    let config = HttpConfig { body_idle_timeout: Span::millis(50), ..HttpConfig::default() };
    Arc::get_mut(&mut relay.server).unwrap().config = config.clone();
    let running = serve_with(&relay, config).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(format!("{}connection: close\r\n\r\n{{", head(100)).as_bytes()).await.unwrap();
    let answer = answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(relay.spooled().is_empty());
}

#[tokio::test]
async fn a_client_busy_sending_too_much_still_reads_its_413() {
    let running = serve_with(&relay(), HttpConfig::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let body = vec![b' '; 1024 * 1024];
    let times = 40;
    stream.write_all(format!("{}connection: close\r\n\r\n", head(times * body.len())).as_bytes()).await.unwrap();
    for _ in 0..times {
        stream.write_all(&body).await.unwrap();
    }
    let answer = answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_reads_while_it_sends_is_answered_at_once_and_may_finish_and_go_on() {
    let relay = relay();
    let running = serve_with(&relay, HttpConfig::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let body = vec![b' '; 2 * 1024 * 1024];
    stream.write_all(format!("{}\r\n", head(body.len())).as_bytes()).await.unwrap();
    let mut start = [0; 13];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413 ");
    stream.write_all(&body).await.unwrap();
    let next = format!("{}connection: close\r\n\r\n{{}}", head(2));
    stream.write_all(next.as_bytes()).await.unwrap();
    let answer = answer(stream).await;
    assert!(answer.contains("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_stops_sending_what_was_refused_is_cut_off() {
    let config = HttpConfig { body_timeout: Span::millis(50), ..HttpConfig::default() };
    let running = serve_with(&relay(), config).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(format!("{}\r\n", head(usize::MAX / 2)).as_bytes()).await.unwrap();
    while stream.write_all(&[b' '; 4096]).await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_client_that_waits_for_permission_is_refused_without_sending() {
    let running = serve_with(&relay(), HttpConfig::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = format!("{}expect: 100-continue\r\nconnection: close\r\n\r\n", head(100_000_000));
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn floods_of_headers_and_endless_lines_are_answered_431() {
    let config = HttpConfig { max_headers: 20, max_head_bytes: ByteSize::kib(8), ..HttpConfig::default() };
    let running = serve_with(&relay(), config).await;
    for flood in ["x: y\r\n".repeat(21), format!("x: {}\r\n", "y".repeat(9000)), format!("x{}: y", "x".repeat(9000))] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        // The relay may have closed before it is all written.
        let _ = stream.write_all(format!("{}{flood}\r\n{{}}", head(2)).as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let line = format!("GET /{} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n", "x".repeat(9000));
    let _ = stream.write_all(line.as_bytes()).await;
    let answer = answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn clients_that_send_their_bodies_slowly_do_not_keep_others_out() {
    let relay = relay();
    let config = HttpConfig { max_connections: 8, yield_after: Span::millis(20), ..HttpConfig::default() };
    let running = serve_with(&relay, config).await;
    let mut slow = Vec::new();
    for _ in 0..32 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(format!("{}\r\n{{", head(100)).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(format!("{}connection: close\r\n\r\n{{}}", head(2)).as_bytes()).await.unwrap();
    let answer = answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(relay.server.metrics.open_connections() <= 8 + 1);
}
