//! The budget for request bodies in memory, of the whole process.
//!
//! Invariants: the sum of all reservations never exceeds the budget; a reservation gives back what it took when it is dropped.
//! What it does not count: connection buffers (bounded by their number), the spool's own buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    total: usize,
    used: Arc<AtomicUsize>,
}

/// There is not enough left of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the memory for request bodies is used up")]
pub struct Exhausted;

impl MemoryBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self { total, used: Arc::new(AtomicUsize::new(0)) }
    }

    /// How many bytes are reserved.
    #[must_use]
    pub fn used(&self) -> usize {
        // A figure for metrics; nothing else is ordered by it.
        self.used.load(Ordering::Relaxed)
    }

    /// A reservation of nothing, to be grown.
    #[must_use]
    pub fn reserve_nothing(&self) -> Reservation {
        Reservation { budget: self.clone(), bytes: 0 }
    }
}

/// A part of the budget that belongs to one request.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: usize,
}

impl Reservation {
    /// Makes the reservation at least `bytes` large.
    ///
    /// # Errors
    /// [`Exhausted`] if the budget does not hold that much; the reservation is then as it was.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|&more| more > 0) else {
            return Ok(());
        };
        let total = self.budget.total;
        // Relaxed: the counter guards an amount, no other memory.
        self.budget
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more).filter(|&sum| sum <= total)
            })
            .map_err(|_| Exhausted)?;
        self.bytes = bytes;
        Ok(())
    }

    /// How many bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reservations_share_the_budget_and_give_it_back() {
        let budget = MemoryBudget::new(100);
        let mut first = budget.reserve_nothing();
        first.grow_to(60).unwrap();
        let mut second = budget.reserve_nothing();
        assert_eq!(second.grow_to(41), Err(Exhausted));
        assert_eq!(second.bytes(), 0);
        second.grow_to(40).unwrap();
        second.grow_to(10).unwrap();
        assert_eq!(budget.used(), 100);
        drop(first);
        second.grow_to(100).unwrap();
        drop(second);
        assert_eq!(budget.used(), 0);
    }
}
