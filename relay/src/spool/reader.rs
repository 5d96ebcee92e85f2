//! Reading sealed batches in order. Blocking.

use bytes::Bytes;
use picket_common::ids::Sequence;
use picket_common::wire::BatchHeader;

use super::error::SpoolError;
use super::quarantine::SetAsideReason;
use super::store::RawHeader;
use super::{Shared, Spool};

/// A batch as it was sealed; sent verbatim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedBatch {
    /// Its header, under the spool's present id.
    pub header: BatchHeader,
    /// Its zstd frame; matches the header's checksum.
    pub payload: Bytes,
}

/// How much one read may bring into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// Most batches.
    pub batches: usize,
    /// Most payload bytes.
    pub bytes: u64,
    /// What to do if the first batch alone is over `bytes`.
    pub oversized: Oversized,
}

/// What a read does with a first batch that is larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversized {
    /// Read it, alone: otherwise it would stand there for good.
    Take,
    /// Leave it until there is more room.
    Leave,
}

impl Spool {
    /// The batches that start at `from` or later, in order, as far as the limit goes. Damaged ones are set aside and
    /// passed over. Blocking.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if the headers can't be read, [`SpoolError::Failed`] after a failed write.
    pub fn read_from(&self, from: Sequence, limit: ReadLimit) -> Result<Vec<SealedBatch>, SpoolError> {
        self.shared.refuse_if_failed()?;
        let committed = *self.shared.committed.borrow();
        let mut batches: Vec<SealedBatch> = Vec::new();
        let mut bytes = 0;
        for raw in self.shared.store.headers(from, committed) {
            if batches.len() >= limit.batches {
                break;
            }
            let raw = raw?;
            // Known before the payload is read. A header that can't be read is seen to by `load`.
            let payload_bytes = raw.parse().map_or(0, |stored| stored.header.payload_bytes);
            let is_allowed = batches.is_empty() && limit.oversized == Oversized::Take;
            if bytes + payload_bytes > limit.bytes && !is_allowed {
                break;
            }
            if let Some(batch) = self.shared.load(&raw)? {
                bytes += payload_bytes;
                batches.push(batch);
            }
        }
        Ok(batches)
    }

    /// The batch that starts at `first`; `None` if it was acknowledged or set aside meanwhile. Blocking.
    ///
    /// # Errors
    /// As [`Self::read_from`].
    pub fn read_one(&self, first: Sequence) -> Result<Option<SealedBatch>, SpoolError> {
        self.shared.refuse_if_failed()?;
        match self.shared.store.header(first)? {
            Some(raw) => self.shared.load(&raw),
            None => Ok(None),
        }
    }
}

impl Shared {
    /// Reads and checks a payload; sets the batch aside if it is not what was sealed.
    fn load(&self, raw: &RawHeader) -> Result<Option<SealedBatch>, SpoolError> {
        match self.verified(raw)? {
            Ok(mut batch) => {
                batch.header.spool_id = *super::lock(&self.id);
                Ok(Some(batch))
            }
            Err(problem) => {
                // A batch that was acknowledged between the two reads is no damage.
                if self.store.header(raw.first)?.is_some() {
                    self.set_aside(raw, SetAsideReason::Damaged, &problem)?;
                }
                Ok(None)
            }
        }
    }

    /// The batch, or in what way it is damaged.
    fn verified(&self, raw: &RawHeader) -> Result<Result<SealedBatch, String>, SpoolError> {
        let stored = match raw.parse() {
            Ok(stored) => stored,
            Err(problem) => return Ok(Err(problem)),
        };
        let payload = self.store.payload(&stored)?;
        Ok(payload.and_then(|payload| checked(stored.header, payload)))
    }
}

fn checked(header: BatchHeader, payload: Vec<u8>) -> Result<SealedBatch, String> {
    if payload.len() as u64 != header.payload_bytes {
        return Err(format!("{} bytes are stored, the header says {}", payload.len(), header.payload_bytes));
    }
    let found = crc32c::crc32c(&payload);
    if found != header.crc32c {
        return Err(format!("the checksum is {found:08x}, the header says {:08x}", header.crc32c));
    }
    Ok(SealedBatch { header, payload: Bytes::from(payload) })
}
