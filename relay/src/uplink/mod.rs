//! The uplink: streams sealed batches to an aggregator and brings the projects' configuration back.
//!
//! # Invariants
//! 1. A batch is deleted only after the aggregator acknowledged it, or said in its welcome that it has it.
//! 2. Batches are sent in the order in which the spool gives them (its lanes in turn, in order within each), verbatim; their
//!    answers may come in any order. A batch without an answer is sent again, in the next session if not in this one.
//! 3. What is in flight is bounded by the aggregator's window and by our own, in batches and bytes.
//! 4. Trouble with an aggregator never reaches the clients: the spool takes records meanwhile.
//!
//! # A connection's life
//! ```text
//! dial ──▶ Hello/Welcome ──▶ forget what is stored ──▶ send, settle, report ──▶ ended or lost
//!   ▲ ▲ (each aggregator by preference, QUIC or TCP)              │               │
//!   │ └───── a better place was found: answers first, then there ◀┘               │
//!   └──────────── jittered exponential wait, longer after a refusal ◀─────────────┘
//! ```
//!
//! | task | owner | its queue | when full | at shutdown |
//! | --- | --- | --- | --- | --- |
//! | uplink ([`run`]) | `run.rs` | – | – | stops sending, waits a bounded time for answers, closes |
//! | control reader | session | 2 messages to the session | waits, QUIC holds the aggregator back | aborted |
//! | delivery, one a batch | session | the window | nothing more is sent | waited for, then aborted |
//!
//! New batches wake the uplink by the spool's watch; nothing polls.

mod backoff;
mod clock;
mod config;
mod delivery;
pub(crate) mod dial;
mod error;
mod in_flight;
mod memory;
mod metrics;
mod place;
mod preference;
pub(crate) mod race;
mod renewal;
pub mod sending;
mod session;
mod status;

#[cfg(test)]
pub(crate) mod fake_aggregator;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transport_tests;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use picket_common::ids::Sequence;
use picket_common::timestamp::Timestamp;
use picket_common::transport::TransportKind;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use config::{CongestionControl, TransportChoice, UplinkConfig};
pub use dial::DialError;
pub use status::UplinkStatus;

use crate::live_identity::LiveIdentity;
use crate::projects::Projects;
use crate::quota::table::{Link as QuotaLink, Quotas};
use crate::spool::Spool;
use backoff::Backoff;
use dial::Dialler;
use error::LinkError;
use memory::{MemoryFile, Remembered};
use metrics::UplinkMetrics;
use place::Place;
use sending::Mismatch;
use session::{Ended, Session, blocking};
use status::StatusBoard;

/// What the uplink works with.
#[derive(Debug)]
pub struct UplinkParts {
    /// Who the relay is and whom it talks to.
    pub identity: LiveIdentity,
    /// Where it keeps what it learns of the network.
    pub data_dir: PathBuf,
    /// Where the batches are.
    pub spool: Spool,
    /// Where configurations go.
    pub projects: Projects,
    /// The shares of quotas, which the aggregator divides.
    pub quotas: Quotas,
    /// The `[uplink]` section.
    pub config: UplinkConfig,
    /// Where the status is shown.
    pub status: watch::Sender<UplinkStatus>,
}

/// Registers the uplink's metrics at once; the future runs until `stop`.
pub fn run(
    parts: UplinkParts,
    registry: &mut Registry,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let link = Link::new(parts, UplinkMetrics::registered(registry), system_random);
    async move { link.run(&stop).await }
}

fn system_random() -> u64 {
    // For jitter only; a host whose random source fails has other worries.
    getrandom::u64().unwrap_or_default()
}

/// The uplink, across its connections.
struct Link {
    identity: LiveIdentity,
    spool: Spool,
    projects: Projects,
    quotas: Quotas,
    config: UplinkConfig,
    status: StatusBoard,
    metrics: UplinkMetrics,
    random: fn() -> u64,
    file: MemoryFile,
    memory: Mutex<Memory>,
}

/// What outlives a connection.
struct Memory {
    /// No record above this was ever given to an aggregator under the spool's present id.
    highest_sent: Sequence,
    /// Something was acknowledged since the last wait.
    has_progressed: bool,
    /// When the certificate was last renewed, in this process.
    renewed_at: Option<Instant>,
    /// What was last logged as a warning, so that it is not logged again at each attempt.
    reported: Option<String>,
    /// What is kept on disk as well.
    remembered: Remembered,
    /// The aggregator that was lost or said goodbye; the others come first in the next round.
    demoted: Option<String>,
}

/// How a round through the aggregators ended.
enum Round {
    Stopped,
    /// Begin another at once: the relay has a new certificate.
    AtOnce,
    /// Wait, then begin another.
    Again {
        is_refused: bool,
    },
}

/// How the conversation with the aggregators ended well.
enum Left {
    Stopped,
    /// The aggregator at this address is stopping.
    Goodbye(String),
    /// The relay has a new certificate, for the next connection.
    Renewed,
}

// === impl Link ===

