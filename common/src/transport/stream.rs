//! Streams of either kind of connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::mux::{MuxReceiver, MuxSender};

/// Why a stream ended before its end. The connection may live on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StreamError(String);

/// Our direction of a stream. Over TCP, dropped before [`SendStream::finish`] it is reset: the peer knows that it is not whole.
#[derive(Debug)]
pub enum SendStream {
    /// Over QUIC.
    Quic(quinn::SendStream),
    /// Over TCP.
    Tcp(MuxSender),
}

/// The peer's direction of a stream.
#[derive(Debug)]
pub enum ReceiveStream {
    /// Over QUIC.
    Quic(quinn::RecvStream),
    /// Over TCP.
    Tcp(MuxReceiver),
}

// === impl SendStream ===

impl SendStream {
    /// Writes all of `bytes`, without a copy where the transport can keep them.
    ///
    /// # Errors
    /// [`StreamError`] where the peer stopped the stream or the connection has ended.
    pub async fn write_bytes(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        match self {
            Self::Quic(stream) => stream.write_chunk(bytes).await.map_err(|error| StreamError(error.to_string())),
            Self::Tcp(stream) => stream.write_bytes(bytes).await.map_err(|error| StreamError(error.to_string())),
        }
    }

    /// How much is best handed over at once by a caller that gives each piece its time. QUIC's buffer takes 64 KiB before the
    /// line does; over TCP the queue is short, and a piece takes as long as the line is slow and shared.
    #[must_use]
    pub const fn piece_bytes(&self) -> usize {
        match self {
            Self::Quic(_) => 64 * 1024,
            Self::Tcp(_) => 4 * 1024,
        }
    }

    /// Nothing more follows. No use after an error, but no harm.
    pub fn finish(&mut self) {
        match self {
            // Fails only where the stream has ended already.
            Self::Quic(stream) => drop(stream.finish()),
            Self::Tcp(stream) => stream.finish(),
        }
    }

    /// Waits until everything up to the end has arrived at the peer, or the peer wants no more of it, or the connection has ended.
    pub async fn arrived(&mut self) {
        match self {
            Self::Quic(stream) => drop(stream.stopped().await),
            Self::Tcp(stream) => stream.arrived().await,
        }
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Quic(stream) => AsyncWrite::poll_write(Pin::new(stream), cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => AsyncWrite::poll_flush(Pin::new(stream), cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => AsyncWrite::poll_shutdown(Pin::new(stream), cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

// === impl ReceiveStream ===

impl ReceiveStream {
    /// The next bytes, at most `most`; nothing at the end.
    ///
    /// # Errors
    /// [`StreamError`] where the peer reset the stream or the connection has ended.
    pub async fn read_bytes(&mut self, most: usize) -> Result<Option<Bytes>, StreamError> {
        match self {
            Self::Quic(stream) => match stream.read_chunk(most, true).await {
                Ok(chunk) => Ok(chunk.map(|chunk| chunk.bytes)),
                Err(error) => Err(StreamError(error.to_string())),
            },
            Self::Tcp(stream) => stream.read_bytes(most).await.map_err(|error| StreamError(error.to_string())),
        }
    }

    /// Nothing more is read: the peer may stop sending.
    pub fn stop(&mut self) {
        match self {
            // Fails only where the stream has ended already.
            Self::Quic(stream) => drop(stream.stop(quinn::VarInt::from_u32(0))),
            Self::Tcp(stream) => stream.stop(),
        }
    }
}

impl AsyncRead for ReceiveStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => AsyncRead::poll_read(Pin::new(stream), cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}
