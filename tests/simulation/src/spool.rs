//! A relay's spool: a model of its files, under its real identity (`spool/lineage.rs`).
//!
//! The real spool has proofs of its own (a model, power cuts, failpoints, in `relay/src/spool` and `tests`); here it is what they show
//! it to be. A record is synced before it is answered; sealing and deleting are not synced, so a power cut takes back any tail of them,
//! up to the last synced write; what was left growing is sealed at the next opening, in the same bounds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use picket_common::envelope::{Envelope, Item, ItemType};
use picket_common::ids::{EventId, ProjectId, PublicKey, Sequence, SpoolId};
use picket_common::record::{Record, RecordHeader, RecordKind};
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use picket_common::wire::lineage::SessionId;
use picket_relay::spool::lineage::{Identity, Opening, SpoolState};
use picket_relay::spool::{ForkPoint, ReadLimit, SpoolError};

use crate::environment::Environment;
use crate::power::Fuse;

/// As in `relay/src/spool/store.rs`.
const STATE_SPOOL_ID: &[u8] = b"spool_id";
/// Records that a batch is sealed with at the latest.
const BATCH_RECORDS: usize = 4;

/// An event, by its number in the run, and when it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its number.
    pub number: u64,
    /// When a relay received it.
    pub received_at: Timestamp,
}

/// What is wrong with a spool on purpose; nothing in a run that has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolFlaw {
    /// Nothing.
    None,
    /// Records are answered before they are synced.
    AnswersBeforeSync,
    /// Sealed batches are cut anew when the spool is opened.
    CutsAgain,
}

/// What is in the files.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    growing: Vec<Event>,
    /// By first sequence.
    batches: BTreeMap<u64, Vec<Event>>,
    /// The sequence that the next batch begins with, less one.
    sealed: u64,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Debug)]
enum Change {
    Append(Event),
    Seal,
    Delete { from: u64, up_to: u64 },
    State(Vec<(Vec<u8>, Vec<u8>)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    Synced,
    Later,
}

// === impl Contents ===

impl Contents {
    /// The events that are in it.
    pub fn events(&self) -> impl Iterator<Item = u64> + '_ {
        self.batches.values().flatten().chain(&self.growing).map(|event| event.number)
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Append(event) => self.growing.push(*event),
            Change::Seal => self.seal(),
            Change::Delete { from, up_to } => {
                let is_covered =
                    |first: u64, batch: &[Event]| first >= *from && first + batch.len() as u64 - 1 <= *up_to;
                self.batches.retain(|first, batch| !is_covered(*first, batch));
            }
            Change::State(entries) => self.state.extend(entries.iter().cloned()),
        }
    }

    fn seal(&mut self) {
        let batch = std::mem::take(&mut self.growing);
        if !batch.is_empty() {
            let first = self.sealed + 1;
            self.sealed += batch.len() as u64;
            self.batches.insert(first, batch);
        }
    }

    /// As no spool may: neighbours become one batch.
    fn cut_again(&mut self) {
        let mut merged: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
        for (first, batch) in std::mem::take(&mut self.batches) {
            match merged.last_entry() {
                Some(mut before) if before.key() + before.get().len() as u64 == first => before.get_mut().extend(batch),
                _ => drop(merged.insert(first, batch)),
            }
        }
        self.batches = merged;
    }
}

/// The files and what of them is not synced. Outlives processes.
#[derive(Debug)]
pub struct SpoolDisk {
    present: Contents,
    durable: Contents,
    unsynced: Vec<Change>,
    fuse: Fuse,
}

// === impl SpoolDisk ===

impl SpoolDisk {
    /// A disk with these files.
    #[must_use]
    pub fn new(contents: Contents, fuse: Fuse) -> Self {
        Self { present: contents.clone(), durable: contents, unsynced: Vec::new(), fuse }
    }

    /// What a process sees.
    #[must_use]
    pub const fn present(&self) -> &Contents {
        &self.present
    }

