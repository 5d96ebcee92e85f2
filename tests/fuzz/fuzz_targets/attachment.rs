//! Scrubbing bytes: length stays, chunks do not matter, and a planted secret is gone wherever it lies.
#![no_main]

use std::borrow::Cow;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use picket_common::pii::attachment::{AttachmentScrubber, ByteRules};
use picket_common::pii::detect::{CardCheck, Detector, HomePath, IbanCheck, IpCheck, UrlAuthPart};
use picket_common::pii::rule::{CompiledRule, Redaction, RuleKind};

const SECRET: &str = "jane.doe@example.com";

static RULES: LazyLock<ByteRules> = LazyLock::new(|| {
    let detectors = [
        Detector::Email,
        Detector::Ip(IpCheck::Form),
        Detector::CreditCard(CardCheck::Luhn),
        Detector::Iban(IbanCheck::Form),
        Detector::UserPath(HomePath::AtRoot),
        Detector::PemKey,
        Detector::UrlAuth(UrlAuthPart::UserAndPassword),
        Detector::Password,
        Detector::Cookies,
    ];
    let rule = |detector| CompiledRule {
        id: Cow::Borrowed("fuzz"),
        remark_id: Cow::Borrowed("fuzz"),
        kind: RuleKind::Text(detector),
        redaction: Redaction::Mask,
    };
    ByteRules::new(&detectors.map(rule))
});

fn scrub(parts: &[&[u8]], size: usize) -> Vec<u8> {
    let mut scrubber = AttachmentScrubber::new(RULES.clone());
    let mut out = Vec::new();
    for piece in parts.concat().chunks(size) {
        scrubber.push(piece, &mut out);
    }
    scrubber.finish(&mut out);
    out
}

fn contains(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

fuzz_target!(|input: &[u8]| {
    let Some((&at, bytes)) = input.split_first() else { return };
    let (before, after) = bytes.split_at(bytes.len() * usize::from(at) / 256);
    let wide: Vec<u8> = SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for secret in [SECRET.as_bytes(), &wide] {
        // Zeros keep the bytes around from becoming part of the address.
        let parts = [before, &[0; 4], secret, &[0; 4], after];
        let out = scrub(&parts, usize::MAX);
        assert_eq!(out.len(), parts.concat().len());
        assert!(!contains(&out[before.len()..out.len() - after.len()], secret));
        assert_eq!(out, scrub(&parts, usize::from(at) + 1));
    }
});
