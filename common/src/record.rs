//! Records: what a relay spools for each accepted request, and what a batch consists of.
//!
//! ```text
//! batch payload (inside the zstd frame) := record*
//! record := header length: u32 LE | header: JSON | body length: u32 LE | body: envelope bytes
//! ```
//!
//! The header is JSON so that both sides can add keys; it repeats from record to record and all but vanishes under zstd.
//!
//! A payload that is too large to be held in memory, a *blob*, is spooled in pieces, each a record of its own:
//! ```text
//! record {chunk: {blob_id: B, offset: 0}}     body: bytes 0.. of the blob
//! record {chunk: {blob_id: B, offset: 1 MiB}} body: the bytes after these
//! record {blobs: [{item: 1, blob_id: B, bytes: n}]}  body: an envelope whose item 1 has an empty payload
//! ```
//!
//! Counts of outcomes travel the same way, so that they are durable, in order and counted once like everything else:
//! ```text
//! record {kind: "outcomes"}                       body: JSON, a list of OutcomeCount
//! ```
//! Invariants:
//! - a record is written whole or not at all; reading is bounded by the batch that holds it and never copies the body;
//! - the record that names a blob is written after all of its chunks are on disk. Chunks that no record names belong to a
//!   request that was refused or cut off; they mean nothing and are in no count.

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

use crate::ids::{BlobId, EventId, ProjectId, PublicKey};
use crate::outcome::OutcomeCount;
use crate::timestamp::Timestamp;

/// Longest record header that is read. Ours are about 200 bytes; the bound keeps a damaged length from meaning anything.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// What the body of a record is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// An envelope, or a piece of a blob.
    #[default]
    Envelope,
    /// Counts of what ended on the relay.
    Outcomes,
}

impl RecordKind {
    /// Whether it is the ordinary kind, which needs no mention.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_envelope(&self) -> bool {
        *self == Self::Envelope
    }
}

/// What the relay knows of an accepted request beside its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordHeader {
    /// What the body is.
    #[serde(default, skip_serializing_if = "RecordKind::is_envelope")]
    pub kind: RecordKind,
    /// The project it was accepted for.
    pub project_id: ProjectId,
    /// The key it came under.
    pub public_key: PublicKey,
    /// When the relay received it, by the relay's clock.
    pub received_at: Timestamp,
    /// The id in the envelope's header, if an item makes an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
    /// Set where the body is no envelope but a piece of a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<BlobChunk>,
    /// The items of the envelope whose payloads are in chunk records before this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blobs: Vec<BlobReference>,
}

/// Which piece of which blob a record's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobChunk {
    /// The blob.
    pub blob_id: BlobId,
    /// Where in the blob the body begins, in bytes.
    pub offset: u64,
}

/// Where the payload of an item is.
///
/// Not a key of the item's own header, which is the client's: there it could be forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobReference {
    /// Which item of the envelope, from 0.
    pub item: u32,
    /// The blob.
    pub blob_id: BlobId,
    /// How long it is.
    pub bytes: u64,
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
    /// A record of counts, sealed at `at`. It is of no project: each count names its own.
    ///
    /// # Errors
    /// [`RecordError::Header`] if the counts can't be encoded, which can't be: they have string keys only.
    pub fn of_outcomes(counts: &[OutcomeCount], at: Timestamp) -> Result<Self, RecordError> {
        let header = RecordHeader {
            kind: RecordKind::Outcomes,
            project_id: ProjectId::new(0),
            public_key: PublicKey::from_random([0; 16]),
            received_at: at,
            event_id: None,
            chunk: None,
            blobs: Vec::new(),
        };
        Ok(Self { header, body: Bytes::from(serde_json::to_vec(counts)?) })
    }

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
        // Far below u32::MAX: a header holds a few short fields, and one for each blob.
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
        self.body.len() + 320 + 128 * self.header.blobs.len()
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

    /// What is not read yet.
    #[must_use]
    pub fn unread(&self) -> Bytes {
        self.rest.clone()
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
                kind: RecordKind::Envelope,
                project_id: ProjectId::new(1),
                public_key: PublicKey::from_random([7; 16]),
                received_at: Timestamp::from_millis(1_763_820_306_789),
                event_id: Some(EventId::from_random([9; 16])),
                chunk: None,
                blobs: Vec::new(),
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

    #[test]
    fn the_longest_headers_stay_within_the_bound_and_round_trip() {
        let blob_id = BlobId::from_random([255; 16]);
        let mut longest = record(b"x");
        longest.header.project_id = ProjectId::new(u64::MAX);
        longest.header.chunk = Some(BlobChunk { blob_id, offset: u64::MAX });
        longest.header.blobs = vec![BlobReference { item: u32::MAX, blob_id, bytes: u64::MAX }; 500];
        let mut batch = Vec::new();
        longest.encode_into(&mut batch).unwrap();
        assert!(batch.len() <= longest.encoded_len_bound());
        let read: Vec<_> = RecordReader::new(Bytes::from(batch)).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [longest]);
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
