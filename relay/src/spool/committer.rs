//! The one commit thread: turns waiting records into sealed batches on disk.
//!
//! One thread, because one fsync for many records is what makes durability cheap: measured with 1 KiB records, 64
//! writers that each sync their own reach 4 700 records/s, one committer that syncs 512 at a time 70 800.
//! A thread of its own rather than a task, because it spends its life in compression and fsync.
//!
//! The thread never leaves a waiter without an answer: what it holds and what is queued hears [`AppendError::Failed`] after a
//! failed write, and also after a panic.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use picket_common::ids::Sequence;
use picket_common::outcome::OutcomeCount;
use picket_common::record::Record;
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::counts::{Ledger, LedgerChange};
use super::error::{AppendError, SpoolError};
use super::store::{StoredHeader, Writing};
use super::{Shared, lock};

/// One waiting record.
pub(super) struct Append {
    pub(super) record: Record,
    /// What ended on the way of the same request; counted if and only if the record is stored.
    pub(super) counts: Vec<OutcomeCount>,
    pub(super) reply: oneshot::Sender<Result<Sequence, AppendError>>,
    /// The record's share of the queue's bytes, given back when it is answered.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// What the commit thread is told.
pub(super) enum Command {
    Append(Append),
    /// Answer when all that was counted before is on disk.
    Settle(oneshot::Sender<()>),
    /// Put what was counted into a batch, if there is room for one.
    Seal(Timestamp),
    /// Commit what waits, then end.
    Close,
}

/// Owns the commit thread; dropped, it closes the spool and waits, so that no thread has the database open behind the back of
/// whoever opened it.
#[must_use = "the committer must be kept, and closed at shutdown"]
pub struct Committer {
    /// Taken by [`Self::close`].
    thread: Option<JoinHandle<()>>,
    queue: mpsc::WeakSender<Command>,
}

impl Committer {
    pub(super) fn start(
        shared: Arc<Shared>,
        queue: mpsc::Sender<Command>,
        receiver: mpsc::Receiver<Command>,
        next: Sequence,
        ledger: Ledger,
    ) -> Result<Self, SpoolError> {
        let encoder = Encoder::new(shared.config.compression_level)?;
        let worker = Worker {
            shared,
            receiver,
            group: Vec::new(),
            settling: Vec::new(),
            seal: None,
            carried: None,
            next,
            ledger,
            encoder,
        };
        let thread = std::thread::Builder::new()
            .name("spool-commit".to_owned())
            .spawn(move || worker.run())
            .map_err(SpoolError::Thread)?;
        Ok(Self { thread: Some(thread), queue: queue.downgrade() })
    }

    /// Lets the thread commit what waits and ends it; appends that come later get [`AppendError::Closed`].
    pub async fn close(mut self) {
        if let Some(queue) = self.queue.upgrade() {
            // An error means that the thread has ended already.
            let _ = queue.send(Command::Close).await;
        }
        let Some(thread) = self.thread.take() else { return };
        let joined = tokio::task::spawn_blocking(|| thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the spool's commit thread panicked");
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if let Some(queue) = self.queue.upgrade() {
            // Full only while the thread is at work on what fills it.
            while let Err(TrySendError::Full(_)) = queue.try_send(Command::Close) {
                std::thread::yield_now();
            }
        }
        let _ = thread.join();
    }
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").finish_non_exhaustive()
    }
}

/// The thread's state.
struct Worker {
    shared: Arc<Shared>,
    receiver: mpsc::Receiver<Command>,
    /// What the next batch consists of. Kept here so that it can be answered after a panic.
    group: Vec<Append>,
    /// Who waits for what was counted to be on disk.
    settling: Vec<oneshot::Sender<()>>,
    /// Whether what was counted shall go into the next batch, and when that was said.
    seal: Option<Timestamp>,
    /// Taken from the queue, but too large for the batch that was just sealed.
    carried: Option<Append>,
    next: Sequence,
    ledger: Ledger,
    encoder: Encoder,
}

impl Worker {
    fn run(mut self) {
        let worked = panic::catch_unwind(AssertUnwindSafe(|| self.commit_until_closed()));
        let reason = match worked {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            // The panic hook has logged where it came from. The disk is as after a crash.
            Err(_panic) => Arc::from("the commit thread panicked"),
        };
        // Marked first: a waiter that hears of it must find the spool refusing.
        self.shared.fail(&reason);
        self.refuse_all(&reason);
    }

    /// An error is final.
    fn commit_until_closed(&mut self) -> Result<(), Arc<str>> {
        while self.collect() {
            self.commit()?;
        }
        // What was counted and not waited for.
        self.commit()
    }

