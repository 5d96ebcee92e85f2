//! Random choices from a seed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A small generator (SplitMix64): enough for instants and choices, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl From<u64> for Random {
    fn from(seed: u64) -> Self {
        Self(seed)
    }
}

impl Random {
    /// Seeded with `PICKET_TEST_SEED`, else with the clock; prints the seed so that a failure can be repeated.
    ///
    /// # Panics
    /// If the variable is set to something else than a number.
    #[must_use]
    pub fn seeded() -> Self {
        let seed = match std::env::var("PICKET_TEST_SEED") {
            Ok(text) => text.parse().expect("PICKET_TEST_SEED is a number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos().into(),
        };
        eprintln!("seed {seed}; repeat with PICKET_TEST_SEED={seed}");
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// A span from `least` to `most`, in whole milliseconds.
    ///
    /// # Panics
    /// If the spans are too long for milliseconds in 64 bits.
    pub fn span(&mut self, least: Duration, most: Duration) -> Duration {
        let width = u64::try_from((most - least).as_millis()).expect("a short span");
        least + Duration::from_millis(self.below(width + 1))
    }
}
