//! Payloads that are not in memory, and envelopes whose body is one.
//!
//! The framing is that of [`super::parse`], read through a window: of a body of any length, one header and what is around it
//! are in memory at a time. A property test holds the two parsers together.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::item::{Item, ParsedHeader};
use super::parse::{json_extent, refuse_long, struct_from_slice};
use super::{Envelope, EnvelopeError, MAX_HEADER_BYTES};

/// How much is read at once: the longest header, the newline after it, and a byte that tells too long from just enough.
const WINDOW_BYTES: usize = MAX_HEADER_BYTES + 2;

/// A payload that lies somewhere else than in memory.
pub trait DetachedPayload: fmt::Debug + Send + Sync {
    /// How many bytes it has.
    fn len(&self) -> u64;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads from `offset` into `buffer`; how many bytes were read, fewer than asked for only at the end. Blocking.
    ///
    /// # Errors
    /// What the place where it lies returns.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// A part of it, cut to its end, that keeps the whole alive.
    fn slice(&self, range: Range<u64>) -> Arc<dyn DetachedPayload>;
}

/// Reads a range into memory, cut to the payload's end. Blocking; the caller bounds the range.
///
/// # Errors
/// What [`DetachedPayload::read_at`] returns.
pub fn read_range(payload: &dyn DetachedPayload, range: Range<u64>) -> io::Result<Bytes> {
    let length = range.end.min(payload.len()).saturating_sub(range.start);
    let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    let mut buffer = vec![0; length];
    let read = payload.read_at(range.start, &mut buffer)?;
    buffer.truncate(read);
    Ok(Bytes::from(buffer))
}

/// Why a body that is not in memory is no envelope.
#[derive(Debug, thiserror::Error)]
pub enum DetachedEnvelopeError {
    /// It is not one.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// It can't be read.
    #[error("can't read the body of an envelope: {0}")]
    Read(#[from] io::Error),
}

pub(super) fn envelope(body: &Arc<dyn DetachedPayload>, max_items: usize) -> Result<Envelope, DetachedEnvelopeError> {
    let (raw_header, end) = match json(&**body, 0)? {
        Found::Json { text, end } => (text, end),
        Found::Nothing => return Err(EnvelopeError::Empty.into()),
        Found::TooLong { offset } => return Err(EnvelopeError::HeaderTooLong { offset }.into()),
        Found::Broken(source) => return Err(EnvelopeError::Header { source }.into()),
    };
    let header = struct_from_slice(&raw_header).map_err(|source| EnvelopeError::Header { source })?;
    let mut offset = after_newline(&**body, end)?;
    let mut items = Vec::new();
    while offset < body.len() {
        if items.len() == max_items {
            return Err(EnvelopeError::TooManyItems { limit: max_items }.into());
        }
        let (item, next) = item(&**body, offset, items.len())?;
        items.push(item);
        offset = next;
    }
    Ok(Envelope { raw_header, header, items })
}

fn item(body: &dyn DetachedPayload, start: u64, index: usize) -> Result<(Item, u64), DetachedEnvelopeError> {
    let offset = position(start);
    let (raw_header, end) = match json(body, start)? {
        Found::Json { text, end } => (text, end),
        Found::Nothing => return Err(EnvelopeError::UnexpectedEnd { index, offset }.into()),
        Found::TooLong { offset } => return Err(EnvelopeError::HeaderTooLong { offset }.into()),
        Found::Broken(source) => return Err(EnvelopeError::ItemHeader { index, offset, source }.into()),
    };
    let header =
        ParsedHeader::read(&raw_header).map_err(|source| EnvelopeError::ItemHeader { index, offset, source })?;
    let start = after_newline(body, end)?;
    let end = match header.length {
        Some(announced) => {
            let available = body.len() - start;
            if announced > available {
                let (offset, available) = (position(start), position(available));
                return Err(EnvelopeError::PayloadTooShort { index, offset, announced, available }.into());
            }
            start + announced
        }
        None => newline(body, start)?,
    };
    let next = after_newline(body, end)?;
    let mut item = Item::from_parts(raw_header, header, Bytes::new());
    item.set_detached(body.slice(start..end));
    Ok((item, next))
}

/// What stands where a header is expected.
enum Found {
    Json { text: Bytes, end: u64 },
    Nothing,
    TooLong { offset: usize },
    Broken(serde_json::Error),
}

/// The next JSON value at or after `offset`, without the white space before it.
fn json(body: &dyn DetachedPayload, offset: u64) -> io::Result<Found> {
    let Some(start) = after_blanks(body, offset)? else { return Ok(Found::Nothing) };
    let window = read_range(body, start..start + WINDOW_BYTES as u64)?;
    let is_cut = start + (window.len() as u64) < body.len();
    Ok(match json_extent(&window, 0) {
        Ok(Some(range)) if refuse_long(&range).is_err() => Found::TooLong { offset: position(start) },
        Ok(Some(range)) => Found::Json { end: start + range.end as u64, text: window.slice(range) },
        Ok(None) => Found::Nothing,
        Err(error) if error.is_eof() && is_cut => Found::TooLong { offset: position(start) },
        Err(error) => Found::Broken(error),
    })
}

/// Where the white space that begins at `offset` ends; `None` if nothing else follows.
fn after_blanks(body: &dyn DetachedPayload, mut offset: u64) -> io::Result<Option<u64>> {
    while offset < body.len() {
        let window = read_range(body, offset..offset + WINDOW_BYTES as u64)?;
        if window.is_empty() {
            break;
        }
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if let Some(blanks) = window.iter().position(|byte| !is_space(byte)) {
            return Ok(Some(offset + blanks as u64));
        }
        offset += window.len() as u64;
    }
    Ok(None)
}

/// Where the next newline is; the body's end if there is none.
fn newline(body: &dyn DetachedPayload, mut offset: u64) -> io::Result<u64> {
    while offset < body.len() {
        let window = read_range(body, offset..offset + WINDOW_BYTES as u64)?;
        if let Some(distance) = memchr::memchr(b'\n', &window) {
            return Ok(offset + distance as u64);
        }
        if window.is_empty() {
            break;
        }
        offset += window.len() as u64;
    }
    Ok(body.len())
}

/// The offset behind the newline at `offset`; the end of the body counts as one.
fn after_newline(body: &dyn DetachedPayload, offset: u64) -> Result<u64, DetachedEnvelopeError> {
    match read_range(body, offset..offset + 1)?.first() {
        None => Ok(offset),
        Some(b'\n') => Ok(offset + 1),
        Some(_) => Err(EnvelopeError::MissingNewline { offset: position(offset) }.into()),
    }
}

/// An offset as the errors have it. Only a body beyond the address space would not fit, and none is that long.
fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::envelope::MAX_ITEMS;
    use proptest::prelude::*;

