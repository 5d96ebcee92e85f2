//! Intake: the aggregator's end of the link. Takes batches from relays into the journal and tells relays what they need.
//!
//! Invariants:
//! - A batch is acknowledged only after the journal is on disk, and refused without an answer that could be taken for one.
//! - Only a relay with a certificate of the authority, in the registry and not revoked, gets beyond the handshake; a
//!   revoked one is cut off within [`REGISTRY_INTERVAL`], at once if it was revoked through this process.
//! - A relay sends batches of its own spool only; a spool has one session at a time.
//! - Everything is bounded: connections, handshakes, joins at once and per minute, streams a connection, bytes of batches in
//!   memory (all and for each relay), frames, and how long a peer may keep us waiting.
//!
//! Tasks:
//!
//! | task | one for | owner | ends |
//! | --- | --- | --- | --- |
//! | server | the process | the caller of [`IntakeServer::run`] | at shutdown, after its connections |
//! | connection | a connection, by QUIC or TCP | server | when the connection does; at shutdown after Goodbye and open batches |
//! | batch | a batch in flight | connection | when the answer is delivered; aborted with a lost connection |
//!
//! An aborted batch task loses nothing: the relay has no answer, sends the batch again, and the journal knows it or not.
//!
//! What it does not do: look into batches (the processor does), decide what relays are told of projects (given as a watch).

