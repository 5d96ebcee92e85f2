//! One text under a list of rules.
//!
//! ```text
//! text + remarks ─▸ spans that are redacted already, and free text between them
//!     rule by rule:  hits in the free text ─▸ replaced, each a new span
//! ─▸ new text + remarks at exact byte offsets + original length
//! ```
//!
//! Invariants:
//! - a span that a rule (or the SDK, or a cut) has replaced is never looked at nor changed by a later rule, unless a rule
//!   replaces the text as a whole;
//! - where a span was replaced by nothing, what stood before it and after it is not read as one: the place stays a border;
//! - a second run over text and remarks changes nothing: rules run until none finds anything, `PASSES_MAX` times at most;
//! - remarks are in the order of their spans; those on the value as a whole come first and stay as they were.
//!
//! What it does not do: choose rules, look at keys, or remove values other than texts.

use std::borrow::Cow;
use std::ops::Range;

use picket_common::pii::detect::{Detector, TextFacts};
use picket_common::pii::pseudonym;
use picket_common::pii::rule::{CompiledRule, Redaction, RuleKind};
use picket_common::tree::{Meta, Remark, RemarkKind};

/// A replaced span may lay bare what an earlier rule finds, at its border. More than two passes need rules made for it.
const PASSES_MAX: usize = 4;

/// Stands for what is redacted while rules look at the rest: no detector takes it for a part of anything but a value.
const FILLER: u8 = 0;

/// A text after its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedText {
    /// What it is now; nothing if the value is to be null.
    pub text: Option<String>,
    /// All its remarks, old and new.
    pub remarks: Vec<Remark>,
    /// How many characters it had.
    pub original_chars: u64,
}

/// Applies rules to a text with what is known of it. `None` if nothing changes, which costs one look and no memory.
pub fn redact<'r>(
    text: &str,
    meta: Option<&Meta>,
    rules: impl Iterator<Item = &'r CompiledRule> + Clone,
) -> Option<RedactedText> {
    let mut facts = TextFacts::of(text);
    if text.is_empty() || !rules.clone().any(|rule| may_apply(rule, &facts)) {
        return None;
    }
    let mut state = Redacting::new(text, meta);
    let mut changed = false;
    for _ in 0..PASSES_MAX {
        let mut changed_here = false;
        for rule in rules.clone() {
            if !may_apply(rule, &facts) || !state.has_free_text() {
                continue;
            }
            match state.apply(rule) {
                Applied::Nothing => continue,
                Applied::Spans => {}
                Applied::Null => return Some(null(text, meta, rule)),
            }
            changed_here = true;
            facts = TextFacts::of(&state.text);
        }
        if !changed_here {
            break;
        }
        changed = true;
    }
    changed.then(|| state.into_redacted(text, meta))
}

/// Replaces a text as a whole, as a rule does that matches its key. `None` if the rule changes nothing.
pub fn redact_whole(text: &str, meta: Option<&Meta>, rule: &CompiledRule) -> Option<RedactedText> {
    let mut state = Redacting::new(text, meta);
    if !state.has_free_text() {
        return None;
    }
    match state.replace_whole(rule, EmptyMeans::Null) {
        Applied::Nothing => None,
        Applied::Null => Some(null(text, meta, rule)),
        Applied::Spans => Some(state.into_redacted(text, meta)),
    }
}

/// The text in the place of `found`; `None` for a method of a newer version.
fn replacement(redaction: &Redaction, found: &str) -> Option<(Cow<'static, str>, RemarkKind)> {
    Some(match redaction {
        Redaction::Default | Redaction::Remove => (Cow::Borrowed(""), RemarkKind::Removed),
        Redaction::Replace(text) => (text.clone(), RemarkKind::Substituted),
        Redaction::Mask => (Cow::Owned("*".repeat(found.chars().count())), RemarkKind::Masked),
        Redaction::Hash => (Cow::Owned(pseudonym::hash(found.as_bytes())), RemarkKind::Pseudonymised),
        Redaction::Unknown => return None,
    })
}

fn may_apply(rule: &CompiledRule, facts: &TextFacts) -> bool {
    match &rule.kind {
        RuleKind::Anything => true,
        RuleKind::Text(detector) => detector.may_match(facts),
        RuleKind::Key(_) | RuleKind::SessionCookie => false,
    }
}

