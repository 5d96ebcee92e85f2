#![allow(clippy::unwrap_used)]
use std::io::Write;

use super::*;
use crate::limit::memory::MemoryBudget;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use proptest::prelude::*;

const ALL: [Encoding; 5] = [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd];
const COMPRESSED: [Encoding; 4] = [Encoding::Gzip, Encoding::Deflate, Encoding::Brotli, Encoding::Zstd];
const MIB: usize = 1024 * 1024;

fn encoded(encoding: Encoding, body: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => body.to_vec(),
        Encoding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Deflate => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        Encoding::Brotli => {
            let mut out = Vec::new();
            let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 3, 22);
            encoder.write_all(body).unwrap();
            drop(encoder);
            out
        }
        Encoding::Zstd => zstd::encode_all(body, 1).unwrap(),
    }
}

fn decoded(encoding: Encoding, chunks: &[&[u8]], limit: usize, budget: &MemoryBudget) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(encoding, limit, budget.reserve_nothing())?;
    for chunk in chunks {
        let mut input = *chunk;
        loop {
            let before = decoder.decoded().len();
            let step = decoder.step(&mut input)?;
            assert!(decoder.decoded().len() <= limit, "the limit was passed");
            assert!(decoder.decoded().len() - before <= STEP_BYTES, "a step produced too much");
            if step == Step::NeedsInput {
                break;
            }
        }
    }
    decoder.finish().map(|(body, _reservation)| body)
}

fn whole(encoding: Encoding, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    decoded(encoding, &[body], limit, &MemoryBudget::new(1024 * MIB))
}

#[test]
fn the_header_is_read_with_the_bugs_of_old_sdks() {
    let read = |values: &[&str]| {
        let headers = values.iter().map(|value| (CONTENT_ENCODING, value.parse().unwrap())).collect();
        Encoding::of_request(&headers)
    };
    for (values, expected) in [
        (vec![], Some(Encoding::Identity)),
        (vec![""], Some(Encoding::Identity)),
        (vec!["utf-8"], Some(Encoding::Identity)),
        (vec!["UTF-8, GZIP"], Some(Encoding::Gzip)),
        (vec!["identity", "deflate"], Some(Encoding::Deflate)),
        (vec!["br"], Some(Encoding::Brotli)),
        (vec!["zstd"], Some(Encoding::Zstd)),
        (vec!["compress"], None),
        (vec!["gzip, br"], None),
    ] {
        assert_eq!(read(&values), expected, "{values:?}");
    }
}

#[test]
fn every_encoding_is_taken_apart_however_it_is_cut() {
    let body: Vec<u8> = (0..50_000_u32).flat_map(|number| (number % 251).to_le_bytes()).collect();
    let budget = MemoryBudget::new(1024 * MIB);
    for encoding in ALL {
        let sent = encoded(encoding, &body);
        for size in [1, 7, 4096, sent.len()] {
            let chunks: Vec<&[u8]> = sent.chunks(size).collect();
            assert_eq!(decoded(encoding, &chunks, body.len(), &budget).unwrap(), body, "{encoding:?} in {size}");
        }
    }
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_stream_cut_off_anywhere_is_refused() {
    let body = b"an event, or what would have been one".repeat(20);
    for encoding in COMPRESSED {
        let sent = encoded(encoding, &body);
        for end in 0..sent.len() {
            let result = whole(encoding, &sent[..end], MIB);
            assert_eq!(result.unwrap_err(), DecodeError::Truncated, "{encoding:?} of {end} bytes was taken");
        }
    }
}

#[test]
fn bytes_after_the_stream_are_refused() {
    for encoding in COMPRESSED {
        let sent = encoded(encoding, b"{}");
        let budget = MemoryBudget::new(64 * MIB);
        for chunks in
            [vec![[sent.as_slice(), b"x"].concat()], vec![sent.clone(), b"x".to_vec()], vec![sent.repeat(1001)]]
        {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            assert_eq!(decoded(encoding, &chunks, MIB, &budget), Err(DecodeError::TrailingBytes), "{encoding:?}");
        }
    }
}

#[test]
fn streams_one_after_the_other_are_one_where_the_format_says_so() {
    for (encoding, expected) in [
        (Encoding::Gzip, Ok(b"{\"a\":1}".to_vec())),
        (Encoding::Zstd, Ok(b"{\"a\":1}".to_vec())),
        (Encoding::Deflate, Err(DecodeError::TrailingBytes)),
        (Encoding::Brotli, Err(DecodeError::TrailingBytes)),
    ] {
        let sent = [encoded(encoding, b"{\"a\""), encoded(encoding, b""), encoded(encoding, b":1}")].concat();
        let budget = MemoryBudget::new(64 * MIB);
        for size in [1, 7, sent.len()] {
            let chunks: Vec<&[u8]> = sent.chunks(size).collect();
            assert_eq!(decoded(encoding, &chunks, MIB, &budget), expected, "{encoding:?} in {size}");
        }
        if expected.is_ok() {
            let cut = whole(encoding, &sent[..sent.len() - 1], MIB);
            assert_eq!(cut, Err(DecodeError::Truncated), "{encoding:?}");
        }
    }
}

#[test]
fn a_damaged_stream_is_refused() {
    for encoding in COMPRESSED {
        assert!(whole(encoding, b"this was never compressed at all, not by anyone", MIB).is_err(), "{encoding:?}");
    }
    let mut wrong_sum = encoded(Encoding::Gzip, b"{}");
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    assert_eq!(whole(Encoding::Gzip, &wrong_sum, MIB), Err(DecodeError::Damaged));
}

#[test]
fn the_limit_is_exact() {
    let body = vec![b' '; 100_000];
    for encoding in ALL {
        let sent = encoded(encoding, &body);
        assert_eq!(whole(encoding, &sent, body.len()).unwrap().len(), body.len(), "{encoding:?}");
        let too_large = whole(encoding, &sent, body.len() - 1);
        assert_eq!(too_large, Err(DecodeError::TooLarge { limit: body.len() - 1 }), "{encoding:?}");
    }
}

#[test]
fn a_bomb_takes_no_more_memory_than_its_limit_allows() {
    let bomb = vec![0; 64 * MIB];
    for encoding in COMPRESSED {
        let sent = encoded(encoding, &bomb);
        let result = whole(encoding, &sent, MIB);
        assert_eq!(result, Err(DecodeError::TooLarge { limit: MIB }), "{encoding:?} of {} bytes", sent.len());
    }
}

#[test]
fn without_memory_left_a_body_is_refused_and_gives_back_what_it_had() {
    let budget = MemoryBudget::new(17 * MIB);
    for encoding in ALL {
        let sent = encoded(encoding, &vec![b'x'; 12 * MIB]);
        let refused = decoded(encoding, &[&sent], 20 * MIB, &budget);
        assert_eq!(refused, Err(DecodeError::NoMemory(Exhausted)), "{encoding:?}");
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn a_zstd_window_beyond_what_http_allows_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.set_parameter(zstd::stream::raw::CParameter::WindowLog(24)).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&vec![b'x'; 17 * MIB]).unwrap();
    let sent = encoder.finish().unwrap();
    assert_eq!(whole(Encoding::Zstd, &sent, 100 * MIB), Err(DecodeError::Damaged));
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic_or_pass_its_limit(sent in proptest::collection::vec(any::<u8>(), 0..300), which in 0..5_usize) {
        if let Ok(body) = whole(ALL[which], &sent, 1000) {
            prop_assert!(body.len() <= 1000);
        }
    }
}
