//! The dead letters in the journal's RocksDB; see `dead_letter` for what they are.

use bytes::Bytes;
use picket_common::timestamp::Timestamp;
use rocksdb::{DBCompressionType, Options};

use super::super::JournalError;
use super::super::dead_letter::{DeadLetter, DeadLetterTotals, NewDeadLetter};
use super::super::disk::{Family, Keys, Order, Walk};
use super::{Store, Transaction};

const HEADER: u8 = b'h';
const BYTES: u8 = b'b';
/// In `state`: the next id.
const KEY_NEXT: &[u8] = b"dead_letter";

/// Bodies from this size on are kept apart, so that a list does not read them.
const MIN_BLOB_BYTES: u64 = 1024;
const DAMAGED: JournalError = JournalError::State("dead letters");

/// How the column family is kept.
pub(super) fn options() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(4 * 1024 * 1024);
    options.set_compression_type(DBCompressionType::None);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(MIN_BLOB_BYTES);
    options.set_enable_blob_gc(true);
    options
}

/// What a transaction does to the dead letters.
#[derive(Debug)]
pub(in super::super) struct SetAside {
    /// As they will be.
    pub(in super::super) totals: DeadLetterTotals,
    /// How many go to make room.
    pub(in super::super) evicted: u64,
}

// === impl Store ===

impl Store {
    pub(in super::super) fn dead_letter_totals(&self) -> Result<DeadLetterTotals, JournalError> {
        let mut totals = DeadLetterTotals::default();
        self.each_dead_letter(&mut |letter| {
            totals.count += 1;
            totals.bytes += letter.bytes;
            true
        })?;
        Ok(totals)
    }

    pub(in super::super) fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, JournalError> {
        let mut letters = Vec::new();
        let (oldest, newest) = (key(HEADER, 0), key(HEADER, u64::MAX));
        let headers = Keys { first: &oldest, last: Some(&newest) };
        self.walk(Family::DeadLetters, headers, Order::Descending, |_, value| {
            if letters.len() >= limit {
                return Ok(Walk::Enough);
            }
            letters.push(decode(value)?);
            Ok(Walk::On)
        })?;
        letters.reverse();
        Ok(letters)
    }

    /// Oldest first, until `visit` says that it has seen enough.
    fn each_dead_letter(&self, visit: &mut dyn FnMut(&DeadLetter) -> bool) -> Result<(), JournalError> {
        let oldest = key(HEADER, 0);
        self.walk(Family::DeadLetters, Keys { first: &oldest, last: None }, Order::Ascending, |_, value| {
            Ok(if visit(&decode(value)?) { Walk::On } else { Walk::Enough })
        })
    }

    pub(in super::super) fn dead_letter(&self, id: u64) -> Result<Option<(DeadLetter, Bytes)>, JournalError> {
        let Some(header) = self.get(Family::DeadLetters, &key(HEADER, id))? else { return Ok(None) };
        let bytes = self.get(Family::DeadLetters, &key(BYTES, id))?.unwrap_or_default();
        Ok(Some((decode(&header)?, Bytes::from(bytes))))
    }

    /// Puts dead letters into a transaction and takes the oldest out where `max_bytes` would be exceeded.
    pub(in super::super) fn put_dead_letters(
        &self,
        transaction: &mut Transaction,
        letters: &[NewDeadLetter],
        max_bytes: u64,
        now: Timestamp,
    ) -> Result<SetAside, JournalError> {
        let mut set_aside = SetAside { totals: self.dead_letter_totals()?, evicted: 0 };
        let mut id = match self.get(Family::State, KEY_NEXT)? {
            Some(next) => next.try_into().map(u64::from_be_bytes).map_err(|_| DAMAGED)?,
            None => 1,
        };
        let mut new = Vec::new();
        for letter in letters {
            let kept = if letter.bytes.len() as u64 > max_bytes { &[][..] } else { &letter.bytes };
            let header = DeadLetter::new(id, now, letter, kept);
            transaction.put(Family::DeadLetters, key(HEADER, id), serde_json::to_vec(&header).map_err(|_| DAMAGED)?);
            transaction.put(Family::DeadLetters, key(BYTES, id), kept);
            set_aside.totals.count += 1;
            set_aside.totals.bytes += header.bytes;
            new.push(header);
            id += 1;
        }
        transaction.put(Family::State, KEY_NEXT, id.to_be_bytes());
        let mut oldest = Vec::new();
        let mut over = set_aside.totals.bytes.saturating_sub(max_bytes);
        if over > 0 {
            self.each_dead_letter(&mut |letter| {
                oldest.push((letter.id, letter.bytes));
                over = over.saturating_sub(letter.bytes);
                over > 0
            })?;
        }
        // A plan that sets aside more than the budget holds evicts its own.
        let own = new.iter().map(|letter| (letter.id, letter.bytes));
        for (id, bytes) in oldest.into_iter().chain(own) {
            if set_aside.totals.bytes <= max_bytes {
                break;
            }
            self.put_deleted_dead_letter(transaction, id);
            set_aside.totals.count -= 1;
            set_aside.totals.bytes -= bytes;
            set_aside.evicted += 1;
        }
        Ok(set_aside)
    }

    pub(in super::super) fn put_deleted_dead_letter(&self, transaction: &mut Transaction, id: u64) {
        transaction.delete(Family::DeadLetters, key(HEADER, id));
        transaction.delete(Family::DeadLetters, key(BYTES, id));
    }

    pub(in super::super) fn delete_dead_letter(&self, id: u64) -> Result<(), JournalError> {
        let mut transaction = Transaction::default();
        self.put_deleted_dead_letter(&mut transaction, id);
        self.commit(transaction)
    }
}

fn key(kind: u8, id: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

fn decode(header: &[u8]) -> Result<DeadLetter, JournalError> {
    serde_json::from_slice(header).map_err(|_| DAMAGED)
}