    /// A copy as somebody makes it while the relay runs: what is synced, and some of the rest.
    #[must_use]
    pub fn copied(&self, environment: &Environment) -> Contents {
        let mut copy = self.durable.clone();
        let kept = environment.between(0, self.unsynced.len() as u64);
        self.unsynced.iter().zip(0..kept).for_each(|(change, _)| copy.apply(change));
        copy
    }

    /// The power is back: what was not synced is there up to some write.
    pub fn lose_unsynced(&mut self, environment: &Environment) {
        let left = self.copied(environment);
        *self = Self::new(left, self.fuse.clone());
    }

    fn write(&mut self, change: Change, durability: Durability) {
        self.fuse.burn();
        self.present.apply(&change);
        self.unsynced.push(change);
        if durability == Durability::Synced {
            let durable = &mut self.durable;
            self.unsynced.drain(..).for_each(|change| durable.apply(&change));
        }
        self.fuse.burn();
    }
}

/// The disk of a process, shared with the world around it.
#[derive(Debug, Clone)]
pub struct SpoolFiles(pub Rc<RefCell<SpoolDisk>>);

impl SpoolState for SpoolFiles {
    fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, SpoolError> {
        Ok(self.0.borrow().present.state.get(key).cloned())
    }

    fn put_state(&self, entries: &[(&[u8], &[u8])]) -> Result<(), SpoolError> {
        let entries = entries.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        self.0.borrow_mut().write(Change::State(entries), Durability::Synced);
        Ok(())
    }
}

/// A batch on its way.
#[derive(Debug, Clone)]
pub struct SentBatch {
    /// As it was sealed.
    pub header: BatchHeader,
    /// As it was sealed.
    pub payload: Bytes,
    /// What is in it.
    pub events: Vec<u64>,
}

/// The spool in one process.
#[derive(Debug)]
pub struct Spool {
    files: SpoolFiles,
    identity: Identity,
    flaw: SpoolFlaw,
}

// === impl Spool ===

impl Spool {
    /// Opens it as `spool/recover.rs` does.
    ///
    /// # Errors
    /// As the real identity has them; none here.
    pub fn open(files: SpoolFiles, random: [u8; 16], flaw: SpoolFlaw) -> Result<Self, SpoolError> {
        let known = files.state(STATE_SPOOL_ID)?.and_then(|id| String::from_utf8(id).ok()?.parse().ok());
        let id: SpoolId = match known {
            Some(id) => id,
            None => {
                let id = SpoolId::from_random(random);
                files.put_state(&[(STATE_SPOOL_ID, id.to_string().as_bytes())])?;
                id
            }
        };
        let sealed_before = Sequence::new(files.0.borrow().present.sealed);
        if flaw == SpoolFlaw::CutsAgain {
            let mut disk = files.0.borrow_mut();
            disk.present.cut_again();
            disk.durable = disk.present.clone();
            disk.unsynced.clear();
        }
        files.0.borrow_mut().write(Change::Seal, Durability::Later);
        let committed = Sequence::new(files.0.borrow().present.sealed);
        let identity = Identity::load(&files, id, Opening { committed, sealed_before })?;
        Ok(Self { files, identity, flaw })
    }

    /// Who it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Puts an event in; on disk when it returns.
    pub fn append(&self, event: Event) {
        let durability = if self.flaw == SpoolFlaw::AnswersBeforeSync { Durability::Later } else { Durability::Synced };
        self.files.0.borrow_mut().write(Change::Append(event), durability);
        if self.files.0.borrow().present.growing.len() >= BATCH_RECORDS {
            self.seal();
        }
    }

