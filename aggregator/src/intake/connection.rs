//! One connection: handshake, who is it, and then either a join or a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use picket_common::identity;
use picket_common::ids::{RelayId, SpoolId};
use picket_common::timestamp::Timestamp;
use picket_common::transport::mux::Mux;
use picket_common::transport::{Connection, ConnectionLost, Patience, ReceiveStream, SendStream};
use picket_common::wire::{ALPN_JOIN, ALPN_LINK, FromRelay, MAX_SMALL_FRAME, read_frame};
use quinn::Incoming;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use super::close::Close;
use super::config::LinkConfig;
use super::greeting::{self, Introduction};
use super::handshakes::HandshakePlace;
use super::live::{LiveRelay, SessionGuard};
use super::session::{FIRST_FRAME_TIMEOUT, Session};
use super::window::widest;
use super::{Shared, batch, control, join, tls};
use crate::fleet::{FleetError, RelayRow};
use picket_common::wire::CloseCode;

/// How long a handshake may take, and after it the first frame.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to hear that its connection is closed.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// A peer that has not shown yet who it is.
pub(super) enum Attempt {
    /// By QUIC; boxed, because it is ten times as large as the other.
    Quic(Box<Incoming>),
    /// By TCP, and what it is to be shown.
    Tcp(TcpStream, SocketAddr, Arc<rustls::ServerConfig>),
}

// === impl Attempt ===

impl Attempt {
    fn remote_address(&self) -> SocketAddr {
        match self {
            Self::Quic(incoming) => incoming.remote_address(),
            Self::Tcp(_, remote, _) => *remote,
        }
    }

    async fn connect(self, config: &LinkConfig) -> Result<Connection, ConnectionLost> {
        match self {
            Self::Quic(incoming) => Ok(Connection::Quic(incoming.accept()?.await?)),
            Self::Tcp(stream, remote, tls) => {
                // Acknowledgements are small and waited for.
                stream.set_nodelay(true)?;
                let stream = TlsAcceptor::from(tls).accept(stream).await?;
                let patience = Patience {
                    idle: config.idle_timeout.get(),
                    keep_alive: config.keep_alive.get(),
                    farewell: FAREWELL_TIMEOUT,
                };
                Ok(Connection::Tcp(Mux::server(stream.into(), remote, patience)))
            }
        }
    }
}

/// Serves one connection from its first packet to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    attempt: Attempt,
    handshake: HandshakePlace,
    shutdown: CancellationToken,
) {
    let span = info_span!("connection", remote = %attempt.remote_address());
    async move {
        let connection = match timeout(HANDSHAKE_TIMEOUT, attempt.connect(&shared.intake.config)).await {
            Ok(Ok(connection)) => connection,
            // Also where a certificate is not the authority's or has expired: rustls refuses it.
            Ok(Err(error)) => return info!(%error, hint = clock_hint(&error), "handshake failed"),
            Err(_) => return debug!("handshake took too long"),
        };
        drop(handshake);
        let metrics = &shared.intake.metrics;
        let _counted = metrics.count_connection(connection.kind());
        let ended = dispatch(&shared, &connection, &shutdown).await;
        if connection.close_reason().is_some() {
            connection.farewell().await;
            return debug!("connection ended by the peer or by another task");
        }
        match ended {
            Ok(()) => Close::new(CloseCode::Done, "").apply(&connection),
            Err(close) => {
                metrics.sessions_refused.inc();
                warn!(code = ?close.code, reason = close.reason, "connection closed");
                close.apply(&connection);
            }
        }
        connection.farewell().await;
    }
    .instrument(span)
    .await;
}

/// What an operator should look at where a certificate is refused for its time.
const fn clock_hint(error: &ConnectionLost) -> Option<&'static str> {
    match error {
        ConnectionLost::UntrustedForTime(_) => Some(
            "by the clock of this host the relay's certificate is not good now: compare the clocks, and see to time \
             synchronisation; if it has expired indeed, the relay must join anew",
        ),
        ConnectionLost::RefusedForTime => {
            Some("by the relay's clock this aggregator's certificate, is not good now: compare the clocks")
        }
        _ => None,
    }
}

