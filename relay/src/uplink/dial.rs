//! Opening a connection to a named address by QUIC or TCP, and telling apart why it did not work.
//!
//! The name is resolved anew each time, and every connection has a socket of its own, so that a host that moved and a
//! network that changed are found again. Which of the two is tried when is [`super::race`]'s to decide.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use picket_common::transport::mux::Mux;
use picket_common::transport::{Connection, ConnectionLost, Patience, TransportKind};
use picket_common::wire::{CloseCode, SERVER_NAME};
use quinn::congestion::BbrConfig;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Endpoint, IdleTimeout, TransportConfig, VarInt};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::CongestionControl;

/// NAT gateways forget a UDP mapping after 30 s as a rule, and an aggregator that is gone is to be noticed soon: a packet of
/// some 40 bytes.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// A peer that was not heard of for this long is gone: two signs of life may get lost.
const IDLE: Duration = Duration::from_secs(9);
/// How long a peer may take to hear that its connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);
/// What an aggregator may send unread: a configuration snapshot, and answers of a few hundred bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Sent and not yet confirmed by the peer's QUIC, on all streams; the payloads in flight beyond it wait in our memory.
const SEND_WINDOW: u64 = 8 * 1024 * 1024;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// How the relay shows itself on every connection it opens.
#[derive(Clone)]
pub(crate) struct Dialler {
    quic: quinn::ClientConfig,
    tls: TlsConnector,
}

/// An open connection and the socket it lives on.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) connection: Connection,
    /// Of QUIC.
    endpoint: Option<Endpoint>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("the name can't be resolved: {0}; check it and the host's DNS")]
    Resolve(String),
    /// No local socket.
    #[error("no UDP socket can be opened here: {0}")]
    Socket(std::io::Error),
    /// The TLS or QUIC settings are refused; an identity that loads does not get here.
    #[error("the connection can't be set up: {0}")]
    Setup(String),
    /// Nobody answered.
    #[error(
        "no answer by {} within {} s; is the aggregator running, and is {} let through to this port?",
        .kind, .patience.as_secs(), protocol_of(*.kind)
    )]
    Timeout {
        /// What was tried.
        kind: TransportKind,
        /// For how long.
        patience: Duration,
    },
    /// The host says that nobody listens there.
    #[error("nobody listens there for {}; is the aggregator running?", protocol_of(*.0))]
    NobodyListens(TransportKind),
    /// Neither transport gets through.
    #[error("by QUIC: {quic}; by TCP: {tcp}")]
    Neither {
        /// Why not by QUIC.
        quic: Box<DialError>,
        /// Why not by TCP.
        tcp: Box<DialError>,
    },
    /// The server's certificate is not of the authority that this relay trusts.
    #[error("whoever answers there is not the aggregator this relay trusts: {0}")]
    WrongAuthority(String),
    /// By this host's clock the server's certificate is not good now.
    #[error("{}", super::clock::server_not_valid(.0))]
    WrongTime(String),
    /// By the aggregator's clock this relay's certificate is not good now.
    #[error(
        "the aggregator refused this relay's certificate as expired or not good yet; if it has expired, join it anew with a new \
         token, else see to the clocks of both hosts"
    )]
    RefusedForTime,
    /// The aggregator does not take this relay's certificate.
    #[error(
        "the aggregator refused this relay: {0}; if it was revoked or its certificate expired, join it anew with a new token"
    )]
    Refused(String),
    /// The connection broke in another way.
    #[error("{0}")]
    Connection(ConnectionLost),
}

const fn protocol_of(kind: TransportKind) -> &'static str {
    match kind {
        TransportKind::Quic => "UDP",
        TransportKind::Tcp => "TCP",
    }
}

impl From<ConnectionLost> for DialError {
    fn from(lost: ConnectionLost) -> Self {
        match lost {
            ConnectionLost::UntrustedForTime(problem) => Self::WrongTime(problem),
            ConnectionLost::RefusedForTime => Self::RefusedForTime,
            ConnectionLost::Untrusted(problem) => Self::WrongAuthority(problem),
            ConnectionLost::Refused(problem) => Self::Refused(problem),
            ConnectionLost::Closed { code, reason }
                if [CloseCode::NoIdentity, CloseCode::NotAllowed].map(CloseCode::as_u32).contains(&code) =>
            {
                Self::Refused(reason)
            }
            other => Self::Connection(other),
        }
    }
}

// === impl DialError ===

impl DialError {
    /// Whether an aggregator, or somebody in its place, has answered: another transport would lead to the same answer.
    pub(super) const fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::WrongAuthority(_) | Self::WrongTime(_) | Self::Refused(_) | Self::RefusedForTime | Self::Setup(_)
        )
    }
}

