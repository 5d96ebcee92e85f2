//! What the journal's RocksDB knows of spools: their stored ranges and their owners.
//!
//! ```text
//! spools   'r' | spool id | first: u64 BE  ──▶ last: u64 BE     see `stored_ranges`
//!          'n' | spool id                  ──▶ u64 BE           ranges above the high-water mark
//!          'o' | spool id                  ──▶ id of the relay the spool belongs to
//!          's' | spool id                  ──▶ JSON of its SessionBook: who of several copies it is
//! ```

use std::collections::BTreeSet;

use picket_common::ids::{RelayId, SpoolId};
use picket_common::wire::lineage::SessionBook;
use rocksdb::Options;
use tracing::info;
use uuid::Uuid;

use super::super::disk::{Family, Keys, Order, Walk};
use super::super::stored_ranges::{RangeChanges, RangesOnDisk, SpoolRanges};
use super::super::{JournalError, format_one};
use super::{Store, Transaction};

const RANGE: u8 = b'r';
const RANGES_ABOVE_MARK: u8 = b'n';
const OWNER: u8 = b'o';
const SESSIONS: u8 = b's';

/// In `state`, while spools may have their ranges in the form of format 1.
const KEY_CONVERTING: &[u8] = b"converting";
const SPOOL_KEY_BYTES: usize = 17;
const RANGE_KEY_BYTES: usize = SPOOL_KEY_BYTES + 8;

/// Ranges that were merged stay in the write buffer as deletions, and a look-up steps over those that lie between it and its
/// neighbour. A small buffer is flushed, and so rid of them, before they are many.
const WRITE_BUFFER_BYTES: usize = 1024 * 1024;
/// A file in which a quarter of so many keys in a row are deletions is compacted at once.
const DELETIONS_WINDOW: usize = 4096;

/// A spool, as its ranges are looked up.
#[derive(Debug)]
pub(in super::super) struct SpoolOnDisk<'a> {
    store: &'a Store,
    spool: SpoolId,
}

/// How the column family is kept.
pub(super) fn options() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS_WINDOW / 4, 0.0);
    options
}

// === impl SpoolOnDisk ===

impl RangesOnDisk for SpoolOnDisk<'_> {
    fn beginning_at(&self, first: u64) -> Result<Option<u64>, JournalError> {
        let value = self.store.get(Family::Spools, &range_key(self.spool, first))?;
        value.map(|value| number(&value)).transpose()
    }

    fn last_beginning_in(&self, after: u64, at_most: u64) -> Result<Option<(u64, u64)>, JournalError> {
        // Within the spool: `after` is at least 0, so no key of another one lies in between.
        let (first, last) = (range_key(self.spool, after.saturating_add(1)), range_key(self.spool, at_most));
        let mut found = None;
        self.store.walk(
            Family::Spools,
            Keys { first: &first, last: Some(&last) },
            Order::Descending,
            |key, value| {
                let range = (number(key.get(SPOOL_KEY_BYTES..).ok_or(DAMAGED)?)?, number(value)?);
                found = Some(range);
                Ok(Walk::Enough)
            },
        )?;
        match found {
            Some((first, last)) if last < first => Err(DAMAGED),
            found => Ok(found),
        }
    }

    fn above_mark(&self) -> Result<u64, JournalError> {
        let value = self.store.get(Family::Spools, &spool_key(RANGES_ABOVE_MARK, self.spool))?;
        value.map_or(Ok(0), |value| number(&value))
    }
}

// === impl Store ===

