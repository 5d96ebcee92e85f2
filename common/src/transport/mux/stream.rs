//! The two directions of a stream, as the program holds them.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Handle;
use super::state::{Read, Stopped};

/// Our direction. Dropped before it is finished, it is reset.
#[derive(Debug)]
pub struct MuxSender {
    handle: Arc<Handle>,
    id: u32,
}

/// The peer's direction. Dropped before its end, the peer is told to stop.
#[derive(Debug)]
pub struct MuxReceiver {
    handle: Arc<Handle>,
    id: u32,
}

pub(super) fn pair(handle: &Arc<Handle>, id: u32) -> (MuxSender, MuxReceiver) {
    (MuxSender { handle: Arc::clone(handle), id }, MuxReceiver { handle: Arc::clone(handle), id })
}

/// Why nothing more comes or goes: the connection's end if it has one, else `what`.
fn ended(handle: &Handle, what: &str) -> io::Error {
    match handle.shared.lost.borrow().as_ref() {
        Some(lost) => io::Error::new(io::ErrorKind::NotConnected, lost.to_string()),
        None => io::Error::new(io::ErrorKind::ConnectionReset, what.to_owned()),
    }
}

// === impl MuxSender ===

impl MuxSender {
    pub(in crate::transport) async fn write_bytes(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.poll(cx, &bytes)).await?;
            bytes.advance(written);
        }
        Ok(())
    }

    fn poll(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let shared = &self.handle.shared;
        let written = shared.lock().write(self.id, bytes, cx.waker());
        match written {
            Poll::Ready(Ok(length)) => {
                shared.work.notify_one();
                Poll::Ready(Ok(length))
            }
            Poll::Ready(Err(Stopped)) => Poll::Ready(Err(ended(&self.handle, "the peer stopped the stream"))),
            Poll::Pending => Poll::Pending,
        }
    }

    pub(in crate::transport) fn finish(&self) {
        self.handle.shared.lock().finish(self.id);
        self.handle.shared.work.notify_one();
    }

    pub(in crate::transport) async fn arrived(&self) {
        poll_fn(|cx| self.handle.shared.lock().arrived(self.id, cx.waker())).await;
    }
}

impl AsyncWrite for MuxSender {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, buf)
    }

    /// The driver flushes whatever it is given.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for MuxSender {
    fn drop(&mut self) {
        self.handle.shared.lock().drop_sender(self.id);
        self.handle.shared.work.notify_one();
    }
}

// === impl MuxReceiver ===

impl MuxReceiver {
    pub(in crate::transport) async fn read_bytes(&mut self, most: usize) -> io::Result<Option<Bytes>> {
        poll_fn(|cx| self.poll(cx, most)).await
    }

    fn poll(&self, cx: &Context<'_>, most: usize) -> Poll<io::Result<Option<Bytes>>> {
        let shared = &self.handle.shared;
        let read = shared.lock().read(self.id, most, cx.waker());
        match read {
            Poll::Ready(Read::Bytes(bytes)) => {
                // Credit may be due.
                shared.work.notify_one();
                Poll::Ready(Ok(Some(bytes)))
            }
            Poll::Ready(Read::End) => Poll::Ready(Ok(None)),
            Poll::Ready(Read::Reset) => Poll::Ready(Err(ended(&self.handle, "the peer reset the stream"))),
            Poll::Pending => Poll::Pending,
        }
    }

    pub(in crate::transport) fn stop(&self) {
        self.handle.shared.lock().drop_receiver(self.id);
        self.handle.shared.work.notify_one();
    }
}

impl AsyncRead for MuxReceiver {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match self.poll(cx, buf.remaining()) {
            Poll::Ready(Ok(bytes)) => {
                buf.put_slice(&bytes.unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for MuxReceiver {
    fn drop(&mut self) {
        self.handle.shared.lock().drop_receiver(self.id);
        self.handle.shared.work.notify_one();
    }
}
