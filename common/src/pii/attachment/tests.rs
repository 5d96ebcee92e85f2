#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use crate::pii::detect::{CardCheck, Case, CustomPattern, HomePath, KeyPattern, NameProfile, SensitiveNames};
use proptest::prelude::*;

use super::*;

fn rule(kind: RuleKind, redaction: Redaction) -> CompiledRule {
    CompiledRule { id: Cow::Borrowed("r"), remark_id: Cow::Borrowed("r"), kind, redaction }
}

fn hits(detector: Detector, redaction: Redaction) -> CompiledRule {
    rule(RuleKind::Text(detector), redaction)
}

fn with_text(text: &'static str) -> Redaction {
    Redaction::Replace(Cow::Borrowed(text))
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn scrub(rules: &[CompiledRule], bytes: &[u8]) -> Vec<u8> {
    let out = ByteRules::new(rules).scrub(bytes);
    assert_eq!(out.len(), bytes.len());
    out
}

#[test]
fn bytes_are_overwritten_at_their_length() {
    let text = b"\xffmail a@example.com \x00 end";
    assert_eq!(scrub(&[hits(Detector::Email, Redaction::Mask)], text), b"\xffmail ************* \x00 end");
    assert_eq!(scrub(&[hits(Detector::Email, Redaction::Remove)], text), b"\xffmail ************* \x00 end");
    assert_eq!(scrub(&[hits(Detector::Email, with_text("[email]"))], text), b"\xffmail [email]****** \x00 end");
    assert_eq!(
        scrub(&[hits(Detector::Email, with_text("[a very long text]"))], text),
        b"\xffmail [a very long  \x00 end"
    );
    let hashed = scrub(&[hits(Detector::Email, Redaction::Hash)], text);
    assert!(hashed[6..19].iter().all(u8::is_ascii_hexdigit) && &hashed[..6] == b"\xffmail ");
    assert_eq!(scrub(&[hits(Detector::Email, Redaction::Unknown)], text), text);
}

#[test]
fn utf16_text_is_found_at_both_alignments() {
    for lead in [&b""[..], b"\x01", b"\x01\x02", b"\xff\x00\x00"] {
        let mut bytes = lead.to_vec();
        bytes.extend(utf16("für a@example.com 日本"));
        bytes.extend([0, 0, 7]);
        let mut expected = lead.to_vec();
        expected.extend(utf16("für [email]****** 日本"));
        expected.extend([0, 0, 7]);
        assert_eq!(scrub(&[hits(Detector::Email, with_text("[email]"))], &bytes), expected);
    }
    let short = utf16("a@b");
    assert_eq!(scrub(&[hits(Detector::Email, Redaction::Mask)], &short), short);
    let path = utf16("C:\\Users\\田中😀\\app.exe");
    let scrubbed = scrub(&[hits(Detector::UserPath(HomePath::Anywhere), Redaction::Mask)], &path);
    assert_eq!(scrubbed, utf16("C:\\Users\\****\\app.exe"));
}

#[test]
fn rules_on_keys_look_for_values_in_bytes() {
    let names = Arc::new(SensitiveNames::new(NameProfile::Strict));
    let key = KeyPattern::new("pin-\\d+", Case::Ignored).unwrap();
    let text = b"password=hunter2 x PIN-77 y {\"secret\": \"abc\"}";
    assert_eq!(
        scrub(&[hits(Detector::Password, Redaction::Mask)], text),
        b"password=******* x PIN-77 y {\"secret\": \"***\"}"
    );
    assert_eq!(
        scrub(&[hits(Detector::NamedValue(names), with_text("[x]"))], text),
        b"password=[x]**** x PIN-77 y {\"secret\": \"[x]\"}"
    );
    assert_eq!(
        scrub(&[hits(Detector::PairValue(Arc::new(key)), Redaction::Remove)], text),
        b"password=hunter2 x ****** y {\"secret\": \"abc\"}"
    );
}

#[test]
fn a_rule_for_anything_covers_everything() {
    assert_eq!(scrub(&[rule(RuleKind::Anything, Redaction::Remove)], b"a\0b"), b"***");
    let long = vec![b'x'; STEP_BYTES * 2 + 100];
    let out = scrub(&[rule(RuleKind::Anything, with_text("[gone]"))], &long);
    assert!(out.starts_with(b"[gone]*") && out[6..].iter().all(|&byte| byte == b'*'));
}

#[test]
fn secrets_across_window_borders_are_found() {
    let rules = ByteRules::new(&[
        hits(Detector::CreditCard(CardCheck::Luhn), Redaction::Mask),
        hits(Detector::PemKey, Redaction::Mask),
    ]);
    let body = "QUJD".repeat(4000);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    for shift in [0, 1, 7, 15, 16, 17, 100, 4000, 9000, 16000] {
        let mut bytes = vec![b' '; STEP_BYTES - shift];
        bytes.extend_from_slice(b"4111111111111111 ");
        bytes.resize(2 * STEP_BYTES - shift, b'.');
        bytes.extend_from_slice(pem.as_bytes());
        bytes.resize(3 * STEP_BYTES, b'.');
        let out = rules.scrub(&bytes);
        assert_eq!(out.len(), bytes.len());
        assert!(memchr::memmem::find(&out, b"4111").is_none(), "card at {shift}");
        assert!(memchr::memmem::find(&out, b"QUJD").is_none(), "key at {shift}");
    }
}

#[test]
fn a_long_stream_takes_little_memory() {
    let mut scrubber = AttachmentScrubber::new(ByteRules::new(&[hits(Detector::UsSsn, Redaction::Mask)]));
    let chunk = vec![b'x'; 1024 * 1024];
    let mut out = Vec::new();
    for _ in 0..8 {
        out.clear();
        scrubber.push(&chunk, &mut out);
        assert!(scrubber.window.capacity() * 5 / 2 < MEMORY_BYTES_MAX, "{}", scrubber.window.capacity());
    }
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let texts = prop::sample::select(vec![
        "4111111111111111",
        "a@example.com",
        "password=abc ",
        "10.0.0.1",
        " ",
        "x",
        "token: \"q\"",
        "foo123bar",
    ]);
    prop_oneof![
        texts.clone().prop_map(|text| text.as_bytes().to_vec()),
        texts.prop_map(utf16),
        prop::collection::vec(any::<u8>(), 0..9),
    ]
}

proptest! {
    #[test]
    fn length_stays_chunks_do_not_matter_and_windows_find_what_the_whole_has(
        pieces in prop::collection::vec(piece(), 0..40),
        chunk in 1_usize..90,
    ) {
        let bytes = pieces.concat();
        let pattern = CustomPattern::new("foo([0-9]+)bar", &[1], Case::Sensitive).unwrap();
        let rules = ByteRules::new(&[
            hits(Detector::CreditCard(CardCheck::Issuer), Redaction::Mask),
            hits(Detector::Email, with_text("[email]")),
            hits(Detector::Password, Redaction::Remove),
            hits(Detector::Pattern(Arc::new(pattern)), Redaction::Hash),
        ]);
        let cut = Cut { step: 64, overlap: 512, context: 512 };
        let stream = |size: usize| {
            let mut scrubber = AttachmentScrubber::with_cut(rules.clone(), cut);
            let mut out = Vec::new();
            for part in bytes.chunks(size) {
                scrubber.push(part, &mut out);
            }
            scrubber.finish(&mut out);
            out
        };
        let out = stream(chunk);
        prop_assert_eq!(out.len(), bytes.len());
        prop_assert_eq!(&out, &stream(bytes.len().max(1)));
        for (before, after) in bytes.iter().zip(&out) {
            let replacement = matches!(after, b'*' | b'[' | b']' | b'a'..=b'z' | b'0'..=b'9' | b'A'..=b'F' | 0);
            prop_assert!(before == after || replacement);
        }
    }
}
