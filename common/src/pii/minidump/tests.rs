#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use crate::pii::detect::{Detector, HomePath};
use crate::pii::rule::{CompiledRule, Redaction, RuleKind};
use proptest::prelude::*;

use super::writer::DumpWriter;
use super::*;
use crate::pii::attachment::{ByteRules, ScrubStream};

const SECRET: &str = "jane@example.com";

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn byte_rules() -> ByteRules {
    let rule = |detector| CompiledRule {
        id: Cow::Borrowed("r"),
        remark_id: Cow::Borrowed("r"),
        kind: RuleKind::Text(detector),
        redaction: Redaction::Mask,
    };
    ByteRules::new(&[rule(Detector::Email), rule(Detector::UserPath(HomePath::Anywhere))])
}

fn scrub_with(dump: &[u8], rules: MinidumpRules, chunk: usize) -> Vec<u8> {
    let mut scrubber = MinidumpScrubber::new(read_plan(dump).unwrap(), rules);
    let mut out = Vec::new();
    for part in dump.chunks(chunk) {
        scrubber.push(part, &mut out);
    }
    scrubber.finish(&mut out);
    assert_eq!(out.len(), dump.len());
    out
}

fn contains(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

fn contains_utf16(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, &utf16(text)).is_some()
}

/// A dump with a secret in each kind of region, and one outside of all.
fn dump() -> Vec<u8> {
    let mut writer = DumpWriter::default();
    writer.bytes(b"outside: free@example.com\0");
    let stack = writer.bytes(b"\x01\x02stack: st.ack@example.com\0\xff");
    let mut heap_bytes = b"heap: he.ap@example.com\0\x01".to_vec();
    heap_bytes.extend(utf16("wide: wi.de@example.com"));
    let heap = writer.bytes(&heap_bytes);
    let heap_size = u32::try_from(heap_bytes.len()).unwrap();
    writer.memory(&[(0x1000, heap, heap_size), (0x7000, stack, 29)]);
    writer.threads(&[(0x7000, stack, 29)]);
    writer.stream(0x4767_0007, b"HOME=/home/jane\0MAIL=en.v@example.com\0");
    writer.stream(0x4767_0006, b"/home/jane/app\0--user=cm.d@example.com\0");
    writer.module("C:\\Users\\Jane\\app\\Jane.exe", "/home/jane/build/jane.pdb");
    writer.annotations("an.no@example.com", ["li.st@example.com", "mo.dule@example.com", "ob.ject@example.com"]);
    writer.handle("\\Device\\Mailbox\\ha.ndle@example.com");
    writer.thread_name("worker of th.read@example.com");
    // A stream of the application's own: a log, say.
    writer.stream(0x4d5a_0001, b"{\"user\":\"ow.n@example.com\"}");
    writer.finish()
}

#[test]
fn every_kind_of_region_is_scrubbed_and_the_rest_stays() {
    let dump = dump();
    let out = scrub_with(&dump, MinidumpRules::new(|_| byte_rules()), 1000);
    for secret in
        ["st.ack@", "he.ap@", "en.v@", "cm.d@", "an.no@", "li.st@", "mo.dule@", "ob.ject@", "ow.n@", "/home/jane"]
    {
        assert!(contains(&dump, secret) && !contains(&out, secret), "{secret}");
    }
    for secret in ["wi.de@", "ha.ndle@", "th.read@"] {
        assert!(contains_utf16(&dump, secret) && !contains_utf16(&out, secret), "{secret}");
    }
    assert!(contains(&out, "outside: free@example.com"));
    assert!(contains_utf16(&out, "C:\\Users\\****\\app\\Jane.exe"));
    assert!(contains(&out, "/home/****/build/jane.pdb"));
    assert_eq!(read_plan(&out[..]).unwrap(), read_plan(&dump[..]).unwrap(), "it is read as before");
}

#[test]
fn each_kind_has_its_own_rules() {
    let dump = dump();
    let heap_only = MinidumpRules::new(|kind| match kind {
        RegionKind::HeapMemory => byte_rules(),
        _ => ByteRules::default(),
    });
    let out = scrub_with(&dump, heap_only, 7);
    assert!(!contains(&out, "he.ap@") && contains(&out, "st.ack@") && contains(&out, "en.v@"));
    assert!(contains_utf16(&out, "Jane\\app"));
    assert!(MinidumpRules::default().is_empty());
}

