//! The spool's files: column families, keys and values, and the few operations on them. Blocking throughout.

mod looking;
mod reading;
mod removals;

pub(super) use looking::is_damage;
use removals::{REMOVAL_MARK, removal_key};

use std::path::Path;
use std::sync::Arc;

use picket_common::ids::{Sequence, SpoolId};
use picket_common::outcome::{OutcomeCount, OutcomeKey};
use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB, Direction, ErrorKind, IteratorMode, ReadOptions,
    WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};

use super::condition::Alarm;
use super::config::SpoolConfig;
use super::counts::{LedgerChange, RemovalCounts};
use super::error::SpoolError;
use super::frame::{Contents, FRAME_END, PIECE_HEADER};
pub(super) use super::header::{Pieces, RawHeader, StoredHeader};
use super::lanes::Lane;
use super::settings::{BLOCK_CACHE, database_options, family_options, payload_options};

const CF_HEADERS: &str = "headers";
/// What format 1 has instead of pieces: payloads by first sequence. Only read and deleted.
const CF_BATCHES: &str = "batches";
const CF_PIECES: &str = "pieces";
/// Lane and first sequence of each batch, without a value: what a reader seeks in.
const CF_LANES: &str = "lanes";
const CF_STATE: &str = "state";
const CF_QUARANTINE: &str = "quarantine";
const CF_OUTCOMES: &str = "outcomes";

pub(super) const STATE_FORMAT: &[u8] = b"format_version";
pub(super) const STATE_SPOOL_ID: &[u8] = b"spool_id";
pub(super) const STATE_NEXT: &[u8] = b"next_sequence";
pub(super) const STATE_QUARANTINE: &[u8] = b"quarantine";
/// JSON of [`OpenFrames`].
pub(super) const STATE_FRAMES: &[u8] = b"frames";

/// Which frames have pieces and no header yet. Written with the commits that begin and seal them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenFrames {
    /// No frame from this number on was begun.
    pub(super) next: u64,
    /// Those that were begun and not sealed, in the order in which they were begun.
    pub(super) open: Vec<OpenFrame>,
}

/// A frame that was begun and not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenFrame {
    pub(super) frame: u64,
    /// As in [`StoredHeader`].
    #[serde(default, skip_serializing_if = "Lane::is_shared")]
    pub(super) lane: Lane,
    /// As in [`StoredHeader`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) entered: Option<Sequence>,
}

/// What one commit writes, all or nothing.
#[derive(Default)]
pub(super) struct Writing {
    pub(super) pieces: Vec<NewPiece>,
    /// The headers of frames that are complete with these pieces.
    pub(super) sealed: Vec<StoredHeader>,
    /// Where frames were begun or sealed: which are open now.
    pub(super) frames: Option<OpenFrames>,
    /// What changes in the ledger of outcomes.
    pub(super) ledger: LedgerChange,
}

/// By what it can be told that a commit is in the database.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    /// The piece of this frame with this number.
    Piece(u64, u32),
    /// The total under this key: totals only grow.
    Total(OutcomeKey, u64),
}

/// A piece of a frame on its way to the disk.
pub(super) struct NewPiece {
    pub(super) frame: u64,
    pub(super) number: u32,
    pub(super) contents: Contents,
    /// As it is stored.
    pub(super) stored: Vec<u8>,
}

impl Writing {
    pub(super) const fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.sealed.is_empty() && self.ledger.is_empty()
    }

    /// `None` if nothing would be lost with it.
    pub(super) fn proof(&self) -> Option<Proof> {
        let piece = self.pieces.first().map(|piece| Proof::Piece(piece.frame, piece.number));
        piece.or_else(|| self.ledger.put.first().map(|(key, total)| Proof::Total(key.clone(), *total)))
    }

    /// Whether somebody is answered for it. A header alone need not survive: the next opening makes the same of the pieces.
    const fn must_be_synced(&self) -> bool {
        !self.pieces.is_empty() || !self.ledger.is_empty()
    }
}

/// The open database.
pub(super) struct Store {
    db: DB,
    synced: WriteOptions,
    /// Raised by every write that fails: from then on RocksDB takes no other.
    alarm: Arc<Alarm>,
}

impl Store {
    pub(super) fn open(directory: &Path, config: &SpoolConfig, alarm: Arc<Alarm>) -> Result<Self, SpoolError> {
        let db = DB::open_cf_descriptors(&database_options(), directory, families()).map_err(|source| {
            let directory = directory.to_owned();
            // RocksDB has no error kind of its own for its LOCK file. ("lock" alone is in every error of a block, too.)
            if source.kind() == ErrorKind::IOError && source.as_ref().contains("/LOCK: ") {
                SpoolError::InUse { directory }
            } else {
                SpoolError::Open { directory, source }
            }
        })?;
        let mut store = Self::over(db, alarm);
        store.synced.set_sync(config.fsync);
        Ok(store)
    }