    /// Seals what grows.
    pub fn seal(&self) {
        if !self.files.0.borrow().present.growing.is_empty() {
            self.files.0.borrow_mut().write(Change::Seal, Durability::Later);
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let disk = self.files.0.borrow();
        disk.present.batches.is_empty() && disk.present.growing.is_empty()
    }

    /// The next batches from a cursor on.
    pub fn read_next(&self, cursor: &mut u64, limit: ReadLimit) -> Vec<SentBatch> {
        let disk = self.files.0.borrow();
        let waiting = disk.present.batches.range(*cursor..).take(limit.batches);
        let read: Vec<_> = waiting.map(|(first, events)| self.sealed(*first, events)).collect();
        if let Some(last) = read.last() {
            *cursor = last.header.last.get() + 1;
        }
        read
    }

    /// The batch that begins there, if it is there still.
    #[must_use]
    pub fn read_one(&self, first: Sequence) -> Option<SentBatch> {
        let disk = self.files.0.borrow();
        disk.present.batches.get(&first.get()).map(|events| self.sealed(first.get(), events))
    }

    /// Deletes a batch.
    pub fn acknowledge(&self, first: Sequence, last: Sequence) {
        self.delete(first, last);
    }

    /// Deletes what is stored of the present id.
    pub fn forget_stored(&self, up_to: Sequence) {
        self.delete(self.identity.begins_at(), up_to);
    }

    /// Deletes what is stored of a former id, and forgets the id with the last of its batches.
    ///
    /// # Errors
    /// As the real identity has them; none here.
    pub fn forget_former(&mut self, spool_id: SpoolId, up_to: Sequence) -> Result<(), SpoolError> {
        let Some((from, last)) = self.identity.range_of(spool_id) else { return Ok(()) };
        self.delete(from, up_to.min(last));
        let is_left = self.files.0.borrow().present.batches.range(from.get()..=last.get()).next().is_some();
        if !is_left && let Some(changed) = self.identity.forgetting(spool_id)? {
            self.identity = changed.write(&self.files)?;
        }
        Ok(())
    }

    /// Writes a session down.
    ///
    /// # Errors
    /// As the real identity has them; none here.
    pub fn note_session(&mut self, session: Option<SessionId>) -> Result<(), SpoolError> {
        self.identity = self.identity.noting(session)?.write(&self.files)?;
        Ok(())
    }

    /// Takes a new id for what begins after the point.
    ///
    /// # Errors
    /// As the real identity has them; none here.
    pub fn fork(&mut self, point: ForkPoint, random: [u8; 16]) -> Result<(), SpoolError> {
        self.identity = self.identity.forking(point, SpoolId::from_random(random))?.write(&self.files)?;
        Ok(())
    }

    fn delete(&self, from: Sequence, up_to: Sequence) {
        if from <= up_to {
            let change = Change::Delete { from: from.get(), up_to: up_to.get() };
            self.files.0.borrow_mut().write(change, Durability::Later);
        }
    }

    fn sealed(&self, first: u64, events: &[Event]) -> SentBatch {
        let mut raw = Vec::new();
        for event in events {
            record(*event).encode_into(&mut raw).unwrap_or_else(|error| panic!("a record has no encoding: {error}"));
        }
        let payload = zstd::bulk::compress(&raw, 1).unwrap_or_else(|error| panic!("zstd: {error}"));
        let first = Sequence::new(first);
        let header = BatchHeader {
            spool_id: self.identity.of(first),
            first,
            last: first.advanced_by(events.len() as u64 - 1),
            raw_bytes: raw.len() as u64,
            payload_bytes: payload.len() as u64,
            crc32c: crc32c::crc32c(&payload),
            is_tombstone: false,
        };
        SentBatch { header, payload: Bytes::from(payload), events: events.iter().map(|event| event.number).collect() }
    }
}

/// The id of an event.
#[must_use]
pub fn event_id(number: u64) -> EventId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    EventId::from_random(bytes)
}

fn record(event: Event) -> Record {
    let id = event_id(event.number);
    let mut envelope = Envelope::empty();
    envelope.set_event_id(id);
    // Few problems, so that events share issues.
    let payload =
        format!(r#"{{"message":"problem {}","timestamp":{}}}"#, event.number % 3, event.received_at.as_seconds());
    envelope.push(Item::new(ItemType::Event, Bytes::from(payload)));
    let mut body = Vec::new();
    envelope.write_to(&mut body).unwrap_or_else(|error| panic!("an envelope has no encoding: {error}"));
    let header = RecordHeader {
        kind: RecordKind::Envelope,
        project_id: ProjectId::new(1),
        public_key: PublicKey::from_random([1; 16]),
        received_at: event.received_at,
        event_id: Some(id),
        chunk: None,
        blobs: Vec::new(),
    };
    Record { header, body: Bytes::from(body) }
}
