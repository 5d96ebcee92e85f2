//! How the uplink fares, for `status` and the admin listener.

use std::fmt;

use picket_common::config::ByteSize;
use picket_common::timestamp::Timestamp;
use picket_common::transport::TransportKind;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A snapshot of the uplink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UplinkStatus {
    /// Address of the aggregator, while one is connected.
    pub connected_to: Option<String>,
    /// How it is connected: `quic` or `tcp`.
    pub transport: Option<TransportKind>,
    /// When that connection was made, or lost; absent before the first.
    pub since: Option<Timestamp>,
    /// Batches sent and not yet answered.
    pub in_flight_batches: u32,
    /// Their payload bytes.
    pub in_flight_bytes: u64,
    /// When a batch was last acknowledged.
    pub last_ack_at: Option<Timestamp>,
    /// By how many seconds the aggregator's clock was ahead of this host's when the connection was made; negative if behind.
    pub clock_offset_seconds: Option<i64>,
    /// What last went wrong; absent while all is well.
    pub last_error: Option<String>,
}

impl fmt::Display for UplinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.connected_to {
            Some(address) => {
                write!(f, "connected to {address}")?;
                if let Some(transport) = &self.transport {
                    write!(f, " by {transport}")?;
                }
                let bytes = ByteSize::bytes(self.in_flight_bytes);
                write!(f, ", {} batches ({bytes}) in flight", self.in_flight_batches)?;
            }
            None => write!(f, "not connected")?,
        }
        if let Some(since) = self.since {
            write!(f, " since {}", since.to_rfc3339())?;
        }
        if let Some(error) = &self.last_error {
            write!(f, "; last error: {error}")?;
        }
        Ok(())
    }
}

/// Where the uplink writes its status.
#[derive(Debug)]
pub(super) struct StatusBoard {
    status: watch::Sender<UplinkStatus>,
}

impl StatusBoard {
    pub(super) const fn new(status: watch::Sender<UplinkStatus>) -> Self {
        Self { status }
    }

    pub(super) fn connected(&self, address: &str, transport: TransportKind, now: Timestamp) {
        self.status.send_modify(|status| {
            status.connected_to = Some(address.to_owned());
            status.transport = Some(transport);
            status.since = Some(now);
            status.last_error = None;
        });
    }

    pub(super) fn disconnected(&self, error: Option<String>, now: Timestamp) {
        self.status.send_modify(|status| {
            if status.connected_to.take().is_some() {
                status.since = Some(now);
            }
            status.transport = None;
            status.in_flight_batches = 0;
            status.in_flight_bytes = 0;
            status.last_error = error.or_else(|| status.last_error.take());
        });
    }

    pub(super) fn in_flight(&self, batches: u32, bytes: u64) {
        self.status.send_if_modified(|status| {
            let is_news = (status.in_flight_batches, status.in_flight_bytes) != (batches, bytes);
            (status.in_flight_batches, status.in_flight_bytes) = (batches, bytes);
            is_news
        });
    }

    pub(super) fn clock_offset(&self, server_time: Timestamp, now: Timestamp) {
        let offset = (server_time.as_i64() - now.as_i64()) / 1000;
        self.status.send_modify(|status| status.clock_offset_seconds = Some(offset));
    }

    pub(super) fn acked(&self, now: Timestamp) {
        self.status.send_modify(|status| status.last_ack_at = Some(now));
    }
}