mod batch;
mod close;
pub mod config;
mod connection;
mod control;
mod greeting;
mod handshakes;
mod identity_talk;
mod join;
mod live;
mod metrics;
mod reset;
mod session;
#[cfg(test)]
mod tests;
mod tls;
mod window;

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use picket_common::identity::IdentityError;
use picket_common::project_config::ConfigSnapshot;
use picket_common::timestamp::Timestamp;
use picket_common::wire::CloseCode;
use quinn::{Endpoint, Incoming, VarInt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::fleet::{AuthorityError, Fleet, LinkTls};
use crate::journal::Journal;
use crate::quota::QuotaAuthority;

pub use batch::reply_to;
pub use config::LinkConfig;
pub use live::{LiveRelay, LiveRelays};
pub use metrics::IntakeMetrics;

use connection::Attempt;
use handshakes::{HandshakePlace, Handshakes};
use join::JoinLimiter;

/// How often the registry is compared with the live connections: what a revocation in another process takes at most.
pub const REGISTRY_INTERVAL: Duration = Duration::from_secs(2);
/// How often "last seen" is written for connected relays.
const TOUCH_INTERVAL: Duration = Duration::from_secs(60);
/// Connections by TCP that the system holds for us.
const TCP_BACKLOG: u32 = 256;
/// How often the system is asked for a port that is free for both, where it is to choose one.
const MAX_BIND_ATTEMPTS: u32 = 32;
/// Wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long closing frames may take to get out.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Why intake can't start.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The address can't be bound.
    #[error("can't listen for relays on {address} ({protocol}): {source}; set link_listen to a free address")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The server's certificate can't be made.
    #[error("can't make the server's certificate: {0}")]
    Authority(#[from] AuthorityError),
    /// The authority's certificate can't be used.
    #[error("can't use the authority's certificate: {0}")]
    Identity(#[from] IdentityError),
    /// TLS can't be set up.
    #[error("can't set up TLS for the link: {0}")]
    Tls(String),
}

/// What intake works with.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Bounds, as they were at the start.
    pub config: LinkConfig,
    /// The same, of which the windows, `max_connections` and the life of certificates may change while it runs.
    pub settings: watch::Receiver<LinkConfig>,
    /// Who may connect.
    pub fleet: Fleet,
    /// Where batches go.
    pub journal: Journal,
    /// What relays are told of projects.
    pub projects: watch::Receiver<Arc<ConfigSnapshot>>,
    /// Divides the limits of quotas among relays.
    pub quotas: QuotaAuthority,
    /// Shows who is connected.
    pub live: LiveRelays,
    /// Counts.
    pub metrics: IntakeMetrics,
    /// `host:port` that joining relays are told to connect to.
    pub addresses: Vec<String>,
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    intake: Intake,
    /// Memory for batches in flight; a permit is [`batch::PERMIT_BYTES`].
    memory: Semaphore,
    /// Attempts to join at once.
    joins: Semaphore,
    join_limiter: Mutex<JoinLimiter>,
}

/// Intake, bound to its address.
#[derive(Debug)]
pub struct IntakeServer {
    endpoint: Endpoint,
    /// Unless `link.tcp` is off.
    listener: Option<TcpListener>,
    /// What peers that come by TCP are shown.
    tls: Arc<rustls::ServerConfig>,
    shared: Arc<Shared>,
}

// === impl IntakeServer ===

impl IntakeServer {
    /// Binds the address for UDP and TCP and makes the server's certificate. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`IntakeError`], each with what to do.
    pub fn bind(listen: SocketAddr, intake: Intake) -> Result<Self, IntakeError> {
        let certificates = intake.metrics.certificates.clone();
        let link_tls = Arc::new(LinkTls::new(intake.fleet.authorities().clone(), Timestamp::now, certificates)?);
        let configs = tls::server_configs(&link_tls, &intake.config)?;
        let (socket, listener) = bind_both(listen, &intake.config)?;
        let endpoint_config = reset::endpoint_config(intake.fleet.authorities().held().oldest());
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(endpoint_config, Some(configs.quic), socket, runtime)
            .map_err(|source| IntakeError::Bind { address: listen, protocol: "UDP", source })?;
        let memory = Semaphore::new(batch::permits(intake.config.max_bytes_in_flight.as_u64()) as usize);
        let joins = Semaphore::new(join::MAX_AT_ONCE);
        let join_limiter = Mutex::new(JoinLimiter::new(Instant::now()));
        let tls = configs.tcp;
        Ok(Self { endpoint, listener, tls, shared: Arc::new(Shared { intake, memory, joins, join_limiter }) })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What the socket says.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Serves relays until `shutdown`; then says goodbye, lets open batches finish for `link.shutdown_timeout`, and closes.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { endpoint, listener, tls, shared } = self;
        let mut gate =
            Gate { shared: Arc::clone(&shared), connections: JoinSet::new(), handshakes: Handshakes::new(), shutdown };
        tokio::select! {
            () = gate.accept(&endpoint, listener.as_ref(), &tls) => {}
            () = watch_registry(&shared) => {}
            () = note_presence(&shared) => {}
        }
        drop(listener);
        let mut connections = gate.connections;
        // New connections would find nobody to serve them.
        endpoint.set_server_config(None);
        let patience = shared.intake.config.shutdown_timeout.get();
        let finished = timeout(patience, async { while connections.join_next().await.is_some() {} }).await;
        if finished.is_err() {
            warn!(connections = connections.len(), "connections did not finish in time, closing them");
        }
        endpoint.close(VarInt::from_u32(CloseCode::Done.as_u32()), b"the aggregator is stopping");
        connections.shutdown().await;
        if timeout(FAREWELL_TIMEOUT, endpoint.wait_idle()).await.is_err() {
            debug!("some peers did not hear that the link is closed");
        }
        info!("intake stopped");
    }
}

/// Lets connections in and owns their tasks.
struct Gate {
    shared: Arc<Shared>,
    connections: JoinSet<()>,
    handshakes: Handshakes,
    shutdown: CancellationToken,
}

// === impl Gate ===

impl Gate {
    /// Accepts connections until shutdown.
    async fn accept(&mut self, endpoint: &Endpoint, listener: Option<&TcpListener>, tls: &Arc<rustls::ServerConfig>) {
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => self.admit_quic(incoming),
                    None => return error!("the link's endpoint has failed"),
                },
                (stream, remote) = accept_tcp(listener) => self.admit_tcp(stream, remote, tls),
                Some(ended) = self.connections.join_next() => {
                    if let Err(error) = ended {
                        error!(%error, "a connection's task failed");
                    }
                }
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn is_full(&self, remote: SocketAddr) -> bool {
        let connections = self.connections.len();
        let is_full = connections >= self.shared.intake.settings.borrow().max_connections as usize;
        if is_full {
            warn!(%remote, connections, "connection refused: link.max_connections is reached");
        }
        is_full
    }

    fn admit_quic(&mut self, incoming: Incoming) {
        let remote = incoming.remote_address();
        if self.is_full(remote) {
            return incoming.refuse();
        }
        let Some(handshake) = self.handshakes.try_quic() else {
            debug!(%remote, "many handshakes at once, asking the peer to prove its address");
            // RFC 9000 §8.1.2: a forged source address does not get the token.
            return match incoming.may_retry() {
                true => incoming.retry().unwrap_or_else(|error| error.into_incoming().refuse()),
                false => incoming.refuse(),
            };
        };
        self.serve(Attempt::Quic(Box::new(incoming)), handshake);
    }

    fn admit_tcp(&mut self, stream: TcpStream, remote: SocketAddr, tls: &Arc<rustls::ServerConfig>) {
        // Dropping the stream refuses it.
        if self.is_full(remote) {
            return;
        }
        let max_connections = self.shared.intake.settings.borrow().max_connections;
        let Some(handshake) = self.handshakes.try_tcp(remote.ip(), max_connections) else {
            return debug!(%remote, "connection refused: many handshakes at once");
        };
        self.serve(Attempt::Tcp(stream, remote, Arc::clone(tls)), handshake);
    }

    fn serve(&mut self, attempt: Attempt, handshake: HandshakePlace) {
        self.connections.spawn(connection::serve(Arc::clone(&self.shared), attempt, handshake, self.shutdown.clone()));
    }
}

/// Binds one port for UDP and, unless it is switched off, TCP.
fn bind_both(listen: SocketAddr, config: &LinkConfig) -> Result<(UdpSocket, Option<TcpListener>), IntakeError> {
    let failed = |protocol| move |source| IntakeError::Bind { address: listen, protocol, source };
    let mut attempts_left = MAX_BIND_ATTEMPTS;
    loop {
        let socket = UdpSocket::bind(listen).map_err(failed("UDP"))?;
        if !config.tcp {
            return Ok((socket, None));
        }
        let address = socket.local_addr().map_err(failed("UDP"))?;
        attempts_left -= 1;
        match listen_tcp(address) {
            Ok(listener) => return Ok((socket, Some(listener))),
            // The system chose a port that is free for UDP only: it may choose another.
            Err(error) if listen.port() == 0 && error.kind() == ErrorKind::AddrInUse && attempts_left > 0 => {}
            Err(error) => return Err(failed("TCP")(error)),
        }
    }
}

fn listen_tcp(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // Connections of an earlier process may linger on the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(TCP_BACKLOG)
}

/// The next connection by TCP; never returns without a listener.
async fn accept_tcp(listener: Option<&TcpListener>) -> (TcpStream, SocketAddr) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                // Of one connection, or of the process (out of file descriptors): then trying at once would spin.
                warn!(%error, "can't accept a connection by TCP");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Cuts off relays that were revoked. Only reads, so that no lock of another writer keeps it from that. Never returns.
async fn watch_registry(shared: &Shared) {
    let Intake { fleet, live, quotas, .. } = &shared.intake;
    let mut revocations = fleet.subscribe_revocations();
    let mut registry = fleet.watch_allowed();
    let mut ticks = interval(REGISTRY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // The sender lives as long as `fleet`, so this never fails.
            _ = revocations.changed() => {}
        }
        if live.count() == 0 {
            continue;
        }
        let allowed = match registry.read().await {
            Ok(allowed) => {
                quotas.set_fleet(&allowed);
                allowed
            }
            Err(error) => {
                // Live relays have been allowed before; new ones are refused while the registry can't be read.
                error!(%error, "can't read the registry, revocations by other processes wait");
                live.relay_ids().difference(&revocations.borrow_and_update()).copied().collect()
            }
        };
        for relay in live.cut_all_but(&allowed) {
            warn!(relay = %relay.relay_id, name = relay.name, "revoked relay cut off");
        }
    }
}

/// Notes now and then who is there. Writes, and so may wait for other writers. Never returns.
async fn note_presence(shared: &Shared) {
    let mut ticks = interval(TOUCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, and a relay that connects is noted by its session.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        touch_all(&shared.intake.fleet, &shared.intake.live).await;
    }
}

async fn touch_all(fleet: &Fleet, live: &LiveRelays) {
    for relay_id in live.relay_ids() {
        if let Err(error) = fleet.touch(relay_id, None, Timestamp::now()).await {
            return warn!(%error, "can't note which relays are connected");
        }
    }
}
