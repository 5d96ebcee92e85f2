//! The one commit thread: turns waiting records into sealed batches on disk.
//!
//! One thread, because one fsync for many records is what makes durability cheap: measured with 1 KiB records, 64
//! writers that each sync their own reach 4 700 records/s, one committer that syncs 512 at a time 70 800.
//! A thread of its own rather than a task, because it spends its life in compression and fsync.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use picket_common::ids::Sequence;
use picket_common::record::Record;
use picket_common::timestamp::Timestamp;
use picket_common::wire::BatchHeader;
use tokio::sync::mpsc::error::TryRecvError;
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

/// Owns the commit thread. Without [`Self::close`] the thread ends when the last [`super::Spool`] is dropped.
#[must_use = "the committer must be kept, and closed at shutdown"]
pub struct Committer {
    thread: JoinHandle<()>,
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
        let worker = Worker { shared, receiver, carried: None, next, encoder };
        let thread = std::thread::Builder::new()
            .name("spool-commit".to_owned())
            .spawn(move || worker.run())
            .map_err(SpoolError::Thread)?;
        Ok(Self { thread, queue: queue.downgrade() })
    }

    /// Lets the thread commit what waits and ends it; appends that come later get [`AppendError::Closed`].
    pub async fn close(self) {
        if let Some(queue) = self.queue.upgrade() {
            // An error means that the thread has ended already.
            let _ = queue.send(Command::Close).await;
        }
        let joined = tokio::task::spawn_blocking(|| self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the spool's commit thread panicked");
        }
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
    /// Taken from the queue, but too large for the batch that was just sealed.
    carried: Option<Append>,
    next: Sequence,
    encoder: Encoder,
}

impl Worker {
    fn run(mut self) {
        while let Some(group) = self.collect() {
            if let Err(reason) = self.commit(group) {
                self.refuse_all(&reason);
                return;
            }
        }
    }

    /// Waits for a record and takes those that wait with it, up to a batch; `None` when all is done.
    fn collect(&mut self) -> Option<Vec<Append>> {
        let first = match self.carried.take() {
            Some(carried) => carried,
            None => self.wait()?,
        };
        let most_bytes = self.shared.config.batch_bytes.as_usize();
        let mut bytes = first.record.encoded_len_bound();
        let mut group = vec![first];
        while group.len() < self.shared.config.batch_records && bytes < most_bytes {
            match self.receiver.try_recv() {
                Ok(Command::Append(append)) => {
                    bytes = bytes.saturating_add(append.record.encoded_len_bound());
                    if bytes > most_bytes {
                        self.carried = Some(append);
                        break;
                    }
                    group.push(append);
                }
                Ok(Command::Close) => self.receiver.close(),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        Some(group)
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

    /// Seals a group, writes it and answers its waiters. An error is final; the spool refuses from then on and the
    /// group's waiters have heard it.
    fn commit(&mut self, group: Vec<Append>) -> Result<(), Arc<str>> {
        let started = Instant::now();
        let (group, oldest_received_at) = self.encode(group);
        let Some(oldest_received_at) = oldest_received_at else {
            return Ok(());
        };
        let written = self.encoder.compress().map_err(|error| format!("zstd: {error}")).and_then(|()| {
            let stored = StoredHeader { header: self.seal(group.len() as u64), oldest_received_at };
            failpoint("spool::before_commit");
            self.shared.store.commit(&stored, &self.encoder.payload).map_err(|error| error.to_string())?;
            failpoint("spool::after_commit");
            Ok(stored)
        });
        let stored = match written {
            Ok(stored) => stored,
            Err(reason) => {
                // Marked first: a waiter that hears of it must find the spool refusing.
                let reason = Arc::from(reason);
                self.shared.fail(&reason);
                answer_failed(group, &reason);
                return Err(reason);
            }
        };
        self.publish(&stored);
        self.shared.metrics.commit_duration_seconds.observe(started.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most a few thousand records")]
        self.shared.metrics.commit_records.observe(group.len() as f64);
        for (sequence, append) in (stored.header.first.get()..).zip(group) {
            // A client that hung up hears nothing; its record stays.
            let _ = append.reply.send(Ok(Sequence::new(sequence)));
        }
        self.encoder.shrink(self.shared.config.batch_bytes.as_usize());
        Ok(())
    }

    /// Encodes the records one after the other; those that can't be are answered and left out.
    fn encode(&mut self, group: Vec<Append>) -> (Vec<Append>, Option<Timestamp>) {
        self.encoder.raw.clear();
        let mut encoded = Vec::with_capacity(group.len());
        let mut oldest = None;
        for append in group {
            let before = self.encoder.raw.len();
            if append.record.encode_into(&mut self.encoder.raw).is_err() {
                self.encoder.raw.truncate(before);
                let bytes = append.record.body.len();
                let _ = append.reply.send(Err(AppendError::TooLarge { bytes }));
                continue;
            }
            let received_at = append.record.header.received_at;
            oldest = Some(oldest.map_or(received_at, |oldest| received_at.min(oldest)));
            encoded.push(append);
        }
        (encoded, oldest)
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

    fn refuse_all(&mut self, reason: &Arc<str>) {
        self.receiver.close();
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