#[test]
fn full_dumps_are_scrubbed_and_their_stacks_known_by_address() {
    let mut writer = DumpWriter::default();
    writer.memory_64(&[
        (0x1000, b"heap he.ap@example.com "),
        (0x7f00, b"stack st.ack@example.com"),
        (0x9000, b"tail ta.il@example.com"),
    ]);
    writer.threads(&[(0x7f04, 0, 0)]);
    let dump = writer.finish();
    let plan = read_plan(&dump[..]).unwrap();
    let kinds: Vec<RegionKind> = plan.regions().iter().map(|region| region.kind).collect();
    assert_eq!(kinds, [RegionKind::HeapMemory, RegionKind::StackMemory, RegionKind::HeapMemory]);
    let out = scrub_with(&dump, MinidumpRules::new(|_| byte_rules()), 13);
    for secret in ["he.ap@", "st.ack@", "ta.il@"] {
        assert!(contains(&dump, secret) && !contains(&out, secret), "{secret}");
    }
}

#[test]
fn a_claim_beyond_the_end_is_cut_to_the_file() {
    let mut writer = DumpWriter::default();
    let memory = writer.next() + 24;
    writer.memory(&[(0, memory, u32::MAX)]);
    writer.bytes(SECRET.as_bytes());
    let dump = writer.finish();
    let plan = read_plan(&dump[..]).unwrap();
    assert_eq!(plan.regions().last().unwrap().bytes.end, dump.len() as u64);
    assert!(!contains(&scrub_with(&dump, MinidumpRules::new(|_| byte_rules()), 64), SECRET));
}

#[test]
fn broken_dumps_are_told() {
    assert!(matches!(read_plan(&b"MDMP"[..]), Err(BrokenDump::Truncated { .. })));
    assert!(matches!(read_plan(&[b'x'; 64][..]), Err(BrokenDump::Signature)));
    let mut many_streams = dump();
    many_streams[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read_plan(&many_streams[..]), Err(BrokenDump::TooMany { .. })));
    let mut no_directory = dump();
    no_directory[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read_plan(&no_directory[..]), Err(BrokenDump::Truncated { .. })));
    for stream_type in [3, 4, 5, 8, 9, 12, 14, 24] {
        let mut writer = DumpWriter::default();
        writer.stream(stream_type, &[0xff; 64]);
        assert!(matches!(read_plan(&writer.finish()[..]), Err(BrokenDump::TooMany { .. })), "stream {stream_type}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_dumps_never_panic_and_keep_their_length(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        keep in any::<prop::sample::Index>(),
        chunk in 1_usize..2000,
    ) {
        let mut dump = dump();
        for (at, byte) in damage {
            let at = at.index(dump.len());
            dump[at] = byte;
        }
        dump.truncate(keep.index(dump.len()) + 1);
        let Ok(plan) = read_plan(&dump[..]) else { return Ok(()) };
        let mut end = 0;
        for region in plan.regions() {
            prop_assert!(region.bytes.start >= end && region.bytes.end > region.bytes.start);
            end = region.bytes.end;
        }
        prop_assert!(end <= dump.len() as u64);
        scrub_with(&dump, MinidumpRules::new(|_| byte_rules()), chunk);
    }

    #[test]
    fn claims_become_regions_of_the_most_particular_kind(
        claims in prop::collection::vec((0_u64..60, 0_u64..20, 0_usize..4), 0..12)
    ) {
        let mut all = super::regions::Claims::new(64);
        let mut expected = [None; 64];
        for (start, len, kind) in claims {
            let kind = RegionKind::ALL[kind];
            all.add(start..start + len, kind).unwrap();
            for at in start..(start + len).min(64) {
                expected[at as usize] = expected[at as usize].max(Some(kind));
            }
        }
        let mut found = [None; 64];
        for region in all.into_regions() {
            for at in region.bytes {
                prop_assert!(found[at as usize].is_none());
                found[at as usize] = Some(region.kind);
            }
        }
        prop_assert_eq!(found, expected);
    }
}
