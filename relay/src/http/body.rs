//! Request bodies: read as they arrive, within every bound.
//!
//! Invariants:
//! - decompressed bytes never exceed the endpoint's limit, compressed ones never exceed it by more than a sixteenth (a stream
//!   of empty blocks would otherwise go on for ever without producing anything);
//! - what is held is reserved from the memory budget before it is allocated; no more is decompressed than was asked for, and a
//!   step;
//! - a client that pauses too long, or takes too long as a whole, is refused;
//! - decompressing gives way to other requests after each step.
//!
//! What it does not do: read the rest of a body that was refused. The server loop does, see
//! [`RequestBody`](picket_common::http_server::RequestBody).

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::encoding::{DecodeError, Decoder, Encoding, Step};
use crate::config::HttpConfig;
use crate::limit::memory::{MemoryBudget, Reservation};
use crate::refusal::Refusal;

/// What a request takes beside its body until that is read: the connection's buffers, the head, the handler's state. Measured
/// with a debug build: 20 KB.
const REQUEST_BYTES: usize = 24 * 1024;
/// How far the first line of an envelope is looked for: a header with a DSN has a few hundred bytes.
const FIRST_LINE_BYTES: usize = 64 * 1024;

/// The body of a request on its way in.
pub(crate) struct IncomingBody {
    body: Body,
    received: usize,
}

impl IncomingBody {
    pub(crate) const fn new(body: Body) -> Self {
        Self { body, received: 0 }
    }

    /// Whether the request has no body at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_end_stream()
    }

    /// How many bytes came over the wire.
    pub(crate) const fn received(&self) -> usize {
        self.received
    }

    async fn chunk(&mut self) -> Option<Result<Bytes, axum::Error>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    // Trailers are of no interest.
                    if let Ok(data) = frame.into_data() {
                        self.received = self.received.saturating_add(data.len());
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Reads one body through its decoder.
pub(crate) struct BodyReader<'a> {
    incoming: &'a mut IncomingBody,
    /// What came last and is not decoded yet: a few compressed bytes may stand for very many.
    chunk: Option<Bytes>,
    decoder: Decoder,
    /// For [`REQUEST_BYTES`].
    _request: Reservation,
    encoding: Encoding,
    most_received: usize,
    idle: Duration,
    deadline: Instant,
}

/// What [`BodyReader::read_up_to`] came to.
pub(crate) enum ReadUpTo<'a> {
    /// The whole body.
    Whole(Bytes, Reservation),
    /// There is more than was asked for.
    Longer(BodyReader<'a>),
}

