//! The `[spool]` section: how much the spool may hold, how it groups commits, what it leaves free on the disk.

use picket_common::config::{ByteSize, InvalidValue, Span, Validate};
use serde::{Deserialize, Serialize};

/// The `[spool]` section of `relay.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolConfig {
    /// Most stored (compressed) bytes of unacknowledged batches. At the budget new records are refused; nothing
    /// accepted is dropped. What waits in the queue may come on top, so the budget is overshot by `queue_bytes` at
    /// most.
    pub max_bytes: ByteSize,
    /// Records that were received longer ago than this are dropped, counted, although they were accepted; 0 keeps them until
    /// an aggregator has them.
    pub max_age: Span,
    /// Whether a request is answered only once its record is on the disk. Without it the record is in the kernel's memory when the
    /// client hears 200: the relay may be killed, but the host may not lose power.
    pub fsync: bool,
    /// New records are refused while the spool's file system has less than this free. 0 switches the guard off.
    pub min_free_bytes: ByteSize,
    /// A batch, and so a commit, takes records until their raw bytes reach this. A larger record makes a batch of its own.
    pub batch_bytes: ByteSize,
    /// A batch takes at most this many records.
    pub batch_records: usize,
    /// A batch waits this long for more records after its first one before it is sealed and can be sent; 0 seals it with
    /// its first commit. Answers to clients don't wait for it: they follow the commit.
    pub linger: Span,
    /// Most records that wait for the commit thread; further appends wait for a place.
    pub queue_records: usize,
    /// Most raw bytes that wait for the commit thread; further appends wait for room.
    pub queue_bytes: ByteSize,
    /// zstd level of the batches, 1 to 19. Measured on SDK events in batches of 200: level 1 compresses 9.05 times at
    /// 342 MB/s, level 3 compresses 9.19 times at 183 MB/s.
    pub compression_level: i32,
    /// Most bytes of batches set aside; beyond it the oldest of them go, counted.
    pub quarantine_max_bytes: ByteSize,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::gib(10),
            max_age: Span::secs(0),
            fsync: true,
            min_free_bytes: ByteSize::mib(256),
            batch_bytes: ByteSize::mib(1),
            batch_records: 512,
            linger: Span::millis(200),
            queue_records: 4096,
            queue_bytes: ByteSize::mib(16),
            compression_level: 1,
            quarantine_max_bytes: ByteSize::mib(64),
        }
    }
}

impl Validate for SpoolConfig {
    fn validate(&self) -> Result<(), InvalidValue> {
        let at_least = |key: &str, value: u64, least: u64| {
            if value < least {
                return Err(InvalidValue::new(key, format!("{value} is too small, use {least} or more")));
            }
            Ok(())
        };
        at_least("spool.max_bytes", self.max_bytes.as_u64(), ByteSize::mib(1).as_u64())?;
        at_least("spool.batch_bytes", self.batch_bytes.as_u64(), ByteSize::kib(4).as_u64())?;
        at_least("spool.batch_records", self.batch_records as u64, 1)?;
        at_least("spool.queue_records", self.queue_records as u64, 1)?;
        at_least("spool.queue_bytes", self.queue_bytes.as_u64(), ByteSize::mib(1).as_u64())?;
        // A batch becomes one insert at the least, and ClickHouse must take that as one block.
        let most = ByteSize::mib(64);
        if self.batch_bytes > most {
            return Err(InvalidValue::new("spool.batch_bytes", format!("{} is over {most}", self.batch_bytes)));
        }
        // The permits of the queue are counted in KiB and tokio's semaphore holds 2^29 of them or more.
        if self.queue_bytes > ByteSize::gib(16) {
            return Err(InvalidValue::new("spool.queue_bytes", format!("{} is over 16 GiB", self.queue_bytes)));
        }
        // Looked at every half minute; and a relay whose aggregator restarts must lose nothing.
        if !self.max_age.get().is_zero() && self.max_age < Span::secs(60) {
            return Err(InvalidValue::new(
                "spool.max_age",
                format!("{} is too short, use 1m or more, or 0s", self.max_age),
            ));
        }
        // An age in the status of a relay that is well is a few seconds.
        if self.linger > Span::secs(10) {
            return Err(InvalidValue::new("spool.linger", format!("{} is over 10s", self.linger)));
        }
        if !(1..=19).contains(&self.compression_level) {
            let problem = format!("{} is no zstd level, use 1 to 19", self.compression_level);
            return Err(InvalidValue::new("spool.compression_level", problem));
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
        SpoolConfig::default().validate().unwrap();
        let table = [
            (SpoolConfig { max_bytes: ByteSize::bytes(1), ..SpoolConfig::default() }, "spool.max_bytes"),
            (SpoolConfig { batch_bytes: ByteSize::gib(1), ..SpoolConfig::default() }, "spool.batch_bytes"),
            (SpoolConfig { batch_records: 0, ..SpoolConfig::default() }, "spool.batch_records"),
            (SpoolConfig { queue_records: 0, ..SpoolConfig::default() }, "spool.queue_records"),
            (SpoolConfig { queue_bytes: ByteSize::bytes(0), ..SpoolConfig::default() }, "spool.queue_bytes"),
            (SpoolConfig { max_age: Span::secs(59), ..SpoolConfig::default() }, "spool.max_age"),
            (SpoolConfig { linger: Span::secs(11), ..SpoolConfig::default() }, "spool.linger"),
            (SpoolConfig { compression_level: 99, ..SpoolConfig::default() }, "spool.compression_level"),
        ];
        for (config, key) in table {
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
