//! Bodies too large for memory: taken in by pieces, off the asynchronous threads, into staging.
//!
//! A [`Consumer`] is given the body piece by piece on the blocking pool and makes something of it. What is large of that lies
//! in staging files; nobody holds the whole.
//!
//! Invariant: beside what the consumer holds, two pieces are in memory: one that is read and one that is consumed.

use std::sync::Arc;

use bytes::Bytes;
use picket_common::envelope::{
    DetachedEnvelopeError, DetachedPayload, Envelope, EnvelopeError, Item, ItemType, read_range,
};
use tracing::error;

use super::Server;
use super::body::{BodyReader, ReadUpTo};
use crate::config::LimitsConfig;
use crate::limit;
use crate::limit::memory::{MemoryBudget, Reservation};
use crate::refusal::Refusal;
use crate::staging::{Content, Sink, SinkError, StagingError};

/// Bytes of a piece: some blocks of a staging file, and about a millisecond of work for the pool.
const PIECE_BYTES: usize = 256 * 1024;
/// Longest payload of an item of a staged envelope that is taken into memory although nobody looks into it. It then travels in
/// the envelope's own record.
const INLINE_BYTES: u64 = 256 * 1024;
/// Above this many bytes an envelope in memory is parsed on the blocking pool: a header without an end is scanned to the last
/// byte.
const PARSE_BLOCKING_ABOVE_BYTES: usize = 256 * 1024;

/// Takes a body in by pieces.
pub(crate) trait Consumer: Send + 'static {
    /// What it makes of the body.
    type Output: Send + 'static;

    /// Takes the next piece. Blocking.
    fn push(&mut self, piece: &[u8]) -> Result<(), Refusal>;

    /// The body is complete. Blocking.
    fn finish(self) -> Result<Self::Output, Refusal>;
}

/// Feeds a body to a consumer.
///
/// # Errors
/// What the reader and the consumer refuse.
pub(crate) async fn feed<C: Consumer>(mut reader: BodyReader<'_>, mut consumer: C) -> Result<C::Output, Refusal> {
    while let Some(piece) = reader.next_piece(PIECE_BYTES).await? {
        consumer = on_pool(move || consumer.push(&piece).map(|()| consumer)).await?;
    }
    on_pool(move || consumer.finish()).await
}

/// Runs work that blocks.
///
/// # Errors
/// What the work refuses, and 503 if it panics.
pub(crate) async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| {
        error!(%failure, "reading a large body ended unexpectedly");
        Err(Refusal::unavailable("internal", "the relay failed to read the request"))
    })
}