impl<'a> BodyReader<'a> {
    /// Looks at the headers; reads nothing yet.
    ///
    /// # Errors
    /// [`Refusal::UnsupportedEncoding`]; [`Refusal::TooLarge`] if the announced length is over the bound already;
    /// [`Refusal::Unavailable`] if there is no memory for another request.
    pub(crate) fn start(
        incoming: &'a mut IncomingBody,
        headers: &HeaderMap,
        limit: usize,
        budget: &MemoryBudget,
        config: &HttpConfig,
    ) -> Result<Self, Refusal> {
        let encoding = Encoding::of_request(headers).ok_or_else(|| Refusal::UnsupportedEncoding {
            detail: "unsupported content-encoding: expected gzip, deflate, br, zstd or identity".to_owned(),
        })?;
        let most_received = match encoding {
            Encoding::Identity => limit,
            _ => limit.saturating_add(limit / 16).saturating_add(1024),
        };
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|announced| announced > most_received as u64) {
            return Err(too_large(limit));
        }
        let mut request = budget.reserve_nothing();
        request.grow_to(REQUEST_BYTES).map_err(|exhausted| refusal(exhausted.into()))?;
        let decoder = Decoder::new(encoding, limit, budget.reserve_nothing()).map_err(refusal)?;
        let (idle, deadline) = (config.body_idle_timeout.get(), Instant::now() + config.body_timeout.get());
        Ok(Self { incoming, chunk: None, decoder, _request: request, encoding, most_received, idle, deadline })
    }

    /// The first line that is not blank, without reading more than it takes.
    pub(crate) async fn first_line(&mut self) -> Result<&[u8], Refusal> {
        while !has_line(self.decoder.decoded()) && self.decoder.decoded().len() < FIRST_LINE_BYTES {
            self.chunk = self.next_chunk().await?;
            if self.chunk.is_none() {
                break;
            }
            self.decode(FIRST_LINE_BYTES).await?;
        }
        let text = self.decoder.decoded().trim_ascii_start();
        Ok(text.split(|&byte| byte == b'\n').next().unwrap_or_default())
    }

    /// The whole body. The reservation stands for it and for one copy of it, and is to be kept as long as either.
    pub(crate) async fn read_to_end(self) -> Result<(Bytes, Reservation), Refusal> {
        match self.read_up_to(usize::MAX).await? {
            ReadUpTo::Whole(body, reservation) => Ok((body, reservation)),
            // No body is longer than the address space.
            ReadUpTo::Longer(reader) => Err(too_large(reader.most_received)),
        }
    }

    /// The whole body as [`Self::read_to_end`] gives it, unless it is longer than `most`: then the reader, to go on by pieces.
    pub(crate) async fn read_up_to(mut self, most: usize) -> Result<ReadUpTo<'a>, Refusal> {
        loop {
            self.decode(most).await?;
            if self.decoder.decoded().len() > most {
                return Ok(ReadUpTo::Longer(self));
            }
            let Some(chunk) = self.next_chunk().await? else { break };
            let is_whole = self.encoding == Encoding::Identity
                && self.decoder.decoded().is_empty()
                && chunk.len() <= most
                && self.incoming.body.is_end_stream();
            if is_whole {
                let (_, reservation) = self.decoder.finish().map_err(refusal)?;
                return with_room_for_a_copy(chunk, reservation);
            }
            self.chunk = Some(chunk);
        }
        if self.incoming.received == 0 {
            // Nothing was sent at all: say so, instead of calling nothing a truncated stream.
            return Err(Refusal::malformed("empty_body", "the request has no body"));
        }
        let (body, reservation) = self.decoder.finish().map_err(refusal)?;
        with_room_for_a_copy(Bytes::from(body), reservation)
    }

    /// The next piece of the body, of at least `least` bytes unless it is the last one; `None` behind the last. For bodies that are
    /// not held whole: only pieces count towards the memory budget, as long as the reader lives.
    pub(crate) async fn next_piece(&mut self, least: usize) -> Result<Option<Vec<u8>>, Refusal> {
        loop {
            self.decode(least).await?;
            if self.decoder.decoded().len() >= least {
                break;
            }
            self.chunk = self.next_chunk().await?;
            if self.chunk.is_none() {
                if self.incoming.received == 0 {
                    return Err(Refusal::malformed("empty_body", "the request has no body"));
                }
                self.decoder.check_complete().map_err(refusal)?;
                break;
            }
        }
        let piece = self.decoder.take_decoded();
        Ok((!piece.is_empty()).then_some(piece))
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Refusal> {
        let until = self.deadline.min(Instant::now() + self.idle);
        let Ok(chunk) = timeout_at(until, self.incoming.chunk()).await else {
            return Err(Refusal::TooSlow { detail: "the body did not come in time".to_owned() });
        };
        let chunk = chunk.transpose().map_err(|_| {
            Refusal::malformed("incomplete_body", "the connection ended, or was garbled, before the end of the body")
        })?;
        if self.incoming.received > self.most_received {
            return Err(too_large(self.most_received));
        }
        Ok(chunk)
    }

    /// Decodes the chunk at hand, until it is used up or more than `most` bytes are there (by a step at most).
    async fn decode(&mut self, most: usize) -> Result<(), Refusal> {
        while let Some(chunk) = &mut self.chunk {
            if self.decoder.decoded().len() > most {
                break;
            }
            let mut input = &chunk[..];
            let step = self.decoder.step(&mut input).map_err(refusal)?;
            let used = chunk.len() - input.len();
            chunk.advance(used);
            match step {
                Step::NeedsInput => self.chunk = None,
                Step::GoesOn => tokio::task::yield_now().await,
            }
        }
        Ok(())
    }
}

fn has_line(decoded: &[u8]) -> bool {
    decoded.trim_ascii_start().contains(&b'\n')
}

fn with_room_for_a_copy<'a>(body: Bytes, mut reservation: Reservation) -> Result<ReadUpTo<'a>, Refusal> {
    reservation.grow_to(2 * body.len()).map_err(|exhausted| refusal(exhausted.into()))?;
    Ok(ReadUpTo::Whole(body, reservation))
}

pub(crate) fn too_large(limit: usize) -> Refusal {
    Refusal::TooLarge { what: "body".into(), detail: format!("the body is too large: the limit is {limit} bytes") }
}

/// Why a body could not be read, in an answer's words.
pub(crate) fn refusal(error: DecodeError) -> Refusal {
    match error {
        DecodeError::TooLarge { limit } => too_large(limit),
        DecodeError::NoMemory(_) => {
            Refusal::unavailable("memory", "the relay has no memory for another body at the moment")
        }
        DecodeError::Damaged | DecodeError::Truncated | DecodeError::TrailingBytes => {
            Refusal::malformed("invalid_compression", error.to_string())
        }
    }
}
