//! The `[link]` section of the aggregator's configuration.

use picket_common::config::{ByteSize, InvalidValue, Span};
use picket_common::wire::MAX_BATCH_PAYLOAD;
use serde::{Deserialize, Serialize};

/// How many relays may connect and how much they may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// Most connections at once, those of joining relays included; further ones are refused. Each relay holds one.
    pub max_connections: u32,
    /// Whether relays may connect by TCP as well, on the same port number: for networks that let no UDP through.
    pub tcp: bool,
    /// Batches that one relay may have in flight while the journal is less than half full.
    pub window_batches: u32,
    /// Compressed bytes that one relay may have in flight while the journal is less than half full.
    pub window_bytes: ByteSize,
    /// Compressed bytes of batches in memory, all relays together; beyond it batches wait in their relays' spools.
    pub max_bytes_in_flight: ByteSize,
    /// A connection that is silent for so long is closed.
    pub idle_timeout: Span,
    /// How often a quiet connection is kept open. NAT devices forget UDP flows after 30 s and up.
    pub keep_alive: Span,
    /// How long connections may take to finish when the aggregator stops.
    pub shutdown_timeout: Span,
    /// How long a relay's certificate is good. Relays ask for the next one at two thirds of it; one that is away for longer than
    /// the rest must join anew.
    pub relay_certificate_lifetime: Span,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            max_connections: 256,
            tcp: true,
            window_batches: 16,
            window_bytes: ByteSize::mib(16),
            max_bytes_in_flight: ByteSize::mib(256),
            idle_timeout: Span::secs(30),
            keep_alive: Span::secs(10),
            shutdown_timeout: Span::secs(10),
            relay_certificate_lifetime: Span::secs(90 * 24 * 60 * 60),
        }
    }
}

impl LinkConfig {
    /// Checks what types can't express.
    ///
    /// # Errors
    /// The key, under `link.`, and what is wrong with its value.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        if self.max_connections == 0 {
            return Err(InvalidValue::new("link.max_connections", "must be at least 1"));
        }
        if !(1..=1024).contains(&self.window_batches) {
            return Err(InvalidValue::new("link.window_batches", "must be between 1 and 1024"));
        }
        if self.window_bytes < ByteSize::mib(1) || self.window_bytes > ByteSize::gib(1) {
            return Err(InvalidValue::new("link.window_bytes", "must be between 1MiB and 1GiB"));
        }
        // Else the largest batch that the protocol permits could never be received.
        let least = ByteSize::bytes(MAX_BATCH_PAYLOAD as u64);
        if self.max_bytes_in_flight < least || self.max_bytes_in_flight > ByteSize::gib(64) {
            return Err(InvalidValue::new("link.max_bytes_in_flight", format!("must be between {least} and 64GiB")));
        }
        let idle = self.idle_timeout.get();
        if idle < Span::secs(1).get() || idle > Span::secs(3600).get() {
            return Err(InvalidValue::new("link.idle_timeout", "must be between 1s and 1h"));
        }
        if self.keep_alive.get().is_zero() || self.keep_alive.get() * 2 > idle {
            return Err(InvalidValue::new(
                "link.keep_alive",
                "must be above zero and at most half of link.idle_timeout",
            ));
        }
        // Browsers cap certificates at about a year for the same reason: what is lost or copied must end by itself.
        let lifetime = self.relay_certificate_lifetime.get();
        if lifetime < Span::secs(60).get() || lifetime > Span::secs(365 * 24 * 60 * 60).get() {
            return Err(InvalidValue::new("link.relay_certificate_lifetime", "must be between 1m and 365d"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_each_fault_names_its_key() {
        let default = LinkConfig::default;
        assert!(default().validate().is_ok());
        let faults = [
            ("link.max_connections", LinkConfig { max_connections: 0, ..default() }),
            ("link.window_batches", LinkConfig { window_batches: 0, ..default() }),
            ("link.window_bytes", LinkConfig { window_bytes: ByteSize::kib(1), ..default() }),
            ("link.max_bytes_in_flight", LinkConfig { max_bytes_in_flight: ByteSize::mib(1), ..default() }),
            ("link.idle_timeout", LinkConfig { idle_timeout: Span::millis(5), ..default() }),
            ("link.keep_alive", LinkConfig { keep_alive: Span::secs(29), ..default() }),
            ("link.relay_certificate_lifetime", LinkConfig { relay_certificate_lifetime: Span::secs(59), ..default() }),
            (
                "link.relay_certificate_lifetime",
                LinkConfig { relay_certificate_lifetime: Span::secs(366 * 24 * 60 * 60), ..default() },
            ),
        ];
        for (key, config) in faults {
            assert!(config.validate().is_err_and(|fault| fault.key == key), "{key}");
        }
    }
}