impl Link {
    fn new(parts: UplinkParts, metrics: UplinkMetrics, random: fn() -> u64) -> Self {
        let UplinkParts { identity, data_dir, spool, projects, quotas, config, status } = parts;
        let file = MemoryFile::new(data_dir);
        let memory = Memory {
            highest_sent: spool.sealed_before_contact(),
            has_progressed: false,
            renewed_at: None,
            reported: None,
            remembered: file.load(&identity.current().relay),
            demoted: None,
        };
        Self {
            identity,
            spool,
            projects,
            quotas,
            config,
            status: StatusBoard::new(status),
            metrics,
            random,
            file,
            memory: Mutex::new(memory),
        }
    }

    async fn run(&self, stop: &CancellationToken) {
        let expired_at = self.identity.current().validity.not_after;
        if expired_at < Timestamp::now() {
            let expired_at = expired_at.to_rfc3339();
            tracing::error!(
                expired_at,
                "this relay's certificate has expired by the clock of this host, the aggregator will refuse it"
            );
        }
        let mut backoff = Backoff::new(self.config.backoff_min.get(), self.config.backoff_max.get());
        loop {
            let dialler = match Dialler::new(self.identity.current().tls.clone(), self.config.congestion) {
                Ok(dialler) => dialler,
                Err(error) => {
                    // An identity that loads makes a configuration; if not, the relay still spools.
                    self.report_trouble("this relay", &LinkError::Dial(error));
                    return stop.cancelled().await;
                }
            };
            let is_refused = match self.round(&dialler, stop).await {
                Round::Stopped => break,
                Round::AtOnce => continue,
                Round::Again { is_refused } => is_refused,
            };
            if self.take_progress() {
                backoff.reset();
            }
            let mut wait = backoff.next((self.random)());
            if is_refused {
                wait = wait.max(self.config.refused_backoff.get());
            }
            tracing::debug!(wait = ?wait, "waiting before the next attempt to connect");
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
        }
        self.status.disconnected(None, Timestamp::now());
    }

    /// Tries the aggregators by preference; the first that can be talked to is talked to until that ends.
    async fn round(&self, dialler: &Dialler, stop: &CancellationToken) -> Round {
        let addresses = self.addresses();
        let mut is_refused = !addresses.is_empty();
        for address in addresses {
            let Some(reached) = stop.run_until_cancelled(self.reach(dialler, &address)).await else {
                return Round::Stopped;
            };
            let ended = match reached {
                Ok(place) => self.stay(dialler, place, stop).await,
                Err(error) => Err((address, LinkError::Dial(error))),
            };
            match ended {
                Ok(Left::Stopped) => return Round::Stopped,
                Ok(Left::Renewed) => return Round::AtOnce,
                Ok(Left::Goodbye(address)) => {
                    is_refused = false;
                    self.lock().demoted = Some(address);
                }
                Err((address, error)) => {
                    is_refused &= error.is_refusal();
                    self.report_trouble(&address, &error);
                    self.mend(&error).await;
                    self.lock().demoted = Some(address);
                }
            }
            if stop.is_cancelled() {
                return Round::Stopped;
            }
            if self.has_progressed() {
                // It worked until now: begin anew, with the others first.
                break;
            }
        }
        Round::Again { is_refused }
    }

    /// Talks to an aggregator, and to better ones as they are found, until that ends.
    async fn stay(
        &self,
        dialler: &Dialler,
        mut place: Place,
        stop: &CancellationToken,
    ) -> Result<Left, (String, LinkError)> {
        loop {
            let address = place.address.clone();
            match self.talk(dialler, place, stop).await {
                Ok(Ended::Stopped) => return Ok(Left::Stopped),
                Ok(Ended::Goodbye) => return Ok(Left::Goodbye(address)),
                Ok(Ended::Renewed) => return Ok(Left::Renewed),
                Ok(Ended::Better(better)) => place = better,
                Err(error) => return Err((address, error)),
            }
        }
    }

    async fn talk(&self, dialler: &Dialler, place: Place, stop: &CancellationToken) -> Result<Ended, LinkError> {
        let (kind, Place { address, dialled }) = (place.kind(), place);
        let beginning = Session::begin(self, dialled.connection.clone());
        let Some(begun) = stop.run_until_cancelled(beginning).await else {
            dialled.close("the relay is stopping").await;
            return Ok(Ended::Stopped);
        };
        let ended = match begun {
            Ok(mut session) => {
                tracing::info!(address, transport = %kind, spool_id = %self.spool.id(), "connected to the aggregator");
                self.lock().reported = None;
                self.metrics.set_transport(Some(kind));
                self.status.connected(&address, kind, Timestamp::now());
                self.quotas.set_link(QuotaLink::Up);
                let ended = session.run(self.better_place(dialler, &address, kind), stop).await;
                self.quotas.set_link(QuotaLink::Down);
                ended
            }
            Err(error) => Err(error),
        };
        self.metrics.set_transport(None);
        let reason = ended.as_ref().err().map(ToString::to_string);
        self.status.disconnected(reason, Timestamp::now());
        dialled.close(if ended.is_ok() { "the relay is done" } else { "the session failed" }).await;
        ended
    }

