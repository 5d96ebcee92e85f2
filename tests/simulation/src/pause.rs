//! Waiting in virtual time: a future that is ready when it is time, and says when that will be.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use crate::environment::{Environment, Millis};

/// Nothing is waited for but an outside event.
const NEVER: Millis = Millis::MAX;

/// What the futures of one process wait by.
#[derive(Debug, Clone)]
pub struct Waiting {
    environment: Environment,
    /// When the process is to be polled again.
    until: Arc<AtomicU64>,
}

/// Ready at a time.
#[derive(Debug)]
pub struct Pause<'a> {
    waiting: &'a Waiting,
    until: Millis,
}

/// Ready the second time it is polled.
#[derive(Debug)]
pub struct Idle<'a> {
    waiting: &'a Waiting,
    was_polled: bool,
}

// === impl Waiting ===

impl Waiting {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(environment: Environment) -> Self {
        Self { environment, until: Arc::new(AtomicU64::new(NEVER)) }
    }

    /// Waits for `least..=most` milliseconds.
    #[must_use]
    pub fn pause(&self, least: Millis, most: Millis) -> Pause<'_> {
        let until = self.environment.now() + self.environment.between(least, most);
        Pause { waiting: self, until }
    }

    /// Waits until the process is polled from outside.
    #[must_use]
    pub const fn idle(&self) -> Idle<'_> {
        Idle { waiting: self, was_polled: false }
    }

    /// When to poll again; none if only an outside event can go on.
    #[must_use]
    pub fn until(&self) -> Option<Millis> {
        Some(self.until.load(Ordering::Relaxed)).filter(|&until| until != NEVER)
    }
}

impl Future for Pause<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.waiting.environment.now() >= self.until {
            return Poll::Ready(());
        }
        self.waiting.until.store(self.until, Ordering::Relaxed);
        Poll::Pending
    }
}

impl Future for Idle<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.was_polled {
            return Poll::Ready(());
        }
        self.was_polled = true;
        self.waiting.until.store(NEVER, Ordering::Relaxed);
        Poll::Pending
    }
}
