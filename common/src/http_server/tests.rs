#![allow(clippy::unwrap_used)]
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const LIMITS: HttpLimits = HttpLimits {
    max_connections: 16,
    header_timeout: Duration::from_secs(60),
    yield_after: Duration::from_secs(60),
    max_headers: 100,
    max_head_bytes: 16 * 1024,
    body_idle_timeout: Duration::from_secs(60),
    body_timeout: Duration::from_secs(60),
    shutdown_timeout: Duration::from_millis(50),
};
/// For what must come; nothing here takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";
/// A request that is never answered.
const HOLDING_REQUEST: &[u8] = b"GET /hold HTTP/1.1\r\nhost: here\r\n\r\n";

struct Running {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
    /// How many requests have come that are never answered.
    held: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers each request with the peer's address.
async fn start(limits: HttpLimits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    let opened = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Open(Arc::clone(&counted))
    };
    let held = Arc::new(AtomicUsize::new(0));
    let holding = Arc::clone(&held);
    let handle = move |request: Request<RequestBody>, peer: SocketAddr| {
        let holding = Arc::clone(&holding);
        async move {
            if request.uri().path() == "/hold" {
                holding.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            Response::new(format!("<{peer}>"))
        }
    };
    let task = tokio::spawn(serve(listener, Plain, limits, handle, opened, async { drop(stopped.await) }));
    Running { address, open, held, stop, task }
}

/// Reads until the answer's body has come.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b">") {
        assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0, "closed before the answer");
    }
    String::from_utf8(text).unwrap()
}

async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(REQUEST).await.unwrap();
    read_answer(stream).await
}

#[tokio::test]
async fn a_handler_is_told_who_asks() {
    let running = start(LIMITS).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let answer = ask(&mut stream).await;
    assert!(answer.ends_with(&format!("<{}>", stream.local_addr().unwrap())), "{answer}");
}

#[tokio::test]
async fn a_half_sent_request_does_not_outlive_the_shutdown_timeout() {
    let running = start(LIMITS).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    ask(&mut stream).await;
    stream.write_all(&REQUEST[..20]).await.unwrap();
    running.stop.send(()).unwrap();
    timeout(PATIENCE, running.task).await.unwrap().unwrap();
    assert_eq!(running.open.load(Ordering::SeqCst), 0, "the connection was left to itself");
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn an_idle_connection_does_not_delay_the_shutdown() {
    let running = start(HttpLimits { shutdown_timeout: Duration::from_secs(3600), ..LIMITS }).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    ask(&mut stream).await;
    running.stop.send(()).unwrap();
    timeout(PATIENCE, running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_head_that_does_not_come_closes_its_connection() {
    let running = start(HttpLimits { header_timeout: Duration::from_millis(50), ..LIMITS }).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&REQUEST[..20]).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{answer:?}");
}

#[tokio::test]
async fn a_client_beyond_the_limit_is_answered_once_another_has_left() {
    let running = start(HttpLimits { max_connections: 1, ..LIMITS }).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    first.write_all(HOLDING_REQUEST).await.unwrap();
    while running.held.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let mut second = TcpStream::connect(running.address).await.unwrap();
    second.write_all(REQUEST).await.unwrap();
    let early = timeout(Duration::from_millis(100), second.read(&mut [0; 1])).await;
    assert!(early.is_err(), "answered while the first was open");
    drop(first);
    timeout(PATIENCE, read_answer(&mut second)).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_gives_way_to_a_new_client() {
    let running = start(HttpLimits { max_connections: 1, ..LIMITS }).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    ask(&mut first).await;
    let mut second = TcpStream::connect(running.address).await.unwrap();
    timeout(PATIENCE, ask(&mut second)).await.unwrap();
    assert_eq!(first.read(&mut [0; 1]).await.unwrap_or(0), 0, "the idle connection was left open");
}

#[tokio::test]
async fn silent_connections_and_unfinished_heads_give_way_too() {
    let running = start(HttpLimits { max_connections: 4, ..LIMITS }).await;
    let mut idlers = Vec::new();
    for sent in [&REQUEST[..0], &REQUEST[..20]].repeat(20) {
        let mut idler = TcpStream::connect(running.address).await.unwrap();
        idler.write_all(sent).await.unwrap();
        idlers.push(idler);
    }
    let mut client = TcpStream::connect(running.address).await.unwrap();
    timeout(PATIENCE, ask(&mut client)).await.unwrap();
}

#[tokio::test]
async fn a_request_that_takes_too_long_gives_way_where_nobody_is_idle() {
    let limits = HttpLimits { max_connections: 2, yield_after: Duration::from_millis(20), ..LIMITS };
    let running = start(limits).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(HOLDING_REQUEST).await.unwrap();
        slow.push(stream);
    }
    let mut client = TcpStream::connect(running.address).await.unwrap();
    timeout(PATIENCE, ask(&mut client)).await.unwrap();
    assert_eq!(slow[0].read(&mut [0; 1]).await.unwrap_or(0), 0, "the slowest was left open");
}

#[tokio::test]
async fn a_client_in_the_middle_of_an_endless_head_still_reads_its_431() {
    let running = start(LIMITS).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    for _ in 0..64 {
        stream.write_all(&[b'x'; 16 * 1024]).await.unwrap();
    }
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn what_a_handler_leaves_of_a_body_is_read_and_the_connection_goes_on() {
    let running = start(LIMITS).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let body = vec![b'x'; 4 * 1024 * 1024];
    let head = format!("POST / HTTP/1.1\r\nhost: here\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    timeout(PATIENCE, read_answer(&mut stream)).await.unwrap();
    timeout(PATIENCE, ask(&mut stream)).await.unwrap();
}

/// Lets some seconds pass, which is when connections are found to rest, without waiting for them.
async fn rest() {
    tokio::time::pause();
    for _ in 0..4 {
        tokio::time::advance(Duration::from_secs(3)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::resume();
}

#[tokio::test]
async fn a_connection_that_rested_goes_on_with_the_half_of_a_head_that_it_had() {
    let running = start(LIMITS).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    ask(&mut stream).await;
    stream.write_all(&REQUEST[..20]).await.unwrap();
    rest().await;
    stream.write_all(&REQUEST[20..]).await.unwrap();
    timeout(PATIENCE, read_answer(&mut stream)).await.unwrap();
    rest().await;
    timeout(PATIENCE, ask(&mut stream)).await.unwrap();
}

#[tokio::test]
async fn requests_that_come_at_once_are_all_answered() {
    let running = start(LIMITS).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&REQUEST.repeat(20)).await.unwrap();
    let mut text = Vec::new();
    while text.iter().filter(|&&byte| byte == b'>').count() < 20 {
        assert_ne!(timeout(PATIENCE, stream.read_buf(&mut text)).await.unwrap().unwrap(), 0, "closed");
    }
}
