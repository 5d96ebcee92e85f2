//! The spool's files: column families, keys and values, and the few operations on them. Blocking throughout.
//!
//! Settings and their reasons:
//! - **WAL recovery to a point in time.** A power cut may leave the end of the log torn in any way: cut off, zeroed, or
//!   with some pages written and others not, which looks like a bad checksum. None of that was synced, so nobody was
//!   answered 200 for it. Point-in-time recovery opens with everything before the tear; the stricter modes would refuse
//!   to start after an ordinary power cut. Its price is that a flipped bit in the middle of the log would silently cut
//!   off what follows; then the aggregator knows higher sequences than we do, which the uplink notices
//!   ([`super::Spool::forget_stored`]).
//! - **Payloads in blob files, without blob garbage collection.** A queue deletes in the order it writes, so whole
//!   files become garbage by themselves and no payload is ever rewritten by a compaction.
//! - **No compression**: the payloads are zstd frames.
//! - **Small**: memory for memtables, cache and open files is bounded by the constants below, whatever the spool holds.

use std::path::Path;

use picket_common::ids::{Sequence, SpoolId};
use picket_common::outcome::{OutcomeCount, OutcomeKey};
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, DBCompressionType,
    DBRecoveryMode, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};

use super::counts::LedgerChange;
use super::error::SpoolError;

const CF_HEADERS: &str = "headers";
const CF_BATCHES: &str = "batches";
const CF_STATE: &str = "state";
const CF_QUARANTINE: &str = "quarantine";
const CF_OUTCOMES: &str = "outcomes";

pub(super) const STATE_FORMAT: &[u8] = b"format_version";
pub(super) const STATE_SPOOL_ID: &[u8] = b"spool_id";
pub(super) const STATE_NEXT: &[u8] = b"next_sequence";
pub(super) const STATE_QUARANTINE: &[u8] = b"quarantine";

/// One memtable of payloads; a flush writes one blob file of about this size. At 9 MB/s of compressed events it fills
/// about twice a second.
const BATCHES_WRITE_BUFFER: usize = 4 * 1024 * 1024;
const SMALL_WRITE_BUFFER: usize = 1024 * 1024;
/// All memtables of all column families together.
const ALL_WRITE_BUFFERS: usize = 12 * 1024 * 1024;
/// Headers are read in order and payloads once, so a cache gains next to nothing.
const BLOCK_CACHE: usize = 4 * 1024 * 1024;
/// Replayed at open in well under a second.
const MAX_WAL: u64 = 64 * 1024 * 1024;
const MAX_OPEN_FILES: i32 = 64;
/// Values below this stay in the tables: a file of their own is not worth it.
const MIN_BLOB: u64 = 1024;

/// What the `headers` column family holds for a batch: the wire header as sealed, and what only the relay needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredHeader {
    #[serde(flatten)]
    pub(super) header: BatchHeader,
    /// The earliest `received_at` among its records.
    pub(super) oldest_received_at: Timestamp,
}

/// One entry of the `headers` column family as it is on disk.
pub(super) struct RawHeader {
    pub(super) first: Sequence,
    pub(super) json: Box<[u8]>,
}

impl RawHeader {
    /// Reads the header; the problem as text where it is not one, or contradicts its key.
    pub(super) fn parse(&self) -> Result<StoredHeader, String> {
        let stored: StoredHeader = serde_json::from_slice(&self.json).map_err(|error| error.to_string())?;
        if stored.header.first != self.first {
            return Err(format!("the header says {}, its key {}", stored.header.first, self.first));
        }
        stored.header.validate().map_err(|error| error.to_string())?;
        Ok(stored)
    }
}

/// What one commit writes, all or nothing.
pub(super) struct Writing<'a> {
    /// A sealed batch: its header and its payload.
    pub(super) batch: Option<(&'a StoredHeader, &'a [u8])>,
    /// What changes in the ledger of outcomes.
    pub(super) ledger: &'a LedgerChange,
}

/// The open database.
pub(super) struct Store {
    db: DB,
    synced: WriteOptions,
}