    /// Waits for something to do and takes what waits with it, up to a batch; false when all is done.
    fn collect(&mut self) -> bool {
        debug_assert!(self.group.is_empty(), "the batch before was answered");
        let Some(first) = self.carried.take().map(Command::Append).or_else(|| self.receiver.blocking_recv()) else {
            return false;
        };
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            if !self.take_in(command, &mut bytes) {
                break;
            }
            let has_room = bytes < self.shared.config.batch_bytes.as_usize()
                && self.group.len() + self.settling.len() < self.shared.config.batch_records;
            // Empty, or disconnected: either way there is nothing to take.
            next = if has_room { self.receiver.try_recv().ok() } else { None };
        }
        true
    }

    /// Takes a command into the next commit; false if that is full without it.
    fn take_in(&mut self, command: Command, bytes: &mut usize) -> bool {
        match command {
            Command::Append(append) => {
                *bytes = bytes.saturating_add(append.record.encoded_len_bound());
                if *bytes > self.shared.config.batch_bytes.as_usize() && !self.group.is_empty() {
                    self.carried = Some(append);
                    return false;
                }
                self.group.push(append);
            }
            Command::Settle(reply) => self.settling.push(reply),
            Command::Seal(at) => self.seal = Some(at),
            // What was sent before is still received; then receiving ends.
            Command::Close => self.receiver.close(),
        }
        true
    }

    /// Seals the group, writes it with what was counted, and answers its waiters. After an error they are still to be
    /// answered.
    fn commit(&mut self) -> Result<(), Arc<str>> {
        let started = Instant::now();
        let oldest_received_at = self.encode();
        let (ledger_change, sealed_at) = self.count()?;
        let oldest_received_at = oldest_received_at.or(sealed_at);
        let records = self.group.len() as u64 + u64::from(sealed_at.is_some());
        let stored = match oldest_received_at {
            Some(oldest_received_at) => {
                self.encoder.compress().map_err(|error| format!("zstd: {error}"))?;
                Some(StoredHeader { header: self.seal(records), oldest_received_at })
            }
            None => None,
        };
        if stored.is_some() || !ledger_change.is_empty() {
            failpoint("spool::before_commit");
            let batch = stored.as_ref().map(|stored| (stored, self.encoder.payload.as_slice()));
            let writing = Writing { batch, ledger: &ledger_change };
            self.shared.store.commit(&writing).map_err(|error| error.to_string())?;
            failpoint("spool::after_commit");
        }
        if let Some(stored) = &stored {
            self.publish(stored);
            self.shared.metrics.commit_duration_seconds.observe(started.elapsed().as_secs_f64());
            #[expect(clippy::cast_precision_loss, reason = "a batch has at most a few thousand records")]
            self.shared.metrics.commit_records.observe(self.group.len() as f64);
        }
        // After the batch: who sees the ledger empty must see what became of it.
        self.shared.ledger_length.store(self.ledger.len(), Ordering::Relaxed);
        self.answer(stored.as_ref());
        self.encoder.shrink(self.shared.config.batch_bytes.as_usize());
        Ok(())
    }

    /// Brings the ledger up to date with what was counted, and encodes a record of it if that is asked for and there is room;
    /// the time of that record.
    fn count(&mut self) -> Result<(LedgerChange, Option<Timestamp>), Arc<str>> {
        let waiting = lock(&self.shared.waiting).take();
        waiting.for_each(|count| self.ledger.add(count));
        for append in &mut self.group {
            append.counts.drain(..).for_each(|count| self.ledger.add(count));
        }
        let mut change = LedgerChange::default();
        let mut sealed_at = None;
        // At the budget counts stay in the ledger, which overwrites itself and so does not grow.
        if let Some(at) = self.seal.take().filter(|_| self.shared.has_room()) {
            let record = self.ledger.seal(at, &mut change).map_err(|error| error.to_string())?;
            if let Some(record) = record {
                record.encode_into(&mut self.encoder.raw).map_err(|error| error.to_string())?;
                sealed_at = Some(at);
            }
        }
        self.ledger.take_changed(&mut change);
        Ok((change, sealed_at))
    }

    fn answer(&mut self, stored: Option<&StoredHeader>) {
        // A client that hung up hears nothing; its record stays.
        let first = stored.map_or(self.next, |stored| stored.header.first);
        for (sequence, append) in (first.get()..).zip(self.group.drain(..)) {
            let _ = append.reply.send(Ok(Sequence::new(sequence)));
        }
        for settled in self.settling.drain(..) {
            let _ = settled.send(());
        }
    }

