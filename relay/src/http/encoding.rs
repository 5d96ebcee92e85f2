//! Content encodings: take a body apart as it arrives.
//!
//! A [`Decoder`] is fed chunks of the compressed body and appends what they decompress to into one growing buffer, so that
//! the compressed body is never held whole and each byte is written once.
//!
//! Invariants:
//! - the output never exceeds the limit by more than one byte, and all of it is reserved from the memory budget first;
//! - a stream must be complete: one that ends early, or is followed by anything, is an error;
//! - a step produces at most [`STEP_BYTES`], so that the caller can let others run between steps.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Operation};

use crate::limit::memory::{Exhausted, Reservation};

/// Most bytes that one step produces: about 0.3 ms of inflating.
pub(crate) const STEP_BYTES: usize = 128 * 1024;
/// First size of the output buffer: most SDK events fit.
const FIRST_BYTES: usize = 16 * 1024;
/// Largest window of a zstd stream, 8 MiB as RFC 9659 asks of senders over HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What a brotli stream may take for its window: 16 MiB, RFC 7932 §9.1. Larger ("large window") streams are refused.
const BROTLI_WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    /// zlib, as HTTP means "deflate".
    Deflate,
    Brotli,
    Zstd,
}

impl Encoding {
    /// Reads `Content-Encoding`; `None` for one that is not spoken here. Empty and `utf-8` are bugs of old SDKs and mean nothing.
    pub(crate) fn of_request(headers: &HeaderMap) -> Option<Self> {
        let mut encoding = Self::Identity;
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.to_str().ok()?.split(',') {
                let next = match name.trim().to_ascii_lowercase().as_str() {
                    "" | "utf-8" | "utf8" | "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    "br" => Self::Brotli,
                    "zstd" => Self::Zstd,
                    _ => return None,
                };
                if encoding != Self::Identity {
                    return None;
                }
                encoding = next;
            }
        }
        Some(encoding)
    }
}

/// Most streams one after the other. Beginning one costs as much as inflating some kilobytes, and an empty one has 20 bytes.
const MAX_STREAMS: usize = 1000;

/// Why a body can't be taken apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the compressed body is damaged")]
    Damaged,
    #[error("the compressed body is cut off")]
    Truncated,
    #[error("the compressed body is followed by something else")]
    TrailingBytes,
    #[error("the body is longer than {limit} bytes when decompressed")]
    TooLarge { limit: usize },
    #[error(transparent)]
    NoMemory(#[from] Exhausted),
}

type BrotliDecoder = BrotliState<HeapAlloc<u8>, HeapAlloc<u32>, HeapAlloc<HuffmanCode>>;

enum Codec {
    Identity,
    Zlib(Box<Decompress>),
    Brotli(Box<BrotliDecoder>),
    Zstd(Box<zstd::stream::raw::Decoder<'static>>),
}

impl Codec {
    fn new(encoding: Encoding) -> Result<Self, DecodeError> {
        Ok(match encoding {
            Encoding::Identity => Self::Identity,
            Encoding::Gzip => Self::Zlib(Box::new(Decompress::new_gzip(15))),
            Encoding::Deflate => Self::Zlib(Box::new(Decompress::new(true))),
            Encoding::Brotli => Self::Brotli(Box::new(BrotliState::new_strict(
                HeapAlloc::new(0),
                HeapAlloc::new(0),
                HeapAlloc::new(HuffmanCode::default()),
            ))),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::raw::Decoder::new().map_err(|_| Exhausted)?;
                decoder
                    .set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))
                    .map_err(|_| DecodeError::Damaged)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// The largest window the codec may keep beside the output. It is allocated lazily, so never more of it is
    /// resident than was decompressed.
    const fn window_bytes(&self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Zlib(_) => 32 * 1024,
            Self::Brotli(_) => BROTLI_WINDOW_BYTES,
            Self::Zstd(_) => 1 << ZSTD_WINDOW_LOG_MAX,
        }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Progress, DecodeError> {
        match self {
            Self::Identity => {
                let count = input.len().min(out.len());
                out[..count].copy_from_slice(&input[..count]);
                Ok(Progress { read: count, written: count, ended: false })
            }
            Self::Zlib(inflate) => {
                let (total_in, total_out) = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(input, out, FlushDecompress::None).map_err(|_| DecodeError::Damaged)?;
                // Both are at most the lengths of the slices.
                let moved = |before: u64, after: u64| usize::try_from(after - before).map_err(|_| DecodeError::Damaged);
                Ok(Progress {
                    read: moved(total_in, inflate.total_in())?,
                    written: moved(total_out, inflate.total_out())?,
                    ended: status == Status::StreamEnd,
                })
            }
            Self::Brotli(state) => step_brotli(state, input, out),
            Self::Zstd(decoder) => {
                let status = decoder.run_on_buffers(input, out).map_err(|_| DecodeError::Damaged)?;
                // Without a byte of input there was no frame yet that could have ended.
                let ended = status.remaining == 0 && !(input.is_empty() && status.bytes_written == 0);
                Ok(Progress { read: status.bytes_read, written: status.bytes_written, ended })
            }
        }
    }
}

struct Progress {
    read: usize,
    written: usize,
    ended: bool,
}

fn step_brotli(state: &mut BrotliDecoder, input: &[u8], out: &mut [u8]) -> Result<Progress, DecodeError> {
    let (mut available_in, mut read) = (input.len(), 0);
    let (mut available_out, mut written, mut total) = (out.len(), 0, 0);
    let result = BrotliDecompressStream(
        &mut available_in,
        &mut read,
        input,
        &mut available_out,
        &mut written,
        out,
        &mut total,
        state,
    );
    match result {
        BrotliResult::ResultFailure => Err(DecodeError::Damaged),
        BrotliResult::ResultSuccess => Ok(Progress { read, written, ended: true }),
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok(Progress { read, written, ended: false }),
    }
}

/// Takes one body apart.
pub(crate) struct Decoder {
    encoding: Encoding,
    codec: Codec,
    /// How many streams were begun.
    streams: usize,
    out: Vec<u8>,
    /// How much was taken away by [`Self::take_decoded`].
    taken: usize,
    limit: usize,
    reservation: Reservation,
    ended: bool,
}

impl Decoder {
    /// A decoder for a body that decompresses to at most `limit` bytes, reserved from the budget as they come.
    pub(crate) fn new(encoding: Encoding, limit: usize, reservation: Reservation) -> Result<Self, DecodeError> {
        let codec = Codec::new(encoding)?;
        Ok(Self { encoding, codec, streams: 1, out: Vec::new(), taken: 0, limit, reservation, ended: false })
    }

