//! Records: what a relay spools for each accepted request, and what a batch consists of.
//!
//! ```text
//! batch payload (inside the zstd frame) := record*
//! record := header length: u32 LE | header: JSON | body length: u32 LE | body: envelope bytes
//! ```
//!
//! The header is JSON so that both sides can add keys; it repeats from record to record and all but vanishes under zstd.
//! Invariants: a record is written whole or not at all; reading is bounded by the batch that holds it and never copies the body.

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use crate::ids::{EventId, ProjectId, PublicKey};
use crate::timestamp::Timestamp;

/// Longest record header that is read. Ours are about 200 bytes; the bound keeps a damaged length from meaning anything.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// What the relay knows of an accepted request beside its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordHeader {
    /// The project it was accepted for.
    pub project_id: ProjectId,
    /// The key it came under.
    pub public_key: PublicKey,
    /// When the relay received it, by the relay's clock.
    pub received_at: Timestamp,
    /// The id in the envelope's header, if an item makes an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
}

/// One spooled request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it came from.
    pub header: RecordHeader,
    /// The envelope in its framing.
    pub body: Bytes,
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A length reaches beyond the end of the batch.
    #[error("record is cut off: {needed} bytes needed, {available} there")]
    Truncated {
        /// What the length says.
        needed: usize,
        /// What is left.
        available: usize,
    },
    /// The header is longer than any relay writes.
    #[error("record header of {length} bytes is over the bound of {MAX_HEADER_BYTES}")]
    HeaderTooLong {
        /// What the length says.
        length: usize,
    },
    /// The header is not the JSON it should be.
    #[error("record header is not valid: {0}")]
    Header(#[from] serde_json::Error),
}

impl Record {
    /// Appends the record's encoding to `out`.
    ///
    /// # Errors
    /// [`RecordError`] if the body is longer than a `u32` can say; the limits on request bodies are far below.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let body_length = u32::try_from(self.body.len())
            .map_err(|_| RecordError::Truncated { needed: self.body.len(), available: u32::MAX as usize })?;
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        serde_json::to_writer(&mut *out, &self.header)?;
        let header_length = out.len() - start - 4;
        // Far below u32::MAX: a header holds four short fields.
        let header_length =
            u32::try_from(header_length).map_err(|_| RecordError::HeaderTooLong { length: header_length })?;
        out[start..start + 4].copy_from_slice(&header_length.to_le_bytes());
        out.extend_from_slice(&body_length.to_le_bytes());
        out.extend_from_slice(&self.body);
        Ok(())
    }

    /// How many bytes [`Self::encode_into`] appends at most.
    #[must_use]
    pub fn encoded_len_bound(&self) -> usize {
        self.body.len() + 256
    }
}

/// Reads the records of a decompressed batch one by one, without copying bodies. After an error it yields nothing more.
#[derive(Debug)]
pub struct RecordReader {
    rest: Bytes,
}

impl RecordReader {
    /// Reads from a decompressed batch.
    #[must_use]
    pub const fn new(batch: Bytes) -> Self {
        Self { rest: batch }
    }

    fn take(&mut self, bound: Option<usize>) -> Result<Bytes, RecordError> {
        if self.rest.len() < 4 {
            return Err(RecordError::Truncated { needed: 4, available: self.rest.len() });
        }
        let length = self.rest.get_u32_le() as usize;
        if bound.is_some_and(|bound| length > bound) {
            return Err(RecordError::HeaderTooLong { length });
        }
        if length > self.rest.len() {
            return Err(RecordError::Truncated { needed: length, available: self.rest.len() });
        }
        Ok(self.rest.split_to(length))
    }

    fn read(&mut self) -> Result<Record, RecordError> {
        let header = serde_json::from_slice(&self.take(Some(MAX_HEADER_BYTES))?)?;
        Ok(Record { header, body: self.take(None)? })
    }
}

impl Iterator for RecordReader {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.read();
        if record.is_err() {
            self.rest = Bytes::new();
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn record(body: &[u8]) -> Record {
        Record {
            header: RecordHeader {
                project_id: ProjectId::new(1),
                public_key: PublicKey::from_random([7; 16]),
                received_at: Timestamp::from_millis(1_763_820_306_789),
                event_id: Some(EventId::from_random([9; 16])),
            },
            body: Bytes::copy_from_slice(body),
        }
    }

    #[test]
    fn a_record_cut_off_anywhere_is_an_error_and_ends_the_reading() {
        let mut batch = Vec::new();
        record(b"hello").encode_into(&mut batch).unwrap();
        for end in 1..batch.len() {
            let read: Vec<_> = RecordReader::new(Bytes::copy_from_slice(&batch[..end])).collect();
            assert_eq!(read.len(), 1);
            assert!(read[0].is_err(), "a record of {end} bytes was read");
        }
    }

    #[test]
    fn keys_of_a_newer_relay_are_ignored() {
        let header = format!(
            r#"{{"project_id":"1","public_key":"{}","received_at":5,"novelty":[1]}}"#,
            PublicKey::from_random([7; 16])
        );
        let mut batch = Vec::new();
        batch.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes());
        batch.extend_from_slice(header.as_bytes());
        batch.extend_from_slice(&0_u32.to_le_bytes());
        let read: Vec<_> = RecordReader::new(Bytes::from(batch)).collect::<Result<_, _>>().unwrap();
        assert_eq!(read[0].header.event_id, None);
    }

    proptest! {
        #[test]
        fn batches_round_trip(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10)) {
            let records: Vec<_> = bodies.iter().map(|body| record(body)).collect();
            let mut batch = Vec::new();
            for record in &records {
                let before = batch.len();
                record.encode_into(&mut batch).unwrap();
                prop_assert!(batch.len() - before <= record.encoded_len_bound());
            }
            let read: Vec<_> = RecordReader::new(Bytes::from(batch)).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read, records);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(batch in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _: Vec<_> = RecordReader::new(Bytes::from(batch)).collect();
        }
    }
}