// === impl Dialler ===

impl Dialler {
    /// With the certificates and the ALPN name of `tls`.
    ///
    /// # Errors
    /// [`DialError::Setup`] if they are no use for QUIC.
    pub(crate) fn new(tls: rustls::ClientConfig, congestion: CongestionControl) -> Result<Self, DialError> {
        let quic = quic_config(tls.clone(), congestion)?;
        Ok(Self { quic, tls: TlsConnector::from(Arc::new(tls)) })
    }

    /// Connects to `host:port` by `kind`; each of its addresses may take as long as `patience`.
    pub(super) async fn dial(
        &self,
        address: &str,
        kind: TransportKind,
        patience: Duration,
    ) -> Result<Dialled, DialError> {
        let resolved = timeout(patience, lookup_host(address)).await;
        let resolved = resolved.map_err(|_| DialError::Resolve("no answer".to_owned()))?;
        let resolved = resolved.map_err(|error| DialError::Resolve(error.to_string()))?;
        let mut last = DialError::Resolve("it has no address".to_owned());
        for socket_address in resolved.take(MAX_ADDRESSES) {
            let dialling = async {
                match kind {
                    TransportKind::Quic => self.dial_quic(socket_address).await,
                    TransportKind::Tcp => self.dial_tcp(socket_address).await,
                }
            };
            match timeout(patience, dialling).await.unwrap_or(Err(DialError::Timeout { kind, patience })) {
                Ok(dialled) => return Ok(dialled),
                Err(error) => {
                    tracing::debug!(address, %socket_address, %kind, %error, "connecting failed");
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn dial_quic(&self, to: SocketAddr) -> Result<Dialled, DialError> {
        let endpoint = Endpoint::client(any_port(to)).map_err(DialError::Socket)?;
        let connecting = endpoint
            .connect_with(self.quic.clone(), to, SERVER_NAME)
            .map_err(|error| DialError::Setup(error.to_string()))?;
        let connection = tokio::select! {
            connected = connecting => connected.map_err(ConnectionLost::from)?,
            () = refusal(to) => return Err(DialError::NobodyListens(TransportKind::Quic)),
        };
        Ok(Dialled { connection: Connection::Quic(connection), endpoint: Some(endpoint) })
    }

    async fn dial_tcp(&self, to: SocketAddr) -> Result<Dialled, DialError> {
        let connected = TcpStream::connect(to).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => DialError::NobodyListens(TransportKind::Tcp),
            _ => DialError::Connection(error.into()),
        })?;
        // Headers of batches are small and waited for.
        connected.set_nodelay(true).map_err(ConnectionLost::from)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| DialError::Setup(error.to_string()))?;
        let stream = self.tls.connect(name, connected).await.map_err(ConnectionLost::from)?;
        let patience = Patience { idle: IDLE, keep_alive: KEEP_ALIVE, farewell: FAREWELL };
        Ok(Dialled { connection: Connection::Tcp(Mux::client(stream.into(), to, patience)), endpoint: None })
    }
}

fn any_port(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Returns when the host, or a gateway, says by ICMP that nobody listens on the port. QUIC's own socket is not connected and
/// so does not hear of it; this one sends a byte that no QUIC server answers.
async fn refusal(to: SocketAddr) {
    let refused = async {
        let socket = UdpSocket::bind(any_port(to)).await?;
        socket.connect(to).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 1]).await
    };
    match refused.await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
        _ => std::future::pending().await,
    }
}

/// The QUIC settings of every connection a relay opens.
fn quic_config(tls: rustls::ClientConfig, congestion: CongestionControl) -> Result<quinn::ClientConfig, DialError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| DialError::Setup(error.to_string()))?;
    let idle = IdleTimeout::try_from(IDLE).map_err(|error| DialError::Setup(error.to_string()))?;
    let mut transport = TransportConfig::default();
    // The aggregator opens no streams; it answers on ours.
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
    transport.receive_window(VarInt::from_u32(CONNECTION_WINDOW));
    transport.send_window(SEND_WINDOW);
    transport.datagram_receive_buffer_size(None);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(Some(idle));
    if congestion == CongestionControl::Bbr {
        transport.congestion_controller_factory(Arc::new(BbrConfig::default()));
    }
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

// === impl Dialled ===

impl Dialled {
    /// Closes the connection and lets the peer know, as far as that works within a second.
    pub(crate) async fn close(self, reason: &str) {
        self.connection.close(CloseCode::Done, reason);
        let told = async {
            self.connection.farewell().await;
            if let Some(endpoint) = &self.endpoint {
                endpoint.wait_idle().await;
            }
        };
        let _ = timeout(FAREWELL, told).await;
    }
}
