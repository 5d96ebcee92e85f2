//! Waiting times that grow: twice as long each time, up to a bound, half of it random so that relays which lost the
//! same aggregator don't come back in one moment.

use std::time::Duration;

/// How long to wait before the next attempt.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    attempt: u32,
}

impl Backoff {
    /// `least` is the bound of the first wait, `most` that of the longest.
    pub(super) const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, attempt: 0 }
    }

    /// The next wait: between half of the bound and the bound.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let wait = jittered(self.least, self.most, self.attempt, random);
        self.attempt = self.attempt.saturating_add(1);
        wait
    }

    /// Begins anew, after a success.
    pub(super) const fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// The wait before attempt number `attempt`, counted from 0.
pub(super) fn jittered(least: Duration, most: Duration, attempt: u32, random: u64) -> Duration {
    let bound = least.saturating_mul(2_u32.saturating_pow(attempt)).min(most);
    let half = bound / 2;
    let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
    half + Duration::from_nanos(random % nanos.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let least: Vec<_> = (0..10).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(least, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000]);
        backoff.reset();
        assert_eq!(backoff.next(0).as_millis(), 100);
    }

    #[test]
    fn no_random_number_leaves_the_range() {
        for attempt in [0, 5, 31, 32, u32::MAX] {
            for random in [0, 1, 99_999_999, u64::MAX] {
                let wait = jittered(Duration::from_millis(200), Duration::from_secs(30), attempt, random);
                assert!(wait >= Duration::from_millis(100) && wait <= Duration::from_secs(30), "{wait:?}");
            }
        }
    }
}
