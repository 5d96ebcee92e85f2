//! Zipf's law over a fixed number of ranks: rank k is drawn in proportion to 1/k.
//!
//! Errors in production look like this: a few problems make most of the events, and a long tail is seen once or twice.

use std::num::NonZeroU32;

use crate::random::SplitMix64;

/// Draws ranks `0..n`, rank 0 the most frequent, with exponent 1.
#[derive(Debug, Clone)]
pub struct Zipf {
    /// Sum of the weights of all ranks up to and including this one, normalised to end at 1.
    cumulative: Vec<f64>,
}

// === impl Zipf ===

impl Zipf {
    /// A distribution over `ranks` ranks; takes 8 bytes a rank.
    #[must_use]
    pub fn new(ranks: NonZeroU32) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=ranks.get())
            .map(|rank| {
                sum += 1.0 / f64::from(rank);
                sum
            })
            .collect();
        for weight in &mut cumulative {
            *weight /= sum;
        }
        Self { cumulative }
    }

    /// The next rank, counted from 0.
    pub fn sample(&self, random: &mut SplitMix64) -> u32 {
        let point = random.unit();
        let rank = self.cumulative.partition_point(|&weight| weight <= point);
        // Rounding may leave the last weight a hair below 1.
        rank.min(self.cumulative.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(ranks: u32, samples: u32) -> Vec<u32> {
        let zipf = Zipf::new(NonZeroU32::new(ranks).unwrap_or(NonZeroU32::MIN));
        let mut random = SplitMix64::new(11);
        let mut counts = vec![0; ranks as usize];
        for _ in 0..samples {
            counts[zipf.sample(&mut random) as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_second_rank_is_half_as_frequent_as_the_first() {
        let counts = draw(300, 200_000);
        let ratio = f64::from(counts[0]) / f64::from(counts[1]);
        assert!((1.9..2.1).contains(&ratio), "first/second is {ratio}");
        let ratio = f64::from(counts[0]) / f64::from(counts[9]);
        assert!((9.0..11.0).contains(&ratio), "first/tenth is {ratio}");
    }

    #[test]
    fn every_rank_is_reached_and_none_beyond() {
        let counts = draw(300, 200_000);
        assert!(counts.iter().all(|&count| count > 0));
        assert_eq!(counts.iter().sum::<u32>(), 200_000);
    }

    #[test]
    fn a_single_rank_is_always_drawn() {
        assert_eq!(draw(1, 100), vec![100]);
    }
}
