//! What the processes took while events passed through them: memory, processor time, disk, bytes on the wire.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::disk;
use crate::installation::{Installation, Service};
use crate::process::{self, Memory, PssWatch};
use crate::setting::BenchError;

use super::WIRE_BYTES_METRIC;

/// One process over all measured runs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ProcessUse {
    /// Memory after warm-up, at rest, in bytes.
    pub idle: Memory,
    /// Largest resident size, in bytes.
    pub rss_peak: u64,
    /// Largest proportional size that was seen, in bytes.
    pub pss_peak: u64,
    /// Processor time for each event, in milliseconds, from the first byte until all events were visible.
    pub cpu_ms_per_event: f64,
}

/// Everything that was used, for each accepted event where it says so.
#[derive(Debug, Clone, Serialize)]
pub struct Used {
    /// The floor server; its events are those it answered.
    pub floor: ProcessUse,
    /// The relay.
    pub relay: ProcessUse,
    /// The aggregator, with the embedded engine if that is in use.
    pub aggregator: ProcessUse,
    /// Compressed payload bytes from relay to aggregator for each event; none when the relay does not count them.
    pub wire_bytes_per_event: Option<f64>,
    /// Growth of the aggregator's directory for each event, in bytes.
    pub aggregator_disk_bytes_per_event: f64,
    /// The same by entry of that directory.
    pub aggregator_disk_by_entry: BTreeMap<String, f64>,
    /// Growth of the relay's directory over the whole run, in bytes: what is not given back after delivery.
    pub relay_disk_growth_bytes: i64,
}

/// The state of things when the measured runs began.
pub(super) struct Resources {
    floor: Begun,
    relay: Begun,
    aggregator: Begun,
    floor_events: u64,
    relay_events: u64,
    aggregator_disk: BTreeMap<String, u64>,
    relay_disk: BTreeMap<String, u64>,
    wire_bytes: Option<f64>,
}

struct Begun {
    pid: u32,
    idle: Memory,
    cpu: Duration,
    watch: PssWatch,
}

// === impl Resources ===

impl Resources {
    pub(super) async fn begin(installation: &Installation, floor: &Service) -> Result<Self, BenchError> {
        Ok(Self {
            floor: Begun::now(floor.pid())?,
            relay: Begun::now(installation.relay.pid())?,
            aggregator: Begun::now(installation.aggregator.pid())?,
            floor_events: 0,
            relay_events: 0,
            aggregator_disk: disk::usage_by_entry(installation.aggregator_data()).map_err(unmeasured)?,
            relay_disk: disk::usage_by_entry(installation.relay_data()).map_err(unmeasured)?,
            wire_bytes: installation.relay_counter(WIRE_BYTES_METRIC).await,
        })
    }

    pub(super) fn count_floor(&mut self, events: u64) {
        self.floor_events += events;
    }

    pub(super) fn count_relay(&mut self, events: u64) {
        self.relay_events += events;
    }

    pub(super) async fn finish(self, installation: &Installation) -> Result<Used, BenchError> {
        let events = self.relay_events.max(1) as f64;
        let aggregator_disk = disk::usage_by_entry(installation.aggregator_data()).map_err(unmeasured)?;
        let relay_disk = disk::usage_by_entry(installation.relay_data()).map_err(unmeasured)?;
        let aggregator_growth = disk::growth(&self.aggregator_disk, &aggregator_disk);
        let wire_bytes = installation.relay_counter(WIRE_BYTES_METRIC).await;
        Ok(Used {
            floor: self.floor.used(self.floor_events)?,
            relay: self.relay.used(self.relay_events)?,
            aggregator: self.aggregator.used(self.relay_events)?,
            wire_bytes_per_event: wire_bytes.zip(self.wire_bytes).map(|(after, before)| (after - before) / events),
            aggregator_disk_bytes_per_event: aggregator_growth.values().sum::<i64>() as f64 / events,
            aggregator_disk_by_entry: aggregator_growth
                .into_iter()
                .map(|(name, bytes)| (name, bytes as f64 / events))
                .collect(),
            relay_disk_growth_bytes: disk::growth(&self.relay_disk, &relay_disk).values().sum(),
        })
    }
}

// === impl Begun ===

impl Begun {
    fn now(pid: u32) -> Result<Self, BenchError> {
        Ok(Self {
            pid,
            idle: process::memory(pid).map_err(unmeasured)?,
            cpu: process::cpu_time(pid).map_err(unmeasured)?,
            watch: PssWatch::start(pid).map_err(unmeasured)?,
        })
    }

    fn used(&self, events: u64) -> Result<ProcessUse, BenchError> {
        let now = process::memory(self.pid).map_err(unmeasured)?;
        let cpu = process::cpu_time(self.pid).map_err(unmeasured)?.saturating_sub(self.cpu);
        Ok(ProcessUse {
            idle: self.idle,
            rss_peak: now.rss_peak,
            pss_peak: self.watch.peak().max(now.pss),
            cpu_ms_per_event: cpu.as_secs_f64() * 1000.0 / events.max(1) as f64,
        })
    }
}

fn unmeasured(source: io::Error) -> BenchError {
    BenchError::Files { doing: "measure a process or its directory", source }
}
