//! UTF-16LE text inside of bytes: what Windows programs leave in dumps and logs.

use std::ops::Range;

use crate::pii::detect::TextFacts;
use crate::pii::rule::Redaction;

use super::{ByteRules, fill};

/// Shorter runs of characters are no text (and nothing that a rule finds is shorter).
const RUN_CHARS_MIN: usize = 5;

/// Runs the rules over runs of UTF-16LE text, at even and odd positions, and overwrites hits that begin before `fresh` ends
/// and end after it begins.
pub(super) fn scrub(window: &mut [u8], fresh: &Range<usize>, rules: &ByteRules, hits: &mut Vec<Range<usize>>) {
    // Text that interests a rule has ASCII characters in it, whose upper bytes are zero.
    if memchr::memchr(0, window).is_none() {
        return;
    }
    let mut decoded = String::new();
    for alignment in 0..2 {
        let mut from = alignment;
        while let Some(run) = next_run(window, from) {
            from = run.end;
            if run.end > fresh.start && run.start < fresh.end {
                scrub_run(window, run, fresh, rules, &mut decoded, hits);
            }
        }
    }
}

fn scrub_run(
    window: &mut [u8],
    run: Range<usize>,
    fresh: &Range<usize>,
    rules: &ByteRules,
    decoded: &mut String,
    hits: &mut Vec<Range<usize>>,
) {
    decode(&window[run.clone()], decoded);
    let facts = TextFacts::of(decoded);
    for rule in rules.finding().filter(|rule| rule.detector.may_match(&facts)) {
        hits.clear();
        rule.detector.find_bytes(decoded.as_bytes(), hits);
        if !hits.is_empty() {
            overwrite(window, run.start, decoded, hits, fresh, &rule.redaction);
            // Later rules see what is there now; fewer of the facts are true then, none more that matters.
            decode(&window[run.clone()], decoded);
        }
    }
}

/// The next run of text units, at least [`RUN_CHARS_MIN`] long and with ASCII in it, from a position on and at its alignment.
fn next_run(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let mut start = from;
    let mut has_ascii = false;
    let mut at = from;
    while at + 1 < bytes.len() {
        let unit = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if is_text(unit) {
            has_ascii |= unit < 0x80;
            at += 2;
            continue;
        }
        if has_ascii && at - start >= 2 * RUN_CHARS_MIN {
            return Some(start..at);
        }
        at += 2;
        start = at;
        has_ascii = false;
    }
    (has_ascii && at - start >= 2 * RUN_CHARS_MIN).then_some(start..at)
}

/// Printable characters and halves of pairs; not the control characters, nor what is unassigned for good.
const fn is_text(unit: u16) -> bool {
    matches!(unit, 0x09 | 0x0a | 0x0d | 0x20..=0x7e | 0xa0..=0xfffd)
}

fn units(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
}

/// Decodes a run. Half of a pair becomes U+FFFD, which takes one unit like it.
fn decode(run: &[u8], into: &mut String) {
    into.clear();
    into.extend(char::decode_utf16(units(run)).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
}

/// Overwrites the units that hits in the decoded text stand for.
fn overwrite(
    window: &mut [u8],
    run_start: usize,
    decoded: &str,
    hits: &[Range<usize>],
    fresh: &Range<usize>,
    redaction: &Redaction,
) {
    let mut characters = decoded.char_indices().peekable();
    let mut at = run_start;
    for hit in hits {
        while let Some((_, character)) = characters.next_if(|&(text_at, c)| text_at + c.len_utf8() <= hit.start) {
            at += 2 * character.len_utf16();
        }
        let (start, text_start) = (at, characters.peek().map_or(decoded.len(), |&(text_at, _)| text_at));
        while let Some((_, character)) = characters.next_if(|&(text_at, _)| text_at < hit.end) {
            at += 2 * character.len_utf16();
        }
        let text_end = characters.peek().map_or(decoded.len(), |&(text_at, _)| text_at);
        if start >= fresh.end || at <= fresh.start {
            continue;
        }
        match start < fresh.start {
            true => fill::utf16(&mut window[fresh.start + (start + fresh.start) % 2..at], "", &Redaction::Mask),
            false => fill::utf16(&mut window[start..at], &decoded[text_start..text_end], redaction),
        }
    }
}
