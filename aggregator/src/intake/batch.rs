//! One batch stream: header, payload, checksum, journal, answer.
//!
//! Memory for the payload is reserved before it is read, from the relay's share and then from the whole; until then the
//! bytes wait in the relay, held back by the transport's flow control. The buffer itself grows as bytes arrive.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use picket_common::failpoint::failpoint;
use picket_common::transport::{ReceiveStream, SendStream};
use picket_common::wire::{BatchHeader, BatchReply, FrameError, MAX_SMALL_FRAME, NackReason, read_frame, write_frame};
use tokio::sync::{AcquireError, SemaphorePermit};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::close::Close;
use super::metrics::BatchResult;
use super::session::Session;
use crate::journal::{AppendError, Appended};
use picket_common::wire::CloseCode;

/// What one permit of memory stands for: semaphores count in `u32` when many are taken.
pub(super) const PERMIT_BYTES: u64 = 1024;
/// Longest pause in a batch. On a slow link many batches share it, so there is no bound on the whole.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Taken from the stream at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Reserved before the first byte has arrived; an ordinary batch needs no second allocation.
const FIRST_CAPACITY: usize = 1024 * 1024;

/// Permits for so many bytes; at least one.
pub(super) fn permits(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).max(1)
}

/// Why there is no payload.
enum NoPayload {
    /// The stream or the connection broke, or the relay stalled: no answer, the relay sends the batch again.
    Lost,
    /// The bytes are not those that the header describes.
    Corrupt(String),
}

/// Takes one batch and answers it. An error is a breach of the protocol that ends the connection.
pub(super) async fn receive(
    session: Arc<Session>,
    (mut send, mut receive): (SendStream, ReceiveStream),
) -> Result<(), Close> {
    let Some(header) = read_header(&session, &mut receive).await? else { return Ok(()) };
    let Some(reply) = take(&session, &header, &mut receive).await else {
        // Tells the relay that nothing more is read; it learns from the missing answer that the batch was not taken.
        receive.stop();
        return Ok(());
    };
    if let Err(error) = write_frame(&mut send, &reply, MAX_SMALL_FRAME).await {
        debug!(%error, "the answer to a batch did not get out; the relay sends it again");
        return Ok(());
    }
    send.finish();
    failpoint("intake::after_ack");
    // At shutdown the connection is closed after its batches: wait until the answer has arrived.
    send.arrived().await;
    Ok(())
}

async fn read_header(session: &Session, receive: &mut ReceiveStream) -> Result<Option<BatchHeader>, Close> {
    let header: BatchHeader = match timeout(STALL_TIMEOUT, read_frame(receive, MAX_SMALL_FRAME)).await {
        Ok(Ok(header)) => header,
        Ok(Err(error @ (FrameError::TooLong { .. } | FrameError::Message(_)))) => {
            return Err(Close::new(CloseCode::Protocol, format!("a batch header is unreadable: {error}")));
        }
        Ok(Err(FrameError::Closed | FrameError::Io(_))) | Err(_) => return Ok(None),
    };
    if header.spool_id != session.spool_id && !session.former_spools.contains(&header.spool_id) {
        let reason = format!("a batch of spool {} came in the session of spool {}", header.spool_id, session.spool_id);
        return Err(Close::new(CloseCode::Protocol, reason));
    }
    Ok(Some(header))
}

/// Reads, checks and stores the batch; returns the answer, or nothing if the batch got lost on the way.
async fn take(session: &Session, header: &BatchHeader, receive: &mut ReceiveStream) -> Option<BatchReply> {
    let metrics = &session.shared.intake.metrics;
    if let Err(invalid) = header.validate() {
        warn!(first = %header.first, last = %header.last, error = %invalid, "batch refused");
        metrics.batch(BatchResult::Corrupt);
        return Some(BatchReply::Nack { reason: NackReason::Corrupt, detail: invalid.to_string() });
    }
    let reserved = tokio::select! {
        reserved = reserve(session, header.payload_bytes) => reserved.ok()?,
        _ = session.connection.closed() => return None,
    };
    let payload = match read_payload(header, receive).await {
        Ok(payload) => payload,
        Err(NoPayload::Lost) => return None,
        Err(NoPayload::Corrupt(detail)) => {
            warn!(first = %header.first, last = %header.last, detail, "batch arrived damaged");
            metrics.batch(BatchResult::Corrupt);
            return Some(BatchReply::Nack { reason: NackReason::Corrupt, detail });
        }
    };
    failpoint("intake::before_journal");
    let epoch = session.epoch_of(header.spool_id);
    let appended = session.shared.intake.journal.append_in(epoch, header.clone(), payload).await;
    drop(reserved);
    if appended == Err(AppendError::Fenced) {
        let reason = "another connection with the same spool took over, perhaps at another aggregator";
        Close::new(CloseCode::Superseded, reason).apply(&session.connection);
        return None;
    }
    Some(answer(session, header, appended))
}

