//! The place of symbolication in the way of an event: between decoding and grouping, because frames decide the group.
//!
//! Symbolication itself is not here yet; events pass unchanged, and nothing claims otherwise.

use super::decode::DecodedEvent;

/// An event whose frames are as readable as Picket can make them.
#[derive(Debug)]
pub(super) struct Symbolicated(pub(super) DecodedEvent);

/// Takes a decoded event on.
pub(super) const fn symbolicate(event: DecodedEvent) -> Symbolicated {
    Symbolicated(event)
}
