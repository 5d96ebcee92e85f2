//! Handshakes at once: what peers that have shown nothing yet may take up.
//!
//! Invariants:
//! - QUIC and TCP have places of their own: by TCP a silent peer keeps its place until the handshake's time is up, by QUIC
//!   quinn asks peers for a proof of their address first.
//! - By TCP one source has at most [`MAX_TCP_OF_ONE_SOURCE`] places, so that others find one. A source is an IPv4 address or an
//!   IPv6 network of 64 bits, which is what one host is given.
//! - By TCP handshakes take at most half of `link.max_connections`, among which they count.
//! - Sources without a handshake are not remembered, so there are never more than places.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// By QUIC. Each costs a signature or two; beyond it peers must first prove their address.
const MAX_QUIC: usize = 64;
/// By TCP.
const MAX_TCP: usize = 64;
/// By TCP from one source: relays behind one address that all come back at once take turns within a second.
const MAX_TCP_OF_ONE_SOURCE: usize = 16;

/// The places for handshakes.
#[derive(Debug)]
pub(super) struct Handshakes {
    quic: Arc<Semaphore>,
    tcp: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place that is taken; free again when this is dropped.
#[derive(Debug)]
pub(super) enum HandshakePlace {
    Quic(#[expect(dead_code, reason = "a guard")] OwnedSemaphorePermit),
    Tcp(#[expect(dead_code, reason = "a guard")] TcpPlace),
}

#[derive(Debug)]
pub(super) struct TcpPlace {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    source: IpAddr,
}

// === impl Handshakes ===

impl Handshakes {
    pub(super) fn new() -> Self {
        Self { quic: Arc::new(Semaphore::new(MAX_QUIC)), tcp: Arc::default() }
    }

    pub(super) fn try_quic(&self) -> Option<HandshakePlace> {
        Arc::clone(&self.quic).try_acquire_owned().ok().map(HandshakePlace::Quic)
    }

    /// A place for a peer from `address`, where `link.max_connections` is `max_connections`.
    pub(super) fn try_tcp(&self, address: IpAddr, max_connections: u32) -> Option<HandshakePlace> {
        let source = source_of(address);
        let places = MAX_TCP.min(max_connections as usize / 2).max(1);
        let mut taken = lock(&self.tcp);
        let of_source = taken.get(&source).copied().unwrap_or(0);
        if of_source >= MAX_TCP_OF_ONE_SOURCE.min(places.div_ceil(2)) || taken.values().sum::<usize>() >= places {
            return None;
        }
        taken.insert(source, of_source + 1);
        Some(HandshakePlace::Tcp(TcpPlace { taken: Arc::clone(&self.tcp), source }))
    }
}

impl Drop for TcpPlace {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        match taken.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.source)),
        }
    }
}

fn lock(taken: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    // Whole between any two calls.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn take_all(handshakes: &Handshakes, address: &str, max_connections: u32) -> Vec<HandshakePlace> {
        std::iter::from_fn(|| handshakes.try_tcp(address.parse().unwrap(), max_connections)).take(1000).collect()
    }

    #[test]
    fn a_source_has_its_share_and_all_have_a_bound() {
        let handshakes = Handshakes::new();
        let mut held = take_all(&handshakes, "192.0.2.1", 256);
        assert_eq!(held.len(), MAX_TCP_OF_ONE_SOURCE);
        assert!(take_all(&handshakes, "::ffff:192.0.2.1", 256).is_empty(), "the same, written as IPv6");
        for host in 2..100 {
            held.extend(take_all(&handshakes, &format!("192.0.2.{host}"), 256));
        }
        assert_eq!(held.len(), MAX_TCP);
        assert!(handshakes.try_quic().is_some());
        held.clear();
        assert!(lock(&handshakes.tcp).is_empty());
        assert_eq!(take_all(&handshakes, "192.0.2.1", 256).len(), MAX_TCP_OF_ONE_SOURCE);
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let handshakes = Handshakes::new();
        let _held = take_all(&handshakes, "2001:db8::1", 256);
        assert!(take_all(&handshakes, "2001:db8::2", 256).is_empty());
        assert!(!take_all(&handshakes, "2001:db8:0:1::1", 256).is_empty());
    }

    #[test]
    fn where_few_connections_are_allowed_handshakes_take_half_of_them_and_a_source_half_of_that() {
        let handshakes = Handshakes::new();
        let first = take_all(&handshakes, "192.0.2.1", 8);
        let second = take_all(&handshakes, "192.0.2.2", 8);
        assert_eq!((first.len(), second.len()), (2, 2));
        assert!(take_all(&handshakes, "192.0.2.3", 8).is_empty());
        assert_eq!(take_all(&Handshakes::new(), "192.0.2.1", 1).len(), 1);
    }
}
