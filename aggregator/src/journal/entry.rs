//! One journal entry as bytes: the batch as it came, with what is needed to check it when it is read back.
//!
//! ```text
//! value := version: u8 = 1, or 2 where it was a dead letter before
//!        | stored before: u64 LE      bytes of payload appended before this entry, for the backlog's size
//!        | header length: u32 LE
//!        | header CRC-32C: u32 LE     over the 8 + 4 bytes above and the header; of version 2, over the version too
//!        | header: JSON               the relay's BatchHeader; holds the payload's CRC-32C
//!        | payload                    the relay's zstd frame, verbatim
//! ```
//!
//! Pair assertion: intake checks the payload against its CRC before it is appended, [`decode`] checks it again.

use bytes::Bytes;
use picket_common::wire::BatchHeader;

const VERSION: u8 = 1;
/// A dead letter that is replayed: some of its rows may be stored.
const VERSION_REPLAY: u8 = 2;
/// Bytes before the header: version, stored before, header length, header CRC.
const PREFIX_BYTES: usize = 1 + 8 + 4 + 4;

/// Why an entry can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("it is of version {0}, which this program does not know")]
    Version(u8),
    #[error("it is cut off")]
    Truncated,
    #[error("its header does not match its checksum")]
    HeaderChecksum,
    #[error("its header is not readable: {0}")]
    Header(#[from] serde_json::Error),
    #[error("its payload has {found} bytes where the header says {expected}")]
    PayloadLength { expected: u64, found: u64, records: u64 },
    #[error("its payload does not match its checksum")]
    PayloadChecksum { records: u64 },
}

impl DecodeError {
    /// How many records are lost with the entry; 1 where not even the header can be trusted to say it.
    pub(super) const fn records(&self) -> u64 {
        match self {
            Self::PayloadLength { records, .. } | Self::PayloadChecksum { records } => *records,
            _ => 1,
        }
    }
}

/// An entry read back.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) header: BatchHeader,
    pub(super) payload: Bytes,
    pub(super) source: Source,
}

/// Where a batch comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Relay,
    DeadLetter,
}

/// The bytes of an entry.
pub(super) fn encode(
    source: Source,
    stored_before: u64,
    header: &BatchHeader,
    payload: &[u8],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut value = Vec::with_capacity(PREFIX_BYTES + 256 + payload.len());
    value.push(match source {
        Source::Relay => VERSION,
        Source::DeadLetter => VERSION_REPLAY,
    });
    value.extend_from_slice(&stored_before.to_le_bytes());
    value.extend_from_slice(&[0; 8]);
    serde_json::to_writer(&mut value, header)?;
    // A header has six short fields: its length is far below u32::MAX, and the decoder's checks would find it if not.
    let header_length = u32::try_from(value.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
    value[9..13].copy_from_slice(&header_length.to_le_bytes());
    let checksum = header_checksum(&value);
    value[13..17].copy_from_slice(&checksum.to_le_bytes());
    value.extend_from_slice(payload);
    Ok(value)
}

/// Over the prefix without the checksum, and the header. `value` must end with the header. With the version, but where it is 1,
/// so that no flipped bit makes one version the other.
fn header_checksum(value: &[u8]) -> u32 {
    let covered = if value[0] == VERSION { &value[1..13] } else { &value[..13] };
    crc32c::crc32c_append(crc32c::crc32c(covered), &value[PREFIX_BYTES..])
}

/// How many bytes of payload had been appended before this entry.
pub(super) fn stored_before(value: &[u8]) -> Option<u64> {
    let (&version, rest) = value.split_first()?;
    let (stored_before, _) = rest.split_first_chunk::<8>()?;
    matches!(version, VERSION | VERSION_REPLAY).then(|| u64::from_le_bytes(*stored_before))
}

/// Reads an entry and checks all of it. The payload shares the memory of `value`.
pub(super) fn decode(value: &Bytes) -> Result<Decoded, DecodeError> {
    let version = *value.first().ok_or(DecodeError::Truncated)?;
    let source = match version {
        VERSION => Source::Relay,
        VERSION_REPLAY => Source::DeadLetter,
        unknown => return Err(DecodeError::Version(unknown)),
    };
    let word = |at: usize| -> Result<u32, DecodeError> {
        let bytes = value.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(DecodeError::Truncated)?;
        Ok(u32::from_le_bytes(*bytes))
    };
    let header_end = PREFIX_BYTES.checked_add(word(9)? as usize).ok_or(DecodeError::Truncated)?;
    if header_end > value.len() {
        return Err(DecodeError::Truncated);
    }
    if header_checksum(&value[..header_end]) != word(13)? {
        return Err(DecodeError::HeaderChecksum);
    }
    let header: BatchHeader = serde_json::from_slice(&value[PREFIX_BYTES..header_end])?;
    let payload = value.slice(header_end..);
    if payload.len() as u64 != header.payload_bytes {
        let (expected, found) = (header.payload_bytes, payload.len() as u64);
        return Err(DecodeError::PayloadLength { expected, found, records: header.records() });
    }
    if crc32c::crc32c(&payload) != header.crc32c {
        return Err(DecodeError::PayloadChecksum { records: header.records() });
    }
    Ok(Decoded { header, payload, source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use picket_common::ids::{Sequence, SpoolId};
    use proptest::prelude::*;

    use super::*;

    fn entry(payload: &[u8]) -> (BatchHeader, Bytes) {
        let header = BatchHeader {
            spool_id: SpoolId::from_random([1; 16]),
            first: Sequence::new(1),
            last: Sequence::new(3),
            raw_bytes: 10,
            payload_bytes: payload.len() as u64,
            crc32c: crc32c::crc32c(payload),
            is_tombstone: false,
        };
        let value = encode(Source::Relay, 77, &header, payload).unwrap();
        (header, Bytes::from(value))
    }

    #[test]
    fn an_entry_comes_back_verbatim() {
        let (header, value) = entry(b"the payload");
        let decoded = decode(&value).unwrap();
        assert_eq!(decoded.header, header);
        assert_eq!(decoded.payload, &b"the payload"[..]);
        assert_eq!(stored_before(&value), Some(77));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_anywhere_is_found(bit in 0_usize..1000) {
            let (_, value) = entry(b"the payload");
            let mut damaged = value.to_vec();
            let bit = bit % (damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&Bytes::from(damaged)).is_err());
        }

        #[test]
        fn an_entry_cut_off_anywhere_is_an_error(end in 0_usize..1000) {
            let (_, value) = entry(b"the payload");
            prop_assert!(decode(&value.slice(..end % value.len())).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&Bytes::from(bytes));
        }
    }
}