    /// A payload in memory that behaves as if it were elsewhere.
    #[derive(Debug)]
    struct Elsewhere(Bytes);

    impl DetachedPayload for Elsewhere {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let rest = &self.0[position(offset).min(self.0.len())..];
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn slice(&self, range: Range<u64>) -> Arc<dyn DetachedPayload> {
            Arc::new(Self(self.0.slice(position(range.start)..position(range.end))))
        }
    }

    fn detached(body: &[u8]) -> Result<Envelope, DetachedEnvelopeError> {
        let body: Arc<dyn DetachedPayload> = Arc::new(Elsewhere(Bytes::copy_from_slice(body)));
        Envelope::parse_detached(&body, MAX_ITEMS)
    }

    /// The event id, and each item's type and payload.
    type Outline = (Option<String>, Vec<(String, Bytes)>);

    /// What was parsed; or the error's text without the place in the JSON, which is relative to the window.
    fn outline(parsed: Result<Envelope, String>) -> Result<Outline, String> {
        let envelope = parsed.map_err(|error| error.split(" at line").next().unwrap_or_default().to_owned())?;
        let payload = |item: &Item| match item.detached() {
            Some(payload) => read_range(&**payload, 0..payload.len()).unwrap(),
            None => item.payload().clone(),
        };
        let items = envelope.items().iter().map(|item| (item.item_type().as_str().to_owned(), payload(item)));
        Ok((envelope.event_id().map(|id| id.to_string()), items.collect()))
    }

    fn assert_agreement(body: &[u8]) {
        let there = outline(detached(body).map_err(|error| error.to_string()));
        let here = outline(Envelope::parse(Bytes::copy_from_slice(body), MAX_ITEMS).map_err(|error| error.to_string()));
        assert_eq!(there, here, "{}", String::from_utf8_lossy(&body[..body.len().min(500)]));
    }

    #[test]
    fn headers_and_payloads_at_the_border_of_the_window_are_read_as_in_memory() {
        for blanks in [0, WINDOW_BYTES - 2, WINDOW_BYTES - 1, WINDOW_BYTES, 3 * WINDOW_BYTES] {
            for text in [MAX_HEADER_BYTES - 9, MAX_HEADER_BYTES - 8, MAX_HEADER_BYTES - 7, 2 * MAX_HEADER_BYTES] {
                let header = format!("{}{{\"a\":\"{}\"}}", " ".repeat(blanks), "x".repeat(text));
                assert_agreement(header.as_bytes());
                assert_agreement(format!("{header}\n{{\"type\":\"event\"}}\n{header}").as_bytes());
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_no_header_that_is_too_long() {
        for body in ["", "  \n", "{", "{}\n{\"type\"", "{}\n{\"type\":\"event\",\"length\":5}\nabc", "{}\n{}\n", "{}x"]
        {
            assert_agreement(body.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn both_parsers_agree_on_bodies_made_of_likely_parts(
            parts in proptest::collection::vec(prop_oneof![
                Just("{}"), Just("\n"), Just(" "), Just("\r\n"), Just("abc"), Just("{\"type\":\"event\"}"),
                Just("{\"type\":\"attachment\",\"length\":3}"), Just("{\"length\":2}"), Just("["), Just("\""),
                Just("{\"event_id\":\"fc6d8c0c43fc4630ad850ee518f1b9d0\"}"),
            ], 0..14)
        ) {
            assert_agreement(parts.concat().as_bytes());
        }

        #[test]
        fn no_bytes_make_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = detached(&body);
        }
    }
}
