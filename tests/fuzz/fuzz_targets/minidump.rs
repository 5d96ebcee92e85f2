//! Any bytes: an error or a plan whose regions are sorted, apart and inside; a scrubbed dump is as long as before.
#![no_main]

use std::borrow::Cow;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use picket_common::pii::attachment::{ByteRules, ScrubStream};
use picket_common::pii::detect::Detector;
use picket_common::pii::minidump::{MinidumpRules, MinidumpScrubber, read_plan};
use picket_common::pii::rule::{CompiledRule, Redaction, RuleKind};

static RULES: LazyLock<MinidumpRules> = LazyLock::new(|| {
    let rule = CompiledRule {
        id: Cow::Borrowed("fuzz"),
        remark_id: Cow::Borrowed("fuzz"),
        kind: RuleKind::Text(Detector::Email),
        redaction: Redaction::Mask,
    };
    MinidumpRules::new(|_| ByteRules::new([&rule]))
});

fuzz_target!(|input: &[u8]| {
    // The fuzzer need not find the signature by itself.
    let mut dump = b"MDMP".to_vec();
    dump.extend_from_slice(input);
    let Ok(plan) = read_plan(&dump[..]) else { return };
    let mut end = 0;
    for region in plan.regions() {
        assert!(region.bytes.start >= end && region.bytes.end > region.bytes.start);
        end = region.bytes.end;
    }
    assert!(end <= dump.len() as u64);
    let mut scrubber = MinidumpScrubber::new(plan.clone(), RULES.clone());
    let mut out = Vec::new();
    for chunk in dump.chunks(97) {
        scrubber.push(chunk, &mut out);
    }
    scrubber.finish(&mut out);
    assert_eq!(out.len(), dump.len());
    let mut at = 0;
    for region in plan.regions() {
        let start = usize::try_from(region.bytes.start).expect("inside of the dump");
        assert_eq!(out[at..start], dump[at..start], "what is no region stays");
        at = usize::try_from(region.bytes.end).expect("inside of the dump");
    }
    assert_eq!(out[at..], dump[at..]);
});
