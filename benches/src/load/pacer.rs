//! The clock of an open loop: a thread of its own that releases one permit for each ticket that falls due.
//!
//! A thread and not a task, because the runtime's timer ticks in milliseconds and shares its threads with the requests:
//! both would show as latency of the server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Pace, Tickets};

/// How soon the thread notices that nobody waits any more.
const NAP_MAX: Duration = Duration::from_millis(100);

/// Stops its thread when dropped.
pub(super) struct Pacer {
    stop: Arc<AtomicBool>,
}

// === impl Pacer ===

impl Pacer {
    /// Starts the thread. It ends when all tickets are due, when time is up, or with the pacer.
    pub(super) fn start(tickets: Arc<Tickets>, workers: usize) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("bench-pacer".into()).spawn(move || pace(&tickets, workers, &stopped))?;
        Ok(Self { stop })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn pace(tickets: &Tickets, workers: usize, stopped: &AtomicBool) {
    let Pace::Open { rate } = tickets.pace else { return };
    let mut released = 0;
    while released < tickets.pool.bodies.len() && !stopped.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now > tickets.last_start {
            break;
        }
        let due = ((now - tickets.started).as_secs_f64() * rate) as usize + 1;
        let due = due.min(tickets.pool.bodies.len());
        tickets.due.add_permits(due.saturating_sub(released));
        released = released.max(due);
        let wait = tickets.intended(released, rate).saturating_duration_since(Instant::now());
        thread::sleep(wait.min(NAP_MAX));
    }
    // One more for each worker, so that all of them wake, find no ticket and end.
    tickets.due.add_permits(workers);
}