    /// The aggregators in the order to try them; one that was lost a moment ago comes last, once.
    fn addresses(&self) -> Vec<String> {
        let mut ranked = self.ranked();
        let demoted = self.lock().demoted.take();
        // Stable: keeps the order among the others.
        ranked.sort_by_key(|address| Some(address) == demoted.as_ref());
        ranked
    }

    fn preferred(&self) -> Option<String> {
        self.ranked().into_iter().next()
    }

    fn ranked(&self) -> Vec<String> {
        let memory = self.lock();
        let identity = self.identity.current();
        preference::ranked_with_fallback(self.spool.id(), &memory.remembered.aggregators, &identity.relay.aggregators)
    }

    fn transport(&self) -> TransportKind {
        self.lock().remembered.transport
    }

    async fn learn_transport(&self, kind: TransportKind) {
        self.remember(|remembered| remembered.transport = kind).await;
    }

    /// Takes a list that an aggregator pushed.
    async fn learn_aggregators(&self, addresses: Vec<String>) {
        let addresses = memory::usable(addresses);
        if addresses.is_empty() {
            return tracing::warn!(
                "the aggregator sent a list of aggregators without a usable address, keeping the old"
            );
        }
        tracing::debug!(?addresses, "list of aggregators received");
        self.remember(|remembered| remembered.aggregators = addresses).await;
    }

    /// Changes what is remembered, on disk as well where it is news.
    async fn remember(&self, change: impl FnOnce(&mut Remembered)) {
        let changed = {
            let mut memory = self.lock();
            let before = memory.remembered.clone();
            change(&mut memory.remembered);
            (memory.remembered != before).then(|| memory.remembered.clone())
        };
        let Some(remembered) = changed else { return };
        let file = self.file.clone();
        let stored = tokio::task::spawn_blocking(move || file.store(&remembered)).await;
        if let Err(error) = stored.map_err(std::io::Error::other).flatten() {
            tracing::warn!(%error, "what was learned of the network can't be stored, a restart will learn it again");
        }
    }

    /// Gives the spool a new id where its old one can't be used any more.
    async fn mend(&self, error: &LinkError) {
        let LinkError::Mismatch(mismatch) = error else { return };
        let point = mismatch.fork_point();
        let reason = match mismatch {
            Mismatch::Forked { .. } => "the data directory was copied or turned back; look for the other copy",
            Mismatch::TurnedBack { .. } => "the end of the spool's log was lost",
            Mismatch::Owned => {
                "the relay joined anew or the data directory was copied or turned back; what was sent and not yet acknowledged may be \
                 stored twice"
            }
        };
        // Not the source of jitter, which has an answer even when the system has none.
        let mut random = [0; 16];
        if let Err(error) = getrandom::fill(&mut random) {
            return tracing::error!(%error, "there are no random bytes for a new spool id");
        }
        let spool = self.spool.clone();
        match blocking(move || spool.fork(point, random)).await {
            Ok(spool_id) => {
                // The new id has sent nothing; the next welcome will say 0.
                self.lock().highest_sent = Sequence::new(0);
                tracing::error!(%spool_id, ?point, reason, "the spool goes on under a new spool id");
            }
            Err(error) => tracing::error!(%error, "the spool can't take a new id"),
        }
    }

    /// An error, with what this relay knows of the clocks where that is what it is about.
    fn explained(&self, error: &LinkError) -> String {
        match error {
            LinkError::Dial(DialError::RefusedForTime) => {
                clock::relay_not_valid(self.identity.current().validity, Timestamp::now())
            }
            _ => error.to_string(),
        }
    }

    /// A warning when the trouble is new, the status always.
    fn report_trouble(&self, address: &str, error: &LinkError) {
        let text = format!("{address}: {}", self.explained(error));
        let error = &self.explained(error);
        self.status.disconnected(Some(text.clone()), Timestamp::now());
        let mut memory = self.lock();
        if memory.reported.as_ref() == Some(&text) {
            tracing::debug!(address, %error, "the aggregator still can't be used");
        } else {
            tracing::warn!(address, %error, "the aggregator can't be used, records are spooled meanwhile");
            memory.reported = Some(text);
        }
    }

    fn note_renewal(&self) {
        self.lock().renewed_at = Some(Instant::now());
    }

    fn renewed_at(&self) -> Option<Instant> {
        self.lock().renewed_at
    }

    fn highest_sent(&self) -> Sequence {
        self.lock().highest_sent
    }

    fn note_sent(&self, last: Sequence) {
        let mut memory = self.lock();
        memory.highest_sent = memory.highest_sent.max(last);
    }

    fn note_progress(&self) {
        self.lock().has_progressed = true;
    }

    fn has_progressed(&self) -> bool {
        self.lock().has_progressed
    }

    fn take_progress(&self) -> bool {
        std::mem::take(&mut self.lock().has_progressed)
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Held for assignments only, so never poisoned halfway.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
