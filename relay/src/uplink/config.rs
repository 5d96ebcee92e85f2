//! The `[uplink]` section: how the relay connects to its aggregators and how much it has in flight.

use std::time::Duration;

use picket_common::config::{ByteSize, InvalidValue, Span, Validate};
use serde::{Deserialize, Serialize};

pub use super::race::TransportChoice;

/// How QUIC finds out how fast it may send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CongestionControl {
    /// Takes a lost packet for a full line (RFC 9438): fair to others, and slow where packets get lost for other reasons.
    #[default]
    Cubic,
    /// Goes by the rate at which packets arrive: for lines that lose packets.
    Bbr,
}

/// The `[uplink]` section of `relay.toml`. Which aggregators there are is in the identity, not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UplinkConfig {
    /// How long one address may take to connect and to say welcome.
    pub connect_timeout: Span,
    /// What carries the connection.
    pub transport: TransportChoice,
    /// How long QUIC is tried alone before TCP is tried as well.
    pub tcp_after: Span,
    /// How QUIC finds out how fast it may send. TCP is the operating system's to control.
    pub congestion: CongestionControl,
    /// How often QUIC is tried again while connected by TCP.
    pub quic_probe_interval: Span,
    /// How often the preferred aggregator is tried while connected to another one.
    pub failback_interval: Span,
    /// How long an aggregator that has all of a batch may take to answer; then the relay connects anew. Also how long
    /// the aggregator may take nothing at all of a batch.
    pub reply_timeout: Span,
    /// Most batches in flight, whatever the aggregator's window allows.
    pub max_in_flight_batches: u32,
    /// Most payload bytes in flight; a larger batch goes alone.
    pub max_in_flight_bytes: ByteSize,
    /// How often statistics are sent.
    pub statistics_interval: Span,
    /// The first wait after a failed connection; each further one is twice as long.
    pub backoff_min: Span,
    /// The longest such wait.
    pub backoff_max: Span,
    /// The wait after the aggregator refused this relay (revoked, unknown): trying sooner is no use.
    pub refused_backoff: Span,
    /// How long answers to batches in flight are waited for at shutdown.
    pub shutdown_timeout: Span,
}

impl Default for UplinkConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Span::secs(10),
            transport: TransportChoice::Auto,
            tcp_after: Span::secs(2),
            congestion: CongestionControl::Cubic,
            quic_probe_interval: Span::secs(600),
            failback_interval: Span::secs(60),
            reply_timeout: Span::secs(30),
            max_in_flight_batches: 16,
            max_in_flight_bytes: ByteSize::mib(8),
            statistics_interval: Span::secs(5),
            backoff_min: Span::millis(200),
            backoff_max: Span::secs(30),
            refused_backoff: Span::secs(60),
            shutdown_timeout: Span::secs(5),
        }
    }
}

impl Validate for UplinkConfig {
    fn validate(&self) -> Result<(), InvalidValue> {
        for (key, span) in [
            ("uplink.connect_timeout", self.connect_timeout),
            ("uplink.quic_probe_interval", self.quic_probe_interval),
            ("uplink.failback_interval", self.failback_interval),
            ("uplink.reply_timeout", self.reply_timeout),
            ("uplink.statistics_interval", self.statistics_interval),
            ("uplink.backoff_min", self.backoff_min),
            ("uplink.refused_backoff", self.refused_backoff),
        ] {
            if span.get() < Duration::from_millis(1) {
                return Err(InvalidValue::new(key, format!("{span} is too short, use 1ms or more")));
            }
        }
        if self.backoff_max < self.backoff_min {
            let problem = format!("{} is shorter than uplink.backoff_min ({})", self.backoff_max, self.backoff_min);
            return Err(InvalidValue::new("uplink.backoff_max", problem));
        }
        if self.max_in_flight_batches == 0 {
            return Err(InvalidValue::new("uplink.max_in_flight_batches", "0 would send nothing, use 1 or more"));
        }
        if self.max_in_flight_bytes < ByteSize::kib(64) {
            let problem = format!("{} is too small, use 64KiB or more", self.max_in_flight_bytes);
            return Err(InvalidValue::new("uplink.max_in_flight_bytes", problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bad_values_name_their_key() {
        UplinkConfig::default().validate().unwrap();
        let table = [
            (UplinkConfig { connect_timeout: Span::secs(0), ..UplinkConfig::default() }, "uplink.connect_timeout"),
            (UplinkConfig { backoff_max: Span::millis(1), ..UplinkConfig::default() }, "uplink.backoff_max"),
            (UplinkConfig { max_in_flight_batches: 0, ..UplinkConfig::default() }, "uplink.max_in_flight_batches"),
            (
                UplinkConfig { max_in_flight_bytes: ByteSize::bytes(1), ..UplinkConfig::default() },
                "uplink.max_in_flight_bytes",
            ),
        ];
        for (config, key) in table {
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