/// Takes a body in as it is, under the name that it is refused by when it is too long.
pub(crate) struct Whole(pub(crate) Sink, pub(crate) &'static str);

impl Consumer for Whole {
    type Output = Content;

    fn push(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.0.write(piece).map_err(|failure| sink_refusal(failure, self.1))
    }

    fn finish(self) -> Result<Content, Refusal> {
        self.0.finish().map_err(|failure| sink_refusal(failure, self.1))
    }
}

/// Why a sink did not take something called `what`.
pub(crate) fn sink_refusal(failure: SinkError, what: &str) -> Refusal {
    match failure {
        SinkError::TooLong { limit } => Refusal::TooLarge {
            what: what.into(),
            detail: format!("item of type {what} is too large: the limit is {limit}"),
        },
        SinkError::NoMemory => Refusal::unavailable("memory", "the relay has no memory for another body at the moment"),
        SinkError::Staging(failure) => staging_refusal(&failure),
    }
}

fn staging_refusal(failure: &StagingError) -> Refusal {
    match failure {
        StagingError::Exhausted => Refusal::unavailable("staging_full", failure.to_string()),
        StagingError::NoRandom | StagingError::Disk { .. } | StagingError::Cipher => {
            error!(%failure, "a large body can't be staged");
            Refusal::unavailable("staging_failed", "the relay can't take large bodies at the moment")
        }
    }
}

/// What was staged can't be read back.
pub(crate) fn read_refusal(failure: &std::io::Error) -> Refusal {
    error!(%failure, "a staged body can't be read");
    Refusal::unavailable("staging_failed", "the relay can't take large bodies at the moment")
}

/// Reads a body and parses it as an envelope. The reservation stands for what of it is in memory.
///
/// # Errors
/// What the reader refuses; 400 if it is no envelope.
pub(crate) async fn envelope(reader: BodyReader<'_>, server: &Server) -> Result<(Envelope, Reservation), Refusal> {
    let max_items = server.limits.max_items;
    match reader.read_up_to(server.limits.max_body_in_memory.as_usize()).await? {
        ReadUpTo::Whole(body, memory) => {
            let parse = move |body: Bytes| Envelope::parse(body, max_items).map_err(|error| envelope_refusal(&error));
            let envelope = match body.len() {
                0..=PARSE_BLOCKING_ABOVE_BYTES => parse(body)?,
                _ => on_pool(move || parse(body)).await?,
            };
            Ok((envelope, memory))
        }
        ReadUpTo::Longer(reader) => {
            let sink = Sink::new(server.staging.clone(), &server.budget, 0, u64::MAX);
            let body = feed(reader, Whole(sink, "body")).await?;
            let (limits, budget) = (server.limits.clone(), server.budget.clone());
            on_pool(move || staged_envelope(&body, &limits, &budget)).await
        }
    }
}

/// Parses a staged body. Items that somebody looks into are taken into memory, and small ones; the others stay where they are.
fn staged_envelope(
    body: &Content,
    limits: &LimitsConfig,
    budget: &MemoryBudget,
) -> Result<(Envelope, Reservation), Refusal> {
    let Content::Staged(staged) = body else {
        return Err(Refusal::malformed("empty_body", "the request has no body"));
    };
    let body: Arc<dyn DetachedPayload> = Arc::new(staged.clone());
    let mut envelope = Envelope::parse_detached(&body, limits.max_items).map_err(|failure| match failure {
        DetachedEnvelopeError::Envelope(error) => envelope_refusal(&error),
        DetachedEnvelopeError::Read(failure) => read_refusal(&failure),
    })?;
    let mut memory = budget.reserve_nothing();
    // One that is over a limit is refused further on, with all of its items counted; nothing of it needs to be read.
    if limit::check_items(&envelope, limits).is_err() {
        return Ok((envelope, memory));
    }
    let mut in_memory = 0;
    for mut item in envelope.take_items() {
        let length = item.payload_len();
        if let Some(payload) = item.detached().filter(|_| length <= INLINE_BYTES || is_looked_into(&item)).cloned() {
            if *item.item_type() == ItemType::UserReport && length > limits.max_event_bytes.as_u64() {
                let detail = format!("item of type user_report is too large: the limit is {}", limits.max_event_bytes);
                return Err(Refusal::TooLarge { what: "user_report".into(), detail });
            }
            // As it is, and once more in the record.
            in_memory += 2 * usize::try_from(length).unwrap_or(usize::MAX / 4);
            memory.grow_to(in_memory).map_err(|_| sink_refusal(SinkError::NoMemory, "body"))?;
            item.set_payload(read_range(&*payload, 0..length).map_err(|failure| read_refusal(&failure))?);
        }
        envelope.push(item);
    }
    Ok((envelope, memory))
}

/// Whether a stage reads the payload. Each such type has a limit of a few mebibytes.
const fn is_looked_into(item: &Item) -> bool {
    matches!(
        item.item_type(),
        ItemType::Event
            | ItemType::Transaction
            | ItemType::Security
            | ItemType::RawSecurity
            | ItemType::Feedback
            | ItemType::UserReport
            | ItemType::FormData
            | ItemType::Session
            | ItemType::Sessions
            | ItemType::CheckIn
            | ItemType::ClientReport
    )
}

/// A body that is no envelope.
pub(crate) fn envelope_refusal(error: &EnvelopeError) -> Refusal {
    let reason = match error {
        EnvelopeError::Empty => "empty_body",
        _ => "invalid_envelope",
    };
    Refusal::malformed(reason, format!("invalid event envelope: {error}"))
}
