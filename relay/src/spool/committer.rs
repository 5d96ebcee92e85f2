//! The one commit thread: puts waiting records into the frames that grow, on disk, and seals these when it is time.
//!
//! One thread, because one fsync for many records is what makes durability cheap: measured with 1 KiB records, 64
//! writers that each sync their own reach 4 700 records/s, one committer that syncs 512 at a time 70 800.
//! A thread of its own rather than a task, because it spends its life in compression and fsync.
//!
//! The thread never leaves a waiter without an answer: what it holds and what is queued hears [`AppendError::Failed`] after a
//! failed write, and also after a panic. After the former it opens the database anew and goes on (`condition`); a panic is final.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use picket_common::failpoint::failpoint;
use picket_common::outcome::OutcomeCount;
use picket_common::record::Record;
use picket_common::timestamp::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{sleep_until, timeout_at};

use super::condition::{Condition, MEND_PAUSE, Mended};
use super::counts::Ledger;
use super::error::{AppendError, SpoolError};
use super::frames::{Frames, PushError};
use super::store::{CommitError, Proof, Store, Writing};
use super::{Shared, lock};

/// One waiting record.
pub(super) struct Append {
    pub(super) record: Record,
    /// What ended on the way of the same request; counted if and only if the record is stored.
    pub(super) counts: Vec<OutcomeCount>,
    pub(super) reply: oneshot::Sender<Result<(), AppendError>>,
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
        frames: Frames,
        ledger: Ledger,
    ) -> Result<Self, SpoolError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(SpoolError::Thread)?;
        let worker = Worker {
            shared,
            receiver,
            runtime,
            group: Vec::new(),
            settling: Vec::new(),
            seal: None,
            carried: None,
            frames,
            ledger,
            in_doubt: None,
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
    /// For waiting with an end to it; nothing else runs there.
    runtime: Runtime,
    /// What the next commit consists of. Kept here so that it can be answered after a panic.
    group: Vec<Append>,
    /// Who waits for what was counted to be on disk.
    settling: Vec<oneshot::Sender<()>>,
    /// Whether what was counted shall go into the next commit, and when that was said.
    seal: Option<Timestamp>,
    /// Taken from the queue, but too large for the commit before.
    carried: Option<Append>,
    frames: Frames,
    ledger: Ledger,
    /// What of `Shared::waiting` is in the commit under way, and by what that is known to have happened.
    in_doubt: Option<(Proof, Vec<OutcomeCount>)>,
}

/// Why the thread can't go on as it did.
enum Trouble {
    /// The database takes no more writes; it is opened anew.
    Broken(Arc<str>),
    /// For good.
    Final(Arc<str>),
}

/// Whether more is to come.
#[derive(PartialEq, Eq)]
enum Mending {
    Done,
    Closed,
}