    fn over(db: DB, alarm: Arc<Alarm>) -> Self {
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Self { db, synced, alarm }
    }

    fn write(&self, batch: WriteBatch, options: &WriteOptions) -> Result<(), rocksdb::Error> {
        self.db.write_opt(batch, options).inspect_err(|_| self.alarm.raise())
    }

    fn write_unsynced(&self, batch: WriteBatch) -> Result<(), rocksdb::Error> {
        self.write(batch, &WriteOptions::default())
    }

    /// Writes what is there already, synced.
    pub(super) fn prove_that_it_writes(&self) -> Result<(), SpoolError> {
        let format = self.state(STATE_FORMAT)?.unwrap_or_default();
        self.put_state(&[(STATE_FORMAT, &format)])
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
        self.write(batch, &self.synced).map_err(|source| SpoolError::Storage { action: "write its state", source })
    }

    /// Writes state that may be older after a power cut; a process that is killed loses nothing of it.
    pub(super) fn put_state_unsynced(&self, key: &[u8], value: &[u8]) -> Result<(), SpoolError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(CF_STATE), key, value);
        self.write_unsynced(batch).map_err(|source| SpoolError::Storage { action: "write its state", source })
    }

    /// Writes what one commit consists of, all or nothing. On disk when it returns, but for headers alone.
    pub(super) fn commit(&self, writing: &Writing) -> Result<(), CommitError> {
        let (headers, state) = (self.family(CF_HEADERS), self.family(CF_STATE));
        let mut batch = WriteBatch::default();
        for piece in &writing.pieces {
            batch.put_cf(self.family(CF_PIECES), piece_key(piece.frame, piece.number), &piece.stored);
        }
        for sealed in &writing.sealed {
            let first = sealed.header.first;
            batch.put_cf(headers, first.to_key(), serde_json::to_vec(sealed)?);
            batch.put_cf(self.family(CF_LANES), sealed.lane.key(first), []);
        }
        if let Some(sealed) = writing.sealed.last() {
            batch.put_cf(state, STATE_NEXT, sealed.header.last.advanced_by(1).to_key());
        }
        if let Some(frames) = &writing.frames {
            batch.put_cf(state, STATE_FRAMES, serde_json::to_vec(frames)?);
        }
        let outcomes = self.family(CF_OUTCOMES);
        for (key, total) in &writing.ledger.put {
            batch.put_cf(outcomes, serde_json::to_vec(key)?, total.to_be_bytes());
        }
        for key in &writing.ledger.delete {
            batch.delete_cf(outcomes, serde_json::to_vec(key)?);
        }
        for first in &writing.ledger.taken_over {
            batch.delete_cf(outcomes, removal_key(*first));
        }
        let unsynced = WriteOptions::default();
        let options = if writing.must_be_synced() { &self.synced } else { &unsynced };
        Ok(self.write(batch, options)?)
    }

    /// The ledger of outcomes as it was last written. An entry that can't be read is left out, and said.
    pub(super) fn outcomes(&self) -> Result<Vec<OutcomeCount>, SpoolError> {
        let mut counts = Vec::new();
        for entry in self.db.iterator_cf(self.family(CF_OUTCOMES), IteratorMode::Start) {
            let (key, total) = entry.map_err(|source| SpoolError::Storage { action: "read its outcomes", source })?;
            if key.first() == Some(&REMOVAL_MARK) {
                continue;
            }
            let key = serde_json::from_slice::<OutcomeKey>(&key).ok();
            let total = <[u8; 8]>::try_from(total.as_ref()).ok().map(u64::from_be_bytes);
            match key.zip(total) {
                Some((key, quantity)) => counts.push(OutcomeCount { key, quantity }),
                None => tracing::warn!("a count of outcomes in the spool can't be read and is left out"),
            }
        }
        Ok(counts)
    }

    /// Notes batches in lanes, as the write that seals them does; for those of a format without. Not synced: it is done again if
    /// it is lost.
    pub(super) fn put_in_lanes(&self, batches: &[(Lane, Sequence)]) -> Result<(), SpoolError> {
        let mut batch = WriteBatch::default();
        for (lane, first) in batches {
            batch.put_cf(self.family(CF_LANES), lane.key(*first), []);
        }
        self.write_unsynced(batch).map_err(|source| SpoolError::Storage { action: "write its lanes", source })
    }

    /// Takes a batch out of its lane that is not there any more.
    pub(super) fn delete_from_lane(&self, lane: Lane, first: Sequence) -> Result<(), SpoolError> {
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(CF_LANES), lane.key(first));
        self.write_unsynced(batch).map_err(|source| SpoolError::Storage { action: "write its lanes", source })
    }

    /// The payload of a batch, or in what way it is damaged.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] where it can't be read now and may be later, such as for want of file handles: that is no
    /// damage, and nothing may be given up for it.
    pub(super) fn payload(&self, stored: &StoredHeader) -> Result<Result<Vec<u8>, String>, SpoolError> {
        if stored.header.is_tombstone {
            return Ok(Ok(Vec::new()));
        }
        let Some(pieces) = stored.pieces else {
            return self.whole_payload(stored.header.first);
        };
        // Checked against its bound when the header was read.
        let mut payload = Vec::with_capacity(usize::try_from(stored.header.payload_bytes).unwrap_or(0));
        let mut found = 0;
        for piece in self.pieces(pieces.frame) {
            let (number, piece) = match piece {
                Ok(piece) => piece,
                Err(error) => return damage_or_error(error),
            };
            if number != found || piece.len() < PIECE_HEADER {
                return Ok(Err(format!("piece {found} of {} is missing or cut off", pieces.count)));
            }
            found += 1;
            payload.extend_from_slice(&piece[PIECE_HEADER..]);
        }
        if found != pieces.count {
            return Ok(Err(format!("{found} pieces are stored, the header says {}", pieces.count)));
        }
        payload.extend_from_slice(&FRAME_END);
        Ok(Ok(payload))
    }

    fn whole_payload(&self, first: Sequence) -> Result<Result<Vec<u8>, String>, SpoolError> {
        match self.db.get_cf(self.family(CF_BATCHES), first.to_key()) {
            Ok(Some(payload)) => Ok(Ok(payload)),
            Ok(None) => Ok(Err("the payload is missing".to_owned())),
            Err(error) => damage_or_error(error),
        }
    }

    /// The stored pieces of a frame with their numbers, in order.
    pub(super) fn pieces(&self, frame: u64) -> impl Iterator<Item = Result<(u32, Box<[u8]>), rocksdb::Error>> + '_ {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(piece_key(frame + 1, 0));
        let start = piece_key(frame, 0);
        let mode = IteratorMode::From(&start, Direction::Forward);
        self.db.iterator_cf_opt(self.family(CF_PIECES), options, mode).map(|entry| {
            let (key, piece) = entry?;
            // A key of another length can't come from us; no piece has this number.
            let number = key.last_chunk::<4>().map_or(u32::MAX, |number| u32::from_be_bytes(*number));
            Ok((number, piece))
        })
    }

    /// Deletes batches. Not synced: a batch that comes back after a power cut is sent again, and the aggregator answers that
    /// it has it already.
    pub(super) fn delete(&self, batches: &[StoredHeader]) -> Result<(), SpoolError> {
        let mut batch = WriteBatch::default();
        for stored in batches {
            self.delete_in(&mut batch, stored);
        }
        self.write_unsynced(batch).map_err(|source| SpoolError::Storage { action: "delete a batch", source })
    }

    /// Drops the records of batches, leaves tombstones and counts what was dropped, all or nothing; synced.
    pub(super) fn replace_by_tombstones(
        &self,
        batches: &[StoredHeader],
        counted: &RemovalCounts,
    ) -> Result<(), SpoolError> {
        let mut batch = WriteBatch::default();
        self.count_in(&mut batch, counted);
        for stored in batches {
            self.replace_in(&mut batch, stored);
        }
        self.write(batch, &self.synced).map_err(|source| SpoolError::Storage { action: "drop a batch", source })
    }

    /// Moves a batch to the quarantine, takes `evicted` out of it and counts what was lost by it, all or nothing; synced.
    pub(super) fn move_to_quarantine(
        &self,
        stored: &StoredHeader,
        leaves: Leaves,
        value: &[u8],
        evicted: &[Sequence],
        totals: &[u8],
        counted: &RemovalCounts,
    ) -> Result<(), SpoolError> {
        let first = stored.header.first;
        let quarantine = self.family(CF_QUARANTINE);
        let mut batch = WriteBatch::default();
        self.count_in(&mut batch, counted);
        for old in evicted {
            batch.delete_cf(quarantine, old.to_key());
        }
        batch.put_cf(quarantine, first.to_key(), value);
        batch.put_cf(self.family(CF_STATE), STATE_QUARANTINE, totals);
        match leaves {
            Leaves::Tombstone => self.replace_in(&mut batch, stored),
            Leaves::Nothing => self.delete_in(&mut batch, stored),
        }
        self.write(batch, &self.synced).map_err(|source| SpoolError::Storage { action: "set a batch aside", source })
    }

    /// The entries of the quarantine, oldest first.
    pub(super) fn quarantine(&self) -> impl Iterator<Item = Result<(Sequence, Box<[u8]>), SpoolError>> + '_ {
        self.db.iterator_cf(self.family(CF_QUARANTINE), IteratorMode::Start).map(|entry| {
            let (key, value) = entry.map_err(|source| SpoolError::Storage { action: "read its quarantine", source })?;
            Ok((Sequence::from_key(&key).unwrap_or(Sequence::new(0)), value))
        })
    }

    /// Gives the disk space of deleted batches up to `end` back. Payloads are not moved, so this reads and writes keys only,
    /// and writers go on meanwhile.
    pub(super) fn reclaim(&self, end: &StoredHeader) {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        let compact = |name, end: &[u8]| {
            self.db.compact_range_cf_opt(self.family(name), None::<&[u8]>, Some(end), &options);
        };
        compact(CF_HEADERS, &end.header.first.to_key());
        compact(CF_LANES, &end.lane.key(end.header.first));
        match end.pieces {
            Some(pieces) => compact(CF_PIECES, &piece_key(pieces.frame, pieces.count)),
            None => compact(CF_BATCHES, &end.header.first.to_key()),
        }
    }

    /// Of a batch whose header could not be read nobody knows the pieces; they stay behind.
    fn delete_in(&self, batch: &mut WriteBatch, stored: &StoredHeader) {
        let first = stored.header.first;
        batch.delete_cf(self.family(CF_HEADERS), first.to_key());
        batch.delete_cf(self.family(CF_LANES), stored.lane.key(first));
        self.delete_payload_in(batch, first, stored.pieces);
    }

    fn replace_in(&self, batch: &mut WriteBatch, stored: &StoredHeader) {
        let first = stored.header.first;
        self.delete_payload_in(batch, first, stored.pieces);
        // Numbers and ids always serialise.
        let tombstone = serde_json::to_vec(&stored.tombstone()).unwrap_or_default();
        batch.put_cf(self.family(CF_HEADERS), first.to_key(), tombstone);
        // It is there already, unless the header could not be read.
        batch.put_cf(self.family(CF_LANES), stored.lane.key(first), []);
    }

    fn delete_payload_in(&self, batch: &mut WriteBatch, first: Sequence, pieces: Option<Pieces>) {
        let Some(pieces) = pieces else {
            return batch.delete_cf(self.family(CF_BATCHES), first.to_key());
        };
        for number in 0..pieces.count {
            batch.delete_cf(self.family(CF_PIECES), piece_key(pieces.frame, number));
        }
    }

    #[cfg(test)]
    pub(super) fn remove_piece(&self, frame: u64, number: u32) {
        self.db.delete_cf(self.family(CF_PIECES), piece_key(frame, number)).ok();
    }

    #[cfg(test)]
    pub(super) fn damage_header(&self, first: u64, json: &[u8]) {
        self.db.put_cf(self.family(CF_HEADERS), first.to_be_bytes(), json).ok();
    }

    /// Overwrites a piece as a failing disk might.
    #[cfg(test)]
    pub(super) fn damage_piece(&self, frame: u64, number: u32, stored: &[u8]) {
        self.db.put_cf(self.family(CF_PIECES), piece_key(frame, number), stored).ok();
    }
}

