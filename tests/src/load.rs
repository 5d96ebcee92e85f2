//! Continuous load from several connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::event::TestEvent;
use crate::ingest::{Ingest, Target};
use crate::ledger::{Ledger, Outcome};

/// Issues that the load's events fall into.
const GROUPS: u64 = 20;
/// Pause after a post that was not accepted, so that a dead relay is not hammered by a busy loop.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// Threads that post until they are stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts posting from `connections` connections to each of `targets`, each at most `per_second` times a second.
    #[must_use]
    pub fn start(targets: &[Target], connections: u64, per_second: u32, ledger: &Arc<Ledger>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let interval = Duration::from_secs(1) / per_second;
        let mut threads = Vec::new();
        for target in targets {
            for connection in 0..connections {
                let (target, stop, ledger) = (*target, Arc::clone(&stop), Arc::clone(ledger));
                threads.push(thread::spawn(move || post_until(&stop, target, connection, interval, &ledger)));
            }
        }
        Self { stop, threads }
    }

    /// Ends the load; what was posted is in the ledger then.
    ///
    /// # Panics
    /// If a thread panicked.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a load thread");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Where a test fails, its threads end by themselves.
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn post_until(stop: &AtomicBool, target: Target, connection: u64, interval: Duration, ledger: &Ledger) {
    let ingest = Ingest::new(target);
    let mut due = Instant::now();
    for number in connection.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let outcome = ingest.post_noted(&TestEvent::exception(&format!("group{}", number % GROUPS)), ledger);
        // The pace of the load, not synchronisation with anything.
        due = (due + interval).max(Instant::now());
        let pause = if outcome == Outcome::Accepted { Duration::ZERO } else { PAUSE_AFTER_REFUSAL };
        thread::sleep(due.saturating_duration_since(Instant::now()).max(pause));
    }
}
