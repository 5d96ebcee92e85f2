//! `spool.max_age`: the one way in which what was accepted is dropped without anybody having it. Off unless it is set.
//!
//! A batch whose youngest record is too old becomes a tombstone; its records are counted as dropped (`spool_expired`). The tombstone is
//! sent like a batch and leaves like one. If the batch had been sent and the answer was lost, the aggregator has its records all the
//! same; nobody here can know.
//!
//! What it does not do: look into batches. Records that are as old as the limit stay until all of their batch are.

use std::time::Duration;

use picket_common::ids::Sequence;
use picket_common::timestamp::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::counts::{Counts, RemovalCounts};
use super::error::SpoolError;
use super::removal::lost;
use super::store::{Leaves, StoredHeader};
use super::{Spool, lock};

/// How often it is looked for what is too old; `spool.max_age` is a minute or more.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Batches dropped in one write, between which others may acknowledge.
const CHUNK: usize = 256;

/// What one pass dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Batches that are tombstones now.
    pub batches: u64,
    /// Their records.
    pub records: u64,
}

/// Drops what is older than `spool.max_age`, now and then, until `stop`. Does nothing where that is not set.
pub async fn run(spool: Spool, clock: fn() -> Timestamp, stop: CancellationToken) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if spool.shared.config.max_age.get().is_zero() {
            return stop.cancelled().await;
        }
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let looking = spool.clone();
        match tokio::task::spawn_blocking(move || looking.expire(clock())).await {
            Ok(Ok(_expired)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what is too old can't be dropped from the spool"),
            Err(error) => tracing::error!(%error, "looking for what is too old panicked"),
        }
    }
}

impl Spool {
    /// Drops the sealed batches whose records were all received longer than `spool.max_age` ago. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if the database fails; what was dropped until then is, and is counted.
    pub fn expire(&self, now: Timestamp) -> Result<Expired, SpoolError> {
        let max_age = self.shared.config.max_age;
        let mut expired = Expired::default();
        if max_age.get().is_zero() {
            return Ok(expired);
        }
        let limit = now.minus(max_age.get());
        while self.expire_some(limit, &mut expired)? == Looked::More {}
        if expired.batches > 0 {
            tracing::warn!(
                batches = expired.batches, records = expired.records, %max_age,
                "accepted records were older than spool.max_age and were dropped"
            );
        }
        Ok(expired)
    }

    fn expire_some(&self, limit: Timestamp, expired: &mut Expired) -> Result<Looked, SpoolError> {
        let shared = &self.shared;
        shared.refuse_if_failed()?;
        let mut removal = lock(&shared.removal);
        let mut chunk: Vec<StoredHeader> = Vec::with_capacity(CHUNK);
        let mut looked = Looked::All;
        let store = shared.store()?;
        for raw in store.headers(removal.expired_before, Sequence::new(u64::MAX - 1)) {
            let raw = raw?;
            // One that can't be read is left to the reader, which sets it aside.
            let Ok(stored) = raw.parse() else { continue };
            // Batches are sealed in the order of time, so what follows is younger.
            if stored.newest_received_at.unwrap_or(stored.oldest_received_at) >= limit {
                break;
            }
            removal.expired_before = stored.header.last.advanced_by(1);
            if !stored.header.is_tombstone {
                chunk.push(stored);
            }
            if chunk.len() == CHUNK {
                looked = Looked::More;
                break;
            }
        }
        let Some(end) = chunk.last() else { return Ok(looked) };
        let mut counts = Counts::default();
        chunk.iter().for_each(|stored| drop(counts.add(lost(stored, "spool_expired"))));
        let counted = RemovalCounts { first: chunk[0].header.first, counts: counts.take().collect() };
        store.replace_by_tombstones(&chunk, &counted)?;
        lock(&shared.removed).push(counted);
        for stored in &chunk {
            shared.uncount(&store, stored.header.first, Some(stored), Leaves::Tombstone)?;
            expired.batches += 1;
            expired.records += stored.records();
            shared.metrics.expired_records.inc_by(stored.records());
        }
        removal.reclaim_after(shared, &store, chunk.iter().map(|stored| stored.header.payload_bytes).sum(), end);
        Ok(looked)
    }
}

/// How far a look went.
#[derive(PartialEq, Eq)]
enum Looked {
    /// As far as anything is old enough.
    All,
    /// Until there was enough to do.
    More,
}
