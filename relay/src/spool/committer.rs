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
use std::thread::JoinHandle;
use std::time::Instant;

use picket_common::ids::Sequence;
use picket_common::record::Record;
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::error::{AppendError, SpoolError};
use super::store::StoredHeader;
use super::{Shared, lock};

/// One waiting record.
pub(super) struct Append {
    pub(super) record: Record,
    pub(super) reply: oneshot::Sender<Result<Sequence, AppendError>>,
    /// The record's share of the queue's bytes, given back when it is answered.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// What the commit thread is told.
pub(super) enum Command {
    Append(Append),
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
    ) -> Result<Self, SpoolError> {
        let encoder = Encoder::new(shared.config.compression_level)?;
        let worker = Worker { shared, receiver, group: Vec::new(), carried: None, next, encoder };
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
    /// Taken from the queue, but too large for the batch that was just sealed.
    carried: Option<Append>,
    next: Sequence,
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
        Ok(())
    }

    /// Waits for a record and takes those that wait with it, up to a batch; false when all is done.
    fn collect(&mut self) -> bool {
        debug_assert!(self.group.is_empty(), "the batch before was answered");
        let Some(first) = self.carried.take().or_else(|| self.wait()) else { return false };
        let most_bytes = self.shared.config.batch_bytes.as_usize();
        let mut bytes = first.record.encoded_len_bound();
        self.group.push(first);
        while self.group.len() < self.shared.config.batch_records && bytes < most_bytes {
            match self.receiver.try_recv() {
                Ok(Command::Append(append)) => {
                    bytes = bytes.saturating_add(append.record.encoded_len_bound());
                    if bytes > most_bytes {
                        self.carried = Some(append);
                        break;
                    }
                    self.group.push(append);
                }
                Ok(Command::Close) => self.receiver.close(),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        true
    }

    fn wait(&mut self) -> Option<Append> {
        loop {
            match self.receiver.blocking_recv()? {
                Command::Append(append) => return Some(append),
                // What was sent before is still received; then `blocking_recv` ends.
                Command::Close => self.receiver.close(),
            }
        }
    }

    /// Seals the group, writes it and answers its waiters. After an error they are still to be answered.
    fn commit(&mut self) -> Result<(), Arc<str>> {
        let started = Instant::now();
        let Some(oldest_received_at) = self.encode() else {
            return Ok(());
        };
        self.encoder.compress().map_err(|error| format!("zstd: {error}"))?;
        let stored = StoredHeader { header: self.seal(self.group.len() as u64), oldest_received_at };
        failpoint("spool::before_commit");
        self.shared.store.commit(&stored, &self.encoder.payload).map_err(|error| error.to_string())?;
        failpoint("spool::after_commit");
        self.publish(&stored);
        self.shared.metrics.commit_duration_seconds.observe(started.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most a few thousand records")]
        self.shared.metrics.commit_records.observe(self.group.len() as f64);
        for (sequence, append) in (stored.header.first.get()..).zip(self.group.drain(..)) {
            // A client that hung up hears nothing; its record stays.
            let _ = append.reply.send(Ok(Sequence::new(sequence)));
        }
        self.encoder.shrink(self.shared.config.batch_bytes.as_usize());
        Ok(())
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
            counters.accepted_total += stored.header.records();
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
