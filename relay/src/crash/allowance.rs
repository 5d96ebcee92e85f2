//! The memory that decoding the parts of one crash may take: charged value by value, before the value is made, to the budget for
//! all of them.
//!
//! A mebibyte of one-byte values is dozens of mebibytes once it is decoded, and a request may bring thirty such parts. The charges
//! are what the worst shape of a value takes, so that the sum of the reservations bounds what is really there.

use crate::limit::memory::Reservation;

/// Most that decoding one request may take. An event of a mebibyte takes about ten, and forty while it is repaired.
pub(super) const MAX_DECODED_BYTES: usize = 44 * 1024 * 1024;
/// The reservation grows in steps, so that the budget that all requests share is not asked for every value.
const STEP_BYTES: usize = 64 * 1024;

/// A value in an array that grows by doubling.
const VALUE_BYTES: usize = 2 * size_of::<serde_json::Value>();
/// The first leaf of a map's tree, which has room for eleven entries.
const MAP_BYTES: usize = 640;
/// An entry beyond: leaves are at least half full.
const ENTRY_BYTES: usize = 2 * (size_of::<String>() + size_of::<serde_json::Value>());
/// What the allocator adds to a text.
const TEXT_OVERHEAD_BYTES: usize = 16;

/// Why there is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// This request has had all that a request may have.
    Spent,
    /// All requests together have.
    NoMemory,
}

/// What may still be decoded.
#[derive(Debug)]
pub(super) struct Allowance {
    reservation: Reservation,
    charged: usize,
    /// What the last charge that was refused was refused for.
    shortage: Option<Shortage>,
}

impl Allowance {
    /// An allowance of [`MAX_DECODED_BYTES`], of which nothing is reserved yet.
    pub(super) const fn new(reservation: Reservation) -> Self {
        Self { reservation, charged: 0, shortage: None }
    }

    /// How much is charged.
    pub(super) const fn charged(&self) -> usize {
        self.charged
    }

    /// Takes back a charge: what it stood for is gone.
    pub(super) const fn release(&mut self, bytes: usize) {
        self.charged = self.charged.saturating_sub(bytes);
    }

    /// Takes back all charges but the first `charged` bytes: what they stood for is gone.
    pub(super) fn release_to(&mut self, charged: usize) {
        self.charged = self.charged.min(charged);
    }

    /// Charges so many bytes.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Shortage> {
        let charged = self.charged.saturating_add(bytes);
        let room = if charged > MAX_DECODED_BYTES {
            Err(Shortage::Spent)
        } else if charged > self.reservation.bytes() {
            self.reservation.grow_to(charged.next_multiple_of(STEP_BYTES)).map_err(|_| Shortage::NoMemory)
        } else {
            Ok(())
        };
        match room {
            Ok(()) => self.charged = charged,
            Err(shortage) => self.shortage = Some(shortage),
        }
        room
    }

    /// Charges a value that is no text, array or map, or the place of one that is.
    pub(super) fn value(&mut self) -> Result<(), Shortage> {
        self.charge(VALUE_BYTES)
    }

    /// Charges a text.
    pub(super) fn text(&mut self, length: usize) -> Result<(), Shortage> {
        self.charge(length + TEXT_OVERHEAD_BYTES)
    }

    /// Charges an empty map.
    pub(super) fn map(&mut self) -> Result<(), Shortage> {
        self.charge(MAP_BYTES)
    }

    /// Charges an entry of a map, without its value.
    pub(super) fn entry(&mut self, key_length: usize) -> Result<(), Shortage> {
        self.charge(ENTRY_BYTES + key_length + TEXT_OVERHEAD_BYTES)
    }

    /// Why the last charge was refused, once: for what was told through a foreign error.
    pub(super) const fn take_shortage(&mut self) -> Option<Shortage> {
        self.shortage.take()
    }
}
