//! How batches leave the queue: acknowledged, known to be stored, or set aside. Blocking. For their age: [`super::retention`].
//!
//! Deletions are not synced. If a power cut brings a batch back, it is sent again and the aggregator answers that it
//! has it.

use picket_common::category::DataCategory;
use picket_common::ids::Sequence;
use picket_common::outcome::{Outcome, OutcomeCount, OutcomeKey, Reason};
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;

use super::counts::RemovalCounts;
use super::error::SpoolError;
use super::lanes::Lane;
use super::quarantine::{SetAside, SetAsideReason, Totals};
use super::store::{Leaves, RawHeader, Store, StoredHeader};
use super::{Shared, Spool, lock};

/// Space of deleted payloads is given back each time this much was deleted. Blob files are about 8 MiB, so smaller
/// steps would find little, and larger ones would leave much lying about in an idle relay.
const RECLAIM_BYTES: u64 = 64 * 1024 * 1024;
/// The same while the file system has too little room: a blob file or two.
const URGENT_RECLAIM_BYTES: u64 = 8 * 1024 * 1024;
/// The greatest first sequence that there can be.
const LAST: Sequence = Sequence::new(u64::MAX - 1);
/// Deletions in one write.
const DELETE_CHUNK: usize = 256;

/// What deletions keep track of.
pub(super) struct Removal {
    quarantine: Totals,
    /// Payload bytes deleted since space was last given back.
    unreclaimed: u64,
    /// Everything before this is gone or a tombstone, as far as [`Spool::expire`] saw.
    pub(super) expired_before: Sequence,
}

impl Removal {
    pub(super) fn load(store: &Store) -> Result<Self, SpoolError> {
        Ok(Self { quarantine: Totals::load(store)?, unreclaimed: 0, expired_before: Sequence::FIRST })
    }

    pub(super) const fn quarantine(&self) -> Totals {
        self.quarantine
    }
}

impl Spool {
    /// The aggregator has the batch `first..=last` on disk: deletes it. Acknowledgements may come in any order and more
    /// than once. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::WrongBounds`] if the batch was sealed in others, nothing is deleted then;
    /// [`SpoolError::Storage`] if the database fails.
    pub fn acknowledge(&self, first: Sequence, last: Sequence) -> Result<(), SpoolError> {
        let shared = &self.shared;
        shared.refuse_if_failed()?;
        let mut removal = lock(&shared.removal);
        let Some(raw) = shared.store()?.header(first)? else {
            return Ok(());
        };
        let Ok(stored) = raw.parse() else {
            // It was read to be sent, so it can't be unreadable unless it was damaged since. The next reader sees to
            // it.
            return Ok(());
        };
        if stored.header.last != last {
            return Err(SpoolError::WrongBounds { first, last, sealed_last: stored.header.last });
        }
        let store = shared.store()?;
        store.delete(std::slice::from_ref(&stored))?;
        shared.uncount(&store, first, Some(&stored), Leaves::Nothing)?;
        removal.reclaim_after(shared, &store, stored.header.payload_bytes, &stored);
        Ok(())
    }

    /// Deletes the batches that begin at `from` or later and end at `up_to` or before; says how many they were.
    pub(super) fn forget(&self, from: Sequence, up_to: Sequence) -> Result<u64, SpoolError> {
        let shared = &self.shared;
        shared.refuse_if_failed()?;
        let mut removal = lock(&shared.removal);
        let mut forgotten = 0;
        loop {
            let store = shared.store()?;
            let mut chunk = Vec::with_capacity(DELETE_CHUNK);
            for raw in store.headers(from, up_to).take(DELETE_CHUNK) {
                // One that can't be read is left to the reader, which sets it aside.
                if let Ok(stored) = raw?.parse()
                    && stored.header.last <= up_to
                {
                    chunk.push(stored);
                }
            }
            let Some(end) = chunk.last() else {
                return Ok(forgotten);
            };
            store.delete(&chunk)?;
            for stored in &chunk {
                shared.uncount(&store, stored.header.first, Some(stored), Leaves::Nothing)?;
            }
            forgotten += chunk.len() as u64;
            removal.reclaim_after(shared, &store, chunk.iter().map(|stored| stored.header.payload_bytes).sum(), end);
        }
    }

