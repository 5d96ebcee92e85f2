//! The stream that HTTP is spoken on: what was read already comes first, and the end is such that the other side can read what was
//! said last.
//!
//! A socket that is closed with something unread resets its connection, and the reset destroys what the other side has not read
//! yet: the 431 for a head that is still being sent, for instance. So the sending half is shut down first; then what still comes is
//! read and thrown away until the other side closes too, within [`LINGER`] and [`LINGER_BYTES`]. A connection on which nothing came since the last
//! answer, an idle one, is closed at once.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::pulse::{Pulse, Unflushed};

/// How long is read on: some round trips, in which the other side's kernel learns that nobody listens any more.
const LINGER: Duration = Duration::from_secs(2);
/// How much is read on: more than the buffers of both kernels hold. Who goes on after that does not look for an answer.
const LINGER_BYTES: usize = 8 * 1024 * 1024;
/// What is read at a time.
const READ_BYTES: usize = 4096;

/// The stream.
#[derive(Debug)]
pub(super) struct Spoken<Stream> {
    stream: Stream,
    /// What was read before and comes first.
    unread: Bytes,
    /// Told what is written and not flushed.
    pulse: Pulse,
    /// Whether everything that had come was read after the last write.
    quiet: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// The sending half is shut down; until then, and so many bytes, it is read on.
    Lingering(Pin<Box<Sleep>>, usize),
    Closed,
}

// === impl Spoken ===

impl<Stream> Spoken<Stream> {
    pub(super) const fn new(stream: Stream, unread: Bytes, pulse: Pulse) -> Self {
        Self { stream, unread, pulse, quiet: true, state: State::Open }
    }

    /// The stream, and what is still to come before it.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.unread)
    }

    fn written(&mut self) {
        self.quiet = false;
        self.pulse.set_unflushed(Unflushed::Some);
    }
}

impl<Stream: AsyncRead + Unpin> Spoken<Stream> {
    /// Reads until there will be no more, or until there is no sense in it.
    fn poll_lingered(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let State::Lingering(end, left) = &mut self.state else { return Poll::Ready(()) };
        let mut bytes = [0; READ_BYTES];
        while *left > 0 && end.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            // At its end, or reset, the other side has nothing more to lose.
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            *left = left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(())
    }
}

impl<Stream: AsyncRead + Unpin> AsyncRead for Spoken<Stream> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(count));
            if self.unread.is_empty() {
                self.unread = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.quiet |= polled.is_pending();
        polled
    }
}

impl<Stream: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Spoken<Stream> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written();
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper asks for it only when it has nothing left to write itself.
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.pulse.set_unflushed(Unflushed::None);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.state, State::Open) {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.state =
                if this.quiet { State::Closed } else { State::Lingering(Box::pin(sleep(LINGER)), LINGER_BYTES) };
        }
        ready!(this.poll_lingered(context));
        this.state = State::Closed;
        Poll::Ready(Ok(()))
    }
}
