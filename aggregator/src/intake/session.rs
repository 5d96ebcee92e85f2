//! A connected relay, as the tasks of its connection share it.

use std::sync::Arc;
use std::time::Duration;

use picket_common::identity::Fingerprint;
use picket_common::ids::{RelayId, Sequence, SpoolId};
use picket_common::transport::Connection;
use picket_common::wire::control::Window;
use tokio::sync::Semaphore;

use super::Shared;
use super::live::SessionGuard;
use crate::journal::SessionEpoch;
use crate::quota::QuotaSession;

pub(super) const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// What the journal has of a spool.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredSequences {
    /// Everything up to here.
    pub(super) up_to: Sequence,
    /// The highest of all.
    pub(super) highest: Sequence,
}

/// A relay that is connected, as its tasks see it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Connection,
    pub(super) relay_id: RelayId,
    /// Who signed the certificate that it showed; nothing where that authority was retired in between.
    pub(super) shown_authority: Option<Fingerprint>,
    pub(super) spool_id: SpoolId,
    /// Which of the spool's sessions it is: an earlier one may store nothing.
    pub(super) epoch: SessionEpoch,
    /// Ids that batches from before a fork have.
    pub(super) former_spools: Vec<SpoolId>,
    /// The configuration that the relay said it has.
    pub(super) config_revision: u64,
    /// What the connection was made for: streams and memory. The window is never wider.
    pub(super) widest: Window,
    /// What the welcome said may be in flight.
    pub(super) window: Window,
    /// This relay's share of the memory for batches.
    pub(super) memory: Semaphore,
    pub(super) listed: SessionGuard,
    /// Its shares of quotas.
    pub(super) quotas: QuotaSession,
}

// === impl Session ===

impl Session {
    /// The epoch that batches of a spool are fenced by: none for a former id, which two directories may share (a copy and its
    /// original send what both hold under it).
    pub(super) fn epoch_of(&self, spool: SpoolId) -> Option<SessionEpoch> {
        (spool == self.spool_id).then_some(self.epoch)
    }
}
