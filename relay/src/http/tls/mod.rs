//! TLS on the port that SDKs reach: 1.2 and 1.3, with a certificate that is replaced while the relay runs.
//!
//! ```text
//! configuration reloaded ─┐
//!                         ├─▸ reload: both files ─▸ a pair that fits? ─ yes ▸ new connections use it
//! timer ──────────────────┘   (timer: only if a file changed)         └ no ─▸ an error in the log, the old pair stays
//! ```
//!
//! Invariants: a connection keeps the pair that it began with; there is always a pair that fits; keys never get into logs.
//!
//! What it does not do: ask clients for certificates, or fetch certificates (an ACME client writes the files).

mod certificates;
mod transport;

pub use certificates::{Certificates, Reload, TlsError};
pub use transport::SdkTransport;

use std::sync::Arc;
use std::time::Duration;

use picket_common::error_text::reason;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How often the files are looked at: two calls of the system.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The task that keeps `certificates` fresh until `stop`.
pub async fn keep_fresh(certificates: Option<Arc<Certificates>>, stop: CancellationToken) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if stop.run_until_cancelled(look.tick()).await.is_none() {
            return;
        }
        let Some(certificates) = certificates.clone() else { continue };
        let reloaded = tokio::task::spawn_blocking(move || certificates.reload(Reload::IfChanged)).await;
        match reloaded {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => info!("the TLS certificate is reloaded"),
            Ok(Err(failure)) => {
                error!(reason = reason(&failure), "can't reload the TLS certificate, the former one stays in use");
            }
            Err(failure) => error!(%failure, "reloading the TLS certificate ended unexpectedly"),
        }
    }
}

#[cfg(test)]
mod tests;
