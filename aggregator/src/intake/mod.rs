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
//! | connection | a QUIC connection | server | when the connection does; at shutdown after Goodbye and open batches |
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

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use picket_common::identity::IdentityError;
use picket_common::project_config::ConfigSnapshot;
use picket_common::timestamp::Timestamp;
use picket_common::wire::CloseCode;
use quinn::{Endpoint, Incoming, VarInt};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::fleet::{AuthorityError, Fleet, LinkTls};
use crate::journal::Journal;
use crate::quota::QuotaAuthority;

pub use config::LinkConfig;
pub use live::{LiveRelay, LiveRelays};
pub use metrics::IntakeMetrics;

use join::JoinLimiter;

/// How often the registry is compared with the live connections: what a revocation in another process takes at most.
pub const REGISTRY_INTERVAL: Duration = Duration::from_secs(2);
/// How often "last seen" is written for connected relays.
const TOUCH_INTERVAL: Duration = Duration::from_secs(60);
/// Handshakes at once. Each costs a signature or two; beyond it peers must first prove their address.
const MAX_HANDSHAKES: usize = 64;
/// How long closing frames may take to get out.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Why intake can't start.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The address can't be bound.
    #[error("can't listen for relays on {address} (UDP): {source}; set link_listen to a free address")]
    Bind {
        /// The address.
        address: SocketAddr,
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
    /// Bounds.
    pub config: LinkConfig,
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
    shared: Arc<Shared>,
}

// === impl IntakeServer ===

impl IntakeServer {
    /// Binds the UDP address and makes the server's certificate. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`IntakeError`], each with what to do.
    pub fn bind(listen: SocketAddr, intake: Intake) -> Result<Self, IntakeError> {
        let certificates = intake.metrics.certificates.clone();
        let link_tls = Arc::new(LinkTls::new(intake.fleet.authorities().clone(), Timestamp::now, certificates)?);
        let server_config = tls::server_config(&link_tls, &intake.config)?;
        let bind_error = |source| IntakeError::Bind { address: listen, source };
        let socket = std::net::UdpSocket::bind(listen).map_err(bind_error)?;
        let endpoint_config = reset::endpoint_config(intake.fleet.authorities().held().oldest());
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(endpoint_config, Some(server_config), socket, runtime).map_err(bind_error)?;
        let memory = Semaphore::new(batch::permits(intake.config.max_bytes_in_flight.as_u64()) as usize);
        let joins = Semaphore::new(join::MAX_AT_ONCE);
        let join_limiter = Mutex::new(JoinLimiter::new(Instant::now()));
        Ok(Self { endpoint, shared: Arc::new(Shared { intake, memory, joins, join_limiter }) })
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
        let Self { endpoint, shared } = self;
        let mut connections = JoinSet::new();
        tokio::select! {
            () = accept(&endpoint, &shared, &mut connections, &shutdown) => {}
            () = watch_registry(&shared) => {}
            () = note_presence(&shared) => {}
        }
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

/// Accepts connections until shutdown.
async fn accept(
    endpoint: &Endpoint,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        shared.intake.metrics.connections.set(connections.len() as u64);
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => admit(incoming, shared, connections, &handshakes, shutdown),
                None => return error!("the link's endpoint has failed"),
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    error!(%error, "a connection's task failed");
                }
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// Starts a connection's task, unless there are too many.
fn admit(
    incoming: Incoming,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
    handshakes: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) {
    let remote = incoming.remote_address();
    if connections.len() >= shared.intake.config.max_connections as usize {
        warn!(%remote, connections = connections.len(), "connection refused: link.max_connections is reached");
        return incoming.refuse();
    }
    let Ok(handshake) = Arc::clone(handshakes).try_acquire_owned() else {
        debug!(%remote, "many handshakes at once, asking the peer to prove its address");
        // RFC 9000 §8.1.2: a forged source address does not get the token.
        return match incoming.may_retry() {
            true => incoming.retry().unwrap_or_else(|error| error.into_incoming().refuse()),
            false => incoming.refuse(),
        };
    };
    connections.spawn(connection::serve(Arc::clone(shared), incoming, handshake, shutdown.clone()));
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