    /// Encodes the group's records one after the other; those that can't be are answered and left out. The oldest time of
    /// receipt, or `None` if nothing is left.
    fn encode(&mut self) -> Option<Timestamp> {
        let raw = &mut self.encoder.raw;
        raw.clear();
        let mut oldest: Option<Timestamp> = None;
        let too_large = self.group.extract_if(.., |append| {
            let before = raw.len();
            if append.record.encode_into(raw).is_err() {
                raw.truncate(before);
                return true;
            }
            let received_at = append.record.header.received_at;
            oldest = Some(oldest.map_or(received_at, |oldest| received_at.min(oldest)));
            false
        });
        for append in too_large {
            let bytes = append.record.body.len();
            let _ = append.reply.send(Err(AppendError::TooLarge { bytes }));
        }
        oldest
    }

    fn seal(&self, records: u64) -> BatchHeader {
        debug_assert!(records > 0, "a batch has records");
        BatchHeader {
            spool_id: *lock(&self.shared.id),
            first: self.next,
            last: self.next.advanced_by(records - 1),
            raw_bytes: self.encoder.raw.len() as u64,
            payload_bytes: self.encoder.payload.len() as u64,
            crc32c: crc32c::crc32c(&self.encoder.payload),
            is_tombstone: false,
        }
    }

    /// The batch is on disk: counts it, then lets readers see it. In this order, because a reader may acknowledge at
    /// once.
    fn publish(&mut self, stored: &StoredHeader) {
        debug_assert_eq!(stored.header.first, self.next, "sequences have no gaps");
        self.next = stored.header.last.advanced_by(1);
        {
            let mut counters = lock(&self.shared.counters);
            counters.add(stored);
            counters.accepted_total += self.group.len() as u64;
        }
        self.shared.publish_usage();
        self.shared.committed.send_replace(stored.header.last);
    }

    /// Closes the queue and answers until it is empty. Merely dropped, a record that is being queued at this instant would
    /// stay in it, and its waiter with it.
    fn refuse_all(&mut self, reason: &Arc<str>) {
        self.receiver.close();
        answer_failed(self.group.drain(..), reason);
        answer_failed(self.carried.take(), reason);
        // Dropped, they say that nothing is certain.
        self.settling.clear();
        while let Some(command) = self.receiver.blocking_recv() {
            if let Command::Append(append) = command {
                answer_failed([append], reason);
            }
        }
    }
}

fn answer_failed(group: impl IntoIterator<Item = Append>, reason: &Arc<str>) {
    for append in group {
        let _ = append.reply.send(Err(AppendError::Failed(Arc::clone(reason))));
    }
}

/// Buffers and compression context, used again for every batch.
struct Encoder {
    compressor: zstd::bulk::Compressor<'static>,
    raw: Vec<u8>,
    payload: Vec<u8>,
}

impl Encoder {
    fn new(level: i32) -> Result<Self, SpoolError> {
        let compressor =
            zstd::bulk::Compressor::new(level).map_err(|source| SpoolError::Compressor { level, source })?;
        Ok(Self { compressor, raw: Vec::new(), payload: Vec::new() })
    }

    fn compress(&mut self) -> std::io::Result<()> {
        self.payload.clear();
        self.payload.reserve(zstd::zstd_safe::compress_bound(self.raw.len()));
        self.compressor.compress_to_buffer(&self.raw, &mut self.payload)?;
        Ok(())
    }

    /// Gives back what an outsized record took.
    fn shrink(&mut self, batch_bytes: usize) {
        self.raw.clear();
        self.raw.shrink_to(2 * batch_bytes);
        self.payload.clear();
        self.payload.shrink_to(2 * batch_bytes);
    }
}

/// A place where a fault test can end the process, as `kill -9` would: `FAILPOINTS=NAME=return`. Nothing in normal
/// builds.
#[cfg(feature = "failpoints")]
fn failpoint(name: &'static str) {
    fail::fail_point!(name, |_| std::process::abort());
}

#[cfg(not(feature = "failpoints"))]
const fn failpoint(_name: &'static str) {}

/// Reads `FAILPOINTS` once a process. The scenario is never taken down again.
#[cfg(feature = "failpoints")]
pub(super) fn set_failpoints_up() {
    static SET_UP: std::sync::Once = std::sync::Once::new();
    // Dropping the scenario would take the failpoints down.
    SET_UP.call_once(|| std::mem::forget(fail::FailScenario::setup()));
}

#[cfg(not(feature = "failpoints"))]
pub(super) const fn set_failpoints_up() {}
