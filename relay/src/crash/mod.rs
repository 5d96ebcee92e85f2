//! Native crashes: bring what crash reporters send into items that the stages understand.
//!
//! ```text
//! unreal_report ─inflate, take apart▸ minidump | Apple report, context, logs, other files
//! minidump      ─decompress▸ minidump
//! form_data, MessagePack event and breadcrumbs, event ─merge▸ one event item, JSON
//! ```
//!
//! Invariants:
//! - an envelope with a crash leaves with exactly one event item and an event id, so that the crash is seen even before anybody
//!   walks its stacks; the event's own fields are never overwritten by defaults;
//! - what could hold personal data leaves as JSON that scrubbing walks, or as an attachment that scrubbing searches: no
//!   MessagePack, nothing compressed;
//! - numbers and sizes are checked before anything is unpacked; what is unpacked is bounded by the limits of attachments, each and
//!   all together, and lies in staging where it is large;
//! - what is decoded is charged to a budget before it is there (`allowance`);
//! - a part that can't be read is named in the event's `errors`, and counted ([`Workshop::take_dropped`]).
//!
//! What it does not do: look into dumps beyond their first bytes.

mod allowance;
mod dump;
mod event;
mod form;
mod json;
mod msgpack;
#[cfg(test)]
mod tests;
mod unreal;

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use picket_common::envelope::{AttachmentHeader, DetachedPayload, Envelope, Item, ItemType, read_range};
use picket_common::ids::EventId;
use serde_json::Value;

use crate::config::LimitsConfig;
use crate::dropped::Dropped;
use crate::limit;
use crate::limit::memory::{MemoryBudget, Reservation};
use crate::refusal::Refusal;
use crate::staging::{Content, Sink, SinkError, Staging, StagingError};
use crate::submission::Random;

pub use dump::{has_dump_magic, unpacked as unpacked_dump};
pub use form::form_data_item;

/// Attachment type of a minidump.
pub const MINIDUMP: &str = "event.minidump";
/// Attachment type of a crash report in Apple's own form.
pub const APPLE_REPORT: &str = "event.applecrashreport";
/// Attachment type of an event in MessagePack.
pub const EVENT_PAYLOAD: &str = "event.payload";
/// Attachment type of breadcrumbs in MessagePack.
pub const BREADCRUMBS: &str = "event.breadcrumbs";
/// Attachment type of a view hierarchy.
pub const VIEW_HIERARCHY: &str = "event.view_hierarchy";

/// Longest part that is held in memory; there may be some dozens in a request.
pub const MEMORY_BYTES: usize = 256 * 1024;

/// What all crashes together may be decoded into: one that was made to grow leaves room for dozens of usual ones, which take less
/// than a mebibyte each.
const DECODING_BYTES: usize = 48 * 1024 * 1024;

/// The budget for what crashes are decoded into.
#[must_use]
pub fn decoding_budget() -> MemoryBudget {
    MemoryBudget::new(DECODING_BYTES)
}

/// What it takes to take a crash apart, and what of it is in memory meanwhile.
#[derive(Debug)]
pub struct Workshop {
    /// Where large parts lie.
    pub staging: Staging,
    /// The budget for what is in memory.
    pub budget: MemoryBudget,
    /// The budget for what is decoded: one of its own, so that crashes that were made to grow take nothing from other requests.
    pub decoding: MemoryBudget,
    /// The limits in force.
    pub limits: LimitsConfig,
    /// For ids of events that have none.
    pub random: Random,
    /// Stands for the parts in memory. Keep the workshop until the request is answered.
    held: Vec<Arc<Reservation>>,
    /// How many bytes of attachments the request may still have.
    room: u64,
    dropped: Dropped,
}

