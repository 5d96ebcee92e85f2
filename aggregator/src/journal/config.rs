//! The `[journal]` section of the aggregator's configuration.

use picket_common::config::{ByteSize, InvalidValue};
use picket_common::wire::MAX_BATCH_PAYLOAD;
use serde::{Deserialize, Serialize};

/// How much the journal may hold and how much memory it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JournalConfig {
    /// Most bytes of batches that wait to be processed. Relays are slowed down from half of it on, and told to keep their
    /// batches when it is reached. On disk there is up to a few hundred MiB more until RocksDB has compacted.
    pub max_bytes: ByteSize,
    /// Size of RocksDB's write buffer for batches; up to two of them are in memory.
    pub write_buffer: ByteSize,
    /// Most bytes of dead letters: what could not be read, decoded or inserted. Beyond it the oldest go.
    pub dead_letter_max_bytes: ByteSize,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::gib(20),
            write_buffer: ByteSize::mib(32),
            dead_letter_max_bytes: ByteSize::mib(256),
        }
    }
}

impl JournalConfig {
    /// Checks what types can't express.
    ///
    /// # Errors
    /// The key, under `journal.`, and what is wrong with its value.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        // Below this a single permitted batch would never fit and its relay would send it for ever.
        let least = ByteSize::bytes(MAX_BATCH_PAYLOAD as u64 * 2);
        if self.max_bytes < least {
            return Err(InvalidValue::new("journal.max_bytes", format!("must be at least {least}")));
        }
        if self.write_buffer < ByteSize::mib(1) || self.write_buffer > ByteSize::gib(1) {
            return Err(InvalidValue::new("journal.write_buffer", "must be between 1MiB and 1GiB"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_a_budget_below_one_batch_is_not() {
        assert!(JournalConfig::default().validate().is_ok());
        let tiny = JournalConfig { max_bytes: ByteSize::mib(1), ..JournalConfig::default() };
        assert!(tiny.validate().is_err_and(|fault| fault.key == "journal.max_bytes"));
    }
}
