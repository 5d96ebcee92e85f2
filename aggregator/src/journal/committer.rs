//! The one thread that writes batches: group commit and dedupe.
//!
//! One round, in order:
//! 1. wait for a request, then take every other that waits, up to [`MAX_GROUP_BATCHES`] and [`MAX_GROUP_BYTES`];
//! 2. judge each against the stored ranges of its spool, those of this round included: duplicate, overlap, full, or new;
//! 3. write the new ones and the changed ranges in one synced transaction;
//! 4. publish the new end, then answer every request of the round, duplicates too: the original of a duplicate may be in
//!    the same round, and an answer given before the fsync would promise what is not on disk yet.
//!
//! Where several nodes share a database, 2 to 4 are those of `claims` instead, and before each round the one before it is settled.
//!
//! The neighbours of a batch among the stored ranges are looked up in RocksDB and not kept between rounds: a round that fails
//! leaves nothing behind. Its positions are not used again, because a failed write may yet turn up in the log after a crash, and must
//! then not meet another batch under its position.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fail::fail_point;
use picket_common::failpoint::failpoint;
use picket_common::ids::SpoolId;
use picket_common::wire::BatchHeader;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::dead_letter::{ReplayError, ReplayRequest};
use super::entry::Source;
use super::store::{SpoolOnDisk, Transaction};
use super::stored_ranges::{Coverage, NoteError, SpoolRanges};
use super::{AppendError, Appended, JournalError, JournalPosition, SessionEpoch, Shared, claims, entry, lock};

/// Requests that may wait. Their payloads are bounded by intake's budget for bytes in flight, not here.
pub(super) const QUEUE_LENGTH: usize = 1024;
/// Most batches in one commit.
const MAX_GROUP_BATCHES: usize = 512;
/// A commit takes no further batch beyond this, so that one fsync stays short and the copy in memory small.
const MAX_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// Wait between two tries to settle a round of claims.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);

/// What the thread is asked.
#[derive(Debug)]
pub(super) enum Request {
    Append(AppendRequest),
    /// Append a dead letter again, in a commit of its own: an operator does it, now and then.
    Replay(ReplayRequest),
    /// Finish what is queued, then end.
    Stop,
}

/// One batch and whom to tell.
#[derive(Debug)]
pub(super) struct AppendRequest {
    pub(super) header: BatchHeader,
    pub(super) payload: Bytes,
    /// The session it came in, where sessions are fenced.
    pub(super) epoch: Option<SessionEpoch>,
    pub(super) reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// Owns the commit thread; dropped, it stops the thread and waits, so that none has the database open behind the back of
/// whoever opened it.
#[derive(Debug)]
pub struct JournalCommitter {
    /// Taken by [`Self::shutdown`].
    thread: Option<JoinHandle<()>>,
    requests: mpsc::WeakSender<Request>,
}

// === impl JournalCommitter ===

impl JournalCommitter {
    pub(super) fn start(
        shared: Arc<Shared>,
        requests: mpsc::Receiver<Request>,
        stop: mpsc::WeakSender<Request>,
    ) -> Result<Self, JournalError> {
        let thread = std::thread::Builder::new()
            .name("journal-commit".to_owned())
            .spawn(move || run(&shared, requests))
            .map_err(JournalError::Thread)?;
        Ok(Self { thread: Some(thread), requests: stop })
    }

    /// Refuses new batches, commits the queued ones and waits for the thread. Blocks: call it off the asynchronous threads.
    pub fn shutdown(mut self) {
        if let Some(requests) = self.requests.upgrade() {
            // Fails only if the thread has ended.
            let _ = requests.blocking_send(Request::Stop);
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the journal's commit thread panicked");
        }
    }
}

impl Drop for JournalCommitter {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if let Some(requests) = self.requests.upgrade() {
            // Full only while the thread is at work on what fills it.
            while let Err(TrySendError::Full(_)) = requests.try_send(Request::Stop) {
                std::thread::yield_now();
            }
        }
        let _ = thread.join();
    }
}

/// The thread. Whoever waits when it panics hears [`AppendError::Closed`]: those of the round because their reply is dropped
/// on the way, the others here.
fn run(shared: &Shared, mut requests: mpsc::Receiver<Request>) {
    let committed = panic::catch_unwind(AssertUnwindSafe(|| commit_until_stopped(shared, &mut requests)));
    if committed.is_err() {
        // The panic hook has logged where it came from.
        error!("the journal's commit thread panicked, no more batches are taken; relays keep theirs");
        // Emptied rather than merely dropped: a request that is being queued at this instant would stay in the queue, and
        // its waiter with it.
        requests.close();
        while requests.blocking_recv().is_some() {}
    }
}

