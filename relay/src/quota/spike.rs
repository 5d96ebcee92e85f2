//! What is usual for a project, and what is a flood.
//!
//! A relay counts the events of each minute. The baseline is their moving average; a minute may have
//! `max(floor, multiplier × baseline)` of them. The average learns from what was admitted and not from what came, so that a
//! flood does not become usual by lasting: it raises the bound by a tenth of the difference a minute at most.

use picket_common::project_config::spike::SpikeProtection;
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// What clients and outcomes are told.
pub const SPIKE_REASON: &str = "spike_protection";

/// The part of the way to a minute's count that the average goes: half of it is from the last seven minutes.
const LEARNED_PART: f64 = 0.1;
/// After this many silent minutes the average is next to nothing; it is not computed minute by minute then.
const FORGOTTEN_AFTER_MINUTES: u64 = 1000;

/// The events of a project on this relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    minute: u64,
    admitted: u64,
    average: f64,
}

// === impl Baseline ===

impl Baseline {
    /// Whether one more event is usual enough.
    pub fn admits(&mut self, protection: &SpikeProtection, at: Timestamp) -> bool {
        self.advance(minute_of(at));
        self.admitted < self.bound(protection)
    }

    /// Counts an event that was admitted.
    pub fn count(&mut self, at: Timestamp) {
        self.advance(minute_of(at));
        self.admitted = self.admitted.saturating_add(1);
    }

    /// Takes back events that were counted at `at` and are not stored after all; a minute that has passed stays as it was.
    pub fn give_back(&mut self, events: u64, at: Timestamp) {
        if self.minute == minute_of(at) {
            self.admitted = self.admitted.saturating_sub(events);
        }
    }

    fn bound(&self, protection: &SpikeProtection) -> u64 {
        let by_average = (self.average * protection.multiplier).min(1e15);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1e15")]
        let by_average = by_average as u64;
        by_average.max(protection.floor)
    }

    /// Goes on to a minute; a clock that was put back goes on counting in the later one.
    fn advance(&mut self, minute: u64) {
        let passed = minute.saturating_sub(self.minute);
        if passed == 0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an average is not exact")]
        let admitted = self.admitted as f64;
        self.average += LEARNED_PART * (admitted - self.average);
        for _ in 1..passed.min(FORGOTTEN_AFTER_MINUTES) {
            self.average *= 1.0 - LEARNED_PART;
        }
        (self.minute, self.admitted) = (minute, 0);
    }
}

const fn minute_of(at: Timestamp) -> u64 {
    at.as_seconds() / 60
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTECTION: SpikeProtection = SpikeProtection { enabled: true, multiplier: 5.0, floor: 10 };

    fn offer(baseline: &mut Baseline, minute: u64, events: u64) -> u64 {
        let at = Timestamp::from_millis(minute * 60_000);
        let mut admitted = 0;
        for _ in 0..events {
            if baseline.admits(&PROTECTION, at) {
                baseline.count(at);
                admitted += 1;
            }
        }
        admitted
    }

    #[test]
    fn a_new_project_may_send_the_floor() {
        assert_eq!(offer(&mut Baseline::default(), 100, 50), 10);
    }

    #[test]
    fn what_is_usual_is_learned_and_a_flood_is_cut_at_a_multiple_of_it() {
        let mut baseline = Baseline::default();
        for minute in 0..100 {
            assert_eq!(offer(&mut baseline, minute, 8), 8);
        }
        let flood = offer(&mut baseline, 100, 10_000);
        assert!((38..=40).contains(&flood), "{flood}");
    }

    #[test]
    fn a_flood_becomes_usual_slowly_and_is_forgotten() {
        let mut baseline = Baseline::default();
        for minute in 0..100 {
            let _ = offer(&mut baseline, minute, 8);
        }
        let (first, second) = (offer(&mut baseline, 100, 10_000), offer(&mut baseline, 101, 10_000));
        assert!(second > first && second < 2 * first, "{first} {second}");
        assert_eq!(offer(&mut baseline, 1_000_000, 10_000), 10);
    }
}
