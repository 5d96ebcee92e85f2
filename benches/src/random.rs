//! A small seeded generator: the same seed gives the same payloads on every machine and with any number of threads.
//!
//! SplitMix64 (Steele, Lea, Flood 2014). Statistical quality is ample for payloads; nothing here is secret.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// Weyl increment of SplitMix64: 2^64 divided by the golden ratio, odd.
const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

/// A deterministic stream of pseudo-random numbers.
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    state: u64,
}

// === impl SplitMix64 ===

impl SplitMix64 {
    /// The stream that belongs to `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The `index`th of many independent streams of one seed, so that element 7 is the same
    /// whether or not elements 0 to 6 were made first.
    #[must_use]
    pub fn stream(seed: u64, index: u64) -> Self {
        let mut outer = Self::new(seed);
        let base = outer.next_u64();
        let mut inner = Self::new(base ^ index.wrapping_mul(INCREMENT));
        Self::new(inner.next_u64())
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(INCREMENT);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..1`.
    pub fn unit(&mut self) -> f64 {
        // 53 bits: what an f64 holds exactly.
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number within `range`, both ends included. The bias of the modulo is below 2^-32 for the ranges used here.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let width = range.end().saturating_sub(*range.start()).saturating_add(1);
        range.start() + self.next_u64() % width.max(1)
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[(self.next_u64() % choices.len() as u64) as usize]
    }

    /// True once in `n` times on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.next_u64().is_multiple_of(n.max(1))
    }

    /// `digits` lower-case hexadecimal digits.
    pub fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            // Writing to a String cannot fail.
            let _ = write!(text, "{:016x}", self.next_u64());
        }
        text.truncate(digits);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let mut left = SplitMix64::new(7);
        let mut right = SplitMix64::new(7);
        assert!((0..1000).all(|_| left.next_u64() == right.next_u64()));
    }

    #[test]
    fn neighbouring_streams_differ() {
        let firsts: std::collections::HashSet<u64> =
            (0..10_000).map(|index| SplitMix64::stream(1, index).next_u64()).collect();
        assert_eq!(firsts.len(), 10_000);
    }

    #[test]
    fn numbers_stay_within_their_range() {
        let mut random = SplitMix64::new(3);
        assert!((0..10_000).all(|_| (5..=9).contains(&random.within(5..=9))));
        assert!((0..10_000).all(|_| (0.0..1.0).contains(&random.unit())));
    }
}
