//! Content encodings, as clients apply them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

/// A gzip stream.
///
/// # Panics
/// Never: memory can be written to.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// A zlib stream: what HTTP calls deflate.
///
/// # Panics
/// Never: memory can be written to.
#[must_use]
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

/// A brotli stream.
///
/// # Panics
/// Never: memory can be written to.
#[must_use]
pub fn brotli(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let parameters = ::brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
    ::brotli::BrotliCompress(&mut &*bytes, &mut out, &parameters).expect("writing to memory");
    out
}

/// A zstd frame.
///
/// # Panics
/// Never: memory can be written to.
#[must_use]
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).expect("writing to memory")
}

/// A gzip stream of about `length / 1000` bytes that inflates to `length` bytes, `start` and then letters `a`.
///
/// The letters are deflated once, into a block that ends on a byte and refers to nothing before it, and the block is repeated. The
/// checksum at the end is wrong: whoever comes to look at it has held `length` bytes already.
///
/// # Panics
/// Never: memory can be written to.
#[must_use]
pub fn gzip_bomb(start: &[u8], length: u64) -> Vec<u8> {
    const PIECE: usize = 16 * 1024 * 1024;
    // RFC 1952 §2.3: magic, deflate, no flags, no time, no hints, system unknown.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    // RFC 1951 §3.2.4: a last block, stored, of length 0.
    const LAST_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];
    let flushed = |bytes: &[u8]| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("writing to memory");
        encoder.flush().expect("writing to memory");
        encoder.get_ref().clone()
    };
    let mut bomb = HEADER.to_vec();
    bomb.extend(flushed(start));
    let piece = flushed(&vec![b'a'; PIECE]);
    for _ in 0..length.div_ceil(PIECE as u64) {
        bomb.extend_from_slice(&piece);
    }
    bomb.extend(LAST_BLOCK);
    bomb.extend([0; 8]);
    bomb
}
