//! RocksDB as the journal's [`Disk`].

use std::path::Path;

use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRawIterator, DBRecoveryMode, Options, ReadOptions,
    WriteBatch, WriteOptions,
};

use super::super::config::JournalConfig;
use super::super::disk::{Change, Disk, DiskError, Family, Keys, Order, Visit, Walk};
use super::super::{JournalError, recent_events};
use super::{dead_letters, spools};

/// Payloads from this size on are kept in blob files, so that compaction does not copy them. They are compressed already.
const MIN_BLOB_BYTES: u64 = 4 * 1024;
const BLOB_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Bounds the time recovery takes: the small column families would otherwise hold back old log files.
const MAX_WAL_BYTES: u64 = 256 * 1024 * 1024;

/// The open database.
#[derive(Debug)]
pub(super) struct Rocks(DB);

const fn name(family: Family) -> &'static str {
    match family {
        Family::Batches => "batches",
        Family::Spools => "spools",
        Family::State => "state",
        Family::RecentEvents => "recent_events",
        Family::DeadLetters => "dead_letters",
    }
}

// === impl Rocks ===

impl Rocks {
    fn batch(&self, changes: Vec<Change>) -> Result<WriteBatch, DiskError> {
        let mut batch = WriteBatch::default();
        // One by one, so that the bytes are not in memory twice.
        for change in changes {
            match change {
                Change::Put(family, key, value) => batch.put_cf(self.family(family)?, key, value),
                Change::Delete(family, key) => batch.delete_cf(self.family(family)?, key),
                Change::DeleteRange(family, from, to) => batch.delete_range_cf(self.family(family)?, from, to),
            }
        }
        Ok(batch)
    }

    pub(super) fn open(directory: &Path, config: &JournalConfig) -> Result<Self, JournalError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_total_wal_size(MAX_WAL_BYTES);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(4 * 1024 * 1024);
        // After a power cut the log ends in a torn record: recovery stops there, and nothing behind it was acknowledged.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        let families = [
            (Family::Batches, batch_options(config)),
            (Family::Spools, spools::options()),
            (Family::State, Options::default()),
            (Family::RecentEvents, recent_events::options()),
            (Family::DeadLetters, dead_letters::options()),
        ];
        let families = families.map(|(family, options)| ColumnFamilyDescriptor::new(name(family), options));
        let opened = DB::open_cf_descriptors(&options, directory, families);
        opened.map(Self).map_err(|source| JournalError::Open { directory: directory.to_owned(), source })
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, DiskError> {
        // Opened by name, so only a bug could lose one.
        self.0.cf_handle(name(family)).ok_or(DiskError::NoFamily(name(family)))
    }
}

impl Disk for Rocks {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.0.get_cf(self.family(family)?, key)?)
    }

    fn get_all(&self, family: Family, keys: &[[u8; 24]]) -> Result<Vec<Option<Vec<u8>>>, DiskError> {
        let found = self.0.batched_multi_get_cf(self.family(family)?, keys, false);
        found.into_iter().map(|value| Ok(value?.map(|value| value.to_vec()))).collect()
    }

    fn walk(&self, family: Family, keys: Keys<'_>, order: Order, visit: &mut Visit<'_>) -> Result<(), DiskError> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys.first);
        let mut entries: DBRawIterator<'_> = self.0.raw_iterator_cf_opt(self.family(family)?, options);
        match (order, keys.last) {
            (Order::Ascending, _) => entries.seek(keys.first),
            (Order::Descending, Some(last)) => entries.seek_for_prev(last),
            (Order::Descending, None) => entries.seek_to_last(),
        }
        while let Some((key, value)) = entries.item() {
            if keys.last.is_some_and(|last| key > last) || visit(key, value) == Walk::Enough {
                return Ok(());
            }
            match order {
                Order::Ascending => entries.next(),
                Order::Descending => entries.prev(),
            }
        }
        Ok(entries.status()?)
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), DiskError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.0.write_opt(self.batch(changes)?, &options)?)
    }

    fn write_lazily(&self, changes: Vec<Change>) -> Result<(), DiskError> {
        Ok(self.0.write(self.batch(changes)?)?)
    }
}

fn batch_options(config: &JournalConfig) -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(config.write_buffer.as_usize());
    options.set_max_write_buffer_number(2);
    options.set_compression_type(DBCompressionType::None);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(MIN_BLOB_BYTES);
    options.set_blob_file_size(BLOB_FILE_BYTES);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(true);
    options
}
