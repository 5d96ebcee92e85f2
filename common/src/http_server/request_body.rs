//! The body of a request, with what becomes of the part that nobody reads.
//!
//! A client that is busy sending does not read yet. If its connection were closed as soon as it has its answer, the kernel would
//! answer what it still sends with a reset, and the reset destroys the answer on its way. So what a handler leaves unread is read
//! and thrown away, while the answer is already being written:
//!
//! ```text
//! client   head, body ─────────────────────────────────────────▸│ reads the answer
//! handler             └▸ refused: answer ─▸ (written at once)
//! discarding                              └─ reads the rest ────▸│ the connection is good for the next request
//! ```
//!
//! A client that does read while it sends finds the answer at once and can stop.
//!
//! Invariants:
//! - nothing of what is discarded is kept: it costs a buffer of the connection;
//! - discarding ends with the body, with the connection, or when the bounds in [`Discard`] are reached; then the connection closes;
//! - a connection that only discards counts as idle: it gives way to new clients (`seats`);
//! - what a client holds back until it is told to send (`Expect: 100-continue`) is not asked for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{HeaderMap, header};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::pulse::InProgress;

/// How long is discarded at least, where a request has used up its time: until a client that was told so has stopped.
const LEAST: Duration = Duration::from_secs(2);

/// How long a client may go on with a body that nobody reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Discard {
    /// Within it without a byte.
    pub(super) pause: Duration,
    /// From the request's head to the end of its body.
    pub(super) whole: Duration,
}

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` where nothing is left to be read.
    incoming: Option<Incoming>,
    /// The client waits to be told to send, and was not.
    held_back: bool,
    begun: Instant,
    discard: Discard,
    in_progress: InProgress,
}

// === impl RequestBody ===

impl RequestBody {
    pub(super) fn new(headers: &HeaderMap, incoming: Incoming, discard: Discard, in_progress: InProgress) -> Self {
        let held_back = headers.contains_key(header::EXPECT);
        Self { incoming: Some(incoming), held_back, begun: Instant::now(), discard, in_progress }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.held_back = false;
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(incoming).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.incoming = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take().filter(|incoming| !self.held_back && !incoming.is_end_stream())
        else {
            return;
        };
        // There is none while the program ends; the connection ends then too.
        if let Ok(runtime) = Handle::try_current() {
            let end = (self.begun + self.discard.whole).max(Instant::now() + LEAST);
            runtime.spawn(discard(incoming, self.discard.pause, end, self.in_progress.clone()));
        }
    }
}

/// Reads to the end or until time is up. If the connection ends, so does the body.
async fn discard(mut incoming: Incoming, pause: Duration, end: Instant, _in_progress: InProgress) {
    loop {
        let until = end.min(Instant::now() + pause);
        let next = std::future::poll_fn(|context| Pin::new(&mut incoming).poll_frame(context));
        let Ok(Some(Ok(_))) = timeout_at(until, next).await else { return };
    }
}
