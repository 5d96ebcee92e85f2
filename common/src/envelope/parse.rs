//! The envelope parser.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::item::{Item, ParsedHeader};
use super::{Envelope, Header, MAX_HEADER_BYTES};

/// Why a body is no envelope. Offsets count bytes from its start.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The body holds nothing but white space.
    #[error("the envelope is empty: expected a JSON header in the first line")]
    Empty,
    /// The first line is no JSON object with valid known keys.
    #[error("invalid envelope header: {source}")]
    Header {
        /// What the JSON parser says.
        source: serde_json::Error,
    },
    /// A header is longer than any SDK sends.
    #[error("the header at byte {offset} is longer than {MAX_HEADER_BYTES} bytes")]
    HeaderTooLong {
        /// Where it starts.
        offset: usize,
    },
    /// An item header is no JSON object with valid known keys.
    #[error("invalid header of item {index} at byte {offset}: {source}")]
    ItemHeader {
        /// Which item, from 0.
        index: usize,
        /// Where its header starts.
        offset: usize,
        /// What the JSON parser says.
        source: serde_json::Error,
    },
    /// White space, then the end, where an item header was to come.
    #[error("unexpected end of the envelope at byte {offset}: expected the header of item {index}")]
    UnexpectedEnd {
        /// Which item, from 0.
        index: usize,
        /// Where the blank tail starts.
        offset: usize,
    },
    /// A header or a payload is not followed by a newline.
    #[error("missing newline at byte {offset}")]
    MissingNewline {
        /// Where the newline was expected.
        offset: usize,
    },
    /// The `length` reaches beyond the end of the body.
    #[error("item {index} announces {announced} bytes at byte {offset}, but only {available} follow")]
    PayloadTooShort {
        /// Which item, from 0.
        index: usize,
        /// Where its payload starts.
        offset: usize,
        /// The header's `length`.
        announced: u64,
        /// What is there.
        available: usize,
    },
    /// More items than the limit.
    #[error("the envelope has more than {limit} items")]
    TooManyItems {
        /// The limit in force.
        limit: usize,
    },
}

pub(super) fn envelope(body: Bytes, max_items: usize) -> Result<Envelope, EnvelopeError> {
    let header_range = match json_extent(&body, 0) {
        Ok(Some(range)) => range,
        Ok(None) => return Err(EnvelopeError::Empty),
        Err(source) => return Err(EnvelopeError::Header { source }),
    };
    refuse_long(&header_range)?;
    let raw_header = body.slice(header_range.clone());
    let header: Header = struct_from_slice(&raw_header).map_err(|source| EnvelopeError::Header { source })?;
    let mut offset = after_newline(&body, header_range.end)?;

    let mut items = Vec::new();
    while offset < body.len() {
        if items.len() == max_items {
            return Err(EnvelopeError::TooManyItems { limit: max_items });
        }
        let (item, next) = item(&body, offset, items.len())?;
        items.push(item);
        offset = next;
    }
    Ok(Envelope { raw_header, header, items })
}

fn item(body: &Bytes, offset: usize, index: usize) -> Result<(Item, usize), EnvelopeError> {
    let range = match json_extent(body, offset) {
        Ok(Some(range)) => range,
        Ok(None) => return Err(EnvelopeError::UnexpectedEnd { index, offset }),
        Err(source) => return Err(EnvelopeError::ItemHeader { index, offset, source }),
    };
    refuse_long(&range)?;
    let raw_header = body.slice(range.clone());
    let header =
        ParsedHeader::read(&raw_header).map_err(|source| EnvelopeError::ItemHeader { index, offset, source })?;
    let start = after_newline(body, range.end)?;
    let end = match header.length {
        Some(announced) => {
            let available = body.len() - start;
            usize::try_from(announced)
                .ok()
                .filter(|&length| length <= available)
                .map(|length| start + length)
                .ok_or(EnvelopeError::PayloadTooShort { index, offset: start, announced, available })?
        }
        None => memchr_newline(&body[start..]).map_or(body.len(), |distance| start + distance),
    };
    let next = after_newline(body, end)?;
    Ok((Item::from_parts(raw_header, header, body.slice(start..end)), next))
}

pub(super) const fn refuse_long(header: &std::ops::Range<usize>) -> Result<(), EnvelopeError> {
    if header.end - header.start > MAX_HEADER_BYTES {
        return Err(EnvelopeError::HeaderTooLong { offset: header.start });
    }
    Ok(())
}

/// The bytes of the next JSON value at or after `offset`, without the white space before it; `None` if only white space
/// follows.
pub(super) fn json_extent(body: &[u8], offset: usize) -> Result<Option<std::ops::Range<usize>>, serde_json::Error> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let Some(blank) = body[offset..].iter().position(|byte| !is_space(byte)) else {
        return Ok(None);
    };
    let start = offset + blank;
    let mut values = serde_json::Deserializer::from_slice(&body[start..]).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => Ok(Some(start..start + values.byte_offset())),
        Some(Err(error)) => Err(error),
        None => Ok(None),
    }
}

/// `serde_json` also reads a struct from an array; a header must be an object.
pub(super) fn struct_from_slice<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Result<T, serde_json::Error> {
    if raw.trim_ascii_start().first() != Some(&b'{') {
        return Err(serde::de::Error::custom("expected a JSON object"));
    }
    serde_json::from_slice(raw)
}

/// The offset behind the newline at `offset`; the end of the body counts as one.
fn after_newline(body: &[u8], offset: usize) -> Result<usize, EnvelopeError> {
    match body.get(offset) {
        None => Ok(offset),
        Some(b'\n') => Ok(offset + 1),
        Some(_) => Err(EnvelopeError::MissingNewline { offset }),
    }
}

fn memchr_newline(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes)
}
