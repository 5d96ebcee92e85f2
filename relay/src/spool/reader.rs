//! Reading sealed batches: in order within a lane, the lanes in turn. Blocking.
//!
//! Whose turn it is follows start-time fair queueing (Goyal, Vin and Cheng, 1996): each lane counts the payload bytes that were read
//! of it, and the one with the fewest goes next; a lane that had nothing to read for a while starts where the others are. That is what
//! deficit round-robin gives, a batch at a time and without a quantum to choose.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use picket_common::ids::Sequence;
use picket_common::wire::BatchHeader;

use super::error::SpoolError;
use super::lanes::{Lane, LaneTable};
use super::quarantine::SetAsideReason;
use super::store::{RawHeader, StoredHeader};
use super::{Shared, Spool, lock};

/// A batch as it was sealed; sent verbatim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBatch {
    /// Its header, under the spool's present id.
    pub header: BatchHeader,
    /// Its zstd frame; matches the header's checksum. Empty if it is a tombstone.
    pub payload: Bytes,
}

/// How much one read may bring into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// Most batches.
    pub batches: usize,
    /// Most payload bytes.
    pub bytes: u64,
    /// What to do if the first batch alone is over `bytes`.
    pub oversized: Oversized,
}

/// What a read does with a first batch that is larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversized {
    /// Read it, alone: otherwise it would stand there for good.
    Take,
    /// Leave it until there is more room.
    Leave,
}

/// Where a reader is: one place a lane, forgotten when nothing of the lane is left.
#[derive(Debug)]
pub struct ReadCursor {
    lanes: BTreeMap<Lane, LanePlace>,
    /// Bytes counted for the lane that was read from last, before that.
    virtual_time: u64,
    /// Everything up to here was read.
    end: Sequence,
}

/// Where a reader is in one lane.
#[derive(Debug, Clone, Copy)]
struct LanePlace {
    /// The next batch begins here or later.
    next: Sequence,
    /// Bytes counted for it.
    taken: u64,
}

/// The next batch of a lane.
struct Head {
    lane: Lane,
    raw: RawHeader,
    /// `None` where the header can't be read; loading it sees to that.
    stored: Option<StoredHeader>,
}

impl Default for ReadCursor {
    /// Before everything.
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), virtual_time: 0, end: Sequence::new(0) }
    }
}

impl ReadCursor {
    /// Whether everything that is sealed up to `committed` was read.
    #[must_use]
    pub fn is_at(&self, committed: Sequence) -> bool {
        self.end >= committed
    }

    /// Lanes that have nothing are forgotten: all of theirs was acknowledged, so a later batch is the first again.
    fn keep(&mut self, lanes: &LaneTable) {
        let lanes: BTreeSet<_> = lanes.lanes().collect();
        self.lanes.retain(|lane, _| lanes.contains(lane));
        for lane in lanes {
            self.lanes.entry(lane).or_insert(LanePlace { next: Sequence::FIRST, taken: 0 });
        }
    }

    fn start_of(&self, lane: Lane) -> u64 {
        self.lanes.get(&lane).map_or(0, |place| place.taken).max(self.virtual_time)
    }

    /// The batch whose turn it is.
    fn choose<'a>(&self, heads: &'a BTreeMap<Lane, Head>) -> Option<&'a Head> {
        let shared = heads.get(&Lane::SHARED).map(|head| head.raw.first);
        let waits = |head: &Head| {
            let entered = head.stored.as_ref().and_then(|stored| stored.entered);
            entered.is_some_and(|entered| shared.is_some_and(|shared| shared < entered))
        };
        heads.values().filter(|head| !waits(head)).min_by_key(|head| (self.start_of(head.lane), head.lane))
    }

    fn took(&mut self, head: &Head) {
        self.virtual_time = self.start_of(head.lane);
        let (last, bytes) = head
            .stored
            .as_ref()
            .map_or((head.raw.first, 0), |stored| (stored.header.last, stored.header.payload_bytes));
        let taken = self.virtual_time.saturating_add(bytes);
        self.lanes.insert(head.lane, LanePlace { next: last.advanced_by(1), taken });
    }
}

impl Spool {
    /// The next batches for this cursor, the lanes in turn, as far as the limit goes. Damaged ones are set aside and passed over.
    /// Blocking.
    ///
    /// # Errors
    /// As [`Self::read_from`].
    pub fn read_next(&self, cursor: &mut ReadCursor, limit: ReadLimit) -> Result<Vec<SealedBatch>, SpoolError> {
        self.shared.refuse_if_failed()?;
        // In this order: a lane gets its batch before the end that covers it is shown.
        let committed = *self.shared.committed.borrow();
        let lanes = lock(&self.shared.counters).lanes.clone();
        cursor.keep(&lanes);
        let mut heads = BTreeMap::new();
        for (lane, place) in &cursor.lanes {
            heads.extend(self.shared.head(*lane, place.next, committed)?.map(|head| (*lane, head)));
        }
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while batches.len() < limit.batches {
            let Some(head) = cursor.choose(&heads) else {
                cursor.end = committed;
                break;
            };
            let payload_bytes = head.stored.as_ref().map_or(0, |stored| stored.header.payload_bytes);
            let is_allowed = batches.is_empty() && limit.oversized == Oversized::Take;
            if bytes + payload_bytes > limit.bytes && !is_allowed {
                break;
            }
            if let Some(batch) = self.shared.load(&head.raw)? {
                bytes += payload_bytes;
                batches.push(batch);
            }
            let lane = head.lane;
            cursor.took(head);
            heads.remove(&lane);
            let next = cursor.lanes.get(&lane).map_or(Sequence::FIRST, |place| place.next);
            heads.extend(self.shared.head(lane, next, committed)?.map(|head| (lane, head)));
        }
        Ok(batches)
    }

