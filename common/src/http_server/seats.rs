//! The places for connections, and who gives way when all are taken.
//!
//! ```text
//!            accepted                request begins
//!  (kernel) ─────────▸  idle  ◂───────────────────────▸  busy
//!                        │          answer written         │
//!         closed when places are short,        closed when no connection is idle and the
//!         longest idle first                   request has taken longer than it may then
//! ```
//!
//! Invariants:
//! - at most as many seats are held as there are places;
//! - a connection that answers in time is never closed to make room: only idle ones are, and those whose client dawdles;
//! - so a client that keeps any number of connections open, silent or in the middle of a request, can't keep others out for longer
//!   than a request may take.
//!
//! A connection is idle before its first request (also during a handshake), between requests, and while the head of the next one
//! comes in.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::pulse::InProgress;

/// Which part of all places is freed at once when there is none: one in so many. More than one, because those who are told to
/// leave need a moment, and the next client is often there already.
const FREED_PART: usize = 64;
/// How long a newcomer waits before it is looked again who could give way.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often it is logged that places are short.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The places of a listener. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    places: usize,
    permits: Arc<Semaphore>,
    /// How long a request may take before it gives way to others.
    yield_after: Duration,
    turns: Arc<Mutex<Turns>>,
}

/// Connections by when they began what they do; told to leave by their [`Notify`].
#[derive(Debug, Default)]
struct Turns {
    next: u64,
    idle: BTreeMap<u64, Arc<Notify>>,
    busy: BTreeMap<u64, (Instant, Arc<Notify>)>,
    warned: Option<Instant>,
    /// When room was made by [`Seats::make_room_now_and_then`].
    relieved: Option<Instant>,
}

// === impl Seats ===

impl Seats {
    pub(super) fn new(places: usize, yield_after: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(places));
        Self { places, permits, yield_after, turns: Arc::default() }
    }

    /// A seat, once there is one. Cancel safe.
    pub(super) async fn take(&self) -> Seat {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return self.seat(permit);
            }
            self.make_room();
            // The semaphore is never closed, so the error is always that nobody has left yet.
            if let Ok(Ok(permit)) = timeout(LOOK_AGAIN, Arc::clone(&self.permits).acquire_owned()).await {
                return self.seat(permit);
            }
        }
    }

    fn seat(&self, permit: OwnedSemaphorePermit) -> Seat {
        let leave = Arc::new(Notify::new());
        let mut turns = lock(&self.turns);
        let turn = turns.take_turn();
        turns.idle.insert(turn, Arc::clone(&leave));
        drop(turns);
        Seat {
            shared: Arc::new(Shared { turns: Arc::clone(&self.turns), turn: Mutex::new(turn), leave }),
            _permit: permit,
        }
    }

    /// Makes room for those who wait for something else than a place, each of whom asks again and again.
    pub(super) fn make_room_now_and_then(&self) {
        let now = Instant::now();
        let mut turns = lock(&self.turns);
        if turns.relieved.is_some_and(|at| now.duration_since(at) < LOOK_AGAIN) {
            return;
        }
        turns.relieved = Some(now);
        drop(turns);
        self.make_room();
    }

    /// Tells the longest idle connections to leave, or, where none is idle, those whose requests have taken too long.
    fn make_room(&self) {
        let now = Instant::now();
        let wanted = self.places.div_ceil(FREED_PART);
        let mut turns = lock(&self.turns);
        let mut told = 0;
        while told < wanted
            && let Some((_, leave)) = turns.idle.pop_first()
        {
            leave.notify_one();
            told += 1;
        }
        while told < wanted
            && let Some(oldest) = turns.busy.first_entry()
            && now.duration_since(oldest.get().0) >= self.yield_after
        {
            oldest.remove().1.notify_one();
            told += 1;
        }
        if turns.warned.is_none_or(|at| now.duration_since(at) >= WARN_EVERY) {
            turns.warned = Some(now);
            warn!(
                limit = self.places,
                told, "connections take all places or memory: closing idle ones for new clients"
            );
        }
    }
}

impl Turns {
    fn take_turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    // A panic while the lock is held leaves a connection at worst out of the lists, that is, safe from being closed.
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Shared {
    turns: Arc<Mutex<Turns>>,
    /// Under which the connection stands in one of the lists.
    turn: Mutex<u64>,
    leave: Arc<Notify>,
}

// === impl Seat ===

impl Seat {
    /// Completes when the connection shall leave. Cancel safe; what was told before is not lost.
    pub(super) async fn told_to_leave(&self) {
        self.shared.leave.notified().await;
    }