/// Why a crash can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// Something compressed is damaged.
    #[error("the {what} is damaged: it can't be decompressed")]
    Damaged {
        /// What.
        what: &'static str,
    },
    /// The Unreal container is damaged.
    #[error(transparent)]
    Unreal(#[from] picket_common::unreal::UnrealError),
    /// A part is longer than the limit.
    #[error("item of type {what} is too large: the limit is {limit} bytes")]
    TooLong {
        /// What.
        what: &'static str,
        /// The limit in force.
        limit: u64,
    },
    /// The parts are within their limits, but not together; or what is in one takes too much memory.
    #[error(
        "the items of type {what} and their like are too large together, or once unpacked: the limit is {limit} bytes"
    )]
    TooMuch {
        /// What.
        what: Box<str>,
        /// The limit in force.
        limit: u64,
    },
    /// The envelope is over a limit as it is.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The budget for bodies in memory is used up.
    #[error("the relay has no memory for another body at the moment")]
    NoMemory,
    /// The system gives no random bytes for an id.
    #[error("the relay has no source of random numbers at the moment")]
    NoRandom,
    /// A part can't be staged.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// A part can't be read back.
    #[error("can't read a staged payload: {0}")]
    Read(#[from] io::Error),
}

impl CrashError {
    /// A sink for something called `what` took no more.
    #[must_use]
    pub fn of_sink(failure: SinkError, what: &'static str) -> Self {
        match failure {
            SinkError::TooLong { limit } => Self::TooLong { what, limit },
            SinkError::NoMemory => Self::NoMemory,
            SinkError::Staging(failure) => Self::Staging(failure),
        }
    }
}

impl From<CrashError> for Refusal {
    fn from(failure: CrashError) -> Self {
        let detail = failure.to_string();
        match failure {
            CrashError::Damaged { .. } => Self::malformed("invalid_compression", detail),
            CrashError::Unreal(_) => Self::malformed("invalid_unreal_report", detail),
            CrashError::TooLong { what, .. } => Self::TooLarge { what: what.into(), detail },
            CrashError::TooMuch { what, .. } => Self::TooLarge { what, detail },
            CrashError::Refused(refusal) => refusal,
            CrashError::NoMemory => Self::unavailable("memory", detail),
            CrashError::NoRandom => Self::unavailable("internal", detail),
            CrashError::Staging(StagingError::Exhausted) => Self::unavailable("staging_full", detail),
            CrashError::Staging(_) | CrashError::Read(_) => {
                tracing::error!(%failure, "a part of a crash can't be staged");
                Self::unavailable("staging_failed", "the relay can't take large bodies at the moment")
            }
        }
    }
}

// === impl Workshop ===

impl Workshop {
    /// A workshop for one request.
    #[must_use]
    pub fn new(
        staging: Staging,
        budget: MemoryBudget,
        decoding: MemoryBudget,
        limits: LimitsConfig,
        random: Random,
    ) -> Self {
        let room = limits.max_attachments_bytes.as_u64();
        Self { staging, budget, decoding, limits, random, held: Vec::new(), room, dropped: Dropped::default() }
    }

    /// A sink for a part of the request that may have `limit` bytes.
    #[must_use]
    pub fn sink(&self, limit: u64) -> Sink {
        Sink::new(self.staging.clone(), &self.budget, MEMORY_BYTES, limit)
    }

    /// An attachment with this content.
    pub fn attachment(&mut self, header: AttachmentHeader<'_>, content: Content) -> Item {
        let mut item = Item::attachment(header, Bytes::new());
        self.fill(&mut item, content);
        item
    }

    /// Gives an item this content.
    pub fn fill(&mut self, item: &mut Item, content: Content) {
        match content {
            Content::InMemory(bytes, reservation) => {
                self.held.push(reservation);
                item.set_payload(bytes);
            }
            Content::Staged(staged) => item.set_detached(Arc::new(staged)),
        }
    }

    /// The parts of crashes that could not be read, to be counted.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// Unpacks in the place of `packed` what `unpack` pours into a sink, within what attachments may have together.
    fn unpack(
        &mut self,
        packed: &Item,
        most: u64,
        unpack: impl FnOnce(&Self, Sink) -> Result<Content, CrashError>,
    ) -> Result<Content, CrashError> {
        let room = self.room.saturating_add(packed.payload_len());
        let content = unpack(self, self.sink(most.min(room))).map_err(|failure| match failure {
            CrashError::TooLong { what, limit } if limit < most => {
                CrashError::TooMuch { what: what.into(), limit: self.limits.max_attachments_bytes.as_u64() }
            }
            failure => failure,
        })?;
        self.room = room.saturating_sub(content.len());
        Ok(content)
    }

    fn event_id(&self) -> Result<EventId, CrashError> {
        (self.random)().map(EventId::from_random).ok_or(CrashError::NoRandom)
    }
}

