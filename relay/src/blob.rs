//! Blobs: payloads too large for memory, on their way from staging into the spool, scrubbed as they go.
//!
//! ```text
//! staging ─read 1 MiB▸ scrub ─▸ chunk record ─▸ spool (fsync) ─▸ … ─▸ the envelope's record, which names the blob
//! ```
//!
//! Invariants:
//! - one piece of a blob is in memory at a time (and one waits in the scrubber, where it can't be judged yet);
//! - what is spooled went through the blob's scrubber, piece by piece, and has the length of what came;
//! - a blob's id is random and never used again, so a request that fails midway leaves chunks that no record names: they are
//!   sent, recognised and dropped (`docs/decisions/0007-blobs-are-chunk-records.md`).
//!
//! What it does not do: decide what is a blob (`http`), or which rules apply to it (`scrub`).

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use picket_common::envelope::{DetachedPayload, read_range};
use picket_common::ids::BlobId;
use picket_common::record::{BlobChunk, BlobReference, Record, RecordHeader};

use crate::spool::{AppendError, Spool};
use crate::submission::Random;

/// Bytes of a piece. As large as a batch of the spool is by default, so that a piece is a batch of its own and a few hundred
/// synced writes take the largest blob.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Removes personal data from a payload that is read piece by piece, without changing its length.
pub trait ScrubPieces: Send {
    /// Takes the next piece and appends to `out` what is scrubbed by now.
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>);

    /// Appends the rest.
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// For payloads that no rule applies to.
#[derive(Debug, Clone, Copy)]
pub struct Unchanged;

impl ScrubPieces for Unchanged {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(piece);
    }

    fn finish(&mut self, _out: &mut Vec<u8>) {}
}

/// A payload that is to be spooled in pieces.
pub struct Blob {
    /// Which item of the envelope it is the payload of.
    pub item: u32,
    /// Where it lies.
    pub payload: Arc<dyn DetachedPayload>,
    /// What it is scrubbed by.
    pub scrubber: Box<dyn ScrubPieces>,
}