impl Store {
    pub(super) fn open(directory: &Path) -> Result<Self, SpoolError> {
        let cache = Cache::new_lru_cache(BLOCK_CACHE);
        let families = [
            ColumnFamilyDescriptor::new(CF_HEADERS, family_options(&cache, SMALL_WRITE_BUFFER)),
            ColumnFamilyDescriptor::new(CF_BATCHES, batches_options(&cache)),
            ColumnFamilyDescriptor::new(CF_STATE, family_options(&cache, SMALL_WRITE_BUFFER)),
            ColumnFamilyDescriptor::new(CF_QUARANTINE, family_options(&cache, SMALL_WRITE_BUFFER)),
            ColumnFamilyDescriptor::new(CF_OUTCOMES, family_options(&cache, SMALL_WRITE_BUFFER)),
            ColumnFamilyDescriptor::new("default", family_options(&cache, SMALL_WRITE_BUFFER)),
        ];
        let db = DB::open_cf_descriptors(&database_options(), directory, families).map_err(|source| {
            let directory = directory.to_owned();
            // RocksDB has no error kind of its own for its LOCK file.
            if source.as_ref().contains("lock") {
                SpoolError::InUse { directory }
            } else {
                SpoolError::Open { directory, source }
            }
        })?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(Self { db, synced })
    }

