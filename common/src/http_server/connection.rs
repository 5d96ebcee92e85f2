//! One connection, from the first byte to the last.
//!
//! ```text
//! accepted ─▸ waiting for the first byte ─▸ handshake ─▸ waiting for a head ◂────────┐
//!                                                          │ a head is there         │ has rested, or many speak
//!                                                          ▼                         │
//!                                                        speaking (hyper) ───────────┘
//!                                                          └▸ closed
//! ```
//!
//! A connection that waits takes about a kilobyte and what has come of the head; one that speaks takes hyper's buffers and the
//! state of a request, some 20 KiB. So one that rests goes back to waiting: after [`LOOK_EVERY`], or at once while more than
//! [`SPEAKING_MAX`] speak.
//!
//! Invariant: a head that is not there within the head's timeout closes the connection, whether it rests before that or not.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::head::{HeadBytes, whole_head};
use super::pulse::Pulse;
use super::seats::Seats;
use super::spoken::Spoken;
use super::transport::Transport;

/// How often it is looked whether a connection that speaks rests. Rarely enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How many connections may keep their buffers while they rest: 20 MiB.
const SPEAKING_MAX: usize = 1024;
/// Who holds a connection's pulse beside its requests: the service, the stream, and who looks.
const PULSE_HOLDERS: usize = 3;

/// What the connections of a listener have in common.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) seats: Seats,
    heads: HeadBytes,
    speaking: AtomicUsize,
}

/// One of those that speak.
struct Speaker<'a>(&'a Crowd);

// === impl Crowd ===

impl Crowd {
    pub(super) fn new(seats: Seats) -> Self {
        Self { seats, heads: HeadBytes::default(), speaking: AtomicUsize::new(0) }
    }

    // Relaxed: an amount that guards no other memory.
    fn begin_to_speak(&self) -> Speaker<'_> {
        self.speaking.fetch_add(1, Ordering::Relaxed);
        Speaker(self)
    }

    fn many_speak(&self) -> bool {
        self.speaking.load(Ordering::Relaxed) > SPEAKING_MAX
    }
}

impl Drop for Speaker<'_> {
    fn drop(&mut self) {
        self.0.speaking.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a connection ended early.
type Failure = Box<dyn Error + Send + Sync>;

/// What it takes to serve a connection.
pub(super) struct Line<Way> {
    pub(super) transport: Way,
    pub(super) http: http1::Builder,
    pub(super) head_timeout: Duration,
    pub(super) max_head_bytes: usize,
    pub(super) crowd: Arc<Crowd>,
    pub(super) pulse: Pulse,
    /// Changes, or is closed, when the server stops.
    pub(super) stop: watch::Receiver<()>,
}

/// How speaking ended.
enum Spoke<Stream, Service> {
    Ended,
    Rests { stream: Stream, service: Service, carried: Bytes },
}

// === impl Line ===

impl<Way: Transport> Line<Way> {
    pub(super) async fn serve<Service, Content>(
        mut self,
        stream: TcpStream,
        mut service: Service,
    ) -> Result<(), Failure>
    where
        Service: HttpService<Incoming, ResBody = Content, Error = Infallible>,
        Content: Body<Error: Into<Failure>> + 'static,
    {
        // Answers are a few bytes that a client waits for. A failure costs speed only.
        let _ = stream.set_nodelay(true);
        let crowd = Arc::clone(&self.crowd);
        let mut stream = tokio::select! {
            biased;
            _ = self.stop.changed() => return Ok(()),
            opened = timeout(self.head_timeout, open(&self.transport, stream)) => opened??,
        };
        let mut carried = Bytes::new();
        loop {
            let waiting = whole_head(&mut stream, &carried, self.max_head_bytes, &crowd.heads, &crowd.seats);
            let head = tokio::select! {
                biased;
                _ = self.stop.changed() => return Ok(()),
                head = timeout(self.head_timeout, waiting) => head??,
            };
            let Some(head) = head else { return Ok(()) };
            let _speaker = crowd.begin_to_speak();
            let spoken = TokioIo::new(Spoken::new(stream, head, self.pulse.clone()));
            let connection = self.http.serve_connection(spoken, service);
            // In a box, so that connections that wait do not take the room.
            match Box::pin(self.speak(connection)).await? {
                Spoke::Ended => return Ok(()),
                Spoke::Rests { stream: back, service: again, carried: read } => {
                    (stream, service, carried) = (back, again, read);
                }
            }
        }
    }

    /// Lets hyper serve requests until the connection ends, or rests.
    async fn speak<Stream, Service, Content>(
        &mut self,
        connection: http1::Connection<TokioIo<Spoken<Stream>>, Service>,
    ) -> Result<Spoke<Stream, Service>, Failure>
    where
        Stream: AsyncRead + AsyncWrite + Unpin,
        Service: HttpService<Incoming, ResBody = Content, Error = Infallible>,
        Content: Body<Error: Into<Failure>> + 'static,
    {
        let mut connection = connection;
        let mut rest = Rest::new(&self.pulse);
        let ended = {
            let mut stop = pin!(self.stop.changed());
            let mut stopping = false;
            poll_fn(|context| {
                if !stopping && stop.as_mut().poll(context).is_ready() {
                    stopping = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                    return Poll::Ready(Some(ended));
                }
                if !stopping && rest.poll(&self.pulse, &self.crowd, context).is_ready() {
                    return Poll::Ready(None);
                }
                Poll::Pending
            })
            .await
        };
        match ended {
            Some(ended) => ended.map(|()| Spoke::Ended).map_err(Into::into),
            None => {
                let parts = connection.into_parts();
                let (stream, unread) = parts.io.into_inner().into_parts();
                let carried = Bytes::from([&parts.read_buf[..], &unread].concat());
                Ok(Spoke::Rests { stream, service: parts.service, carried })
            }
        }
    }
}

/// Waits for the first byte before it begins a handshake: a silent connection takes no more than the socket then.
async fn open<Way: Transport>(transport: &Way, stream: TcpStream) -> io::Result<Way::Stream> {
    stream.readable().await?;
    // In a box, as above.
    Box::pin(transport.secure(stream)).await
}

/// Finds out when a connection rests.
struct Rest {
    look: Pin<Box<Sleep>>,
    /// How many requests had begun before this one began to speak.
    first: usize,
    /// How many had begun when it was looked last.
    seen: usize,
}

// === impl Rest ===

impl Rest {
    fn new(pulse: &Pulse) -> Self {
        let begun = pulse.begun();
        Self { look: Box::pin(sleep(LOOK_EVERY)), first: begun, seen: begun }
    }

    /// Ready when nothing is in progress, and nothing has begun for a while or room is wanted. Not before the first request: what
    /// looks like a head and is none to hyper is hyper's to refuse.
    fn poll(&mut self, pulse: &Pulse, crowd: &Crowd, context: &mut Context<'_>) -> Poll<()> {
        let begun = pulse.begun();
        let may_rest = begun != self.first && pulse.rests(PULSE_HOLDERS);
        if may_rest && crowd.many_speak() {
            return Poll::Ready(());
        }
        while self.look.as_mut().poll(context).is_ready() {
            if may_rest && self.seen == begun {
                return Poll::Ready(());
            }
            self.seen = begun;
            self.look.as_mut().reset(Instant::now() + LOOK_EVERY);
        }
        Poll::Pending
    }
}