fn null(text: &str, meta: Option<&Meta>, rule: &CompiledRule) -> RedactedText {
    let mut remarks = whole_remarks(meta);
    remarks.push(Remark::whole(rule.remark_id.clone(), RemarkKind::Removed));
    RedactedText { text: None, remarks, original_chars: original_chars(text, meta) }
}

fn whole_remarks(meta: Option<&Meta>) -> Vec<Remark> {
    let remarks = meta.map_or(&[][..], |meta| &meta.remarks);
    remarks.iter().filter(|remark| remark.range.is_none()).cloned().collect()
}

fn original_chars(text: &str, meta: Option<&Meta>) -> u64 {
    meta.and_then(|meta| meta.original_length).unwrap_or_else(|| text.chars().count() as u64)
}

/// What removing a whole text leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyMeans {
    /// No value.
    Null,
    /// An empty text.
    Empty,
}

/// What a rule did.
enum Applied {
    Nothing,
    Spans,
    Null,
}

/// Part of the text that stands for something else.
struct Span {
    range: Range<usize>,
    rule: Cow<'static, str>,
    kind: RemarkKind,
}

/// What rules look at in a text under way.
struct Visible<'t> {
    text: Cow<'t, str>,
    /// Where a filler stands that the text itself does not have; sorted.
    borders: Vec<usize>,
}

impl Visible<'_> {
    /// Moves hits to where they are in the text itself. What hits nothing but borders is no hit.
    fn take_back(&self, hits: &mut Vec<Range<usize>>) {
        if self.borders.is_empty() {
            return;
        }
        let before = |at: usize| self.borders.partition_point(|&border| border < at);
        hits.iter_mut().for_each(|hit| *hit = hit.start - before(hit.start)..hit.end - before(hit.end));
        hits.retain(|hit| !hit.is_empty());
    }
}

/// A text under way.
struct Redacting<'t> {
    /// Borrowed until a rule changes it.
    text: Cow<'t, str>,
    /// Sorted; may be empty ranges, do not overlap.
    spans: Vec<Span>,
}

impl<'t> Redacting<'t> {
    /// Takes the spans from the remarks. Those that can't be true (outside of the text, inside of a character, crossing another)
    /// protect nothing and are forgotten.
    fn new(text: &'t str, meta: Option<&Meta>) -> Self {
        let remarks = meta.map_or(&[][..], |meta| &meta.remarks);
        let mut spans: Vec<Span> = remarks.iter().filter_map(|remark| span_of(text, remark)).collect();
        spans.sort_by_key(|span| (span.range.start, span.range.end));
        let mut end = 0;
        spans.retain(|span| {
            let apart = span.range.start >= end;
            end = if apart { span.range.end } else { end };
            apart
        });
        Self { text: Cow::Borrowed(text), spans }
    }

    fn has_free_text(&self) -> bool {
        let covered: usize = self.spans.iter().map(|span| span.range.len()).sum();
        covered < self.text.len()
    }

