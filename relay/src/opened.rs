//! An opened submission: its items apart from their envelope, those that are JSON parsed. From normalisation to scrubbing the
//! stages work on it; scrubbing closes it again. So each item is parsed once, whatever number of stages looks into it.

use bytes::Bytes;
use picket_common::envelope::{Envelope, Item, ItemType};
use picket_common::tree::{Document, PythonFloats, ReadError};

use crate::submission::Submission;

/// The payloads that the documents of an [`Opened`] borrow from.
#[derive(Debug)]
pub struct Texts(Vec<Bytes>);

/// A submission with its items opened.
#[derive(Debug)]
pub struct Opened<'t> {
    /// Everything but the items; its envelope is empty.
    pub submission: Submission,
    /// The items in order. A stage that drops one drops its document with it.
    pub items: Vec<OpenedItem<'t>>,
}

/// An item with its payload parsed.
#[derive(Debug)]
pub struct OpenedItem<'t> {
    /// The item. Its payload is what was sent until the submission is closed.
    pub item: Item,
    /// Its payload, if the item is of a type that the stages look into.
    pub document: Option<Document<'t>>,
}

/// A payload that should be JSON and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid JSON in the {item_type} item: {source}")]
pub struct NotJson {
    /// The item's type.
    item_type: Box<str>,
    source: ReadError,
}

// === impl Texts ===

impl Texts {
    /// The payloads of an envelope; nothing is copied.
    #[must_use]
    pub fn of(envelope: &Envelope) -> Self {
        Self(envelope.items().iter().map(|item| item.payload().clone()).collect())
    }
}

// === impl Opened ===

impl<'t> Opened<'t> {
    /// Opens a submission. `texts` are those of its envelope.
    ///
    /// # Errors
    /// [`NotJson`] for the first event that can't even be repaired. Another item that can't has no document; normalisation drops
    /// it, since the client need not send the whole envelope again for it.
    pub fn open(mut submission: Submission, texts: &'t Texts, floats: PythonFloats) -> Result<Self, NotJson> {
        let mut items = Vec::with_capacity(texts.0.len());
        // A transaction goes no further than the quotas; only filters and the search for an id have use for what is in it.
        let opens_transactions =
            submission.envelope.event_id().is_none() || submission.project.filters().look_into_events();
        for (item, text) in submission.envelope.take_items().into_iter().zip(&texts.0) {
            let is_opened =
                has_document(item.item_type()) && (*item.item_type() != ItemType::Transaction || opens_transactions);
            let document = match is_opened {
                true => Document::read(text, floats).map(Some),
                false => Ok(None),
            };
            let document = match document {
                Err(source) if is_event(item.item_type()) => {
                    return Err(NotJson { item_type: item.item_type().as_str().into(), source });
                }
                read => read.unwrap_or(None),
            };
            items.push(OpenedItem { item, document });
        }
        Ok(Self { submission, items })
    }

    /// The bare items, for counting.
    pub fn bare_items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().map(|opened| &opened.item)
    }

    /// Writes the documents back into their items, and the items into their envelope.
    #[must_use]
    pub fn close(self) -> Submission {
        let Self { mut submission, items } = self;
        for OpenedItem { mut item, document } in items {
            if let Some(document) = document {
                let mut json = Vec::with_capacity(item.payload().len() + item.payload().len() / 4);
                document.write_json(&mut json);
                item.set_payload(Bytes::from(json));
            }
            submission.envelope.push(item);
        }
        submission
    }
}

/// The types whose payload is an event.
pub(crate) const fn is_event(item_type: &ItemType) -> bool {
    matches!(item_type, ItemType::Event | ItemType::Security | ItemType::Feedback | ItemType::Transaction)
}

/// The types whose payload is one JSON value that the stages look into.
pub(crate) const fn has_document(item_type: &ItemType) -> bool {
    is_event(item_type)
        || matches!(item_type, ItemType::Session | ItemType::Sessions | ItemType::CheckIn | ItemType::UserReport)
}

/// The types that are nothing without the event of their envelope.
pub(crate) const fn goes_with_an_event(item_type: &ItemType) -> bool {
    matches!(
        item_type,
        ItemType::Attachment
            | ItemType::UserReport
            | ItemType::FormData
            | ItemType::UnrealReport
            | ItemType::Profile
            | ItemType::ReplayEvent
            | ItemType::ReplayRecording
            | ItemType::ReplayVideo
    )
}