impl Store {
    /// The stored ranges of a spool, of which at most `max_gaps` may lie above its mark.
    pub(in super::super) fn stored_ranges(
        &self,
        spool: SpoolId,
        max_gaps: u64,
    ) -> Result<SpoolRanges<SpoolOnDisk<'_>>, JournalError> {
        SpoolRanges::read(SpoolOnDisk { store: self, spool }, max_gaps)
    }

    pub(in super::super) fn put_stored_ranges(
        &self,
        transaction: &mut Transaction,
        spool: SpoolId,
        changes: &RangeChanges<'_>,
    ) {
        for (first, last) in changes.put {
            transaction.put(Family::Spools, range_key(spool, *first), last.to_be_bytes());
        }
        for first in changes.gone {
            transaction.delete(Family::Spools, range_key(spool, *first));
        }
        if let Some(above_mark) = changes.above_mark {
            transaction.put(Family::Spools, spool_key(RANGES_ABOVE_MARK, spool), above_mark.to_be_bytes());
        }
    }

    /// The sessions of a spool; none yet for one that was never here.
    pub(in super::super) fn session_book(&self, spool: SpoolId) -> Result<SessionBook, JournalError> {
        let Some(json) = self.get(Family::Spools, &spool_key(SESSIONS, spool))? else {
            return Ok(SessionBook::default());
        };
        serde_json::from_slice(&json).map_err(|_| JournalError::State("sessions of a spool"))
    }

    pub(in super::super) fn put_session_book(
        &self,
        transaction: &mut Transaction,
        spool: SpoolId,
        book: &SessionBook,
    ) -> Result<(), JournalError> {
        // Ids and numbers always serialise.
        let json = serde_json::to_vec(book).map_err(|_| JournalError::State("sessions of a spool"))?;
        transaction.put(Family::Spools, spool_key(SESSIONS, spool), json);
        Ok(())
    }

    pub(in super::super) fn spool_owner(&self, spool: SpoolId) -> Result<Option<RelayId>, JournalError> {
        let Some(bytes) = self.get(Family::Spools, &spool_key(OWNER, spool))? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).ok();
        text.and_then(|text| text.parse().ok()).map(Some).ok_or(JournalError::State("owner of a spool"))
    }

    pub(in super::super) fn put_spool_owner(&self, transaction: &mut Transaction, spool: SpoolId, owner: RelayId) {
        transaction.put(Family::Spools, spool_key(OWNER, spool), owner.to_string());
    }

    /// Puts the note that spools may have the form of format 1 beside what else the transaction writes.
    pub(super) fn put_converting(&self, transaction: &mut Transaction) {
        transaction.put(Family::State, KEY_CONVERTING, []);
    }

    /// Converts the spools that have the form of format 1, if there may be any.
    pub(super) fn finish_converting(&self) -> Result<(), JournalError> {
        if self.get(Family::State, KEY_CONVERTING)?.is_none() {
            return Ok(());
        }
        let mut spools = 0_u64;
        // What is met is converted while the walk goes on: it sees the keys as they were when it began.
        self.walk(Family::Spools, Keys { first: &[RANGE], last: None }, Order::Ascending, |key, value| {
            if key.first() != Some(&RANGE) {
                return Ok(Walk::Enough);
            }
            if key.len() == SPOOL_KEY_BYTES {
                self.convert(key, value)?;
                spools += 1;
            }
            Ok(Walk::On)
        })?;
        let mut transaction = Transaction::default();
        transaction.delete(Family::State, KEY_CONVERTING);
        self.commit(transaction)?;
        info!(spools, "the journal was converted from format 1");
        Ok(())
    }

    fn convert(&self, key: &[u8], value: &[u8]) -> Result<(), JournalError> {
        let spool = key.get(1..).and_then(|id| Uuid::from_slice(id).ok()).map(SpoolId::from).ok_or(DAMAGED)?;
        let ranges = format_one::decode_ranges(value).ok_or(DAMAGED)?;
        let above_mark = ranges.keys().filter(|first| **first > 1).count() as u64;
        let mut transaction = Transaction::default();
        let changes = RangeChanges { put: &ranges, gone: &BTreeSet::new(), above_mark: Some(above_mark) };
        self.put_stored_ranges(&mut transaction, spool, &changes);
        transaction.delete(Family::Spools, key);
        self.commit(transaction)
    }
}

const DAMAGED: JournalError = JournalError::State("stored ranges of a spool");

fn number(bytes: &[u8]) -> Result<u64, JournalError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| DAMAGED)
}

fn spool_key(kind: u8, spool: SpoolId) -> [u8; SPOOL_KEY_BYTES] {
    let mut key = [kind; SPOOL_KEY_BYTES];
    key[1..].copy_from_slice(spool.as_bytes());
    key
}

fn range_key(spool: SpoolId, first: u64) -> [u8; RANGE_KEY_BYTES] {
    let mut key = [0; RANGE_KEY_BYTES];
    key[..SPOOL_KEY_BYTES].copy_from_slice(&spool_key(RANGE, spool));
    key[SPOOL_KEY_BYTES..].copy_from_slice(&first.to_be_bytes());
    key
}