/// Why a blob is not in the spool.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The spool does not take it.
    #[error(transparent)]
    Spool(#[from] AppendError),
    /// It can't be read from where it lies.
    #[error("can't read a staged payload: {0}")]
    Read(#[from] io::Error),
    /// The system gives no random bytes for an id.
    #[error("can't name a blob: the system gives no random numbers")]
    NoRandom,
    /// The scrubber gave more or less than it took.
    #[error("scrubbing changed the length of a payload from {expected} to {found} bytes")]
    LengthChanged {
        /// Bytes that came.
        expected: u64,
        /// Bytes that were to be spooled.
        found: u64,
    },
    /// A panic on the blocking pool.
    #[error("reading a staged payload ended unexpectedly")]
    Ended,
}

/// Spools a blob. `header` is that of the envelope's record. On `Ok` all of it is on disk.
///
/// # Errors
/// [`BlobError`]; nothing names the chunks that are on disk already.
pub async fn append(
    spool: &Spool,
    header: &RecordHeader,
    blob: Blob,
    random: Random,
) -> Result<BlobReference, BlobError> {
    let (item, expected) = (blob.item, blob.payload.len());
    let blob_id = BlobId::from_random(random().ok_or(BlobError::NoRandom)?);
    let mut reading = Reading { blob, position: 0 };
    let mut offset = 0;
    while reading.position < expected || reading.position == 0 {
        let step = move || reading.next().map(|piece| (reading, piece));
        let (read_on, piece) = tokio::task::spawn_blocking(step).await.map_err(|_| BlobError::Ended)??;
        reading = read_on;
        if piece.is_empty() {
            if expected == 0 {
                break;
            }
            continue;
        }
        let length = piece.len() as u64;
        let chunk = Some(BlobChunk { blob_id, offset });
        let header = RecordHeader { chunk, blobs: Vec::new(), ..header.clone() };
        spool.append(Record { header, body: piece }).await?;
        offset += length;
    }
    if offset != expected {
        return Err(BlobError::LengthChanged { expected, found: offset });
    }
    Ok(BlobReference { item, blob_id, bytes: expected })
}

/// A blob that is read from its beginning to its end.
struct Reading {
    blob: Blob,
    position: u64,
}

impl Reading {
    /// The next piece, scrubbed. Blocking.
    fn next(&mut self) -> io::Result<Bytes> {
        let piece = read_range(&*self.blob.payload, self.position..self.position + CHUNK_BYTES)?;
        self.position += piece.len() as u64;
        let is_last = piece.is_empty() || self.position >= self.blob.payload.len();
        if is_last && self.position < self.blob.payload.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut scrubbed = Vec::with_capacity(piece.len());
        self.blob.scrubber.push(&piece, &mut scrubbed);
        if is_last {
            self.blob.scrubber.finish(&mut scrubbed);
        }
        Ok(Bytes::from(scrubbed))
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob").field("item", &self.item).field("payload", &self.payload).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::run::random;
    use crate::spool::{Oversized, ReadLimit, SpoolConfig};
    use crate::staging::Staging;
    use picket_common::ids::{ProjectId, PublicKey, Sequence};
    use picket_common::record::RecordKind;
    use picket_common::record::RecordReader;
    use picket_common::timestamp::Timestamp;

    /// Holds back everything to the end of a piece but one, and writes capitals.
    struct Shout(Vec<u8>);

    impl ScrubPieces for Shout {
        fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) {
            out.append(&mut self.0);
            self.0 = piece.to_ascii_uppercase();
        }

        fn finish(&mut self, out: &mut Vec<u8>) {
            out.append(&mut self.0);
        }
    }

    fn header() -> RecordHeader {
        RecordHeader {
            kind: RecordKind::Envelope,
            project_id: ProjectId::new(1),
            public_key: PublicKey::from_random([1; 16]),
            received_at: Timestamp::EPOCH,
            event_id: None,
            chunk: None,
            blobs: Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_chunks_of_a_blob_are_its_scrubbed_bytes_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let config = SpoolConfig { linger: picket_common::config::Span::millis(0), ..SpoolConfig::default() };
        let (spool, _committer) = Spool::open(&directory.path().join("spool"), &config, [1; 16]).unwrap();
        let staging = Staging::open(&directory.path().join("staging"), 1 << 30, random).unwrap();
        for length in [0, 1, 1 << 20, (1 << 20) + 1, (5 << 20) / 2] {
            let first = Sequence::new(spool.subscribe().borrow().get() + 1);
            let bytes: Vec<u8> = (0..length).map(|at| b"abcdefg"[at % 7]).collect();
            let mut writer = staging.writer().unwrap();
            writer.write(&bytes).unwrap();
            let payload = Arc::new(writer.finish().unwrap());
            let blob = Blob { item: 3, payload, scrubber: Box::new(Shout(Vec::new())) };
            let reference = append(&spool, &header(), blob, random).await.unwrap();
            assert_eq!((reference.item, reference.bytes), (3, length as u64));

            let limit = ReadLimit { batches: 100, bytes: u64::MAX, oversized: Oversized::Take };
            let mut spooled = Vec::new();
            for batch in spool.read_from(first, limit).unwrap() {
                let raw = zstd::bulk::decompress(&batch.payload, 1 << 24).unwrap();
                for record in RecordReader::new(Bytes::from(raw)) {
                    let record = record.unwrap();
                    let chunk = record.header.chunk.unwrap();
                    assert_eq!((chunk.blob_id, chunk.offset), (reference.blob_id, spooled.len() as u64));
                    spooled.extend_from_slice(&record.body);
                }
            }
            assert_eq!(spooled, bytes.to_ascii_uppercase());
        }
    }
}
