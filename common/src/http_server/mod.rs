//! The HTTP server loop of both programs: accepts connections, speaks HTTP/1.1 on each, and ends in good order.
//!
//! # Invariants
//! 1. At most [`HttpLimits::max_connections`] connections are served, and one more is held that waits for a place. When all are taken,
//!    the longest idle give way to new clients, then those whose requests dawdle (`seats`); the rest waits in the kernel's queue.
//! 2. A head that does not come within [`HttpLimits::header_timeout`] closes its connection; so does an idle one, and a handshake
//!    that takes longer.
//! 3. A connection that waits, for its first byte or for the next head, takes about 3 KB and no buffers (`connection`); all unfinished
//!    heads together take a bounded number of bytes (`head`). One that speaks buffers at most [`HttpLimits::max_head_bytes`] of what
//!    it reads, and as much of what it writes; what handlers keep and what TLS keeps (some 50 KiB) comes on top.
//! 4. An answer is not destroyed by what its client still sends: the rest of a body that no handler reads is read and thrown away
//!    ([`RequestBody`]), and a connection closes its sending half before the other (`spoken`).
//! 5. When [`serve`] returns, no connection is left: after `shutdown` the listener closes first, idle connections close,
//!    requests in flight get [`HttpLimits::shutdown_timeout`], then the rest is cut.
//!
//! | task | one for | owner | ends |
//! | --- | --- | --- | --- |
//! | accepting | a listener | the caller of [`serve`] | at shutdown, after its connections |
//! | connection | a connection | accepting | with the connection; aborted at the end of the shutdown timeout |
//! | discarding | a body that its handler left unread | the connection | with the body, the connection, or its time |
//!
//! What it does not do: routes, bodies and their limits: those are the handler's. TLS is the [`Transport`]'s.

mod connection;
mod head;
mod pulse;
mod request_body;
mod seats;
mod spoken;
mod transport;

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
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

pub use request_body::RequestBody;
pub use transport::{Plain, Transport};

use connection::{Crowd, Line};
use pulse::Pulse;
use request_body::Discard;
use seats::{Attended, Seat, Seats};

/// How long to wait when the system can't give another connection (no file descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What hyper allows if it is not told.
const DEFAULT_MAX_HEADERS: usize = 100;

/// What clients may take. Each must be above zero, except the shutdown timeout.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections open at once.
    pub max_connections: usize,
    /// How long a client may take for the head of a request; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// How long a request may take, its body and its answer included, before its connection may be closed for a new client. Only where
    /// all connections are in use and none is idle.
    pub yield_after: Duration,
    /// Headers of a request; more are answered 431.
    pub max_headers: usize,
    /// Longest head of a request, more is answered 431; also the most that a connection buffers. At least 8 KiB.
    pub max_head_bytes: usize,
    /// How long a client may pause within a body that its handler left unread.
    pub body_idle_timeout: Duration,
    /// How long such a body may take as a whole, from its request's head on.
    pub body_timeout: Duration,
    /// How long requests in flight may take to finish once the server is told to stop.
    pub shutdown_timeout: Duration,
}

/// Serves `listener` until `shutdown`, then finishes what is in flight within the limits.
///
/// `handle` answers each request; it is told the peer's address. What `opened` returns lives as long as the connection that
/// it was called for: for counting them.
pub async fn serve<Handle, Answer, Content, Guard>(
    listener: TcpListener,
    transport: impl Transport,
    limits: HttpLimits,
    handle: Handle,
    opened: impl Fn() -> Guard,
    shutdown: impl Future<Output = ()>,
) where
    Handle: Fn(Request<RequestBody>, SocketAddr) -> Answer + Clone + Send + 'static,
    Answer: Future<Output = Response<Content>> + Send + 'static,
    Content: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    Guard: Send + 'static,
{
    let seats = Seats::new(limits.max_connections, limits.yield_after);
    let mut connections = Connections::new(&limits, transport, seats.clone());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &seats) => accepted,
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

/// A connection, whose it is, and its place.
type Accepted = (TcpStream, SocketAddr, Seat);

async fn accept(listener: &TcpListener, seats: &Seats) -> io::Result<Accepted> {
    // The connection first: nobody has to give way before there is somebody to give way to.
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, seats.take().await))
}

fn builder(limits: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.max_head_bytes)
        .max_buf_size(limits.max_head_bytes);
    // To name hyper's default makes it allocate for each request.
    if limits.max_headers != DEFAULT_MAX_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    builder
}

/// The open connections.
struct Connections<Way> {
    http: http1::Builder,
    transport: Way,
    head_timeout: Duration,
    max_head_bytes: usize,
    discard: Discard,
    crowd: Arc<Crowd>,
    /// Tells the connections to stop, by its end.
    stop: watch::Sender<()>,
    tasks: JoinSet<()>,
}

// === impl Connections ===

impl<Way: Transport> Connections<Way> {
    fn new(limits: &HttpLimits, transport: Way, seats: Seats) -> Self {
        Self {
            http: builder(limits),
            transport,
            head_timeout: limits.header_timeout,
            max_head_bytes: limits.max_head_bytes,
            discard: Discard { pause: limits.body_idle_timeout, whole: limits.body_timeout },
            crowd: Arc::new(Crowd::new(seats)),
            stop: watch::Sender::new(()),
            tasks: JoinSet::new(),
        }
    }

    fn start<Handle, Answer, Content, Guard>(&mut self, accepted: Accepted, handle: Handle, open: Guard)
    where
        Handle: Fn(Request<RequestBody>, SocketAddr) -> Answer + Send + 'static,
        Answer: Future<Output = Response<Content>> + Send + 'static,
        Content: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
        Guard: Send + 'static,
    {
        // Those that have ended are forgotten here, so there are never many more than may be open. A panic of a handler has
        // been logged by the panic hook and cost its own connection only.
        while self.tasks.try_join_next().is_some() {}
        let (stream, peer, seat) = accepted;
        let pulse = Pulse::default();
        let (attendant, beating, discard) = (seat.attendant(), pulse.clone(), self.discard);
        let service = service_fn(move |request: Request<Incoming>| {
            let (busy, in_progress) = (attendant.busy(), beating.begin());
            let (head, body) = request.into_parts();
            let body = RequestBody::new(&head.headers, body, discard, in_progress.clone());
            let answer = handle(Request::from_parts(head, body), peer);
            async move {
                let attended = |content| Attended { content, _busy: busy, _in_progress: in_progress };
                Ok::<_, Infallible>(answer.await.map(attended))
            }
        });
        let line = self.line(pulse);
        self.tasks.spawn(async move {
            let _held = open;
            tokio::select! {
                biased;
                () = seat.told_to_leave() => debug!("connection closed for a new client"),
                ended = line.serve(stream, service) => {
                    if let Err(failure) = ended {
                        debug!(%failure, "connection ended early");
                    }
                }
            }
        });
    }

    fn line(&self, pulse: Pulse) -> Line<Way> {
        Line {
            transport: self.transport.clone(),
            http: self.http.clone(),
            head_timeout: self.head_timeout,
            max_head_bytes: self.max_head_bytes,
            crowd: Arc::clone(&self.crowd),
            pulse,
            stop: self.stop.subscribe(),
        }
    }

    async fn finish(self, within: Duration) {
        let Self { stop, mut tasks, .. } = self;
        drop(stop);
        if timeout(within, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
            warn!(cut = tasks.len(), "requests were still in flight at the end of the shutdown timeout");
        }
        // Aborts what is left. A connection's guard is dropped before this returns.
        tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