/// The column families and how each is set up.
fn families() -> [ColumnFamilyDescriptor; 8] {
    let cache = Cache::new_lru_cache(BLOCK_CACHE);
    [
        ColumnFamilyDescriptor::new(CF_HEADERS, family_options(&cache)),
        ColumnFamilyDescriptor::new(CF_BATCHES, payload_options(&cache)),
        ColumnFamilyDescriptor::new(CF_PIECES, payload_options(&cache)),
        ColumnFamilyDescriptor::new(CF_LANES, family_options(&cache)),
        ColumnFamilyDescriptor::new(CF_STATE, family_options(&cache)),
        ColumnFamilyDescriptor::new(CF_QUARANTINE, family_options(&cache)),
        ColumnFamilyDescriptor::new(CF_OUTCOMES, family_options(&cache)),
        ColumnFamilyDescriptor::new("default", family_options(&cache)),
    ]
}

/// What is left in the queue of a batch that is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// Its sequences, so that the aggregator hears that nothing comes of them.
    Tombstone,
    /// Nothing: the aggregator has something under its sequences.
    Nothing,
}

fn piece_key(frame: u64, number: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&frame.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

fn damage_or_error<T>(error: rocksdb::Error) -> Result<Result<T, String>, SpoolError> {
    if is_damage(&error) {
        return Ok(Err(error.to_string()));
    }
    Err(SpoolError::Storage { action: "read a batch", source: error })
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
