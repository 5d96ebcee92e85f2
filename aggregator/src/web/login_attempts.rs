//! How often an address may try to log in: a bounded memory of failures.
//!
//! Invariants: at most [`ADDRESSES_MAX`] addresses are remembered; an address with [`FAILURES_MAX`] failures within
//! [`WINDOW`] is refused until the window ends; a login that works clears its address. Attempts count when they begin, so
//! that many at once are no way around the limit.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use picket_common::timestamp::Timestamp;

/// Attempts within a window. People mistype a few times; a guesser needs thousands.
const FAILURES_MAX: u32 = 10;
/// How long failures count.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Addresses remembered: under 1 MB. With more in a window, those that began first are forgotten first.
const ADDRESSES_MAX: usize = 10_000;

/// Failed logins by address.
#[derive(Debug, Default)]
pub(crate) struct LoginAttempts {
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    since: Timestamp,
    count: u32,
}

impl LoginAttempts {
    /// Counts an attempt.
    ///
    /// # Errors
    /// How long to wait, where the address has had its attempts.
    pub(crate) fn begin(&self, address: Option<IpAddr>, now: Timestamp) -> Result<(), Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network_of(address);
        if !failures.contains_key(&address) && failures.len() >= ADDRESSES_MAX {
            make_room(&mut failures, now);
        }
        let entry = failures.entry(address).or_insert(Failures { since: now, count: 0 });
        if now.since(entry.since) >= WINDOW {
            *entry = Failures { since: now, count: 0 };
        }
        if entry.count >= FAILURES_MAX {
            return Err(WINDOW.saturating_sub(now.since(entry.since)));
        }
        entry.count += 1;
        Ok(())
    }

    /// Forgets the failures of an address that has logged in.
    pub(crate) fn succeeded(&self, address: Option<IpAddr>) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&network_of(address));
    }
}

/// Drops what has expired, or else the oldest entry.
fn make_room(failures: &mut HashMap<IpAddr, Failures>, now: Timestamp) {
    failures.retain(|_, entry| now.since(entry.since) < WINDOW);
    if failures.len() < ADDRESSES_MAX {
        return;
    }
    let oldest = failures.iter().min_by_key(|(_, entry)| entry.since).map(|(address, _)| *address);
    if let Some(oldest) = oldest {
        failures.remove(&oldest);
    }
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 address, which is what one customer is given.
fn network_of(address: Option<IpAddr>) -> IpAddr {
    match address.map(|address| address.to_canonical()) {
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(IpAddr::V4(address)) => IpAddr::V4(address),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_is_refused_after_its_failures_until_the_window_ends() {
        let attempts = LoginAttempts::default();
        for _ in 0..FAILURES_MAX {
            attempts.begin(address("192.0.2.1"), NOW).unwrap();
        }
        assert_eq!(attempts.begin(address("192.0.2.1"), NOW), Err(WINDOW));
        attempts.begin(address("192.0.2.2"), NOW).unwrap();
        attempts.begin(address("192.0.2.1"), NOW.plus(WINDOW)).unwrap();
    }

    #[test]
    fn a_login_that_works_clears_its_failures() {
        let attempts = LoginAttempts::default();
        for _ in 0..3 * FAILURES_MAX {
            attempts.begin(None, NOW).unwrap();
            attempts.succeeded(None);
        }
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_together() {
        let attempts = LoginAttempts::default();
        for host in 0..FAILURES_MAX {
            attempts.begin(address(&format!("2001:db8::{host:x}")), NOW).unwrap();
        }
        assert!(attempts.begin(address("2001:db8::ffff"), NOW).is_err());
        assert!(attempts.begin(address("2001:db8:0:1::1"), NOW).is_ok());
    }

    #[test]
    fn memory_stays_bounded_and_the_oldest_are_forgotten_first() {
        let attempts = LoginAttempts::default();
        let total = u32::try_from(ADDRESSES_MAX).unwrap() + 50;
        for number in 0..total {
            let at = NOW.plus(Duration::from_millis(number.into()));
            attempts.begin(Some(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))), at).unwrap();
        }
        let remembered = attempts.failures.lock().unwrap();
        assert_eq!(remembered.len(), ADDRESSES_MAX);
        assert!(!remembered.contains_key(&IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000))));
    }
}
