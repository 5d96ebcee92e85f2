//! How the spool's database is set up, and why.
//!
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

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options};

/// One memtable of pieces; a flush writes one blob file of about this size. At 9 MB/s of compressed events it fills
/// about twice a second.
const PIECES_WRITE_BUFFER: usize = 4 * 1024 * 1024;
const SMALL_WRITE_BUFFER: usize = 1024 * 1024;
/// All memtables of all column families together.
const ALL_WRITE_BUFFERS: usize = 12 * 1024 * 1024;
/// Headers are read in order and payloads once, so a cache gains next to nothing.
pub(super) const BLOCK_CACHE: usize = 4 * 1024 * 1024;
/// Replayed at open in well under a second.
const MAX_WAL: u64 = 64 * 1024 * 1024;
const MAX_OPEN_FILES: i32 = 64;
/// Values below this stay in the tables: a file of their own is not worth it.
const MIN_BLOB: u64 = 1024;

pub(super) fn database_options() -> Options {
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

/// For families of small values.
pub(super) fn family_options(cache: &Cache) -> Options {
    options_with(cache, SMALL_WRITE_BUFFER)
}

fn options_with(cache: &Cache, write_buffer: usize) -> Options {
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

/// For families of payloads.
pub(super) fn payload_options(cache: &Cache) -> Options {
    let mut options = options_with(cache, PIECES_WRITE_BUFFER);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(MIN_BLOB);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(false);
    options
}
