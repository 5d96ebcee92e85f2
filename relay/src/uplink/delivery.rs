//! Sending one batch on a stream of its own and reading the answer.

use std::time::Duration;

use bytes::Bytes;
use picket_common::failpoint::failpoint;
use picket_common::ids::Sequence;
use picket_common::transport::{ReceiveStream, SendStream};
use picket_common::wire::{BatchReply, FrameError, MAX_SMALL_FRAME, read_frame, write_frame};
use tokio::time::{Instant, timeout};

use crate::spool::SealedBatch;

/// A batch that was sent, and what became of it.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    pub(super) bytes: u64,
    /// How often the batch was put off before.
    pub(super) attempt: u32,
    pub(super) took: Duration,
    pub(super) answer: Result<BatchReply, DeliveryError>,
}

/// Why a batch has no answer. It may have been stored or not; it is sent again, and the aggregator knows it if so.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    #[error("the aggregator took or said nothing for {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the batch's stream broke: {0}")]
    Stream(String),
}

/// Sends a batch and waits for the answer. The payload's memory is the transport's once this has written it.
pub(super) async fn deliver(
    streams: (SendStream, ReceiveStream),
    batch: SealedBatch,
    attempt: u32,
    patience: Duration,
) -> Delivery {
    let started = Instant::now();
    let (first, last, bytes) = (batch.header.first, batch.header.last, batch.header.payload_bytes);
    let answer = exchange(streams, batch, patience).await;
    Delivery { first, last, bytes, attempt, took: started.elapsed(), answer }
}

async fn exchange(
    (mut send, mut receive): (SendStream, ReceiveStream),
    batch: SealedBatch,
    patience: Duration,
) -> Result<BatchReply, DeliveryError> {
    let SealedBatch { header, payload } = batch;
    let written = async {
        within(patience, write_frame(&mut send, &header, MAX_SMALL_FRAME)).await?.map_err(broken)?;
        write_payload(&mut send, payload, patience).await
    };
    match written.await {
        // The aggregator may stop the stream and say why it did.
        Ok(()) | Err(DeliveryError::Stream(_)) => {}
        Err(error) => return Err(error),
    }
    send.finish();
    failpoint("uplink::after_send");
    let arrived = send.arrived();
    let reply = read_frame(&mut receive, MAX_SMALL_FRAME);
    tokio::pin!(reply);
    // On its way a batch may take as long as it must; once it has arrived, or was stopped, the answer is due.
    tokio::select! {
        reply = &mut reply => return reply.map_err(broken),
        () = arrived => {}
    }
    within(patience, reply).await?.map_err(broken)
}

/// The timeout is for one piece, so that a slow line is no stall: with 16 batches in flight, pieces of 4 KiB in 30 s are
/// 17 kbit/s.
async fn write_payload(send: &mut SendStream, mut payload: Bytes, patience: Duration) -> Result<(), DeliveryError> {
    while !payload.is_empty() {
        let piece = payload.split_to(payload.len().min(send.piece_bytes()));
        within(patience, send.write_bytes(piece)).await?.map_err(|error| DeliveryError::Stream(error.to_string()))?;
    }
    Ok(())
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Result<T, DeliveryError> {
    timeout(patience, work).await.map_err(|_| DeliveryError::Timeout(patience))
}

fn broken(error: FrameError) -> DeliveryError {
    DeliveryError::Stream(error.to_string())
}
