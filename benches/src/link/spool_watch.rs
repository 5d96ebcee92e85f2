//! The relay's spool, watched through its metrics.

use std::time::{Duration, Instant};

use crate::installation::Installation;
use crate::process;
use crate::setting::BenchError;

const RECORDS: &str = "picket_relay_spool_records";
const CONNECTED: &str = "picket_relay_uplink_connected";
const BATCHES: &str = "picket_relay_uplink_batches_total";
const PAYLOAD_BYTES: &str = "picket_relay_uplink_payload_bytes_total";
/// Between two looks. A look costs the relay about a millisecond.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Asks a relay how full its spool is.
pub(super) struct SpoolWatch<'a> {
    installation: &'a Installation,
}

/// What a relay has sent since it started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) batches: f64,
    pub(super) payload_bytes: f64,
}

/// How a backlog went.
#[derive(Debug)]
pub(super) struct Drained {
    pub(super) records: u64,
    pub(super) seconds: f64,
    pub(super) relay_rss_peak: u64,
    /// Processors that relay and aggregator kept busy; the caller's to fill in.
    pub(super) processors_busy: f64,
    /// Records a second in each fifth of the backlog.
    pub(super) fifths: Vec<f64>,
}

impl<'a> SpoolWatch<'a> {
    pub(super) const fn new(installation: &'a Installation) -> Self {
        Self { installation }
    }

    pub(super) async fn sent(&self) -> Result<Sent, BenchError> {
        Ok(Sent { batches: self.metric(BATCHES).await?, payload_bytes: self.metric(PAYLOAD_BYTES).await? })
    }

    pub(super) async fn until_connected(&self, wanted: bool, within: Duration) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            if (self.metric(CONNECTED).await? > 0.0) == wanted {
                return Ok(());
            }
            if started.elapsed() > within {
                let wanted = if wanted { "connected" } else { "cut off" };
                return Err(BenchError::Spool { wanted, deadline: within, records: self.records().await? });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    pub(super) async fn until_empty(&self, within: Duration) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            let records = self.records().await?;
            if records == 0 {
                return Ok(());
            }
            if started.elapsed() > within {
                return Err(BenchError::Spool { wanted: "empty", deadline: within, records });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until the spool is empty, and times it.
    pub(super) async fn drain(&self, relay: u32, within: Duration) -> Result<Drained, BenchError> {
        let (started, at_start) = (Instant::now(), self.records().await?);
        let mut marks = vec![(0.0, at_start)];
        let mut relay_rss_peak = 0;
        let mut records = at_start;
        while records > 0 {
            tokio::time::sleep(LOOK_INTERVAL).await;
            records = self.records().await?;
            let memory = process::memory(relay);
            let memory = memory.map_err(|source| BenchError::Files { doing: "read the relay's memory", source })?;
            relay_rss_peak = relay_rss_peak.max(memory.rss);
            // The next fifth begins.
            if at_start.saturating_sub(records) >= at_start * marks.len() as u64 / 5 {
                marks.push((started.elapsed().as_secs_f64(), records));
            }
            if started.elapsed() > within {
                return Err(BenchError::Spool { wanted: "empty", deadline: within, records });
            }
        }
        let rate = |pair: &[(f64, u64)]| (pair[0].1 - pair[1].1) as f64 / (pair[1].0 - pair[0].0);
        let fifths = marks.windows(2).map(rate).collect();
        let seconds = started.elapsed().as_secs_f64();
        Ok(Drained { records: at_start, seconds, relay_rss_peak, processors_busy: 0.0, fifths })
    }

    async fn records(&self) -> Result<u64, BenchError> {
        Ok(self.metric(RECORDS).await? as u64)
    }

    async fn metric(&self, name: &'static str) -> Result<f64, BenchError> {
        self.installation.relay_counter(name).await.ok_or(BenchError::Metric(name))
    }
}