async fn dispatch(shared: &Arc<Shared>, connection: &Connection, shutdown: &CancellationToken) -> Result<(), Close> {
    match connection.protocol().as_deref() {
        Some(ALPN_LINK) => link(shared, connection, shutdown).await,
        Some(ALPN_JOIN) => join::serve(shared, connection).await,
        // rustls refuses other names; a client that names none gets here.
        _ => Err(Close::new(CloseCode::Protocol, "no protocol of Picket was asked for")),
    }
}

/// A relay's session.
async fn link(shared: &Arc<Shared>, connection: &Connection, shutdown: &CancellationToken) -> Result<(), Close> {
    let (relay_id, certificate) = identify(connection)?;
    let shown_authority = shared.intake.fleet.authorities().held().signer_of(&certificate);
    let relay = check_registry(shared, relay_id).await?;
    let widest = widest(&shared.intake.settings.borrow());
    tls::admit(connection, widest);
    let (hello, mut streams) = first_frame(connection).await?;
    let FromRelay::Hello { version, spool_id, config_revision, lineage, former_spools: former, .. } = hello else {
        return Err(Close::new(CloseCode::Protocol, "the first message must be Hello"));
    };
    let introduction = Introduction { relay_id, spool_id, lineage, former };
    let greeted = greeting::greet(shared, introduction, (&mut streams.0, &mut streams.1)).await?;
    if let Err(error) = shared.intake.fleet.touch(relay_id, Some(&version), Timestamp::now()).await {
        warn!(%error, relay = %relay_id, "can't note that the relay is connected");
    }
    // Before the relay is told by how many relays it divides limits: it may have joined a moment ago, or all of them are new
    // to an aggregator that has just started.
    match shared.intake.fleet.allowed().await {
        Ok(allowed) => shared.intake.quotas.set_fleet(&allowed),
        Err(error) => {
            warn!(%error, "can't read the registry");
            return Err(Close::new(CloseCode::Internal, "the registry can't be read at the moment"));
        }
    }
    greeting::welcome(&greeted, &mut streams.0).await?;
    let epoch = match greeted.offered {
        Some(offered) => {
            let confirmed = greeting::confirmed(shared, relay_id, spool_id, offered, &mut streams.1);
            match shutdown.run_until_cancelled(confirmed).await {
                Some(confirmed) => confirmed?,
                None => return Ok(()),
            }
        }
        None => greeting::unconfirmed(shared, relay_id, spool_id).await?,
    };
    let listed = enter(shared, connection, relay, version, spool_id);
    let window_permits = batch::permits(widest.bytes);
    let session = Arc::new(Session {
        shared: Arc::clone(shared),
        connection: connection.clone(),
        relay_id,
        shown_authority,
        spool_id,
        epoch,
        former_spools: greeted.former.into_iter().map(|(spool, _)| spool).collect(),
        config_revision,
        widest,
        window: greeted.window,
        memory: Semaphore::new(window_permits as usize),
        listed,
        quotas: shared.intake.quotas.enter(relay_id),
    });
    let span = info_span!("relay", relay = %relay_id);
    let ended = converse(&session, streams, shutdown).instrument(span).await;
    drop(session);
    shared.intake.metrics.sessions.set(shared.intake.live.count() as u64);
    info!(relay = %relay_id, "relay disconnected");
    ended
}

/// Who the peer is, by its certificate; rustls has verified that before.
fn identify(connection: &Connection) -> Result<(RelayId, CertificateDer<'static>), Close> {
    let certificate = connection.peer_certificate();
    let certificate =
        certificate.ok_or_else(|| Close::new(CloseCode::NoIdentity, "no certificate was shown; join first"))?;
    let named = identity::relay_id_of(&certificate);
    let relay_id = named.map_err(|error| Close::new(CloseCode::NoIdentity, error.to_string()))?;
    Ok((relay_id, certificate))
}

