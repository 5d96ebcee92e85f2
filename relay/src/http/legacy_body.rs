//! The forms that old SDKs wrap an event in: JSON, base64 of JSON, base64 of zlib of JSON; in a body or a query string.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::body;
use super::encoding::{DecodeError, Decoder, Encoding, Step};
use crate::limit::memory::MemoryBudget;
use crate::refusal::Refusal;

/// Takes base64 with and without padding, as SDKs send both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The JSON in a body. `limit` bounds it after inflating.
///
/// # Errors
/// 400 if it is empty or in none of the forms; 413 over the limit. Whether it is an event is not looked at.
pub(crate) fn json_of_body(body: Bytes, limit: usize, budget: &MemoryBudget) -> Result<Bytes, Refusal> {
    let text = body.trim_ascii();
    match text.first() {
        None => Err(Refusal::malformed("empty_body", "the request has no body")),
        Some(b'{') => Ok(body.slice_ref(text)),
        Some(_) => unwrapped(text, limit, budget),
    }
}

/// The JSON in a query value.
///
/// # Errors
/// As [`json_of_body`].
pub(crate) fn json_of_query(value: &str, limit: usize, budget: &MemoryBudget) -> Result<Bytes, Refusal> {
    match value.trim().as_bytes() {
        [] => Err(Refusal::malformed("empty_body", "expected the event in ?sentry_data=")),
        json @ [b'{', ..] => Ok(Bytes::copy_from_slice(json)),
        // A plus sign that was not escaped has become a blank.
        _ => unwrapped(value.trim().replace(' ', "+").as_bytes(), limit, budget),
    }
}

fn unwrapped(text: &[u8], limit: usize, budget: &MemoryBudget) -> Result<Bytes, Refusal> {
    let text: Cow<'_, [u8]> = if text.iter().any(u8::is_ascii_whitespace) {
        text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
    } else {
        Cow::Borrowed(text)
    };
    let decoded = BASE64.decode(text).map_err(|_| {
        Refusal::malformed("invalid_json", "expected a JSON object, or one in base64, or one in zlib in base64")
    })?;
    if decoded.trim_ascii_start().first() == Some(&b'{') {
        return Ok(Bytes::from(decoded));
    }
    inflated(&decoded, limit, budget).map_err(body::refusal)
}

/// Without giving way to others: the limit of the store endpoint keeps it to a few milliseconds.
fn inflated(mut compressed: &[u8], limit: usize, budget: &MemoryBudget) -> Result<Bytes, DecodeError> {
    let mut decoder = Decoder::new(Encoding::Deflate, limit, budget.reserve_nothing())?;
    while decoder.step(&mut compressed)? == Step::GoesOn {}
    decoder.finish().map(|(json, _reservation)| Bytes::from(json))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const LIMIT: usize = 10_000;

    fn body(text: &[u8]) -> Result<Bytes, Refusal> {
        json_of_body(Bytes::copy_from_slice(text), LIMIT, &MemoryBudget::new(1 << 20))
    }

    fn query(text: &str) -> Result<Bytes, Refusal> {
        json_of_query(text, LIMIT, &MemoryBudget::new(1 << 20))
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_form_gives_the_same_json() {
        // Chosen so that its base64 holds a plus sign and needs padding.
        let json = br#"{"message":"h\u00e9llo >>>??? ~~~"}"#;
        let encoded = base64::engine::general_purpose::STANDARD.encode(json);
        let packed = base64::engine::general_purpose::STANDARD.encode(zlib(json));
        let (half, rest) = encoded.split_at(10);
        for text in [
            String::from_utf8(json.to_vec()).unwrap(),
            format!(" \n{} \n", std::str::from_utf8(json).unwrap()),
            encoded.clone(),
            encoded.trim_end_matches('=').to_owned(),
            format!("{half}\r\n{rest}\n"),
            packed.clone(),
        ] {
            assert_eq!(body(text.as_bytes()).unwrap(), &json[..], "{text}");
        }
        for text in [encoded.clone(), encoded.replace('+', " "), packed.replace('+', " ")] {
            assert_eq!(query(&text).unwrap(), &json[..], "{text}");
        }
    }

    #[test]
    fn what_is_in_no_form_is_refused() {
        for text in [&b""[..], b"  \n", b"[]", b"hello there!", b"\xff\xfe", b"AAAA"] {
            assert!(matches!(body(text), Err(Refusal::Malformed { .. })), "{text:?}");
        }
        let truncated = zlib(&[b' '; 500]);
        let truncated = base64::engine::general_purpose::STANDARD.encode(&truncated[..truncated.len() - 3]);
        assert!(matches!(body(truncated.as_bytes()), Err(Refusal::Malformed { .. })));
    }

    #[test]
    fn a_bomb_in_base64_is_too_large() {
        let bomb = base64::engine::general_purpose::STANDARD.encode(zlib(&vec![b' '; 1_000_000]));
        assert!(matches!(body(bomb.as_bytes()), Err(Refusal::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[A-Za-z0-9+/= ]{0,80}") {
            let _ = body(&bytes);
            let _ = body(text.as_bytes());
            let _ = query(&text);
        }
    }
}