    /// Moves the batch that starts at `first` to the quarantine, because the aggregator refused it for good. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if the database fails; the batch then stays in the queue.
    pub fn set_aside(&self, first: Sequence, reason: SetAsideReason, detail: &str) -> Result<(), SpoolError> {
        self.shared.refuse_if_failed()?;
        let store = self.shared.store()?;
        match store.header(first)? {
            Some(raw) => self.shared.set_aside(&store, &mut lock(&self.shared.removal), &raw, reason, detail),
            None => Ok(()),
        }
    }
}

/// How a batch that is set aside or expired is counted: by its records, because what is in them may not be readable. Where not even its header
/// is, it counts by its sequences, in no hour that ever was.
pub(super) fn lost(stored: &StoredHeader, reason: &'static str) -> OutcomeCount {
    let hour = stored.oldest_received_at.start_of_hour();
    let key = OutcomeKey {
        hour,
        project_id: None,
        category: DataCategory::Default,
        outcome: Outcome::Dropped,
        reason: Reason::Borrowed(reason),
    };
    OutcomeCount { key, quantity: stored.header.records() }
}

impl Removal {
    /// Payloads of so many bytes were deleted, up to `end`.
    pub(super) fn reclaim_after(&mut self, shared: &Shared, store: &Store, deleted: u64, end: &StoredHeader) {
        self.unreclaimed += deleted;
        // What is deleted takes room on the disk until then, and new records wait for that room.
        let step = if shared.guard.has_room() { RECLAIM_BYTES } else { URGENT_RECLAIM_BYTES };
        let is_last = lock(&shared.counters).records == 0;
        if self.unreclaimed >= step || (is_last && self.unreclaimed > 0 && step == URGENT_RECLAIM_BYTES) {
            self.unreclaimed = 0;
            store.reclaim(end);
        }
    }
}

impl Shared {
    /// Moves a batch to the quarantine. The caller holds the removal lock.
    pub(super) fn set_aside(
        &self,
        store: &Store,
        removal: &mut Removal,
        raw: &RawHeader,
        reason: SetAsideReason,
        detail: &str,
    ) -> Result<(), SpoolError> {
        if store.header(raw.first)?.is_none_or(|present| present.json != raw.json) {
            // It left meanwhile, or became a tombstone.
            return Ok(());
        }
        let (stored, payload) = match raw.parse() {
            Ok(tombstone) if tombstone.header.is_tombstone => {
                return self.drop_tombstone(store, &tombstone, reason, detail);
            }
            // Of a damaged payload there may be nothing to keep; one that can't be read now ends this with an error.
            Ok(stored) => {
                let payload = store.payload(&stored)?.unwrap_or_default();
                (stored, payload)
            }
            Err(_problem) => (self.what_it_must_have_been(store, raw.first)?, Vec::new()),
        };
        // Where sequences overlap the aggregator has some of them: a tombstone would be refused for the same reason.
        let leaves = if reason == SetAsideReason::RefusedOverlap { Leaves::Nothing } else { Leaves::Tombstone };
        let counted = RemovalCounts { first: raw.first, counts: vec![lost(&stored, "spool_quarantined")] };
        let batch = SetAside {
            stored: &stored,
            leaves,
            reason,
            detail,
            header_json: &raw.json,
            payload: &payload,
            counted: &counted,
        };
        removal.quarantine.take(store, &batch, self.config.quarantine_max_bytes)?;
        lock(&self.removed).push(counted);
        let (records, bytes) = (stored.header.records(), stored.header.payload_bytes);
        tracing::error!(
            first = %raw.first, records, bytes, reason = reason.as_str(), detail,
            "a batch was set aside; it stays in the spool's quarantine and is not sent"
        );
        {
            let mut counters = lock(&self.counters);
            counters.quarantined_batches = removal.quarantine.batches;
            counters.quarantined_bytes = removal.quarantine.bytes;
        }
        self.metrics.count_quarantined(reason);
        self.uncount(store, raw.first, Some(&stored), leaves)
    }

