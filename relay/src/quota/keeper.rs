//! The task that writes the table of shares down, so that a relay that starts again goes on where it was.
//!
//! ```text
//! spool state "quotas": {"relays": n, "leases": [{"bucket", "lease", "margin"}], "baselines": [[project, baseline]]}
//! ```
//!
//! - Written `WRITE_INTERVAL` after a change and when the relay stops; not synced, because a share of a quota is not worth an
//!   fsync. A process that is killed loses what it admitted since; `margin` says how much that will have been, judging by the
//!   interval before, and counts as used at the next start.
//! - One task, owned by `run`; it has no queue, and reads the table as it is when its time has come.

use std::time::Duration;

use picket_common::ids::ProjectId;
use picket_common::quota::lease::Lease;
use picket_common::quota::window::QuotaBucket;
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::spike::Baseline;
use super::table::Quotas;
use crate::spool::{Spool, SpoolError};

/// How long a change may be in memory only.
const WRITE_INTERVAL: Duration = Duration::from_millis(250);

/// The table as it is written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredState {
    /// How many relays divide a limit; 0 if that was never told.
    pub relays: u32,
    /// The share of each open window.
    pub leases: Vec<StoredLease>,
    /// What is usual for each project.
    pub baselines: Vec<(ProjectId, Baseline)>,
}

/// A share as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLease {
    /// What is counted.
    pub bucket: QuotaBucket,
    /// The share.
    pub lease: Lease,
    /// What may be admitted after this was written and before it is written again.
    pub margin: u64,
}

/// Whether the relay goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It does; more may be admitted before the next time.
    Running,
    /// It has stopped taking requests.
    Clean,
}

/// Reads what was written down. Blocking. What can't be read counts as nothing.
///
/// # Errors
/// [`SpoolError::Storage`] if the spool can't be read.
pub fn stored(spool: &Spool) -> Result<StoredState, SpoolError> {
    let Some(encoded) = spool.quota_state()? else { return Ok(StoredState::default()) };
    Ok(serde_json::from_slice(&encoded).unwrap_or_else(|problem| {
        tracing::warn!(%problem, "the stored shares of quotas can't be read, counting begins anew");
        StoredState::default()
    }))
}

/// Writes the table down until `stop`, and then a last time.
pub async fn run(quotas: Quotas, spool: Spool, stop: CancellationToken) {
    while stop.run_until_cancelled(quotas.unwritten()).await.is_some() {
        let _ = stop.run_until_cancelled(tokio::time::sleep(WRITE_INTERVAL)).await;
        write(&quotas, &spool, Ending::Running).await;
    }
    write(&quotas, &spool, Ending::Clean).await;
}

async fn write(quotas: &Quotas, spool: &Spool, ending: Ending) {
    let Some(state) = quotas.take_stored(Timestamp::now(), ending) else { return };
    let spool = spool.clone();
    let written = tokio::task::spawn_blocking(move || {
        // String keys and numbers only, so it always serialises; an empty text would read as nothing.
        spool.put_quota_state(&serde_json::to_vec(&state).unwrap_or_default())
    });
    match written.await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => tracing::warn!(%problem, "the shares of quotas can't be written down"),
        Err(failure) => tracing::error!(%failure, "writing the shares of quotas down ended unexpectedly"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spool::SpoolConfig;
    use picket_common::quota::QuotaScope;
    use picket_common::quota::window::WindowNumber;
    use tokio::time::Instant;

    #[tokio::test]
    async fn what_was_written_down_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Spool::open(&directory.path().join("spool"), &SpoolConfig::default(), [1; 16]).unwrap();
        let (spool, committer) = open();
        assert_eq!(stored(&spool).unwrap(), StoredState::default());
        let bucket =
            QuotaBucket { quota: "q".into(), scope: QuotaScope::Project, of: "7".into(), seconds: u64::MAX / 2000 };
        let mut lease = Lease::new(WindowNumber(0), 10);
        lease.charge(4);
        let first =
            StoredState { relays: 3, leases: vec![StoredLease { bucket, lease, margin: 2 }], ..StoredState::default() };
        let stop = CancellationToken::new();
        stop.cancel();
        run(Quotas::new(first, Instant::now()), spool.clone(), stop).await;
        drop(spool);
        committer.close().await;

        let (spool, _committer) = open();
        let read = stored(&spool).unwrap();
        assert_eq!((read.relays, read.leases[0].lease.used(), read.leases[0].margin), (3, 6, 0));
    }
}
