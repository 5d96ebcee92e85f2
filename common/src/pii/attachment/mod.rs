//! Attachments: bytes of any kind, scrubbed without changing their length.
//!
//! ```text
//! stream ─▸ │ context │ to be given out │ overlap │     one window; rules look at all of it
//!             given out  ▲ hits that begin here are overwritten, even where they reach into the overlap
//! ```
//!
//! Invariants:
//! - what comes out is as long as what went in, byte for byte in the same place but for what rules overwrite;
//! - the result does not depend on how the stream is cut into chunks;
//! - memory: one window and the text decoded from it, below [`MEMORY_BYTES_MAX`], however long the stream is;
//! - a hit up to [`OVERLAP_BYTES`] long is found wherever it lies; what tells its meaning may stand [`CONTEXT_BYTES`] before it.
//!
//! Each rule looks at the bytes themselves (ASCII and UTF-8) and at every run of UTF-16LE text, at even and odd positions. Rules
//! that go by keys look for `key=value` and the like instead. Removing and masking write `*`; a replacement or hash is cut
//! or filled up with `*`.
//!
//! What it does not do: choose the rules of a file, unpack archives, look into images.

mod fill;
mod reader;
mod utf16;

use std::ops::Range;
use std::sync::Arc;

use crate::pii::detect::{Detector, TextFacts};
use crate::pii::rule::{CompiledRule, Redaction, RuleKind};

pub use reader::{ScrubStream, ScrubbingReader};

/// New bytes in a window. Large enough that patterns run long stretches, small enough for many streams at once.
const STEP_BYTES: usize = 256 * 1024;

/// The longest hit that is found wherever it lies: twice the longest PEM body that is followed.
pub const OVERLAP_BYTES: usize = 64 * 1024;

/// How far before a hit its name or its boundary may stand.
pub const CONTEXT_BYTES: usize = 4 * 1024;

/// The window, the text that is decoded from it (UTF-16 grows by half at most), and the hits of one rule.
pub const MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a rule does to bytes.
#[derive(Debug, Clone)]
struct ByteRule {
    what: ByteTarget,
    redaction: Redaction,
}

#[derive(Debug, Clone)]
enum ByteTarget {
    /// All of it.
    Everything,
    /// What is found.
    Hits(Detector),
}

/// Rules in the form that bytes need; shared by the scrubbers of one project.
#[derive(Debug, Clone, Default)]
pub struct ByteRules(Arc<[ByteRule]>);

/// How a stream is cut into windows.
#[derive(Debug, Clone, Copy)]
struct Cut {
    step: usize,
    overlap: usize,
    context: usize,
}

/// Scrubs one stream.
#[derive(Debug)]
pub struct AttachmentScrubber {
    rules: ByteRules,
    cut: Cut,
    window: Vec<u8>,
    /// How much at the window's beginning was given out already.
    context: usize,
    /// Whether nothing was given out yet.
    at_start: bool,
    hits: Vec<Range<usize>>,
}

// === impl ByteRules ===

impl ByteRules {
    /// Takes what can be done to bytes. A rule with an unknown redaction does nothing.
    #[must_use]
    pub fn new<'r>(rules: impl IntoIterator<Item = &'r CompiledRule>) -> Self {
        let rules = rules.into_iter().filter(|rule| rule.redaction != Redaction::Unknown);
        Self(rules.map(byte_rule).collect())
    }

    /// Whether they do nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Scrubs bytes that are in memory as a whole.
    #[must_use]
    pub fn scrub(&self, bytes: &[u8]) -> Vec<u8> {
        let mut scrubber = AttachmentScrubber::new(self.clone());
        let mut out = Vec::with_capacity(bytes.len());
        scrubber.push(bytes, &mut out);
        scrubber.finish(&mut out);
        out
    }
}

fn byte_rule(rule: &CompiledRule) -> ByteRule {
    let what = match &rule.kind {
        RuleKind::Anything => ByteTarget::Everything,
        RuleKind::Text(detector) => ByteTarget::Hits(detector.clone()),
        RuleKind::Key(names) => ByteTarget::Hits(Detector::NamedValue(Arc::clone(names))),
        RuleKind::SessionCookie => ByteTarget::Hits(Detector::Cookies),
    };
    ByteRule { what, redaction: rule.redaction.clone() }
}

// === impl AttachmentScrubber ===

impl AttachmentScrubber {
    /// Begins a stream.
    #[must_use]
    pub fn new(rules: ByteRules) -> Self {
        Self::with_cut(rules, Cut { step: STEP_BYTES, overlap: OVERLAP_BYTES, context: CONTEXT_BYTES })
    }

    const fn with_cut(rules: ByteRules, cut: Cut) -> Self {
        Self { rules, cut, window: Vec::new(), context: 0, at_start: true, hits: Vec::new() }
    }

    /// Takes the next bytes of the stream and appends to `out` what is ready.
    pub fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) {
        if self.rules.is_empty() {
            out.extend_from_slice(chunk);
            return;
        }
        while !chunk.is_empty() {
            let full = self.context + self.cut.step + self.cut.overlap;
            let (head, rest) = chunk.split_at(chunk.len().min(full - self.window.len()));
            self.window.extend_from_slice(head);
            chunk = rest;
            if self.window.len() == full {
                self.give_out(full - self.cut.overlap, out);
            }
        }
    }

    /// Ends the stream and appends the rest to `out`.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let end = self.window.len();
        self.give_out(end, out);
    }

    /// Runs the rules and gives out the window up to `end`.
    fn give_out(&mut self, end: usize, out: &mut Vec<u8>) {
        let rules = self.rules.clone();
        for rule in rules.0.iter() {
            self.apply(rule, end);
        }
        utf16::scrub(&mut self.window, &(self.context..end), &rules.0, &mut self.hits);
        out.extend_from_slice(&self.window[self.context..end]);
        self.at_start &= end == self.context;
        let keep_from = end - end.min(self.cut.context);
        self.window.drain(..keep_from);
        self.context = end - keep_from;
    }

    fn apply(&mut self, rule: &ByteRule, end: usize) {
        let detector = match &rule.what {
            ByteTarget::Everything => {
                let fresh = self.context..end;
                return match self.at_start {
                    true => fill::bytes(&mut self.window[fresh], &rule.redaction),
                    false => self.window[fresh].fill(fill::MASK),
                };
            }
            ByteTarget::Hits(detector) => detector,
        };
        if detector.may_match(&TextFacts::of_bytes(&self.window)) {
            self.hits.clear();
            detector.find_bytes(&self.window, &mut self.hits);
            for hit in self.hits.iter().filter(|hit| hit.start < end && hit.end > self.context) {
                match hit.start < self.context {
                    // Longer than the overlap: its first part is given out already.
                    true => self.window[self.context..hit.end].fill(fill::MASK),
                    false => fill::bytes(&mut self.window[hit.clone()], &rule.redaction),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
