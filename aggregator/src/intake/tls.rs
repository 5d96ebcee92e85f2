//! What the link's server shows and asks for, and the bounds that the transports keep by themselves.
//!
//! Invariants: TLS 1.3 only and no early data; a certificate that is shown must be an authority's that is in force
//! ([`LinkTls`]). That one is shown at
//! all is checked by `connection`, because a joining relay has none. Until a relay is known its connection may hold next
//! to no memory; [`admit`] widens the bounds.

use std::sync::Arc;

use picket_common::identity;
use picket_common::transport::Connection;
use picket_common::wire::control::Window;
use picket_common::wire::{ALPN_JOIN, ALPN_LINK};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt};

use super::IntakeError;
use super::config::LinkConfig;
use crate::fleet::LinkTls;

/// Flow-control window of one stream, and of a whole connection before the relay is known.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const STRANGER_WINDOW_BYTES: u32 = 128 * 1024;
/// Flow-control window of a relay's connection: what quinn may buffer while the batch tasks wait for memory. At 100 ms
/// round-trip time it allows 80 MB/s, more than a disk takes. Over TCP each stream has 64 KiB at least, so that with the most
/// batches that may be configured (1024) it is 64 MiB there.
const RELAY_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Streams beyond the window of batches: the control stream, and batches whose answer is on its way.
const SPARE_STREAMS: u32 = 4;

/// Connection attempts that quinn holds for us, and what they may buffer. The defaults are for public web servers.
const MAX_WAITING_ATTEMPTS: usize = 256;
const ATTEMPT_BUFFER_BYTES: u64 = 16 * 1024;
const ATTEMPTS_BUFFER_BYTES: u64 = 4 * 1024 * 1024;

/// The server side of the link over either transport.
pub(super) struct ServerConfigs {
    pub(super) quic: ServerConfig,
    pub(super) tcp: Arc<rustls::ServerConfig>,
}

/// The server side of the link; its certificates are renewed behind it.
pub(super) fn server_configs(link_tls: &Arc<LinkTls>, config: &LinkConfig) -> Result<ServerConfigs, IntakeError> {
    let tls = server_tls(link_tls)?;
    let tcp = Arc::new(tls.clone());
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| IntakeError::Tls(error.to_string()))?;
    let mut quic = ServerConfig::with_crypto(Arc::new(crypto));
    quic.transport_config(Arc::new(transport(config)?))
        .max_incoming(MAX_WAITING_ATTEMPTS)
        .incoming_buffer_size(ATTEMPT_BUFFER_BYTES)
        .incoming_buffer_size_total(ATTEMPTS_BUFFER_BYTES);
    Ok(ServerConfigs { quic, tcp })
}

fn server_tls(link_tls: &Arc<LinkTls>) -> Result<rustls::ServerConfig, IntakeError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(identity::crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| IntakeError::Tls(error.to_string()))?
        .with_client_cert_verifier(Arc::clone(link_tls) as _)
        .with_cert_resolver(Arc::clone(link_tls) as _);
    tls.alpn_protocols = vec![ALPN_LINK.to_vec(), ALPN_JOIN.to_vec()];
    // A resumed session would carry an identity that was verified when the certificate may still have been good.
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(tls)
}

fn transport(config: &LinkConfig) -> Result<TransportConfig, IntakeError> {
    let idle = IdleTimeout::try_from(config.idle_timeout.get())
        .map_err(|_| IntakeError::Tls("link.idle_timeout is too long".to_owned()))?;
    let mut transport = TransportConfig::default();
    transport
        // The one stream that a stranger may open is its control stream or its request to join.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(config.keep_alive.get()));
    Ok(transport)
}

/// Lets a relay that has proved who it is send so many batches.
pub(super) fn admit(connection: &Connection, most: Window) {
    connection.admit(most.batches.saturating_add(SPARE_STREAMS), RELAY_WINDOW_BYTES);
}