/// Whether an envelope holds a crash that [`expand`] has work with.
#[must_use]
pub fn holds_crash(envelope: &Envelope) -> bool {
    envelope.items().iter().any(|item| match item.item_type() {
        ItemType::UnrealReport => true,
        ItemType::Attachment => item.creates_event(),
        _ => false,
    })
}

/// Takes the crash in an envelope apart. Without one, the envelope stays as it is. Blocking.
///
/// # Errors
/// [`CrashError`]; nothing of the envelope is of use then.
pub fn expand(mut envelope: Envelope, workshop: &mut Workshop) -> Result<Envelope, CrashError> {
    if !holds_crash(&envelope) {
        return Ok(envelope);
    }
    limit::check_items(&envelope, &workshop.limits)?;
    workshop.room = workshop.limits.max_attachments_bytes.as_u64().saturating_sub(limit::attached_bytes(&envelope));
    let mut items = Vec::new();
    for item in envelope.take_items() {
        match item.item_type() {
            ItemType::UnrealReport => items.extend(unreal::files(&item, workshop)?),
            _ => items.push(item),
        }
    }
    let mut parts = event::Parts::new(allowance::Allowance::new(workshop.decoding.reserve_nothing()));
    let mut kept = vec![None; items.len()];
    for (index, item) in in_order_of_weight(items) {
        kept[index] = parts.take(item, &workshop.limits, &mut workshop.dropped)?;
    }
    for item in kept.into_iter().flatten() {
        let item = if item.attachment_type() == Some(MINIDUMP) { dump::unpacked(item, workshop)? } else { item };
        parts.note(&item);
        envelope.push(item);
    }
    let Some((mut event, _allowance)) = parts.into_event() else { return Ok(envelope) };
    let own_id = event.get("event_id").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let id = match envelope.event_id().or(own_id) {
        Some(id) => id,
        None => workshop.event_id()?,
    };
    event.insert("event_id".to_owned(), Value::from(id.to_string()));
    envelope.set_event_id(id);
    let payload = event::written(event, workshop.limits.max_event_bytes.as_usize())?;
    envelope.push(Item::new(ItemType::Event, payload));
    Ok(envelope)
}

/// The items with their places; what the event needs most comes first, what is no part of it last.
fn in_order_of_weight(items: Vec<Item>) -> Vec<(usize, Item)> {
    let mut items: Vec<_> = items.into_iter().enumerate().collect();
    items.sort_by_key(|(_, item)| event::Kind::of(item).map_or((1, None), |kind| (0, Some(kind))));
    items
}

/// The payload of a small item in memory; `None` if it is longer than `most`.
fn small_payload(item: &Item, most: usize) -> io::Result<Option<Bytes>> {
    if item.payload_len() > most as u64 {
        return Ok(None);
    }
    match item.detached() {
        Some(payload) => read_range(&**payload, 0..payload.len()).map(Some),
        None => Ok(Some(item.payload().clone())),
    }
}

/// The first bytes of an item's payload.
fn first_bytes(item: &Item, count: usize) -> io::Result<Bytes> {
    match item.detached() {
        Some(payload) => read_range(&**payload, 0..count as u64),
        None => Ok(item.payload().slice(..count.min(item.payload().len()))),
    }
}

/// Reads an item's payload from its beginning to its end.
fn reader(item: &Item) -> Box<dyn Read + '_> {
    match item.detached() {
        Some(payload) => Box::new(io::BufReader::with_capacity(64 * 1024, Detached { payload: &**payload, offset: 0 })),
        None => Box::new(&item.payload()[..]),
    }
}

struct Detached<'a> {
    payload: &'a dyn DetachedPayload,
    offset: u64,
}

impl Read for Detached<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.payload.read_at(self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Empties a decompressor into a sink.
fn pour(mut from: impl Read, mut sink: Sink, what: &'static str) -> Result<Content, CrashError> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // The payload itself is in memory or in a sealed file; what fails here is the format.
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => sink.write(&buffer[..count]).map_err(|failure| CrashError::of_sink(failure, what))?,
            Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(CrashError::Damaged { what }),
        }
    }
    sink.finish().map_err(|failure| CrashError::of_sink(failure, what))
}
