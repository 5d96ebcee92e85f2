//! The HTTP server loop of both programs: accepts connections, speaks HTTP/1.1 on each, and ends in good order.
//!
//! # Invariants
//! 1. At most [`HttpLimits::max_connections`] connections are open; more clients wait in the kernel's queue.
//! 2. A head that does not come within [`HttpLimits::header_timeout`] closes its connection; so does an idle one.
//! 3. When [`serve`] returns, no connection is left: after `shutdown` the listener closes first, idle connections close,
//!    requests in flight get [`HttpLimits::shutdown_timeout`], then the rest is cut.
//!
//! | task | one for | owner | ends |
//! | --- | --- | --- | --- |
//! | accepting | a listener | the caller of [`serve`] | at shutdown, after its connections |
//! | connection | a connection | accepting | with the connection; aborted at the end of the shutdown timeout |
//!
//! What it does not do: routes, bodies and their limits, TLS. Those are the handler's, or a proxy's.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// How long to wait when the system can't give another connection (no file descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may take. Each must be above zero, except the shutdown timeout.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections open at once.
    pub max_connections: usize,
    /// How long a client may take for the head of a request; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// Headers of a request; more are answered 431.
    pub max_headers: usize,
    /// Longest head of a request, and so the most that a connection buffers; at least 8 KiB.
    pub max_head_bytes: usize,
    /// How long requests in flight may take to finish once the server is told to stop.
    pub shutdown_timeout: Duration,
}

/// Serves `listener` until `shutdown`, then finishes what is in flight within the limits.
///
/// `handle` answers each request; it is told the peer's address. What `opened` returns lives as long as the connection that
/// it was called for: for counting them.
pub async fn serve<Handle, Answer, Content, Guard>(
    listener: TcpListener,
    limits: HttpLimits,
    handle: Handle,
    opened: impl Fn() -> Guard,
    shutdown: impl Future<Output = ()>,
) where
    Handle: Fn(Request<Incoming>, SocketAddr) -> Answer + Clone + Send + 'static,
    Answer: Future<Output = Response<Content>> + Send + 'static,
    Content: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    Guard: Send + 'static,
{
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let mut connections =
        Connections { http: builder(&limits), graceful: GracefulShutdown::new(), tasks: JoinSet::new() };
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok(accepted) => connections.start(accepted, handle.clone(), opened()),
            Err(failure) => {
                warn!(%failure, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closed first, so that clients go elsewhere while the rest finishes.
    drop(listener);
    connections.finish(limits.shutdown_timeout).await;
}

/// A connection, whose it is, and its place among [`HttpLimits::max_connections`].
type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<Accepted> {
    // The permit first: a connection beyond the limit stays in the kernel's queue.
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

fn builder(limits: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_head_bytes);
    builder
}

/// The open connections.
struct Connections {
    http: http1::Builder,
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
}

// === impl Connections ===

impl Connections {
    fn start<Handle, Answer, Content, Guard>(&mut self, accepted: Accepted, handle: Handle, open: Guard)
    where
        Handle: Fn(Request<Incoming>, SocketAddr) -> Answer + Send + 'static,
        Answer: Future<Output = Response<Content>> + Send + 'static,
        Content: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
        Guard: Send + 'static,
    {
        // Those that have ended are forgotten here, so there are never many more than may be open. A panic of a handler has
        // been logged by the panic hook and cost its own connection only.
        while self.tasks.try_join_next().is_some() {}
        let (stream, peer, permit) = accepted;
        // Answers are a few bytes that a client waits for. A failure costs speed only.
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let answer = handle(request, peer);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = self.graceful.watch(self.http.serve_connection(TokioIo::new(stream), service));
        self.tasks.spawn(async move {
            let _held = (open, permit);
            if let Err(failure) = connection.await {
                debug!(%failure, "connection ended early");
            }
        });
    }

    async fn finish(mut self, within: Duration) {
        if tokio::time::timeout(within, self.graceful.shutdown()).await.is_err() {
            while self.tasks.try_join_next().is_some() {}
            warn!(cut = self.tasks.len(), "requests were still in flight at the end of the shutdown timeout");
        }
        // Aborts what is left. A finished connection's task may need another moment; its guard is dropped here too.
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    const LIMITS: HttpLimits = HttpLimits {
        max_connections: 16,
        header_timeout: Duration::from_secs(60),
        max_headers: 100,
        max_head_bytes: 16 * 1024,
        shutdown_timeout: Duration::from_millis(50),
    };
    /// For what must come; nothing here takes a tenth of it.
    const PATIENCE: Duration = Duration::from_secs(20);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

    struct Running {
        address: SocketAddr,
        open: Arc<AtomicUsize>,
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
        let handle = |_request, peer: SocketAddr| async move { Response::new(format!("<{peer}>")) };
        let task = tokio::spawn(serve(listener, limits, handle, opened, async { drop(stopped.await) }));
        Running { address, open, stop, task }
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
        ask(&mut first).await;
        let mut second = TcpStream::connect(running.address).await.unwrap();
        second.write_all(REQUEST).await.unwrap();
        let early = timeout(Duration::from_millis(100), second.read(&mut [0; 1])).await;
        assert!(early.is_err(), "answered while the first was open");
        assert_eq!(running.open.load(Ordering::SeqCst), 1);
        drop(first);
        timeout(PATIENCE, read_answer(&mut second)).await.unwrap();
    }
}