/// From the relay's share first, so that a relay which sends more than its window waits for itself. A batch larger than
/// the share takes all of it.
async fn reserve(session: &Session, bytes: u64) -> Result<[SemaphorePermit<'_>; 2], AcquireError> {
    let config = &session.shared.intake.config;
    let of_share = permits(bytes.min(session.widest.bytes));
    let share = session.memory.acquire_many(of_share).await?;
    let of_whole = permits(bytes.min(config.max_bytes_in_flight.as_u64()));
    let whole = session.shared.memory.acquire_many(of_whole).await?;
    Ok([share, whole])
}

async fn read_payload(header: &BatchHeader, receive: &mut ReceiveStream) -> Result<Bytes, NoPayload> {
    // In range: `validate` has compared it with a `usize`.
    let announced = usize::try_from(header.payload_bytes).map_err(|_| NoPayload::Lost)?;
    let mut payload = Vec::with_capacity(announced.min(FIRST_CAPACITY));
    let mut checksum = 0;
    loop {
        let chunk = match timeout(STALL_TIMEOUT, receive.read_bytes(CHUNK_BYTES)).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(_)) | Err(_) => return Err(NoPayload::Lost),
        };
        if payload.len() + chunk.len() > announced {
            return Err(NoPayload::Corrupt(format!("more than the announced {announced} bytes arrived")));
        }
        checksum = crc32c::crc32c_append(checksum, &chunk);
        payload.extend_from_slice(&chunk);
    }
    if payload.len() < announced {
        let detail = format!("{} of the announced {announced} bytes arrived", payload.len());
        return Err(NoPayload::Corrupt(detail));
    }
    if checksum != header.crc32c {
        return Err(NoPayload::Corrupt("the checksum does not match".to_owned()));
    }
    Ok(Bytes::from(payload))
}

fn answer(session: &Session, header: &BatchHeader, appended: Result<Appended, AppendError>) -> BatchReply {
    let metrics = &session.shared.intake.metrics;
    let reply = reply_to(header, &appended);
    match appended {
        Ok(Appended::Stored) => {
            metrics.batch(BatchResult::Stored);
            // The records of a tombstone will never come.
            metrics.records.inc_by(if header.is_tombstone { 0 } else { header.records() });
            metrics.payload_bytes.inc_by(header.payload_bytes);
        }
        Ok(Appended::Duplicate) => {
            metrics.batch(BatchResult::Duplicate);
            debug!(first = %header.first, last = %header.last, "batch was stored already");
        }
        Err(AppendError::Overlap) => {
            metrics.batch(BatchResult::Overlap);
            warn!(first = %header.first, last = %header.last, "batch overlaps stored ones: was the spool copied?");
        }
        Err(error) => {
            metrics.batch(BatchResult::Retry);
            warn!(first = %header.first, last = %header.last, %error, "batch not taken, the relay keeps it");
        }
    }
    reply
}

/// What the relay is told of a batch, once the journal has said what became of it.
#[must_use]
pub fn reply_to(header: &BatchHeader, appended: &Result<Appended, AppendError>) -> BatchReply {
    let nack = |reason, error: &AppendError| BatchReply::Nack { reason, detail: error.to_string() };
    match appended {
        Ok(stored) => {
            let duplicate = *stored == Appended::Duplicate;
            BatchReply::Ack { first: header.first, last: header.last, duplicate }
        }
        Err(error @ AppendError::Overlap) => nack(NackReason::Overlap, error),
        Err(error) => nack(NackReason::Retry, error),
    }
}
