//! Opening a QUIC connection to a named address, and telling apart why it did not work.
//!
//! The name is resolved anew each time, and every connection has a socket of its own, so that a host that moved and a
//! network that changed are found again.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use picket_common::wire::{CloseCode, SERVER_NAME};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, IdleTimeout, TransportConfig, VarInt};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// NAT gateways forget a UDP mapping after 30 s as a rule; this keeps it.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A peer that was not heard of for this long is gone.
const IDLE_SECONDS: u32 = 15;
/// What an aggregator may send unread: a configuration snapshot, and answers of a few hundred bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Sent and not yet confirmed by the peer's QUIC, on all streams; the payloads in flight beyond it wait in our memory.
const SEND_WINDOW: u64 = 8 * 1024 * 1024;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// An open connection and the socket it lives on.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) connection: Connection,
    endpoint: Endpoint,
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
    #[error("no answer within {} s; is the aggregator running, and is UDP let through to this port?", .0.as_secs())]
    Timeout(Duration),
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
    Connection(ConnectionError),
}

impl From<ConnectionError> for DialError {
    fn from(error: ConnectionError) -> Self {
        match &error {
            ConnectionError::TransportError(local) if tls_alert(local.code) == Some(CERTIFICATE_EXPIRED) => {
                Self::WrongTime(local.reason.clone())
            }
            ConnectionError::ConnectionClosed(remote) if tls_alert(remote.error_code) == Some(CERTIFICATE_EXPIRED) => {
                Self::RefusedForTime
            }
            ConnectionError::TransportError(local) if tls_alert(local.code).is_some() => {
                Self::WrongAuthority(local.reason.clone())
            }
            ConnectionError::ConnectionClosed(remote) if tls_alert(remote.error_code).is_some() => {
                Self::Refused(remote.to_string())
            }
            ConnectionError::ApplicationClosed(remote)
                if [CloseCode::NoIdentity, CloseCode::NotAllowed]
                    .map(|code| VarInt::from_u32(code.as_u32()))
                    .contains(&remote.error_code) =>
            {
                Self::Refused(String::from_utf8_lossy(&remote.reason).into_owned())
            }
            _ => Self::Connection(error),
        }
    }
}

/// RFC 8446 §6.2: `certificate_expired`, also for one that is not good yet.
const CERTIFICATE_EXPIRED: u64 = 45;

/// RFC 9001 §4.8: TLS alerts are the transport errors 0x0100 to 0x01ff. Those about certificates are 41 to 51 and 116.
fn tls_alert(code: quinn::TransportErrorCode) -> Option<u64> {
    let alert = u64::from(code).checked_sub(0x100)?;
    ((41..=51).contains(&alert) || alert == 116).then_some(alert)
}

/// The QUIC settings of every connection a relay opens.
pub(crate) fn quic_config(tls: rustls::ClientConfig) -> Result<quinn::ClientConfig, DialError> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| DialError::Setup(error.to_string()))?;
    let mut transport = TransportConfig::default();
    // The aggregator opens no streams; it answers on ours.
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
    transport.receive_window(VarInt::from_u32(CONNECTION_WINDOW));
    transport.send_window(SEND_WINDOW);
    transport.datagram_receive_buffer_size(None);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_SECONDS * 1000))));
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Connects to `host:port`; each of its addresses may take as long as `patience`.
pub(crate) async fn dial(
    address: &str,
    config: &quinn::ClientConfig,
    patience: Duration,
) -> Result<Dialled, DialError> {
    let resolved = timeout(patience, lookup_host(address)).await;
    let resolved = resolved.map_err(|_| DialError::Resolve("no answer".to_owned()))?;
    let resolved = resolved.map_err(|error| DialError::Resolve(error.to_string()))?;
    let mut last = DialError::Resolve("it has no address".to_owned());
    for socket_address in resolved.take(MAX_ADDRESSES) {
        match dial_one(socket_address, config, patience).await {
            Ok(dialled) => return Ok(dialled),
            Err(error) => {
                tracing::debug!(address, %socket_address, %error, "connecting failed");
                last = error;
            }
        }
    }
    Err(last)
}

async fn dial_one(to: SocketAddr, config: &quinn::ClientConfig, patience: Duration) -> Result<Dialled, DialError> {
    let from: SocketAddr =
        if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let endpoint = Endpoint::client(from).map_err(DialError::Socket)?;
    let connecting =
        endpoint.connect_with(config.clone(), to, SERVER_NAME).map_err(|error| DialError::Setup(error.to_string()))?;
    let connection = timeout(patience, connecting).await.map_err(|_| DialError::Timeout(patience))?;
    Ok(Dialled { connection: connection?, endpoint })
}

impl Dialled {
    /// Closes the connection and lets the peer know, as far as that works within a second.
    pub(crate) async fn close(self, reason: &str) {
        self.connection.close(VarInt::from_u32(0), reason.as_bytes());
        let _ = timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }
}
