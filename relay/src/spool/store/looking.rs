//! Looking at the files without changing any: for `picket-relay spool`, also while a relay has them open.
//!
//! What is seen is the state at the opening. A relay that runs deletes files meanwhile; what can't be read then is looked at again
//! in a later opening before it is called damaged.

use std::path::Path;
use std::sync::Arc;

use picket_common::ids::Sequence;
use rocksdb::{DB, Direction, ErrorKind, IteratorMode, ReadOptions};

use super::super::error::SpoolError;
use super::super::settings::database_options;
use super::{CF_HEADERS, CF_LANES, CF_PIECES, RawHeader, Store, families, piece_key};

/// How often an opening is tried. The relay that runs may replace a file between the look at the list of files and the look at the
/// file; the next try sees the new list.
const TRIES: u32 = 5;

/// Whether bytes are not what was written; other errors may pass.
pub(in super::super) fn is_damage(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::Corruption
}

impl Store {
    /// Opens the files for reading only. Takes no lock, writes no file.
    pub(in super::super) fn open_to_look(directory: &Path) -> Result<Self, SpoolError> {
        let absent =
            |problem: &str| SpoolError::Absent { directory: directory.to_owned(), problem: problem.to_owned() };
        if !directory.join("CURRENT").is_file() {
            return Err(absent("there is no spool; a relay makes one when it first runs"));
        }
        let mut options = database_options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        // All tables are opened at once, and so outlive their deletion by the relay that runs.
        options.set_max_open_files(-1);
        let mut tries = 1;
        loop {
            let opened = DB::open_cf_descriptors_read_only(&options, directory, families(), false);
            match opened {
                Ok(db) => return Ok(Self::over(db, Arc::default())),
                Err(source) if source.as_ref().contains("Column family not found") => {
                    let problem = "it is of an older format; a relay of this version brings it up when it opens it";
                    return Err(absent(problem));
                }
                Err(source) if tries == TRIES => {
                    return Err(SpoolError::Open { directory: directory.to_owned(), source });
                }
                Err(_may_pass) => tries += 1,
            }
        }
    }

    /// The batch with the greatest first sequence that is `sequence` or less.
    pub(in super::super) fn header_up_to(&self, sequence: Sequence) -> Result<Option<RawHeader>, SpoolError> {
        let start = sequence.to_key();
        let mode = IteratorMode::From(&start, Direction::Reverse);
        let entry = self.db.iterator_cf(self.family(CF_HEADERS), mode).next().transpose();
        let entry = entry.map_err(|source| SpoolError::Storage { action: "read its headers", source })?;
        Ok(entry.map(|(key, json)| RawHeader { first: Sequence::from_key(&key).unwrap_or(Sequence::new(0)), json }))
    }

    /// Whether the batch is where a reader of its lane finds it.
    pub(in super::super) fn is_in_lane(&self, lane: super::Lane, first: Sequence) -> Result<bool, SpoolError> {
        let found = self.db.get_pinned_cf(self.family(CF_LANES), lane.key(first));
        Ok(found.map_err(|source| SpoolError::Storage { action: "read its lanes", source })?.is_some())
    }

    /// How many pieces there are, whatever frames they are of. Reads keys and places, no payloads.
    pub(in super::super) fn count_pieces(&self) -> Result<u64, SpoolError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut entries = self.db.raw_iterator_cf_opt(self.family(CF_PIECES), options);
        entries.seek(piece_key(0, 0));
        let mut found = 0;
        while entries.valid() {
            found += 1;
            entries.next();
        }
        entries.status().map_err(|source| SpoolError::Storage { action: "count its pieces", source })?;
        Ok(found)
    }
}
