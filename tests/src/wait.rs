//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Pause between two looks. Short against every deadline, long against the cost of a look.
const POLL_INTERVAL: Duration = Duration::from_millis(40);

/// Looks until `look` gives a value and returns it.
///
/// # Panics
/// When `within` has passed; the message has what the last look said.
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        let seen = match look() {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(started.elapsed() < within, "{what}: not within {within:?}; last seen: {seen}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// `Ok` if a condition holds, else what was seen instead; for [`eventually`].
///
/// # Errors
/// `seen`, if the condition does not hold.
pub fn holds(condition: bool, seen: impl std::fmt::Debug) -> Result<(), String> {
    if condition { Ok(()) } else { Err(format!("{seen:?}")) }
}