async fn check_registry(shared: &Shared, relay_id: RelayId) -> Result<RelayRow, Close> {
    match shared.intake.fleet.relay(relay_id).await {
        Ok(relay) if relay.revoked_at.is_none() => Ok(relay),
        Ok(_) => Err(Close::new(CloseCode::NotAllowed, "the relay was revoked")),
        Err(FleetError::UnknownRelay(_)) => {
            Err(Close::new(CloseCode::NotAllowed, "the relay is not registered with this aggregator"))
        }
        Err(error) => {
            warn!(%error, relay = %relay_id, "can't look the relay up");
            Err(Close::new(CloseCode::Internal, "the registry can't be read at the moment"))
        }
    }
}

async fn first_frame(connection: &Connection) -> Result<(FromRelay, (SendStream, ReceiveStream)), Close> {
    let lost = || Close::new(CloseCode::Protocol, "no control stream was opened");
    let read = async {
        let (send, mut receive) = connection.accept().await.map_err(|_| lost())?;
        let hello = read_frame(&mut receive, MAX_SMALL_FRAME)
            .await
            .map_err(|error| Close::new(CloseCode::Protocol, format!("the first message is unreadable: {error}")))?;
        Ok((hello, (send, receive)))
    };
    timeout(FIRST_FRAME_TIMEOUT, read).await.map_err(|_| lost())?
}

fn enter(
    shared: &Shared,
    connection: &Connection,
    relay: RelayRow,
    version: String,
    spool_id: SpoolId,
) -> SessionGuard {
    info!(
        relay = %relay.id, name = relay.name, version, spool = %spool_id, transport = %connection.kind(), "relay connected"
    );
    let entry = LiveRelay {
        relay_id: relay.id,
        name: relay.name,
        remote_address: connection.remote_address(),
        transport: connection.kind(),
        version,
        spool_id,
        connected_since: Timestamp::now(),
        statistics: None,
    };
    let (listed, older) = shared.intake.live.enter(entry, connection.clone());
    if let Some(older) = older {
        shared.intake.metrics.sessions_superseded.inc();
        warn!(
            relay = %older.relay_id, remote = %older.remote_address, spool = %spool_id,
            "an older connection of this spool was closed; if this repeats, the relay's data directory was copied"
        );
    }
    shared.intake.metrics.sessions.set(shared.intake.live.count() as u64);
    listed
}

/// The control conversation and the batches beside it, until either side has enough.
async fn converse(
    session: &Arc<Session>,
    streams: (SendStream, ReceiveStream),
    shutdown: &CancellationToken,
) -> Result<(), Close> {
    let mut batches = JoinSet::new();
    let conversation = control::converse(session, streams, shutdown);
    tokio::pin!(conversation);
    let ended = loop {
        tokio::select! {
            ended = &mut conversation => break ended,
            stream = session.connection.accept() => match stream {
                // Bounded by the streams that the transport allows.
                Ok(streams) => { batches.spawn(batch::receive(Arc::clone(session), streams).in_current_span()); }
                Err(error) => {
                    debug!(%error, "connection lost");
                    return Ok(());
                }
            },
            Some(received) = batches.join_next() => match received {
                Ok(Ok(())) => {}
                Ok(Err(close)) => break Err(close),
                Err(error) => break Err(Close::new(CloseCode::Internal, error.to_string())),
            },
        }
    };
    if ended.is_ok() {
        finish(session, &mut batches).await;
    }
    ended
}

/// Lets batches that have begun come to their answer.
async fn finish(session: &Session, batches: &mut JoinSet<Result<(), Close>>) {
    let patience = session.shared.intake.config.shutdown_timeout.get();
    let all = async { while batches.join_next().await.is_some() {} };
    tokio::select! {
        finished = timeout(patience, all) => if finished.is_err() {
            info!("some batches did not arrive in time; the relay sends them again");
        },
        _ = session.connection.closed() => {}
    }
}
