//! The two compressions that ClickHouse's clients use over HTTP.
//!
//! - *Blocks*: ClickHouse's own framing, the body of a request with `decompress=1` and of a response to `compress=1`.
//!   A body is a sequence of
//!
//!   ```text
//!   checksum: 16 bytes   CityHash128 (v1.0.2) of all that follows in this block, halves swapped, little-endian
//!   method:    1 byte    0x82 LZ4, 0x02 none
//!   size:      4 bytes   little-endian; of method, both sizes and the data as stored
//!   raw size:  4 bytes   little-endian; of the data decompressed
//!   data
//!   ```
//!
//! - *LZ4 frame* (the format of the `lz4` tool): the body of a response to `Accept-Encoding: lz4`.
//!
//! Sizes come from the peer, so nothing is allocated by them before it is known to fit the limit.

use std::io::{self, Write};

use bytes::{Buf, Bytes, BytesMut};
use lz4_flex::block;
use lz4_flex::frame::FrameEncoder;
use thiserror::Error;

const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
const METHOD_LZ4: u8 = 0x82;
const METHOD_NONE: u8 = 0x02;

/// Raw bytes in a block that we write; ClickHouse's own default.
const RAW_BLOCK_BYTES: usize = 1024 * 1024;

/// How the body of a request is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestEncoding {
    /// As it is.
    Identity,
    /// ClickHouse's compressed blocks.
    Blocks,
}

/// How the body of a response is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseEncoding {
    /// As it is.
    Identity,
    /// ClickHouse's compressed blocks.
    Blocks,
    /// An LZ4 frame.
    Lz4Frame,
}

