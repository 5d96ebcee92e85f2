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
//! Each rule looks at the bytes themselves (ASCII and UTF-8; detectors at runs of text, the project's own patterns at all of
//! them) and at every run of UTF-16LE text, at even and odd positions. Rules
//! that go by keys look for `key=value` and the like instead. Removing and masking write `*`; a replacement or hash is cut
//! or filled up with `*`.
//!
//! What it does not do: choose the rules of a file, unpack archives, look into images.

mod fill;
mod stream;
mod utf16;

use std::ops::Range;
use std::sync::Arc;

use crate::pii::detect::{Detector, TextFacts};
use crate::pii::rule::{CompiledRule, Redaction, RuleKind};

pub use stream::ScrubStream;

/// New bytes in a window. Large enough that patterns run long stretches, small enough for many streams at once.
const STEP_BYTES: usize = 256 * 1024;

/// The longest hit that is found wherever it lies: twice the longest PEM body that is followed.
pub const OVERLAP_BYTES: usize = 64 * 1024;

/// How far before a hit its name or its boundary may stand.
pub const CONTEXT_BYTES: usize = 4 * 1024;

/// The window, the text that is decoded from it (UTF-16 grows by half at most), and the hits of one rule.
pub const MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Shorter runs between control characters are no text, as with UTF-16.
const RUN_BYTES_MIN: usize = 5;

/// A rule that overwrites what it finds.
#[derive(Debug, Clone)]
struct ByteRule {
    detector: Detector,
    redaction: Redaction,
}

/// Rules that follow each other and look at bytes in the same way.
#[derive(Debug, Clone)]
enum Batch {
    /// Overwrites all of it.
    Everything(Redaction),
    /// A pattern of the project's own: looks at all bytes, whatever they are.
    Window(ByteRule),
    /// Detectors: nothing that they find holds control characters, so they look at what is between these.
    Runs(Vec<ByteRule>),
}

/// Rules in the form that bytes need; shared by the scrubbers of one project.
#[derive(Debug, Clone, Default)]
pub struct ByteRules(Arc<[Batch]>);

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
        let mut batches: Vec<Batch> = Vec::new();
        for rule in rules.into_iter().filter(|rule| rule.redaction != Redaction::Unknown) {
            let redaction = rule.redaction.clone();
            let detector = match &rule.kind {
                RuleKind::Anything => {
                    batches.push(Batch::Everything(redaction));
                    continue;
                }
                RuleKind::Text(detector) => detector.clone(),
                RuleKind::Key(names) => Detector::NamedValue(Arc::clone(names)),
                RuleKind::SessionCookie => Detector::Cookies,
            };
            let is_pattern = matches!(detector, Detector::Pattern(_) | Detector::PairValue(_));
            let rule = ByteRule { detector, redaction };
            match batches.last_mut() {
                _ if is_pattern => batches.push(Batch::Window(rule)),
                Some(Batch::Runs(rules)) => rules.push(rule),
                _ => batches.push(Batch::Runs(vec![rule])),
            }
        }
        Self(batches.into())
    }

    /// The rules that find something, in their order.
    fn finding(&self) -> impl Iterator<Item = &ByteRule> {
        self.0.iter().flat_map(|batch| match batch {
            Batch::Everything(_) => &[],
            Batch::Window(rule) => std::slice::from_ref(rule),
            Batch::Runs(rules) => &rules[..],
        })
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
        let fresh = self.context..end;
        for batch in rules.0.iter() {
            match batch {
                Batch::Everything(redaction) => self.overwrite_all(&fresh, redaction),
                Batch::Window(rule) => {
                    let whole = 0..self.window.len();
                    self.find_and_overwrite(&whole, &fresh, rule);
                }
                Batch::Runs(rules) => self.scrub_runs(&fresh, rules),
            }
        }
        utf16::scrub(&mut self.window, &fresh, &rules, &mut self.hits);
        out.extend_from_slice(&self.window[self.context..end]);
        self.at_start &= end == self.context;
        let keep_from = end - end.min(self.cut.context);
        self.window.drain(..keep_from);
        self.context = end - keep_from;
    }

    fn overwrite_all(&mut self, fresh: &Range<usize>, redaction: &Redaction) {
        match self.at_start {
            true => fill::bytes(&mut self.window[fresh.clone()], redaction),
            false => self.window[fresh.clone()].fill(fill::MASK),
        }
    }

    /// Looks at each run of text once, then shows it to the rules that may find something in it.
    fn scrub_runs(&mut self, fresh: &Range<usize>, rules: &[ByteRule]) {
        let mut from = 0;
        while let Some(run) = next_run(&self.window, from) {
            from = run.end;
            if run.end <= fresh.start || run.start >= fresh.end {
                continue;
            }
            let facts = TextFacts::of_bytes(&self.window[run.clone()]);
            for rule in rules.iter().filter(|rule| rule.detector.may_match(&facts)) {
                self.find_and_overwrite(&run, fresh, rule);
            }
        }
    }

    fn find_and_overwrite(&mut self, run: &Range<usize>, fresh: &Range<usize>, rule: &ByteRule) {
        self.hits.clear();
        rule.detector.find_bytes(&self.window[run.clone()], &mut self.hits);
        self.overwrite(run.start, fresh, &rule.redaction);
    }

    /// Overwrites hits, which are relative to `base`, where they begin in or reach into what is given out now.
    fn overwrite(&mut self, base: usize, fresh: &Range<usize>, redaction: &Redaction) {
        let hits = self.hits.iter().map(|hit| base + hit.start..base + hit.end);
        for hit in hits.filter(|hit| hit.start < fresh.end && hit.end > fresh.start) {
            match hit.start < fresh.start {
                // Longer than the overlap: its first part is given out already.
                true => self.window[fresh.start..hit.end].fill(fill::MASK),
                false => fill::bytes(&mut self.window[hit], redaction),
            }
        }
    }
}

/// The next run of bytes that text is made of (all but control characters), [`RUN_BYTES_MIN`] long at least.
fn next_run(bytes: &[u8], mut from: usize) -> Option<Range<usize>> {
    let is_text = |byte: &u8| *byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r');
    loop {
        let start = from + bytes[from..].iter().position(is_text)?;
        let end = bytes[start..].iter().position(|byte| !is_text(byte)).map_or(bytes.len(), |len| start + len);
        if end - start >= RUN_BYTES_MIN {
            return Some(start..end);
        }
        from = end;
    }
}

#[cfg(test)]
mod tests;
