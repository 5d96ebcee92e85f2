//! Envelopes: the container that SDKs post.
//!
//! ```text
//! {envelope header}\n
//! {item header}\n
//! <payload>\n            header and payload repeat; the last newline may be missing
//! ```
//!
//! The parser is zero-copy: headers and payloads are slices of the one [`Bytes`] it was given, and [`Envelope::write_to`]
//! writes untouched parts back byte for byte. Unknown header keys and unknown item types survive the way through.
//!
//! Invariants:
//! - framing is exact (protocol facts: only `\n` ends a header; a payload with a `length` has exactly that many bytes and is
//!   followed by `\n` or the end; a payload without one runs to the next `\n`); any fault refuses the whole envelope;
//! - white space before a header is tolerated, white space after the last item is an unexpected end;
//! - headers are bounded by [`MAX_HEADER_BYTES`] and the number of items by the caller, so that memory is bounded by the body
//!   that was read and a constant.
//!
//! An item's payload may also be *detached*: too large for memory, read piece by piece from where it is ([`DetachedPayload`]).
//!
//! What it does not do: look into payloads, decide about authentication, or limit sizes per item type.

mod detached;
mod item;
mod parse;

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

pub use detached::{DetachedEnvelopeError, DetachedPayload, read_range};
pub use item::{AttachmentHeader, Item, ItemType};
pub use parse::EnvelopeError;

use crate::dsn::{Dsn, InvalidDsn};
use crate::ids::EventId;
use crate::timestamp::Timestamp;

/// How many items an envelope may have unless configuration says otherwise (the protocol's own limit).
pub const MAX_ITEMS: usize = 500;

/// Longest envelope header and item header. SDKs send a few hundred bytes, with a long trace context some thousands; the
/// bound keeps the memory of a parsed header small, however large the body may be.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// A parsed envelope.
#[derive(Debug, Clone)]
pub struct Envelope {
    raw_header: Bytes,
    header: Header,
    items: Vec<Item>,
}

/// The keys of the envelope header that Picket acts on. All others stay in the raw header.
#[derive(Debug, Clone, Default, Deserialize)]
struct Header {
    #[serde(default)]
    event_id: Option<EventId>,
    #[serde(default)]
    dsn: Option<String>,
    #[serde(default)]
    origin: Option<Value>,
    // A value of any type is tolerated: a broken clock field must not cost the event.
    #[serde(default)]
    sent_at: Option<Value>,
}

impl Envelope {
    /// An envelope with no header keys and no items.
    #[must_use]
    pub fn empty() -> Self {
        Self { raw_header: Bytes::from_static(b"{}"), header: Header::default(), items: Vec::new() }
    }

    /// Takes `body` apart.
    ///
    /// # Errors
    /// [`EnvelopeError`] says what is wrong and at which byte. More than `max_items` items are refused.
    pub fn parse(body: Bytes, max_items: usize) -> Result<Self, EnvelopeError> {
        parse::envelope(body, max_items)
    }

    /// Takes a body apart that is not in memory. All payloads of the result are detached slices of it. Blocking.
    ///
    /// # Errors
    /// As [`Self::parse`], or what reading the body returns.
    pub fn parse_detached(body: &Arc<dyn DetachedPayload>, max_items: usize) -> Result<Self, DetachedEnvelopeError> {
        detached::envelope(body, max_items)
    }

    /// The event id in the header.
    #[must_use]
    pub const fn event_id(&self) -> Option<EventId> {
        self.header.event_id
    }

    /// Sets the event id in the header, keeping every other key.
    pub fn set_event_id(&mut self, id: EventId) {
        if self.header.event_id == Some(id) {
            return;
        }
        self.header.event_id = Some(id);
        self.edit_header("event_id", Value::String(id.to_string()));
    }

    /// The DSN in the header, if there is one.
    ///
    /// # Errors
    /// [`InvalidDsn`] if there is text that is no DSN.
    pub fn dsn(&self) -> Result<Option<Dsn>, InvalidDsn> {
        self.header.dsn.as_deref().map(str::parse).transpose()
    }

    /// The web page that the envelope says it comes from; relays write that, SDKs don't.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.header.origin.as_ref()?.as_str()
    }

    /// When the SDK says it sent the envelope; `None` where it says nothing readable.
    #[must_use]
    pub fn sent_at(&self) -> Option<Timestamp> {
        Timestamp::parse(self.header.sent_at.as_ref()?.as_str()?)
    }

    /// The items in order.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Takes all items out, in order.
    #[must_use]
    pub fn take_items(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.items)
    }

    /// Appends an item.
    pub fn push(&mut self, item: Item) {
        self.items.push(item);
    }

    /// Keeps the items for which `keep` holds.
    pub fn retain_items(&mut self, keep: impl FnMut(&Item) -> bool) {
        self.items.retain(keep);
    }

    /// How many bytes [`Self::write_to`] writes.
    #[must_use]
    pub fn serialized_len(&self) -> usize {
        let items: usize = self.items.iter().map(Item::serialized_len).sum();
        self.raw_header.len() + 1 + items
    }

    /// Writes the envelope in its framing.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.raw_header)?;
        out.write_all(b"\n")?;
        self.items.iter().try_for_each(|item| item.write_to(out))
    }

    /// The header as it will be written: one JSON object.
    #[must_use]
    pub const fn raw_header(&self) -> &Bytes {
        &self.raw_header
    }

    /// Puts another text in the place of the header: the same JSON object with values of keys changed that nothing here acts on.
    pub fn set_raw_header(&mut self, header: Bytes) {
        self.raw_header = header;
    }

    fn edit_header(&mut self, key: &str, value: Value) {
        self.raw_header = edited(&self.raw_header, key, value, serde_json::Map::new);
    }
}

/// `raw` (a JSON object) with one key set. A header is small and rarely edited, so it is parsed again for it. One that can't be
/// held as text (a lone surrogate in a key that nobody acts on) is replaced by what is known of it.
fn edited(raw: &[u8], key: &str, value: Value, known: impl FnOnce() -> serde_json::Map<String, Value>) -> Bytes {
    let mut object: serde_json::Map<String, Value> = serde_json::from_slice(raw).unwrap_or_else(|_| known());
    object.insert(key.to_owned(), value);
    Bytes::from(Value::Object(object).to_string())
}

#[cfg(test)]
mod tests;
