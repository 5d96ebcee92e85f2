//! How much may be sent: the smaller of the aggregator's window and our own, less what is in flight.

use std::time::Duration;

use picket_common::ids::Sequence;
use picket_common::wire::control::Window;
use tokio::time::Instant;

use super::backoff::jittered;
use crate::spool::{Oversized, ReadLimit};

/// Batches that the aggregator asked to see again later and that wait for it. Beyond this nothing new is sent: an
/// aggregator that puts everything off is to be left alone.
const MAX_POSTPONED: usize = 64;
const POSTPONED_MIN: Duration = Duration::from_millis(200);
const POSTPONED_MAX: Duration = Duration::from_secs(30);

/// A batch that is to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Postponed {
    pub(super) due: Instant,
    pub(super) first: Sequence,
    /// How often it was put off.
    pub(super) attempt: u32,
}

/// What was sent and not yet answered, and what waits to be sent again.
#[derive(Debug)]
pub(super) struct InFlight {
    own: Window,
    window: Window,
    batches: u32,
    bytes: u64,
    postponed: Vec<Postponed>,
}

impl InFlight {
    pub(super) const fn new(own: Window, window: Window) -> Self {
        Self { own, window, batches: 0, bytes: 0, postponed: Vec::new() }
    }

    /// The aggregator's window changed. What is in flight beyond it stays so.
    pub(super) const fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    pub(super) const fn batches(&self) -> u32 {
        self.batches
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn sent(&mut self, bytes: u64) {
        self.batches += 1;
        self.bytes += bytes;
    }

    pub(super) const fn answered(&mut self, bytes: u64) {
        self.batches = self.batches.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// How much may be read to be sent now; `None` for nothing. With nothing in flight one batch is always allowed,
    /// whatever the window says, so that nothing stands still for good.
    pub(super) fn room(&self) -> Option<ReadLimit> {
        if self.batches == 0 {
            let batches = self.own.batches.min(self.window.batches).max(1);
            let bytes = self.own.bytes.min(self.window.bytes);
            return Some(ReadLimit { batches: batches as usize, bytes, oversized: Oversized::Take });
        }
        let batches = self.own.batches.min(self.window.batches).saturating_sub(self.batches);
        let bytes = self.own.bytes.min(self.window.bytes).saturating_sub(self.bytes);
        (batches > 0 && bytes > 0).then_some(ReadLimit {
            batches: batches as usize,
            bytes,
            oversized: Oversized::Leave,
        })
    }

    /// Whether batches that were never sent in this session may be sent, beside those that were put off.
    pub(super) const fn takes_new(&self) -> bool {
        self.postponed.len() < MAX_POSTPONED
    }

    /// A batch is to be sent again, after a wait that grows with its attempts.
    pub(super) fn postpone(&mut self, first: Sequence, attempt: u32, now: Instant, random: u64) {
        let due = now + jittered(POSTPONED_MIN, POSTPONED_MAX, attempt, random);
        self.postponed.push(Postponed { due, first, attempt: attempt.saturating_add(1) });
    }

    /// When the next postponed batch is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.postponed.iter().map(|postponed| postponed.due).min()
    }

    /// Takes a postponed batch that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Postponed> {
        let position = self.postponed.iter().position(|postponed| postponed.due <= now)?;
        Some(self.postponed.swap_remove(position))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const fn window(batches: u32, bytes: u64) -> Window {
        Window { batches, bytes }
    }

    #[test]
    fn one_batch_is_always_allowed_and_then_the_smaller_window_counts() {
        let mut in_flight = InFlight::new(window(16, 1000), window(0, 0));
        let limit = in_flight.room().unwrap();
        assert_eq!((limit.batches, limit.bytes, limit.oversized), (1, 0, Oversized::Take));
        in_flight.sent(400);
        assert_eq!(in_flight.room(), None);
        in_flight.set_window(window(3, 5000));
        let limit = in_flight.room().unwrap();
        assert_eq!((limit.batches, limit.bytes, limit.oversized), (2, 600, Oversized::Leave));
        in_flight.sent(600);
        assert_eq!(in_flight.room(), None);
        in_flight.answered(400);
        assert_eq!(in_flight.room().unwrap().bytes, 400);
    }

    #[tokio::test(start_paused = true)]
    async fn a_postponed_batch_is_taken_once_when_it_is_due() {
        let mut in_flight = InFlight::new(window(1, 1), window(1, 1));
        let now = Instant::now();
        in_flight.postpone(Sequence::new(5), 0, now, 0);
        assert_eq!(in_flight.take_due(now), None);
        let due = in_flight.next_due().unwrap();
        let postponed = in_flight.take_due(due).unwrap();
        assert_eq!((postponed.first, postponed.attempt), (Sequence::new(5), 1));
        assert_eq!(in_flight.take_due(due), None);
    }

    #[test]
    fn an_aggregator_that_puts_everything_off_gets_nothing_new() {
        let mut in_flight = InFlight::new(window(1, 1), window(1, 1));
        for sequence in 0..MAX_POSTPONED as u64 {
            assert!(in_flight.takes_new());
            in_flight.postpone(Sequence::new(sequence), 0, Instant::now(), 0);
        }
        assert!(!in_flight.takes_new());
    }
}