    /// The batches that start at `from` or later, whatever their lanes, in the order of their sequences, as far as the limit goes. Damaged ones are set aside and
    /// passed over. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if the headers can't be read, [`SpoolError::Failed`] after a failed write.
    pub fn read_from(&self, from: Sequence, limit: ReadLimit) -> Result<Vec<SealedBatch>, SpoolError> {
        self.shared.refuse_if_failed()?;
        let committed = *self.shared.committed.borrow();
        let mut batches: Vec<SealedBatch> = Vec::new();
        let mut bytes = 0;
        for raw in self.shared.store()?.headers(from, committed) {
            if batches.len() >= limit.batches {
                break;
            }
            let raw = raw?;
            // Known before the payload is read. A header that can't be read is seen to by `load`.
            let payload_bytes = raw.parse().map_or(0, |stored| stored.header.payload_bytes);
            let is_allowed = batches.is_empty() && limit.oversized == Oversized::Take;
            if bytes + payload_bytes > limit.bytes && !is_allowed {
                break;
            }
            if let Some(batch) = self.shared.load(&raw)? {
                bytes += payload_bytes;
                batches.push(batch);
            }
        }
        Ok(batches)
    }

    /// The batch that starts at `first`; `None` if it was acknowledged or set aside meanwhile. Blocking.
    ///
    /// # Errors
    /// As [`Self::read_from`].
    pub fn read_one(&self, first: Sequence) -> Result<Option<SealedBatch>, SpoolError> {
        self.shared.refuse_if_failed()?;
        match self.shared.store()?.header(first)? {
            Some(raw) => self.shared.load(&raw),
            None => Ok(None),
        }
    }
}

impl Shared {
    /// The first batch of a lane that begins in `from..=committed`.
    fn head(&self, lane: Lane, mut from: Sequence, committed: Sequence) -> Result<Option<Head>, SpoolError> {
        while let Some(first) = self.store()?.first_in_lane(lane, from, committed)? {
            if let Some(raw) = self.store()?.header(first)? {
                let stored = raw.parse().ok();
                return Ok(Some(Head { lane, raw, stored }));
            }
            // Set aside when its header could not be read, which is where its lane is said; or acknowledged just now.
            self.store()?.delete_from_lane(lane, first)?;
            from = first.advanced_by(1);
        }
        Ok(None)
    }

    /// Reads and checks a payload. If it is not what was sealed, sets the batch aside and gives the tombstone that it leaves, if it
    /// does.
    fn load(&self, raw: &RawHeader) -> Result<Option<SealedBatch>, SpoolError> {
        let mut read = self.verified(raw)?;
        if let Err(problem) = &read {
            // Does nothing where the batch was acknowledged or became a tombstone between the two reads; that is no damage.
            let store = self.store()?;
            self.set_aside(&store, &mut lock(&self.removal), raw, SetAsideReason::Damaged, problem)?;
            let Some(left) = store.header(raw.first)? else {
                return Ok(None);
            };
            read = self.verified(&left)?;
        }
        let Ok(mut batch) = read else { return Ok(None) };
        batch.header.spool_id = lock(&self.identity).of(raw.first);
        Ok(Some(batch))
    }

    /// The batch, or in what way it is damaged.
    fn verified(&self, raw: &RawHeader) -> Result<Result<SealedBatch, String>, SpoolError> {
        let stored = match raw.parse() {
            Ok(stored) => stored,
            Err(problem) => return Ok(Err(problem)),
        };
        let payload = self.store()?.payload(&stored)?;
        Ok(payload.and_then(|payload| checked(stored.header, payload)))
    }
}

/// The batch, if the payload is the one that was sealed; else in what way it is not.
pub(super) fn checked(header: BatchHeader, payload: Vec<u8>) -> Result<SealedBatch, String> {
    if payload.len() as u64 != header.payload_bytes {
        return Err(format!("{} bytes are stored, the header says {}", payload.len(), header.payload_bytes));
    }
    let found = crc32c::crc32c(&payload);
    if found != header.crc32c {
        return Err(format!("the checksum is {found:08x}, the header says {:08x}", header.crc32c));
    }
    Ok(SealedBatch { header, payload: Bytes::from(payload) })
}
