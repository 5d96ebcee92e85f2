//! One connection type over QUIC and over TCP: what the link's protocol ([`crate::wire`]) speaks through.
//!
//! Invariants:
//! - Both kinds carry bidirectional streams that the relay opens, end each direction by itself, tell the sender when all of
//!   a stream has arrived, and close with a code and a reason that reach the peer.
//! - Nobody but the peer's certificate says who the peer is; it is verified before a [`Connection`] exists.
//! - What a peer may make us hold is bounded on either kind, and narrower until [`Connection::admit`].
//!
//! ```text
//! Connection ─┬─ Quic   quinn's streams, flow control and congestion control in user space
//!             └─ Tcp    TLS 1.3 and the multiplexer in `mux`: for networks that drop UDP
//! ```
//!
//! What it does not do: dial, listen, or know what is said on the streams.

mod lost;
pub mod mux;
mod stream;

use std::net::SocketAddr;

use quinn::VarInt;
use quinn::crypto::rustls::HandshakeData;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

pub use lost::ConnectionLost;
pub use mux::{Bounds, Patience};
pub use stream::{ReceiveStream, SendStream, StreamError};

use crate::wire::CloseCode;
use mux::Mux;

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportKind {
    /// QUIC over UDP.
    Quic,
    /// TLS 1.3 over TCP.
    Tcp,
}

/// A connection between relay and aggregator. Clones are the same connection; it ends with the last of them and of its streams.
#[derive(Debug, Clone)]
pub enum Connection {
    /// Over QUIC.
    Quic(quinn::Connection),
    /// Over TCP.
    Tcp(Mux),
}

/// Tells connections of this process apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId(TransportKind, usize);

// === impl TransportKind ===

impl TransportKind {
    /// As in logs, metrics and configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

impl std::fmt::Display for TransportKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Connection ===

impl Connection {
    /// What carries it.
    #[must_use]
    pub const fn kind(&self) -> TransportKind {
        match self {
            Self::Quic(_) => TransportKind::Quic,
            Self::Tcp(_) => TransportKind::Tcp,
        }
    }

    /// Which of this process's connections it is; an id may come again once its connection is gone.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        match self {
            Self::Quic(connection) => ConnectionId(TransportKind::Quic, connection.stable_id()),
            Self::Tcp(mux) => ConnectionId(TransportKind::Tcp, mux.id()),
        }
    }

    /// Opens a stream; waits while the peer allows no further one. The relay's side only.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn open(&self) -> Result<(SendStream, ReceiveStream), ConnectionLost> {
        match self {
            Self::Quic(connection) => {
                let (send, receive) = connection.open_bi().await?;
                Ok((SendStream::Quic(send), ReceiveStream::Quic(receive)))
            }
            Self::Tcp(mux) => {
                let (send, receive) = mux.open().await?;
                Ok((SendStream::Tcp(send), ReceiveStream::Tcp(receive)))
            }
        }
    }

    /// The next stream that the peer opens. The aggregator's side only.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn accept(&self) -> Result<(SendStream, ReceiveStream), ConnectionLost> {
        match self {
            Self::Quic(connection) => {
                let (send, receive) = connection.accept_bi().await?;
                Ok((SendStream::Quic(send), ReceiveStream::Quic(receive)))
            }
            Self::Tcp(mux) => {
                let (send, receive) = mux.accept().await?;
                Ok((SendStream::Tcp(send), ReceiveStream::Tcp(receive)))
            }
        }
    }

    /// Closes it; what is unread or on its way is thrown away. The peer gets code and reason, if it can be reached.
    pub fn close(&self, code: CloseCode, reason: &str) {
        match self {
            Self::Quic(connection) => connection.close(VarInt::from_u32(code.as_u32()), reason.as_bytes()),
            Self::Tcp(mux) => mux.close(code.as_u32(), reason),
        }
    }

    /// Waits for its end.
    pub async fn closed(&self) -> ConnectionLost {
        match self {
            Self::Quic(connection) => connection.closed().await.into(),
            Self::Tcp(mux) => mux.closed().await,
        }
    }

    /// Why it has ended, if it has.
    #[must_use]
    pub fn close_reason(&self) -> Option<ConnectionLost> {
        match self {
            Self::Quic(connection) => connection.close_reason().map(ConnectionLost::from),
            Self::Tcp(mux) => mux.close_reason(),
        }
    }

    /// Waits, after the end, until the peer has been told so far as it can be. Over QUIC that is the endpoint's to know
    /// (`wait_idle`), and this returns at once.
    pub async fn farewell(&self) {
        if let Self::Tcp(mux) = self {
            mux.farewell().await;
        }
    }

    /// Where the peer is; over QUIC it may move.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote_address(),
            Self::Tcp(mux) => mux.remote_address(),
        }
    }

    /// The certificate that the peer has shown and proved to be its own, if it has.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        match self {
            Self::Quic(connection) => {
                let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
                chain.first().cloned()
            }
            Self::Tcp(mux) => mux.peer_certificate().cloned(),
        }
    }

    /// The ALPN name that both sides agreed on.
    #[must_use]
    pub fn protocol(&self) -> Option<Vec<u8>> {
        match self {
            Self::Quic(connection) => connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol,
            Self::Tcp(mux) => mux.protocol().map(<[u8]>::to_vec),
        }
    }

    /// Lets a peer that has proved who it is open `streams` streams at once, and send `window_bytes` that we have not read;
    /// over TCP 64 KiB a stream where that is more. The aggregator's side only.
    pub fn admit(&self, streams: u32, window_bytes: u32) {
        match self {
            Self::Quic(connection) => {
                connection.set_receive_window(VarInt::from_u32(window_bytes));
                connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
            }
            // No window for the whole: the streams' windows add up to it, or to 64 KiB a stream where that is more.
            Self::Tcp(mux) => mux.admit(Bounds::sharing(streams, window_bytes)),
        }
    }
}
