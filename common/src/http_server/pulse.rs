//! Whether a connection does anything at the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Of one connection. Every request in progress holds a clone: until its answer is written, and until its body is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulse(Arc<Beats>);

#[derive(Debug, Default)]
struct Beats {
    /// Requests that have begun.
    begun: AtomicUsize,
    /// Something is written that the kernel has not taken yet.
    unflushed: AtomicBool,
}

/// A request in progress.
#[derive(Debug, Clone)]
pub(super) struct InProgress {
    _pulse: Pulse,
}

// === impl Pulse ===
//
// Relaxed throughout: it is written and read in the connection's own task; requests only count references.

impl Pulse {
    /// A request begins.
    pub(super) fn begin(&self) -> InProgress {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        InProgress { _pulse: self.clone() }
    }

    /// How many requests have begun.
    pub(super) fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Bytes are given to the stream, or have all left it.
    pub(super) fn set_unflushed(&self, unflushed: Unflushed) {
        self.0.unflushed.store(matches!(unflushed, Unflushed::Some), Ordering::Relaxed);
    }

    /// Whether nothing is in progress. `holders` is the number of clones that are no requests.
    pub(super) fn rests(&self, holders: usize) -> bool {
        Arc::strong_count(&self.0) <= holders && !self.0.unflushed.load(Ordering::Relaxed)
    }
}

/// See [`Pulse::set_unflushed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unflushed {
    /// There are such bytes.
    Some,
    /// There are none.
    None,
}
