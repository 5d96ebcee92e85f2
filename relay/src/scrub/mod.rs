//! Scrubbing: remove personal data before anything touches the disk.
//!
//! The work is not here yet: **nothing is removed**, and nothing in the product may claim that it is. This is the one place it
//! will happen in. The spool takes records only, and a [`Record`] of a request is made from [`Scrubbed`] only, so no code
//! path can spool what did not come through here.

pub mod text;

use std::sync::Arc;

use bytes::Bytes;
use picket_common::envelope::Item;
use picket_common::ids::EventId;
use picket_common::record::{Record, RecordHeader};

use crate::blob::{Blob, Unchanged};
use crate::quota::Admitted;
use crate::submission::Submission;

/// A submission that may be written to disk.
#[derive(Debug)]
pub struct Scrubbed(Submission);

impl Scrubbed {
    /// The event id that the client is told.
    #[must_use]
    pub const fn event_id(&self) -> Option<EventId> {
        self.0.envelope.event_id()
    }
}

/// Applies the project's scrubbing rules.
#[must_use]
pub fn scrub(admitted: Admitted<'_>) -> Scrubbed {
    Scrubbed(admitted.into_opened().close())
}

/// What is spooled of a submission.
#[derive(Debug)]
pub struct Spoolable {
    /// The envelope's record. Its header is to name the blobs once they are on disk.
    pub record: Record,
    /// The payloads that are spooled in pieces before it.
    pub blobs: Vec<Blob>,
}

impl Scrubbed {
    /// What is spooled of it; nothing if no item is left.
    #[must_use]
    pub fn into_spoolable(self) -> Option<Spoolable> {
        let Submission { project, public_key, received_at, envelope, .. } = self.0;
        if envelope.items().is_empty() {
            return None;
        }
        let blobs = (0_u32..).zip(envelope.items()).filter_map(|(index, item)| blob(index, item)).collect();
        let mut body = Vec::with_capacity(envelope.serialized_len());
        // Writing into a vector can't fail.
        let _ = envelope.write_to(&mut body);
        let header = RecordHeader {
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

/// An item's payload as a blob, where it is not in memory.
fn blob(index: u32, item: &Item) -> Option<Blob> {
    let payload = Arc::clone(item.detached()?);
    Some(Blob { item: index, payload, scrubber: Box::new(Unchanged) })
}