    /// What was decompressed up to now and not taken away.
    pub(crate) fn decoded(&self) -> &[u8] {
        &self.out
    }

    /// Takes away what was decompressed up to now, so that a long body need not be held. It still counts towards the limit.
    pub(crate) fn take_decoded(&mut self) -> Vec<u8> {
        self.taken += self.out.len();
        std::mem::take(&mut self.out)
    }

    /// One step: consumes some of `input`, which is advanced. Returns whether more steps are needed before the next chunk.
    pub(crate) fn step(&mut self, input: &mut &[u8]) -> Result<Step, DecodeError> {
        if self.ended {
            let Some(next) = input.first() else { return Ok(Step::NeedsInput) };
            self.begin_next(*next)?;
        }
        self.make_room(input.len())?;
        let start = self.out.len();
        // The codecs write into initialised memory; zeroing it first takes a fiftieth of what inflating takes.
        let spare = (self.out.capacity() - start).min(STEP_BYTES);
        self.out.resize(start + spare, 0);
        let progress = self.codec.step(input, &mut self.out[start..])?;
        self.out.truncate(start + progress.written);
        *input = &input[progress.read..];
        self.ended = progress.ended;
        if self.taken + self.out.len() > self.limit {
            return Err(DecodeError::TooLarge { limit: self.limit });
        }
        let progressed = progress.read > 0 || progress.written > 0;
        let goes_on = progressed && (progress.written == spare || !input.is_empty());
        Ok(if goes_on { Step::GoesOn } else { Step::NeedsInput })
    }

    /// Begins the stream that follows the one that ended, where the format says that several are one.
    fn begin_next(&mut self, first: u8) -> Result<(), DecodeError> {
        let is_next = match self.encoding {
            // RFC 1952 §2.2: members follow each other with nothing between them.
            Encoding::Gzip => first == 0x1f,
            // RFC 8878 §3: so do frames, and what is to be skipped.
            Encoding::Zstd => first == 0x28 || (0x50..=0x5f).contains(&first),
            Encoding::Identity | Encoding::Deflate | Encoding::Brotli => false,
        };
        self.streams += 1;
        if !is_next || self.streams > MAX_STREAMS {
            return Err(DecodeError::TrailingBytes);
        }
        self.codec = Codec::new(self.encoding)?;
        self.ended = false;
        Ok(())
    }

    /// Whether the body may end here.
    pub(crate) fn check_complete(&self) -> Result<(), DecodeError> {
        if self.ended || matches!(self.codec, Codec::Identity) { Ok(()) } else { Err(DecodeError::Truncated) }
    }

    /// The whole body, with the memory it is accounted to.
    pub(crate) fn finish(self) -> Result<(Vec<u8>, Reservation), DecodeError> {
        self.check_complete()?;
        Ok((self.out, self.reservation))
    }

    /// Doubles the buffer when it is full, up to one byte over the limit: that byte tells too much from just enough.
    fn make_room(&mut self, input: usize) -> Result<(), DecodeError> {
        if self.out.len() < self.out.capacity() {
            return Ok(());
        }
        let wanted = (2 * self.out.capacity()).max(FIRST_BYTES).max(self.out.len() + input);
        let capacity = wanted.min(self.limit + 1 - self.taken);
        let window = self.codec.window_bytes().min(capacity);
        // While the buffer moves, the old one and the new one are there.
        self.reservation.grow_to(window + capacity + self.out.len())?;
        self.out.try_reserve_exact(capacity - self.out.len()).map_err(|_| Exhausted)?;
        Ok(())
    }
}

/// What a [`Decoder::step`] left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to come from what it was given.
    GoesOn,
    /// It is done with its input.
    NeedsInput,
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
