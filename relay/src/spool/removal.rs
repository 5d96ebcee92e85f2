//! How batches leave the queue: acknowledged, known to be stored, or set aside. Blocking. For their age: [`super::retention`].
//!
//! Deletions are not synced. If a power cut brings a batch back, it is sent again and the aggregator answers that it
//! has it.

use picket_common::category::DataCategory;
use picket_common::ids::Sequence;
use picket_common::outcome::{Outcome, OutcomeCount, OutcomeKey, Reason};
use picket_common::timestamp::Timestamp;

use super::error::SpoolError;
use super::quarantine::{SetAside, SetAsideReason, Totals};
use super::store::{Leaves, RawHeader, Store, StoredHeader};
use super::{Shared, Spool, lock};

/// Space of deleted payloads is given back each time this much was deleted. Blob files are about 8 MiB, so smaller
/// steps would find little, and larger ones would leave much lying about in an idle relay.
const RECLAIM_BYTES: u64 = 64 * 1024 * 1024;
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
        let Some(raw) = shared.store.header(first)? else {
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
        shared.store.delete(std::slice::from_ref(&stored))?;
        shared.uncount(first, Some(&stored), Leaves::Nothing)?;
        removal.reclaim_after(&shared.store, stored.header.payload_bytes, &stored);
        Ok(())
    }

    /// Deletes the batches that begin at `from` or later and end at `up_to` or before; says how many they were.
    pub(super) fn forget(&self, from: Sequence, up_to: Sequence) -> Result<u64, SpoolError> {
        let shared = &self.shared;
        shared.refuse_if_failed()?;
        let mut removal = lock(&shared.removal);
        let mut forgotten = 0;
        loop {
            let mut chunk = Vec::with_capacity(DELETE_CHUNK);
            for raw in shared.store.headers(from, up_to).take(DELETE_CHUNK) {
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
            shared.store.delete(&chunk)?;
            for stored in &chunk {
                shared.uncount(stored.header.first, Some(stored), Leaves::Nothing)?;
            }
            forgotten += chunk.len() as u64;
            removal.reclaim_after(&shared.store, chunk.iter().map(|stored| stored.header.payload_bytes).sum(), end);
        }
    }

    /// Moves the batch that starts at `first` to the quarantine, because the aggregator refused it for good. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if the database fails; the batch then stays in the queue.
    pub fn set_aside(&self, first: Sequence, reason: SetAsideReason, detail: &str) -> Result<(), SpoolError> {
        self.shared.refuse_if_failed()?;
        match self.shared.store.header(first)? {
            Some(raw) => self.shared.set_aside(&raw, reason, detail),
            None => Ok(()),
        }
    }
}

/// How a batch that is set aside or expired is counted: by its records, because what is in them may not be readable. Where not even its header
/// is, it counts as one, in no hour that ever was.
pub(super) fn lost(stored: Option<&StoredHeader>, reason: &'static str) -> OutcomeCount {
    let hour = stored.map_or(Timestamp::EPOCH, |stored| stored.oldest_received_at.start_of_hour());
    let key = OutcomeKey {
        hour,
        project_id: None,
        category: DataCategory::Default,
        outcome: Outcome::Dropped,
        reason: Reason::Borrowed(reason),
    };
    OutcomeCount { key, quantity: stored.map_or(1, |stored| stored.header.records()) }
}

impl Removal {
    pub(super) fn reclaim_after(&mut self, store: &Store, deleted: u64, end: &StoredHeader) {
        self.unreclaimed += deleted;
        if self.unreclaimed >= RECLAIM_BYTES {
            self.unreclaimed = 0;
            store.reclaim(end);
        }
    }
}

impl Shared {
    pub(super) fn set_aside(&self, raw: &RawHeader, reason: SetAsideReason, detail: &str) -> Result<(), SpoolError> {
        let mut removal = lock(&self.removal);
        if self.store.header(raw.first)?.is_none_or(|present| present.json != raw.json) {
            // It left meanwhile, or became a tombstone.
            return Ok(());
        }
        let stored = raw.parse().ok();
        if let Some(tombstone) = stored.as_ref().filter(|stored| stored.header.is_tombstone) {
            return self.drop_tombstone(tombstone, reason, detail);
        }
        // Of a damaged payload there may be nothing to keep; one that can't be read now ends this with an error.
        let payload = match &stored {
            Some(stored) => self.store.payload(stored)?.unwrap_or_default(),
            None => Vec::new(),
        };
        // Where sequences overlap the aggregator has some of them: a tombstone would be refused for the same reason.
        let leaves = if stored.is_none() || reason == SetAsideReason::RefusedOverlap {
            Leaves::Nothing
        } else {
            Leaves::Tombstone
        };
        let batch = SetAside {
            first: raw.first,
            stored: stored.as_ref(),
            leaves,
            reason,
            detail,
            header_json: &raw.json,
            payload: &payload,
        };
        removal.quarantine.take(&self.store, &batch, self.config.quarantine_max_bytes)?;
        let header = stored.as_ref().map(|stored| &stored.header);
        let (records, bytes) = header.map_or((0, 0), |header| (header.records(), header.payload_bytes));
        lock(&self.waiting).add(lost(stored.as_ref(), "spool_quarantined"));
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
        self.uncount(raw.first, stored.as_ref(), leaves)
    }

    /// The aggregator does not take a tombstone, as one of an older version does not. There is nothing to keep.
    fn drop_tombstone(&self, stored: &StoredHeader, reason: SetAsideReason, detail: &str) -> Result<(), SpoolError> {
        let first = stored.header.first;
        tracing::warn!(%first, reason = reason.as_str(), detail, "the aggregator does not take a tombstone, it is dropped");
        self.store.delete(std::slice::from_ref(stored))?;
        self.uncount(first, Some(stored), Leaves::Nothing)
    }

    /// Takes a batch that was deleted or became a tombstone out of the counters. The caller holds the removal lock.
    pub(super) fn uncount(
        &self,
        first: Sequence,
        stored: Option<&StoredHeader>,
        leaves: Leaves,
    ) -> Result<(), SpoolError> {
        let was_oldest = lock(&self.counters).oldest.is_some_and(|(oldest, _)| oldest == first);
        if was_oldest {
            let mut next = self.oldest_from(first)?;
            // A batch committed after that look did not become the oldest, because `first` was still it: look again.
            if next.is_none() && lock(&self.counters).batches > 1 {
                next = self.oldest_from(first)?;
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
    fn oldest_from(&self, first: Sequence) -> Result<Option<(Sequence, Timestamp)>, SpoolError> {
        for raw in self.store.headers(first, Sequence::new(u64::MAX - 1)) {
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