    /// The text as rules see it: what is redacted is blanked out, and a filler marks each place where something was removed.
    fn visible(&self) -> Visible<'_> {
        if self.spans.is_empty() {
            return Visible { text: Cow::Borrowed(&self.text), borders: Vec::new() };
        }
        let mut text = String::with_capacity(self.text.len() + self.spans.len());
        let mut borders = Vec::new();
        let mut at = 0;
        for span in &self.spans {
            text.push_str(&self.text[at..span.range.start]);
            if span.range.is_empty() {
                borders.push(text.len());
            }
            text.extend(std::iter::repeat_n(char::from(FILLER), span.range.len().max(1)));
            at = span.range.end;
        }
        text.push_str(&self.text[at..]);
        Visible { text: Cow::Owned(text), borders }
    }

    fn apply(&mut self, rule: &CompiledRule) -> Applied {
        let detector = match &rule.kind {
            RuleKind::Anything => return self.replace_whole(rule, EmptyMeans::Null),
            RuleKind::Text(detector) => detector,
            RuleKind::Key(_) | RuleKind::SessionCookie => return Applied::Nothing,
        };
        let visible = self.visible();
        let mut hits = Vec::new();
        detector.find(&visible.text, &mut hits);
        visible.take_back(&mut hits);
        if hits.is_empty() {
            return Applied::Nothing;
        }
        if matches!(detector, Detector::Password | Detector::PairValue(_)) {
            return self.replace_whole(rule, EmptyMeans::Empty);
        }
        let hits = self.free_parts(&hits);
        self.replace(&hits, rule)
    }

    /// The parts of hits that are not redacted yet.
    fn free_parts(&self, hits: &[Range<usize>]) -> Vec<Range<usize>> {
        let mut free = Vec::with_capacity(hits.len());
        let mut spans = self.spans.iter().filter(|span| !span.range.is_empty()).peekable();
        for hit in hits {
            let mut start = hit.start;
            while let Some(span) = spans.next_if(|span| span.range.start < hit.end) {
                if start < span.range.start {
                    free.push(start..span.range.start);
                }
                start = start.max(span.range.end);
                if span.range.end > hit.end {
                    break;
                }
            }
            if start < hit.end {
                free.push(start..hit.end);
            }
        }
        free
    }

    /// Replaces ranges of free text, sorted and apart.
    fn replace(&mut self, ranges: &[Range<usize>], rule: &CompiledRule) -> Applied {
        let mut next = Self { text: Cow::Owned(String::with_capacity(self.text.len())), spans: Vec::new() };
        let mut old = std::mem::take(&mut self.spans).into_iter().peekable();
        let mut at = 0;
        for range in ranges {
            let Some((text, kind)) = replacement(&rule.redaction, &self.text[range.clone()]) else {
                self.spans = old.collect();
                return Applied::Nothing;
            };
            at = next.copy_with_spans(&self.text, at..range.start, &mut old);
            // Marks of what was removed inside of this range: the range takes their place.
            while old.next_if(|span| span.range.end < range.end).is_some() {}
            let start = next.text.len();
            next.text.to_mut().push_str(&text);
            next.spans.push(Span { range: start..next.text.len(), rule: rule.remark_id.clone(), kind });
            at = at.max(range.end);
        }
        next.copy_with_spans(&self.text, at..self.text.len(), &mut old);
        *self = next;
        if ranges.is_empty() { Applied::Nothing } else { Applied::Spans }
    }

    /// Appends a range of the old text with the spans that end in it; gives its end.
    fn copy_with_spans(
        &mut self,
        text: &str,
        range: Range<usize>,
        spans: &mut std::iter::Peekable<std::vec::IntoIter<Span>>,
    ) -> usize {
        let base = self.text.len();
        while let Some(span) = spans.next_if(|span| span.range.end <= range.end) {
            let moved = base + span.range.start - range.start..base + span.range.end - range.start;
            self.spans.push(Span { range: moved, ..span });
        }
        self.text.to_mut().push_str(&text[range.clone()]);
        range.end
    }

    fn replace_whole(&mut self, rule: &CompiledRule, empty_means: EmptyMeans) -> Applied {
        let Some((text, kind)) = replacement(&rule.redaction, &self.text) else { return Applied::Nothing };
        if kind == RemarkKind::Removed && empty_means == EmptyMeans::Null {
            return Applied::Null;
        }
        self.text = Cow::Owned(text.into_owned());
        self.spans = vec![Span { range: 0..self.text.len(), rule: rule.remark_id.clone(), kind }];
        Applied::Spans
    }

    fn into_redacted(self, original: &str, meta: Option<&Meta>) -> RedactedText {
        let mut remarks = whole_remarks(meta);
        let of_span = |span: Span| Remark::span(span.rule, span.kind, span.range.start, span.range.end);
        remarks.extend(self.spans.into_iter().map(of_span));
        RedactedText { text: Some(self.text.into_owned()), remarks, original_chars: original_chars(original, meta) }
    }
}

fn span_of(text: &str, remark: &Remark) -> Option<Span> {
    let (start, end) = remark.range?;
    let true_span = start <= end && text.is_char_boundary(start) && text.is_char_boundary(end);
    let redacted = remark.kind != RemarkKind::Annotated;
    (true_span && redacted).then(|| Span { range: start..end, rule: remark.rule.clone(), kind: remark.kind })
}

#[cfg(test)]
mod tests;