/// What the thread waited for.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the thread's stack")]
enum Waited {
    Command(Command),
    /// A frame has waited for long enough.
    Due,
    /// Nothing more comes.
    Closed,
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
        loop {
            match self.wait() {
                Waited::Command(first) => self.collect(first),
                Waited::Due => {}
                Waited::Closed => break,
            }
            match self.commit(Frames::end_commit) {
                Ok(()) => {}
                Err(Trouble::Final(reason)) => return Err(reason),
                Err(Trouble::Broken(reason)) if self.mend(&reason) == Mending::Closed => return Ok(()),
                Err(Trouble::Broken(_)) => {}
            }
        }
        // What was counted and not waited for, and what still grows. The next opening seals it otherwise.
        match self.commit(|frames, _, writing| frames.end_all(writing)) {
            Ok(()) => Ok(()),
            Err(Trouble::Broken(reason) | Trouble::Final(reason)) => Err(reason),
        }
    }

    /// Waits for something to do.
    fn wait(&mut self) -> Waited {
        if let Some(carried) = self.carried.take() {
            return Waited::Command(Command::Append(carried));
        }
        let due = self.frames.due();
        let (receiver, alarm) = (&mut self.receiver, &self.shared.alarm);
        self.runtime.block_on(async {
            let due = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = alarm.wait() => Waited::Due,
                command = receiver.recv() => command.map_or(Waited::Closed, Waited::Command),
                () = due => Waited::Due,
            }
        })
    }

    /// After a write that failed: opens the database anew until that succeeds, and answers meanwhile.
    fn mend(&mut self, reason: &Arc<str>) -> Mending {
        // First: a waiter that hears of it must find the spool refusing.
        self.shared.break_off(reason);
        let mut reason = Arc::clone(reason);
        loop {
            self.refuse_held(&reason);
            let mended = match self.shared.mend() {
                Ok(mended) => mended,
                Err(error) => {
                    tracing::debug!(%error, "the spool's database can't be opened anew yet");
                    reason = Arc::from(error.to_string());
                    self.shared.condition.send_replace(Condition::Broken(Arc::clone(&reason)));
                    if self.refuse_for(MEND_PAUSE, &reason) == Mending::Closed {
                        return Mending::Closed;
                    }
                    continue;
                }
            };
            let Mended { frames, ledger, store } = mended;
            (self.frames, self.ledger) = (frames, ledger);
            self.settle_doubt(&store);
            return Mending::Done;
        }
    }

    /// What was counted and not written is counted again.
    fn settle_doubt(&mut self, store: &Store) {
        let Some((proof, counts)) = self.in_doubt.take() else { return };
        // Where it can't be told, they count: once too often is told apart from never by the log.
        if store.has(&proof).unwrap_or(false) {
            return;
        }
        let mut waiting = lock(&self.shared.waiting);
        counts.into_iter().for_each(|count| drop(waiting.add(count)));
    }

    /// Refuses what comes in this time.
    fn refuse_for(&mut self, time: Duration, reason: &Arc<str>) -> Mending {
        let until = tokio::time::Instant::now() + time;
        loop {
            // The timer must be made in the runtime, hence the block.
            let received = self.runtime.block_on(async { timeout_at(until, self.receiver.recv()).await });
            match received {
                Err(_elapsed) => return Mending::Done,
                Ok(None) => return Mending::Closed,
                Ok(Some(Command::Append(append))) => answer_failed([append], reason),
                // Dropped, it says that nothing is certain.
                Ok(Some(Command::Settle(_))) => {}
                Ok(Some(Command::Seal(at))) => self.seal = Some(at),
                Ok(Some(Command::Close)) => self.receiver.close(),
            }
        }
    }

    /// Takes what waits with the first, up to a batch.
    fn collect(&mut self, first: Command) {
        debug_assert!(self.group.is_empty(), "the commit before was answered");
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

    /// Writes the group, what was counted, and the headers of what `end` seals; answers the waiters. After an error they are
    /// still to be answered.
    fn commit(
        &mut self,
        end: impl FnOnce(&mut Frames, Instant, &mut Writing) -> std::io::Result<()>,
    ) -> Result<(), Trouble> {
        let started = Instant::now();
        if self.shared.alarm.is_raised() {
            return Err(Trouble::Broken(Arc::from("a write failed")));
        }
        let mut writing = Writing::default();
        let (waiting_bytes, lanes) = {
            let counters = lock(&self.shared.counters);
            (counters.bytes, counters.lanes.clone())
        };
        self.frames.begin_commit(waiting_bytes, lanes.lanes(), self.receiver.len());
        self.encode(started, &mut writing).map_err(Trouble::Final)?;
        let counted = self.count(started, &mut writing).map_err(Trouble::Final)?;
        let ended = end(&mut self.frames, started, &mut writing);
        ended.map_err(|error| Trouble::Final(Arc::from(format!("zstd: {error}"))))?;
        self.in_doubt = writing.proof().map(|proof| (proof, counted));
        let spool_id = lock(&self.shared.identity).current();
        writing.sealed.iter_mut().for_each(|sealed| sealed.header.spool_id = spool_id);
        if !writing.is_empty() {
            let places = if writing.pieces.is_empty() { SEALS } else { COMMITS };
            failpoint(places.0);
            self.shared.write(&writing)?;
            failpoint(places.1);
        }
        self.in_doubt = None;
        self.publish(&writing);
        if !writing.pieces.is_empty() {
            self.shared.metrics.commit_duration_seconds.observe(started.elapsed().as_secs_f64());
            #[expect(clippy::cast_precision_loss, reason = "a commit has at most a few thousand records")]
            self.shared.metrics.commit_records.observe(self.group.len() as f64);
        }
        // After the batch: who sees the ledger empty must see what became of it.
        self.shared.ledger_length.store(self.ledger.len(), Ordering::Relaxed);
        self.answer();
        Ok(())
    }

    /// Puts the group's records into frames; those that can't be are answered and left out.
    fn encode(&mut self, now: Instant, writing: &mut Writing) -> Result<(), Arc<str>> {
        let mut failure = None;
        let frames = &mut self.frames;
        let left_out = self.group.extract_if(.., |append| {
            if failure.is_some() {
                return false;
            }
            match frames.push(&append.record, now, writing) {
                Ok(()) => false,
                Err(PushError::Record(_)) => true,
                Err(error @ PushError::Compression(_)) => {
                    failure = Some(Arc::from(error.to_string()));
                    false
                }
            }
        });
        for append in left_out {
            let bytes = append.record.body.len();
            let _ = append.reply.send(Err(AppendError::TooLarge { bytes }));
        }
        failure.map_or(Ok(()), Err)
    }

    /// Brings the ledger up to date with what was counted, and spools a record of it if that is asked for and there is room.
    /// Says what of it comes from nowhere on the disk.
    fn count(&mut self, now: Instant, writing: &mut Writing) -> Result<Vec<OutcomeCount>, Arc<str>> {
        let waiting: Vec<_> = lock(&self.shared.waiting).take().collect();
        waiting.iter().for_each(|count| self.ledger.add(count.clone()));
        for removal in std::mem::take(&mut *lock(&self.shared.removed)) {
            removal.counts.into_iter().for_each(|count| self.ledger.add(count));
            writing.ledger.taken_over.push(removal.first);
        }
        for append in &mut self.group {
            append.counts.drain(..).for_each(|count| self.ledger.add(count));
        }
        // At the budget counts stay in the ledger, which overwrites itself and so does not grow.
        if let Some(at) = self.seal.take().filter(|_| self.shared.has_room()) {
            let record = self.ledger.seal(at, &mut writing.ledger).map_err(|error| error.to_string())?;
            if let Some(record) = record {
                self.frames.push(&record, now, writing).map_err(|error| error.to_string())?;
            }
        }
        self.ledger.take_changed(&mut writing.ledger);
        Ok(waiting)
    }

    fn answer(&mut self) {
        // A client that hung up hears nothing; its record stays.
        for append in self.group.drain(..) {
            let _ = append.reply.send(Ok(()));
        }
        for settled in self.settling.drain(..) {
            let _ = settled.send(());
        }
    }

    /// It is written: counts it, then lets readers see what was sealed. In this order, because a reader may acknowledge at
    /// once.
    fn publish(&mut self, writing: &Writing) {
        {
            let mut counters = lock(&self.shared.counters);
            counters.accepted_total += self.group.len() as u64;
            counters.add_written(writing, self.frames.oldest());
        }
        self.shared.publish_usage();
        if let Some(sealed) = writing.sealed.last() {
            self.shared.committed.send_replace(sealed.header.last);
        }
    }

    /// Answers what the thread holds.
    fn refuse_held(&mut self, reason: &Arc<str>) {
        answer_failed(self.group.drain(..), reason);
        answer_failed(self.carried.take(), reason);
        // Dropped, they say that nothing is certain.
        self.settling.clear();
    }

    /// Closes the queue and answers until it is empty. Merely dropped, a record that is being queued at this instant would
    /// stay in it, and its waiter with it.
    fn refuse_all(&mut self, reason: &Arc<str>) {
        self.receiver.close();
        self.refuse_held(reason);
        while let Some(command) = self.receiver.blocking_recv() {
            if let Command::Append(append) = command {
                answer_failed([append], reason);
            }
        }
    }
}

impl Shared {
    fn write(&self, writing: &Writing) -> Result<(), Trouble> {
        let store = self.store().map_err(|error| Trouble::Broken(Arc::from(error.to_string())))?;
        store.commit(writing).map_err(|error| match error {
            CommitError::Write(error) => Trouble::Broken(Arc::from(error.to_string())),
            CommitError::Header(error) => Trouble::Final(Arc::from(error.to_string())),
        })
    }
}

fn answer_failed(group: impl IntoIterator<Item = Append>, reason: &Arc<str>) {
    for append in group {
        let _ = append.reply.send(Err(AppendError::Failed(Arc::clone(reason))));
    }
}

/// Failpoints around a write that somebody is answered for.
const COMMITS: (&str, &str) = ("spool::before_commit", "spool::after_commit");
/// Failpoints around a write of headers or counts only.
const SEALS: (&str, &str) = ("spool::before_seal", "spool::after_seal");