fn commit_until_stopped(shared: &Shared, requests: &mut mpsc::Receiver<Request>) {
    while settle(shared, requests) == Settling::Done
        && let Some(request) = requests.blocking_recv()
    {
        commit_round(shared, request, requests);
    }
}

/// One round: what waits with the first request.
fn commit_round(shared: &Shared, first: Request, requests: &mut mpsc::Receiver<Request>) {
    let Collected { group, replays, stop } = collect(first, requests);
    if stop {
        requests.close();
    }
    commit_group(shared, group);
    for ReplayRequest { id, reply } in replays {
        // The asker may have gone; the dead letter is in the journal all the same.
        let _ = reply.send(replay(shared, id));
    }
}

/// The rounds of a journal that has no commit thread: whoever has this does them, one at a time.
#[derive(Debug)]
pub struct JournalRounds {
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
}

// === impl JournalRounds ===

impl JournalRounds {
    pub(super) const fn new(shared: Arc<Shared>, requests: mpsc::Receiver<Request>) -> Self {
        Self { shared, requests }
    }

    /// Commits and answers what waits now, up to the bounds of a group.
    pub fn commit_waiting(&mut self) {
        if let Ok(first) = self.requests.try_recv() {
            commit_round(&self.shared, first, &mut self.requests);
        }
    }
}

/// How settling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settling {
    Done,
    /// The thread is to stop; the next open settles.
    Stopped,
}

/// Makes sure that no round of claims is open, however long the other nodes' database is away. Who waits meanwhile is refused.
fn settle(shared: &Shared, requests: &mut mpsc::Receiver<Request>) -> Settling {
    let Some(ledger) = &shared.ledger else { return Settling::Done };
    let mut is_first = true;
    while let Err(problem) = claims::settle(shared, ledger.as_ref()) {
        if std::mem::take(&mut is_first) {
            error!(error = %problem, "a round of batches can't be settled with the other nodes, relays keep theirs");
        }
        std::thread::sleep(SETTLE_PAUSE);
        loop {
            match requests.try_recv() {
                Err(TryRecvError::Empty) => break,
                Ok(Request::Stop) | Err(TryRecvError::Disconnected) => return Settling::Stopped,
                // The askers may have gone.
                Ok(Request::Append(append)) => drop(append.reply.send(Err(AppendError::Failed(problem.to_string())))),
                Ok(Request::Replay(replay)) => drop(replay.reply.send(Err(JournalError::Unsettled.into()))),
            }
        }
    }
    Settling::Done
}

/// Takes what waits, without waiting for more: the next group gathers while this one syncs.
fn collect(first: Request, requests: &mut mpsc::Receiver<Request>) -> Collected {
    let mut collected = Collected::default();
    let Collected { group, replays, stop } = &mut collected;
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(request) = next {
        match request {
            Request::Stop => {
                *stop = true;
                break;
            }
            Request::Replay(replay) => replays.push(replay),
            Request::Append(append) => {
                bytes += append.payload.len();
                group.push(append);
            }
        }
        let full = group.len() >= MAX_GROUP_BATCHES || bytes >= MAX_GROUP_BYTES;
        next = if full { None } else { requests.try_recv().ok() };
    }
    collected
}

/// What one round is about; at most the queue's length and one.
#[derive(Default)]
struct Collected {
    group: Vec<AppendRequest>,
    replays: Vec<ReplayRequest>,
    stop: bool,
}

/// Appends what a dead letter holds and forgets it, in one synced transaction. Its sequences are noted already.
fn replay(shared: &Shared, id: u64) -> Result<JournalPosition, ReplayError> {
    // Also against a drop, or an eviction, of the same letter.
    let _writing = lock(&shared.state_writes);
    shared.heal()?;
    let (letter, bytes) = shared.store.dead_letter(id)?.ok_or(ReplayError::NotFound(id))?;
    let (header, payload) = letter.batch(&bytes)?;
    let size = payload.len() as u64;
    if shared.backlog().bytes + size > shared.max_bytes {
        return Err(ReplayError::Full);
    }
    let value = entry::encode(Source::DeadLetter, shared.appended_bytes(), &header, &payload)
        .map_err(|_| JournalError::State("dead letters"))?;
    let position = shared.reserved_end();
    let mut transaction = Transaction::default();
    shared.store.put_entry(&mut transaction, position, value);
    shared.store.put_deleted_dead_letter(&mut transaction, id);
    shared.reserve(position.next());
    shared.store.commit(transaction)?;
    shared.publish(position.next(), size);
    shared.forget_dead_letter(&letter);
    shared.metrics.dead_letters_replayed.inc();
    Ok(position)
}

