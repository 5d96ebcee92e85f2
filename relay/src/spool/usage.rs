//! How full the spool is: counted at open by one pass over the headers, then kept with every change.

use picket_common::config::ByteSize;
use picket_common::ids::Sequence;
use picket_common::timestamp::Timestamp;

use super::frame::FRAME_END;
use super::lanes::LaneTable;
use super::store::{StoredHeader, Writing};

/// How full the spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolUsage {
    /// Batches that no aggregator has acknowledged, those that still grow and tombstones included.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Their stored (compressed) bytes.
    pub bytes: u64,
    /// `spool.max_bytes`.
    pub budget: ByteSize,
    /// When the oldest of the records was received.
    pub oldest_received_at: Option<Timestamp>,
    /// Records committed since the spool was opened.
    pub accepted_total: u64,
    /// Batches set aside, of all time less those that had to go again.
    pub quarantined_batches: u64,
    /// What those take on disk.
    pub quarantined_bytes: u64,
}

/// The counters behind [`SpoolUsage`].
#[derive(Debug, Default, Clone)]
pub(super) struct Counters {
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) accepted_total: u64,
    pub(super) quarantined_batches: u64,
    pub(super) quarantined_bytes: u64,
    /// First sequence of the oldest sealed batch that is no tombstone, and when its oldest record was received.
    pub(super) oldest: Option<(Sequence, Timestamp)>,
    /// When the oldest record was received that is in no sealed batch.
    pub(super) oldest_growing: Option<Timestamp>,
    /// What the lanes have.
    pub(super) lanes: LaneTable,
}

impl Counters {
    /// Counts a sealed batch that was found at open.
    pub(super) fn add_sealed(&mut self, stored: &StoredHeader) {
        self.batches += 1;
        self.records += stored.records();
        self.bytes += stored.header.payload_bytes;
        self.note_sealed(stored);
    }

    /// Counts a batch whose header can't be read, by what it must have been.
    pub(super) fn add_unreadable(&mut self, stored: &StoredHeader) {
        self.batches += 1;
        self.records += stored.records();
        self.lanes.add(stored.lane);
    }

    /// Counts what was just written. `oldest_growing` is that of what still grows.
    pub(super) fn add_written(&mut self, writing: &Writing, oldest_growing: Option<Timestamp>) {
        for piece in &writing.pieces {
            self.batches += u64::from(piece.number == 0);
            self.records += piece.contents.records;
            self.bytes += piece.contents.bytes;
        }
        for stored in &writing.sealed {
            self.bytes += FRAME_END.len() as u64;
            self.note_sealed(stored);
        }
        self.oldest_growing = oldest_growing;
    }

    fn note_sealed(&mut self, stored: &StoredHeader) {
        if !stored.header.is_tombstone {
            self.oldest.get_or_insert((stored.header.first, stored.oldest_received_at));
        }
        self.lanes.add(stored.lane);
    }

    /// When the oldest of all records was received.
    pub(super) fn oldest_received_at(&self) -> Option<Timestamp> {
        self.oldest.map(|(_, received_at)| received_at).or(self.oldest_growing)
    }

    /// Takes a sealed batch out; `None` for one whose header can't be read. The oldest is the caller's to find anew.
    pub(super) fn subtract(&mut self, stored: Option<&StoredHeader>) {
        let (records, bytes) = stored.map_or((0, 0), |stored| (stored.records(), stored.header.payload_bytes));
        debug_assert!(self.batches > 0 && self.records >= records && self.bytes >= bytes);
        self.batches = self.batches.saturating_sub(1);
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(stored) = stored {
            self.lanes.subtract(stored.lane);
        }
    }

    /// A batch became a tombstone. The oldest is the caller's to find anew.
    pub(super) fn replace(&mut self, stored: &StoredHeader) {
        self.records = self.records.saturating_sub(stored.records());
        self.bytes = self.bytes.saturating_sub(stored.header.payload_bytes);
    }
}
