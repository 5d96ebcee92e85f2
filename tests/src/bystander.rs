//! A well-behaved client that goes on posting while others misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::event::TestEvent;
use crate::ingest::{Ingest, Target};

/// Between two posts.
const INTERVAL: Duration = Duration::from_millis(50);

/// The client, on a thread and a connection of its own.
#[derive(Debug)]
pub struct Bystander {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Report>>,
}

/// How it fared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Posts answered 200.
    pub accepted: u64,
    /// What else was heard, in words.
    pub complaints: Vec<String>,
    /// The longest that an answer took.
    pub slowest: Duration,
}

impl Bystander {
    /// Starts posting small events to `target`.
    #[must_use]
    pub fn start(target: Target) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || post_until(&told, target));
        Self { stop, thread: Some(thread) }
    }

    /// Ends it and holds that every post was answered 200, each within `within`.
    ///
    /// # Panics
    /// If one was not.
    #[track_caller]
    pub fn assert_unharmed(mut self, within: Duration) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let report = self.thread.take().expect("it is ended once").join().expect("the bystander's thread");
        eprintln!("bystander: {} posts accepted, the slowest after {:?}", report.accepted, report.slowest);
        assert!(report.complaints.is_empty(), "{:?}", report.complaints);
        assert!(report.accepted > 0, "it never came to post");
        assert!(report.slowest < within, "an answer took {:?}, more than {within:?}", report.slowest);
        report
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // Where a test fails, its thread ends by itself.
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn post_until(stop: &AtomicBool, target: Target) -> Report {
    let ingest = Ingest::new(target);
    let mut report = Report::default();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        match ingest.post_within(&TestEvent::message("bystander"), Duration::from_secs(60)) {
            Ok(answer) if answer.status == 200 => report.accepted += 1,
            Ok(answer) => report.complaints.push(format!("{}: {}", answer.status, answer.text())),
            Err(unanswered) => report.complaints.push(unanswered.0),
        }
        report.slowest = report.slowest.max(started.elapsed());
        // The pace of the posts, not synchronisation with anything.
        thread::sleep(INTERVAL);
    }
    report
}
