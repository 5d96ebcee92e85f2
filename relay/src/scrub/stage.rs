//! The stage: every item of a submission, and the headers.

use std::sync::Arc;

use bytes::Bytes;
use picket_common::envelope::{Envelope, Item};
use picket_common::ids::EventId;
use picket_common::record::{Record, RecordHeader, RecordKind};
use picket_common::tree::{Document, PythonFloats, Value};
use tracing::error;

use super::kind::{Kind, drop_unsupported};
use super::scrubber::{Payload, Scrubber};
use crate::blob::Blob;
use crate::dropped::Dropped;
use crate::opened::{Opened, OpenedItem};
use crate::quota::Admitted;
use crate::refusal::Refusal;
use crate::submission::Submission;

/// A submission that may be written to disk.
#[derive(Debug)]
pub struct Scrubbed {
    submission: Submission,
    blobs: Vec<Blob>,
    dropped: Dropped,
}

/// What is spooled of a submission.
#[derive(Debug)]
pub struct Spoolable {
    /// The envelope's record. Its header is to name the blobs once they are on disk.
    pub record: Record,
    /// The payloads that are spooled in pieces before it.
    pub blobs: Vec<Blob>,
}

/// Applies the project's scrubbing rules. Items of types that can't be scrubbed are dropped.
///
/// # Errors
/// [`Refusal::Unavailable`] if the project's settings can't be compiled: the aggregator checks them, so this relay is older than
/// it, or they were changed on the way.
pub fn scrub(admitted: Admitted<'_>) -> Result<Scrubbed, Refusal> {
    scrub_opened(admitted.into_opened())
}

pub(super) fn scrub_opened(mut opened: Opened<'_>) -> Result<Scrubbed, Refusal> {
    let mut dropped = Dropped::default();
    drop_unsupported(&mut opened, &mut dropped);
    if opened.items.is_empty() {
        return Ok(Scrubbed { submission: opened.close(), blobs: Vec::new(), dropped });
    }
    let project = Arc::clone(&opened.submission.project);
    let scrubber = project.scrubber().map_err(|problem| {
        error!(project_id = %project.config.id, %problem, "the project's scrubbing settings can't be used");
        Refusal::unavailable("project_state_pii", "the project's scrubbing settings can't be used by this relay")
    })?;
    opened.items.iter_mut().for_each(|opened| scrub_item(scrubber, opened));
    let mut submission = opened.close();
    scrub_envelope_header(scrubber, &mut submission.envelope);
    let items = (0_u32..).zip(submission.envelope.items());
    let blobs = items.filter_map(|(index, item)| blob(scrubber, index, item)).collect();
    Ok(Scrubbed { submission, blobs, dropped })
}

/// By the item's kind; without one it would not be here.
fn scrub_item(scrubber: &Scrubber, opened: &mut OpenedItem<'_>) {
    let OpenedItem { item, document } = opened;
    match (Kind::of(item.item_type()), document) {
        (Some(Kind::Json(payload)), Some(document)) => scrubber.scrub(payload, document),
        (Some(Kind::Json(payload)), None) => scrub_unopened(scrubber, item, payload),
        (Some(Kind::File), _) => scrub_attachment(scrubber, item),
        (None, _) => {}
    }
    scrub_item_header(scrubber, item);
}

/// JSON that the earlier stages did not look into.
fn scrub_unopened(scrubber: &Scrubber, item: &mut Item, payload: Payload) {
    let mut scrubbed = Vec::with_capacity(item.payload().len());
    // What is no JSON is one text: it is nothing that it was meant to be, but it may hold anything.
    let mut document = Document::read(item.payload(), PythonFloats::Refuse).unwrap_or_else(|_| Document {
        value: Value::from(String::from_utf8_lossy(item.payload()).into_owned()),
        ..Document::default()
    });
    let payload = if document.value.as_object().is_some() { payload } else { Payload::FormData };
    scrubber.scrub(payload, &mut document);
    document.write_json(&mut scrubbed);
    item.set_payload(Bytes::from(scrubbed));
}

/// An item's payload as a blob, where it is not in memory. It is scrubbed as it is read.
fn blob(scrubber: &Scrubber, index: u32, item: &Item) -> Option<Blob> {
    let payload = Arc::clone(item.detached()?);
    let scrubber = scrubber.file_stream(item, &payload);
    Some(Blob { item: index, payload, scrubber })
}

/// A file that is in memory.
fn scrub_attachment(scrubber: &Scrubber, item: &mut Item) {
    if item.detached().is_some() {
        return;
    }
    if let Some(scrubbed) = scrubber.scrub_file(item) {
        item.set_payload(scrubbed);
    }
}

fn scrub_item_header(scrubber: &Scrubber, item: &mut Item) {
    if let Some(header) = scrubbed_header(scrubber, item.raw_header()) {
        item.set_raw_header(header);
    }
}

fn scrub_envelope_header(scrubber: &Scrubber, envelope: &mut Envelope) {
    if let Some(header) = scrubbed_header(scrubber, envelope.raw_header()) {
        envelope.set_raw_header(header);
    }
}

/// A header without what is personal in it; nothing if it stays as it is.
fn scrubbed_header(scrubber: &Scrubber, raw: &[u8]) -> Option<Bytes> {
    let mut document = Document::read(raw, PythonFloats::Refuse).ok()?;
    // Nobody reads annotations there; without any, nothing was changed.
    document.meta = picket_common::tree::MetaTree::default();
    scrubber.scrub(Payload::Headers, &mut document);
    (!document.meta.is_empty()).then(|| Bytes::from(document.value.to_json()))
}

impl Scrubbed {
    /// The event id that the client is told.
    #[must_use]
    pub const fn event_id(&self) -> Option<EventId> {
        self.submission.envelope.event_id()
    }

    /// What was dropped.
    pub(crate) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// What is spooled of it; nothing if no item is left.
    #[must_use]
    pub fn into_spoolable(self) -> Option<Spoolable> {
        let Self { submission, blobs, .. } = self;
        let Submission { project, public_key, received_at, envelope, .. } = submission;
        if envelope.items().is_empty() {
            return None;
        }
        let mut body = Vec::with_capacity(envelope.serialized_len());
        // Writing into a vector can't fail.
        let _ = envelope.write_to(&mut body);
        let header = RecordHeader {
            kind: RecordKind::Envelope,
            project_id: project.config.id,
            public_key,
            received_at,
            event_id: envelope.event_id(),
            chunk: None,
            blobs: Vec::new(),
        };
        Some(Spoolable { record: Record { header, body: Bytes::from(body) }, blobs })
    }
}
