//! The relay under load for minutes, its memory looked at: is it flat?

use std::fmt;
use std::time::Instant;

use serde::Serialize;
use tracing::info;

use super::Bench;
use super::resources::Resources;
use crate::load::Pace;
use crate::process;
use crate::setting::BenchError;

/// Samples at either end of the soak that are compared.
const ENDS: usize = 10;

/// The relay's memory over a soak.
#[derive(Debug, Clone, Serialize)]
pub struct Soak {
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Events that were accepted in it.
    pub accepted: u64,
    /// Resident bytes after each stretch of load.
    pub rss: Vec<u64>,
    /// Mean of the first ten of them.
    pub rss_at_start: u64,
    /// Mean of the last ten.
    pub rss_at_end: u64,
    /// The largest the kernel saw in the process's life.
    pub rss_peak: u64,
}

// === impl Soak ===

impl fmt::Display for Soak {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        writeln!(
            formatter,
            "\nsoak: {} events in {:.0} s; the relay's RSS {:.1} MB at the start, {:.1} MB at the end, {:.1} MB at most",
            self.accepted,
            self.seconds,
            megabytes(self.rss_at_start),
            megabytes(self.rss_at_end),
            megabytes(self.rss_peak),
        )
    }
}

impl Bench {
    /// Stretches of the open loop against the relay until [`super::Options::soak`] has passed; between them bodies are made.
    pub(super) async fn soak(&mut self, resources: &mut Resources) -> Result<Option<Soak>, BenchError> {
        let (length, rate) = (self.options.soak, self.options.rate);
        if length.is_zero() || rate <= 0.0 {
            return Ok(None);
        }
        info!(?length, rate, "soak");
        let (started, pace) = (Instant::now(), Pace::Open { rate });
        let pid = self.installation.relay.pid();
        let unmeasured = |source| BenchError::Files { doing: "measure the relay", source };
        let (mut rss, mut accepted) = (Vec::new(), 0);
        while started.elapsed() < length {
            let count = (rate * self.options.duration.as_secs_f64()).ceil() as u64;
            let pool = self.fresh(count).await?;
            let plan = self.plan(pace);
            let run = self.run_relay(&pool, &plan, resources).await?;
            accepted += run.load.accepted;
            rss.push(process::memory(pid).map_err(unmeasured)?.rss);
        }
        Ok(Some(Soak {
            seconds: started.elapsed().as_secs_f64(),
            accepted,
            rss_at_start: mean(&rss[..rss.len().min(ENDS)]),
            rss_at_end: mean(&rss[rss.len().saturating_sub(ENDS)..]),
            rss_peak: process::memory(pid).map_err(unmeasured)?.rss_peak,
            rss,
        }))
    }
}

fn mean(values: &[u64]) -> u64 {
    values.iter().sum::<u64>() / values.len().max(1) as u64
}