/// Why compressed data was refused.
#[derive(Debug, Error)]
pub(super) enum DecodeError {
    #[error("the checksum of a compressed block is wrong: the data was damaged on the way")]
    Checksum,
    #[error("compression method {0:#04x} is not supported; use LZ4 or none")]
    Method(u8),
    #[error("a compressed block states sizes that cannot be ({size} stored, {raw_size} raw)")]
    Sizes { size: usize, raw_size: usize },
    #[error("the data is larger than {limit} bytes when decompressed")]
    TooLarge { limit: usize },
    #[error("a compressed block is not valid LZ4")]
    Lz4(#[from] block::DecompressError),
    #[error("the data ends within a compressed block")]
    Truncated,
    #[error("cannot store the decompressed data")]
    Write(#[from] io::Error),
}

/// Decodes blocks from chunks of any size.
#[derive(Debug)]
pub(super) struct BlockDecoder {
    /// The beginning of a block that is not complete.
    pending: BytesMut,
    raw: Vec<u8>,
    written: usize,
    limit: usize,
}

// === impl BlockDecoder ===

impl BlockDecoder {
    /// `limit`: bytes of decompressed data, over all blocks.
    pub(super) fn new(limit: usize) -> Self {
        Self { pending: BytesMut::new(), raw: Vec::new(), written: 0, limit }
    }

    /// Takes the next chunk and writes what it completes to `sink`.
    pub(super) fn push(&mut self, chunk: &[u8], sink: &mut impl Write) -> Result<(), DecodeError> {
        self.pending.extend_from_slice(chunk);
        while let Some(length) = self.complete_block()? {
            self.decode(length, sink)?;
            self.pending.advance(length);
        }
        Ok(())
    }

    /// To be called after the last chunk.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.pending.is_empty() { Ok(()) } else { Err(DecodeError::Truncated) }
    }

    /// Length of the first block with its checksum, once all of it is there.
    fn complete_block(&self) -> Result<Option<usize>, DecodeError> {
        let Some(header) = self.pending.get(CHECKSUM_BYTES..CHECKSUM_BYTES + HEADER_BYTES) else {
            return Ok(None);
        };
        let (size, raw_size) = sizes(header);
        if raw_size > self.limit - self.written {
            return Err(DecodeError::TooLarge { limit: self.limit });
        }
        // Data that does not compress grows a little; more than that is not a block.
        if size < HEADER_BYTES || size - HEADER_BYTES > block::get_maximum_output_size(raw_size) {
            return Err(DecodeError::Sizes { size, raw_size });
        }
        let length = CHECKSUM_BYTES + size;
        Ok((self.pending.len() >= length).then_some(length))
    }

    fn decode(&mut self, length: usize, sink: &mut impl Write) -> Result<(), DecodeError> {
        let (stored_checksum, body) = self.pending[..length].split_at(CHECKSUM_BYTES);
        if stored_checksum != checksum(body) {
            return Err(DecodeError::Checksum);
        }
        let (header, data) = body.split_at(HEADER_BYTES);
        let (size, raw_size) = sizes(header);
        match header[0] {
            METHOD_LZ4 => {
                self.raw.resize(raw_size, 0);
                let decoded = block::decompress_into(data, &mut self.raw)?;
                if decoded != raw_size {
                    return Err(DecodeError::Sizes { size, raw_size });
                }
                sink.write_all(&self.raw)?;
            }
            METHOD_NONE if data.len() == raw_size => sink.write_all(data)?,
            METHOD_NONE => return Err(DecodeError::Sizes { size, raw_size }),
            other => return Err(DecodeError::Method(other)),
        }
        self.written += raw_size;
        Ok(())
    }
}

/// Size as stored (header included) and raw size from a block's header of [`HEADER_BYTES`].
fn sizes(header: &[u8]) -> (usize, usize) {
    let mut fields = &header[1..];
    let size = fields.get_u32_le() as usize;
    let raw_size = fields.get_u32_le() as usize;
    (size, raw_size)
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    cityhash_rs::cityhash_102_128(body).rotate_right(64).to_le_bytes()
}

/// Encodes a response's body; one that needs no encoding is not copied.
pub(super) fn encode(raw: Bytes, encoding: ResponseEncoding) -> io::Result<Bytes> {
    match encoding {
        ResponseEncoding::Identity => Ok(raw),
        ResponseEncoding::Blocks => Ok(encode_blocks(&raw)),
        ResponseEncoding::Lz4Frame => {
            let mut encoder = FrameEncoder::new(Vec::with_capacity(raw.len() / 2));
            encoder.write_all(&raw)?;
            Ok(Bytes::from(encoder.finish().map_err(io::Error::other)?))
        }
    }
}

fn encode_blocks(raw: &[u8]) -> Bytes {
    let mut encoded = Vec::with_capacity(raw.len() / 2);
    for part in raw.chunks(RAW_BLOCK_BYTES) {
        let start = encoded.len();
        encoded.resize(start + CHECKSUM_BYTES, 0);
        let data = block::compress(part);
        encoded.push(METHOD_LZ4);
        encoded.extend_from_slice(&size_field(data.len() + HEADER_BYTES));
        encoded.extend_from_slice(&size_field(part.len()));
        encoded.extend_from_slice(&data);
        let checksum = checksum(&encoded[start + CHECKSUM_BYTES..]);
        encoded[start..start + CHECKSUM_BYTES].copy_from_slice(&checksum);
    }
    Bytes::from(encoded)
}

/// A part is [`RAW_BLOCK_BYTES`] at most, so its sizes fit.
#[expect(clippy::cast_possible_truncation, reason = "bounded by RAW_BLOCK_BYTES and LZ4's worst case")]
fn size_field(size: usize) -> [u8; 4] {
    debug_assert!(u32::try_from(size).is_ok());
    (size as u32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 8 * 1024 * 1024;

    fn decode_all(encoded: &[u8], chunk_bytes: usize, limit: usize) -> Result<Vec<u8>, DecodeError> {
        let mut decoder = BlockDecoder::new(limit);
        let mut raw = Vec::new();
        for chunk in encoded.chunks(chunk_bytes) {
            decoder.push(chunk, &mut raw)?;
        }
        decoder.finish()?;
        Ok(raw)
    }

    #[test]
    fn several_blocks_come_back_whole() {
        let raw: Vec<u8> = (0..3 * RAW_BLOCK_BYTES + 5).map(|index| (index / 7 % 251) as u8).collect();

        let encoded = encode_blocks(&raw);

        assert!(encoded.len() < raw.len() / 2);
        assert!(decode_all(&encoded, 65_536, LIMIT).unwrap() == raw);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let encoded = encode_blocks(b"some data, some data, some data");
        for index in 0..encoded.len() {
            let mut damaged = encoded.to_vec();
            damaged[index] ^= 1;
            assert!(decode_all(&damaged, 7, LIMIT).is_err(), "byte {index}");
        }
    }

    #[test]
    fn a_cut_block_is_noticed() {
        let encoded = encode_blocks(b"some data");

        assert!(matches!(decode_all(&encoded[..encoded.len() - 1], 100, LIMIT), Err(DecodeError::Truncated)));
    }

    #[test]
    fn a_block_beyond_the_limit_is_refused_before_it_is_decoded() {
        let encoded = encode_blocks(&[0; 1000]);

        assert!(decode_all(&encoded, 100, 1000).is_ok());
        assert!(matches!(decode_all(&encoded, 100, 999), Err(DecodeError::TooLarge { limit: 999 })));
    }

    #[test]
    fn stored_blocks_are_read() {
        let mut body = vec![METHOD_NONE];
        body.extend_from_slice(&size_field(HEADER_BYTES + 3));
        body.extend_from_slice(&size_field(3));
        body.extend_from_slice(b"abc");
        let encoded = [checksum(&body).as_slice(), &body].concat();

        assert_eq!(decode_all(&encoded, 1, LIMIT).unwrap(), b"abc");
    }

    proptest! {
        #[test]
        fn any_data_in_any_chunks_comes_back(raw in prop::collection::vec(any::<u8>(), 0..3000), chunk_bytes in 1_usize..400) {
            prop_assert_eq!(decode_all(&encode_blocks(&raw), chunk_bytes, LIMIT).unwrap(), raw);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_all(&bytes, 50, 100_000);
        }

        #[test]
        fn foreign_bytes_under_a_valid_header_never_panic(data in prop::collection::vec(any::<u8>(), 0..100), raw_size in 0_usize..200) {
            let mut body = vec![METHOD_LZ4];
            body.extend_from_slice(&size_field(HEADER_BYTES + data.len()));
            body.extend_from_slice(&size_field(raw_size));
            body.extend_from_slice(&data);
            let encoded = [checksum(&body).as_slice(), &body].concat();
            let _ = decode_all(&encoded, 1000, LIMIT);
        }
    }
}