    /// A batch whose header can't be read reaches from its key to the next one's. If others between the two were acknowledged, the
    /// aggregator refuses the tombstone that is made of it as overlapping, and it goes.
    pub(super) fn what_it_must_have_been(&self, store: &Store, first: Sequence) -> Result<StoredHeader, SpoolError> {
        let next = store.headers(first.advanced_by(1), LAST).next().transpose()?;
        let next = next.map_or_else(|| self.committed.borrow().advanced_by(1), |raw| raw.first);
        let identity = lock(&self.identity);
        let end_of_id = identity.former().iter().find(|former| first <= former.up_to).map(|former| former.up_to);
        let last = Sequence::new(next.get().saturating_sub(1)).max(first);
        let header = BatchHeader {
            spool_id: identity.of(first),
            first,
            last: end_of_id.map_or(last, |end| last.min(end)),
            raw_bytes: 0,
            payload_bytes: 0,
            crc32c: 0,
            is_tombstone: false,
        };
        drop(identity);
        Ok(StoredHeader {
            header,
            oldest_received_at: Timestamp::EPOCH,
            newest_received_at: None,
            pieces: None,
            lane: store.lane_of(first)?.unwrap_or(Lane::SHARED),
            entered: None,
        })
    }

    /// The aggregator does not take a tombstone, as one of an older version does not. There is nothing to keep.
    fn drop_tombstone(
        &self,
        store: &Store,
        stored: &StoredHeader,
        reason: SetAsideReason,
        detail: &str,
    ) -> Result<(), SpoolError> {
        let first = stored.header.first;
        tracing::warn!(%first, reason = reason.as_str(), detail, "the aggregator does not take a tombstone, it is dropped");
        store.delete(std::slice::from_ref(stored))?;
        self.uncount(store, first, Some(stored), Leaves::Nothing)
    }

    /// Takes a batch that was deleted or became a tombstone out of the counters. The caller holds the removal lock.
    pub(super) fn uncount(
        &self,
        store: &Store,
        first: Sequence,
        stored: Option<&StoredHeader>,
        leaves: Leaves,
    ) -> Result<(), SpoolError> {
        let was_oldest = lock(&self.counters).oldest.is_some_and(|(oldest, _)| oldest == first);
        if was_oldest {
            let mut next = self.oldest_from(store, first)?;
            // A batch committed after that look did not become the oldest, because `first` was still it: look again.
            if next.is_none() && lock(&self.counters).batches > 1 {
                next = self.oldest_from(store, first)?;
            }
            lock(&self.counters).oldest = next;
        }
        match (leaves, stored) {
            (Leaves::Tombstone, Some(stored)) => lock(&self.counters).replace(stored),
            _ => lock(&self.counters).subtract(stored),
        }
        self.publish_usage();
        Ok(())
    }

    /// The first batch from `first` on that has records.
    fn oldest_from(&self, store: &Store, first: Sequence) -> Result<Option<(Sequence, Timestamp)>, SpoolError> {
        for raw in store.headers(first, LAST) {
            let raw = raw?;
            match raw.parse() {
                Ok(stored) if stored.header.is_tombstone => {}
                Ok(stored) => return Ok(Some((raw.first, stored.oldest_received_at))),
                // Whoever reads it sets it aside, and asks again.
                Err(_problem) => return Ok(None),
            }
        }
        Ok(None)
    }
}