    /// What says that requests begin.
    pub(super) fn attendant(&self) -> Attendant {
        Attendant(Arc::clone(&self.shared))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let turn = self.shared.turn();
        let mut turns = lock(&self.shared.turns);
        turns.idle.remove(&turn);
        turns.busy.remove(&turn);
    }
}

impl Shared {
    fn turn(&self) -> u64 {
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the connection to the end of the other list. One that was told to leave is in neither, and stays out.
    fn change(
        &self,
        begin: impl FnOnce(&mut Turns, u64, Arc<Notify>),
        is_listed: impl FnOnce(&mut Turns, u64) -> bool,
    ) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turns = lock(&self.turns);
        if is_listed(&mut turns, *turn) {
            *turn = turns.take_turn();
            begin(&mut turns, *turn, Arc::clone(&self.leave));
        }
    }
}

/// Tells the seats what a connection does.
#[derive(Debug, Clone)]
pub(super) struct Attendant(Arc<Shared>);

impl Attendant {
    /// A request begins; it ends when the guard is dropped.
    pub(super) fn busy(&self) -> Busy {
        let begin = |turns: &mut Turns, turn, leave| {
            turns.busy.insert(turn, (Instant::now(), leave));
        };
        self.0.change(begin, |turns, turn| turns.idle.remove(&turn).is_some());
        Busy(Arc::clone(&self.0))
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Shared>);

impl Drop for Busy {
    fn drop(&mut self) {
        let begin = |turns: &mut Turns, turn, leave| {
            turns.idle.insert(turn, leave);
        };
        self.0.change(begin, |turns, turn| turns.busy.remove(&turn).is_some());
    }
}

/// The body of an answer, with the guards of its request: the request ends when the body is written or given up.
pub(super) struct Attended<Content> {
    pub(super) content: Content,
    pub(super) _busy: Busy,
    pub(super) _in_progress: InProgress,
}

impl<Content: Body + Unpin> Body for Attended<Content> {
    type Data = Content::Data;
    type Error = Content::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().content).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_ready::now_or_never;

    mod futures_ready {
        use std::future::Future;
        use std::task::{Context, Poll, Waker};

        /// What a future has to say without waiting.
        pub(super) fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
            match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            }
        }
    }

    const YIELD_AFTER: Duration = Duration::from_secs(10);

    async fn full(places: usize) -> (Seats, Vec<Seat>) {
        let seats = Seats::new(places, YIELD_AFTER);
        let mut taken = Vec::new();
        for _ in 0..places {
            taken.push(seats.take().await);
        }
        (seats, taken)
    }

    fn told(taken: &[Seat]) -> Vec<usize> {
        (0..taken.len()).filter(|&seat| now_or_never(taken[seat].told_to_leave()).is_some()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_leaves_while_there_is_room() {
        let (seats, mut taken) = full(3).await;
        taken.pop();
        let _newcomer = seats.take().await;
        assert!(told(&taken).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_leaves_and_its_place_goes_to_the_newcomer() {
        let (seats, mut taken) = full(3).await;
        drop(taken[0].attendant().busy());
        let waiting = tokio::spawn({
            let seats = seats.clone();
            async move { seats.take().await }
        });
        taken[1].told_to_leave().await;
        assert!(told(&taken).is_empty());
        taken.remove(1);
        waiting.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_answered_in_time_stays_and_who_dawdles_leaves() {
        let (seats, taken) = full(2).await;
        let attendants: Vec<_> = taken.iter().map(Seat::attendant).collect();
        let _slow = attendants[0].busy();
        tokio::time::advance(Duration::from_secs(5)).await;
        let _quick = attendants[1].busy();
        seats.make_room();
        assert!(told(&taken).is_empty());
        tokio::time::advance(Duration::from_secs(5)).await;
        seats.make_room();
        assert_eq!(told(&taken), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_all_places_is_freed_at_once() {
        let (seats, taken) = full(640).await;
        seats.make_room();
        assert_eq!(told(&taken), (0..10).collect::<Vec<_>>());
        assert_eq!(lock(&seats.turns).idle.len(), 630);
        drop(taken);
        let turns = lock(&seats.turns);
        assert!(turns.idle.is_empty() && turns.busy.is_empty());
    }
}
