//! The `[process]` section of the configuration.

use picket_common::config::{ByteSize, InvalidValue, Span};
use serde::{Deserialize, Serialize};

/// From journal to ClickHouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessConfig {
    /// Most records in one insert.
    pub max_insert_records: u64,
    /// Most uncompressed bytes in one insert; bounds the memory of processing to a small multiple of it.
    pub max_insert_bytes: ByteSize,
    /// How long the first waiting batch may wait for company. ClickHouse wants few large inserts.
    pub linger: Span,
    /// Threads that decode and group; 0 for one a core.
    pub threads: usize,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self { max_insert_records: 20_000, max_insert_bytes: ByteSize::mib(16), linger: Span::millis(250), threads: 0 }
    }
}

impl ProcessConfig {
    /// Checks what types can't express.
    ///
    /// # Errors
    /// The first key whose value can't work.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        if self.max_insert_records == 0 {
            return Err(InvalidValue::new("process.max_insert_records", "at least 1 is needed"));
        }
        if self.max_insert_bytes < ByteSize::mib(1) {
            return Err(InvalidValue::new("process.max_insert_bytes", "at least 1MiB is needed"));
        }
        // A block of more rows or bytes than these would be cut in two by ClickHouse, and a block is deduplicated as one.
        if self.max_insert_records > 500_000 {
            return Err(InvalidValue::new("process.max_insert_records", "at most 500000"));
        }
        if self.max_insert_bytes > ByteSize::mib(128) {
            return Err(InvalidValue::new("process.max_insert_bytes", "at most 128MiB"));
        }
        if self.linger > Span::secs(60) {
            return Err(InvalidValue::new("process.linger", "at most 60s: events are invisible for that long"));
        }
        Ok(())
    }
}