fn commit_group(shared: &Shared, group: Vec<AppendRequest>) {
    if group.is_empty() {
        return;
    }
    let started = Instant::now();
    shared.metrics.commit_batches.observe(group.len() as f64);
    let answered = match &shared.ledger {
        Some(ledger) => claims::commit_group(shared, ledger.as_ref(), &group),
        None => commit_alone(shared, &group),
    };
    shared.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
    let answers = answered.unwrap_or_else(|error| {
        shared.metrics.failed_commits.inc();
        error!(%error, batches = group.len(), "journal commit failed, relays keep their batches");
        group.iter().map(|_| Err(AppendError::Failed(error.to_string()))).collect()
    });
    failpoint("journal::after_commit_before_ack");
    for (request, answer) in group.into_iter().zip(answers) {
        // The asker may have gone with its connection; its relay sends again and learns that the batch is a duplicate.
        let _ = request.reply.send(answer);
    }
}

/// Stores a group where no other node has a journal: the stored ranges here decide.
fn commit_alone(shared: &Shared, group: &[AppendRequest]) -> Result<Vec<Result<Appended, AppendError>>, JournalError> {
    // Before the round: it looks at the end.
    shared.heal()?;
    let mut round = Round::new(shared);
    let verdicts = group.iter().map(|request| round.judge(request)).collect();
    round.commit()?;
    Ok(verdicts)
}

/// One group commit in the making.
struct Round<'a> {
    shared: &'a Shared,
    transaction: Transaction,
    /// Ranges of the spools in this round, with what the round adds.
    ranges: HashMap<SpoolId, SpoolRanges<SpoolOnDisk<'a>>>,
    end: JournalPosition,
    /// It notes something, so there is something to write.
    notes: u64,
    bytes: u64,
}

// === impl Round ===

impl<'a> Round<'a> {
    fn new(shared: &'a Shared) -> Self {
        let end = shared.reserved_end();
        Self { shared, transaction: Transaction::default(), ranges: HashMap::new(), end, notes: 0, bytes: 0 }
    }

    /// What the batch's answer will be if the commit succeeds.
    fn judge(&mut self, request: &AppendRequest) -> Result<Appended, AppendError> {
        let header = &request.header;
        let failed = |error: JournalError| {
            warn!(%error, spool = %header.spool_id, "batch can't be taken");
            AppendError::Failed(error.to_string())
        };
        let ranges = match self.ranges.entry(header.spool_id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(self.shared.stored_ranges(header.spool_id).map_err(failed)?),
        };
        match ranges.coverage(header.first, header.last).map_err(failed)? {
            Coverage::Stored => return Ok(Appended::Duplicate),
            Coverage::Partial => return Err(AppendError::Overlap),
            Coverage::New => {}
        }
        let size = request.payload.len() as u64;
        if !header.is_tombstone && self.shared.backlog().bytes + self.bytes + size > self.shared.max_bytes {
            return Err(AppendError::Full);
        }
        let stored_before = self.shared.appended_bytes() + self.bytes;
        let value = entry::encode(Source::Relay, stored_before, header, &request.payload)
            .map_err(|error| AppendError::Failed(error.to_string()))?;
        // Before the entry goes into the transaction, which can't be taken back from it.
        ranges.note(header.first, header.last).map_err(|error| match error {
            NoteError::TooManyGaps => AppendError::TooManyGaps,
            NoteError::Journal(error) => failed(error),
        })?;
        self.notes += 1;
        if header.is_tombstone {
            return Ok(Appended::Stored);
        }
        self.shared.store.put_entry(&mut self.transaction, self.end, value);
        self.end = self.end.next();
        self.bytes += size;
        Ok(Appended::Stored)
    }

    /// Writes and syncs what was judged to be new.
    fn commit(mut self) -> Result<(), JournalError> {
        if self.notes == 0 {
            return Ok(());
        }
        for (spool, ranges) in &self.ranges {
            self.shared.store.put_stored_ranges(&mut self.transaction, *spool, &ranges.changes());
        }
        self.shared.reserve(self.end);
        fail_point!("journal::before_commit", |_| Err(JournalError::Failpoint));
        failpoint("journal::before_write");
        self.shared.store.commit(self.transaction)?;
        self.shared.publish(self.end, self.bytes);
        Ok(())
    }
}
