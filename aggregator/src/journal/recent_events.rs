//! Which events were stored lately: an SDK that did not see our answer sends the same event again, and it must count once.
//!
//! ```text
//! recent_events  project: u64 BE | event id: 16 bytes  ──▶ seconds since the epoch: u64 BE
//! ```
//!
//! Keys are written in the transaction that finishes the plan that stored the events, never before; and whether one counts
//! is decided by the time at which a plan was made, not by when it is carried out. So a plan that is carried out a second
//! time finds the same as the first time, and makes the same block. Keys stay for twice as long as they can count, and go
//! when RocksDB compacts after that; a plan that is pending for longer than [`MEMORY`] may see an id as new.

use std::time::Duration;

use picket_common::ids::{EventId, ProjectId};
use picket_common::timestamp::Timestamp;
use rocksdb::compaction_filter::Decision;
use rocksdb::{BlockBasedOptions, Cache, Options};

/// How long an event id is known. SDKs give up within minutes; browsers that were offline may come back the next day.
pub(super) const MEMORY: Duration = Duration::from_secs(48 * 3600);
/// Forgotten keys leave the disk at the latest so long after they could.
const COMPACTION_PERIOD: Duration = Duration::from_secs(12 * 3600);
/// Blocks and filters kept in memory.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
const WRITE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// An event within its project; SDKs make event ids, so two projects may have the same.
pub type EventKey = (ProjectId, EventId);

pub(super) fn key((project, event): EventKey) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&project.get().to_be_bytes());
    key[8..].copy_from_slice(event.as_uuid().as_bytes());
    key
}

pub(super) fn value(now: Timestamp) -> [u8; 8] {
    now.as_seconds().to_be_bytes()
}

pub(super) fn options() -> Options {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    // Nearly every look-up is for a key that is not there: the filter answers it without reading a block.
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    blocks.set_cache_index_and_filter_blocks(true);
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_periodic_compaction_seconds(COMPACTION_PERIOD.as_secs());
    options.set_compaction_filter("forget old event ids", |_level, _key, value| {
        if is_forgotten(value, Timestamp::now()) { Decision::Remove } else { Decision::Keep }
    });
    options
}

/// Whether an event noted so counts as stored for a plan made at `at`.
pub(super) fn is_known(value: &[u8], at: Timestamp) -> bool {
    age(value, at).is_none_or(|age| age <= MEMORY.as_secs())
}

fn is_forgotten(value: &[u8], now: Timestamp) -> bool {
    age(value, now).is_some_and(|age| age > 2 * MEMORY.as_secs())
}

/// Seconds from the noting to `at`. `None` for a value that is none of ours: it is kept and counts, since losing it could
/// count an event twice.
fn age(value: &[u8], at: Timestamp) -> Option<u64> {
    let noted = u64::from_be_bytes(value.try_into().ok()?);
    Some(at.as_seconds().saturating_sub(noted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_counts_for_its_time_is_kept_for_twice_that_and_an_odd_value_counts_for_ever() {
        let noted = Timestamp::from_millis(1_763_820_306_789);
        let second = Duration::from_secs(1);
        assert!(is_known(&value(noted), noted.plus(MEMORY)));
        assert!(!is_known(&value(noted), noted.plus(MEMORY + 2 * second)));
        assert!(!is_forgotten(&value(noted), noted.plus(2 * MEMORY)));
        assert!(is_forgotten(&value(noted), noted.plus(2 * MEMORY + 2 * second)));
        assert!(is_known(b"odd", Timestamp::LATEST) && !is_forgotten(b"odd", Timestamp::LATEST));
    }

    #[test]
    fn the_same_id_in_another_project_is_another_event() {
        let id = EventId::from_random([7; 16]);
        assert_ne!(key((ProjectId::new(1), id)), key((ProjectId::new(2), id)));
    }
}