    #[expect(clippy::expect_used, reason = "the families are opened with the database and never dropped")]
    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("a column family that was opened with the database")
    }

    pub(super) fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, SpoolError> {
        self.db
            .get_cf(self.family(CF_STATE), key)
            .map_err(|source| SpoolError::Storage { action: "read its state", source })
    }

    /// Writes state, synced.
    pub(super) fn put_state(&self, entries: &[(&[u8], &[u8])]) -> Result<(), SpoolError> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put_cf(self.family(CF_STATE), key, value);
        }
        self.db
            .write_opt(batch, &self.synced)
            .map_err(|source| SpoolError::Storage { action: "write its state", source })
    }

    /// Writes state that may be older after a power cut; a process that is killed loses nothing of it.
    pub(super) fn put_state_unsynced(&self, key: &[u8], value: &[u8]) -> Result<(), SpoolError> {
        self.db
            .put_cf(self.family(CF_STATE), key, value)
            .map_err(|source| SpoolError::Storage { action: "write its state", source })
    }

    /// Writes a sealed batch with the next free sequence, and what changes in the ledger of outcomes, all or nothing; on disk
    /// when it returns.
    pub(super) fn commit(&self, writing: &Writing<'_>) -> Result<(), CommitError> {
        let mut batch = WriteBatch::default();
        if let Some((stored, payload)) = writing.batch {
            let key = stored.header.first.to_key();
            batch.put_cf(self.family(CF_HEADERS), key, serde_json::to_vec(stored)?);
            batch.put_cf(self.family(CF_BATCHES), key, payload);
            batch.put_cf(self.family(CF_STATE), STATE_NEXT, stored.header.last.advanced_by(1).to_key());
        }
        let outcomes = self.family(CF_OUTCOMES);
        for (key, total) in &writing.ledger.put {
            batch.put_cf(outcomes, serde_json::to_vec(key)?, total.to_be_bytes());
        }
        for key in &writing.ledger.delete {
            batch.delete_cf(outcomes, serde_json::to_vec(key)?);
        }
        Ok(self.db.write_opt(batch, &self.synced)?)
    }

    /// The ledger of outcomes as it was last written. An entry that can't be read is left out, and said.
    pub(super) fn outcomes(&self) -> Result<Vec<OutcomeCount>, SpoolError> {
        let mut counts = Vec::new();
        for entry in self.db.iterator_cf(self.family(CF_OUTCOMES), IteratorMode::Start) {
            let (key, total) = entry.map_err(|source| SpoolError::Storage { action: "read its outcomes", source })?;
            let key = serde_json::from_slice::<OutcomeKey>(&key).ok();
            let total = <[u8; 8]>::try_from(total.as_ref()).ok().map(u64::from_be_bytes);
            match key.zip(total) {
                Some((key, quantity)) => counts.push(OutcomeCount { key, quantity }),
                None => tracing::warn!("a count of outcomes in the spool can't be read and is left out"),
            }
        }
        Ok(counts)
    }

    /// The headers of batches whose first sequence is in `from..=last`, in order.
    pub(super) fn headers(
        &self,
        from: Sequence,
        last: Sequence,
    ) -> impl Iterator<Item = Result<RawHeader, SpoolError>> + '_ {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(last.advanced_by(1).to_key());
        let start = from.to_key();
        let mode = IteratorMode::From(&start, Direction::Forward);
        self.db.iterator_cf_opt(self.family(CF_HEADERS), options, mode).map(|entry| {
            let (key, json) = entry.map_err(|source| SpoolError::Storage { action: "read its headers", source })?;
            // A key that is no sequence can't come from us; as sequence 0 it fails the header's own check.
            let first = Sequence::from_key(&key).unwrap_or(Sequence::new(0));
            Ok(RawHeader { first, json })
        })
    }

    /// The header of the batch that starts at `first`, if it is still there.
    pub(super) fn header(&self, first: Sequence) -> Result<Option<RawHeader>, SpoolError> {
        self.headers(first, first).next().transpose()
    }

    /// The payload of the batch that starts at `first`, or in what way it is damaged.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] where it can't be read now and may be later, such as for want of file handles: that is no
    /// damage, and nothing may be given up for it.
    pub(super) fn payload(&self, first: Sequence) -> Result<Result<Vec<u8>, String>, SpoolError> {
        match self.db.get_cf(self.family(CF_BATCHES), first.to_key()) {
            Ok(Some(payload)) => Ok(Ok(payload)),
            Ok(None) => Ok(Err("the payload is missing".to_owned())),
            Err(error) if error.kind() == ErrorKind::Corruption => Ok(Err(error.to_string())),
            Err(source) => Err(SpoolError::Storage { action: "read a batch", source }),
        }
    }

    /// Deletes batches by their first sequences. Not synced: a batch that comes back after a power cut is sent again,
    /// and the aggregator answers that it has it already.
    pub(super) fn delete(&self, firsts: &[Sequence]) -> Result<(), SpoolError> {
        let mut batch = WriteBatch::default();
        for first in firsts {
            self.delete_in(&mut batch, *first);
        }
        self.db.write(batch).map_err(|source| SpoolError::Storage { action: "delete a batch", source })
    }

    /// Moves a batch to the quarantine and takes `evicted` out of it, all or nothing.
    pub(super) fn move_to_quarantine(
        &self,
        first: Sequence,
        value: &[u8],
        evicted: &[Sequence],
        totals: &[u8],
    ) -> Result<(), SpoolError> {
        let quarantine = self.family(CF_QUARANTINE);
        let mut batch = WriteBatch::default();
        for old in evicted {
            batch.delete_cf(quarantine, old.to_key());
        }
        batch.put_cf(quarantine, first.to_key(), value);
        batch.put_cf(self.family(CF_STATE), STATE_QUARANTINE, totals);
        self.delete_in(&mut batch, first);
        self.db.write(batch).map_err(|source| SpoolError::Storage { action: "set a batch aside", source })
    }

    /// The entries of the quarantine, oldest first.
    pub(super) fn quarantine(&self) -> impl Iterator<Item = Result<(Sequence, Box<[u8]>), SpoolError>> + '_ {
        self.db.iterator_cf(self.family(CF_QUARANTINE), IteratorMode::Start).map(|entry| {
            let (key, value) = entry.map_err(|source| SpoolError::Storage { action: "read its quarantine", source })?;
            Ok((Sequence::from_key(&key).unwrap_or(Sequence::new(0)), value))
        })
    }

    /// Gives the disk space of deleted batches before `end` back. Payloads are not moved, so this reads and writes keys
    /// only, and writers go on meanwhile.
    pub(super) fn reclaim(&self, end: Sequence) {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        for name in [CF_HEADERS, CF_BATCHES] {
            self.db.compact_range_cf_opt(self.family(name), None::<[u8; 8]>, Some(end.to_key()), &options);
        }
    }

    fn delete_in(&self, batch: &mut WriteBatch, first: Sequence) {
        batch.delete_cf(self.family(CF_HEADERS), first.to_key());
        batch.delete_cf(self.family(CF_BATCHES), first.to_key());
    }

    /// Overwrites a payload as a failing disk might.
    #[cfg(test)]
    pub(super) fn damage_payload(&self, first: Sequence, payload: &[u8]) {
        self.db.put_cf(self.family(CF_BATCHES), first.to_key(), payload).ok();
    }
}

/// Why a synced write failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommitError {
    #[error("{0}")]
    Write(#[from] rocksdb::Error),
    #[error("a batch header can't be encoded: {0}")]
    Header(#[from] serde_json::Error),
}

/// The spool id in a state value.
pub(super) fn spool_id_from_state(value: &[u8]) -> Option<SpoolId> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_total_wal_size(MAX_WAL);
    options.set_db_write_buffer_size(ALL_WRITE_BUFFERS);
    options.set_max_open_files(MAX_OPEN_FILES);
    options.set_max_background_jobs(2);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1024 * 1024);
    options.set_max_manifest_file_size(4 * 1024 * 1024);
    // Nobody reads RocksDB's own statistics, and their dumps wake an idle host.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn family_options(cache: &Cache, write_buffer: usize) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(write_buffer);
    options.set_max_write_buffer_number(2);
    options
}

fn batches_options(cache: &Cache) -> Options {
    let mut options = family_options(cache, BATCHES_WRITE_BUFFER);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(MIN_BLOB);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(false);
    options
}
