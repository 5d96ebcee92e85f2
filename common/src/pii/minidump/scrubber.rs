//! The streaming pass: each region through its rules, the rest as it is.

use super::{Plan, RegionKind};
use crate::pii::attachment::{AttachmentScrubber, ByteRules, ScrubStream};

/// The rules of each kind of region.
#[derive(Debug, Clone, Default)]
pub struct MinidumpRules([ByteRules; RegionKind::ALL.len()]);

/// Scrubs one dump as it streams by.
#[derive(Debug)]
pub struct MinidumpScrubber {
    plan: Plan,
    rules: MinidumpRules,
    /// Bytes taken.
    at: u64,
    /// The region that is in work or comes next.
    next: usize,
    /// What scrubs the region that is in work.
    current: Option<AttachmentScrubber>,
}

// === impl MinidumpRules ===

impl MinidumpRules {
    /// Asks for the rules of each kind.
    #[must_use]
    pub fn new(rules_of: impl FnMut(RegionKind) -> ByteRules) -> Self {
        Self(RegionKind::ALL.map(rules_of))
    }

    /// Whether they do nothing: the dump need not be looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(ByteRules::is_empty)
    }

    fn of(&self, kind: RegionKind) -> ByteRules {
        self.0[kind as usize].clone()
    }
}

// === impl MinidumpScrubber ===

impl MinidumpScrubber {
    /// Begins a dump with the plan that was read from it.
    #[must_use]
    pub const fn new(plan: Plan, rules: MinidumpRules) -> Self {
        Self { plan, rules, at: 0, next: 0, current: None }
    }

    /// How many of the next `available` bytes belong together, and to which region.
    fn stretch(&self, available: usize) -> (usize, Option<RegionKind>) {
        let Some(region) = self.plan.regions.get(self.next) else { return (available, None) };
        let (border, kind) = match self.at < region.bytes.start {
            true => (region.bytes.start, None),
            false => (region.bytes.end, Some(region.kind)),
        };
        (usize::try_from(border - self.at).unwrap_or(usize::MAX).min(available), kind)
    }

    fn end_region(&mut self, out: &mut Vec<u8>) {
        if let Some(scrubber) = self.current.take() {
            scrubber.finish(out);
        }
    }
}

impl ScrubStream for MinidumpScrubber {
    fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) {
        while !chunk.is_empty() {
            let (count, kind) = self.stretch(chunk.len());
            let (head, rest) = chunk.split_at(count);
            chunk = rest;
            self.at += count as u64;
            let Some(kind) = kind else {
                out.extend_from_slice(head);
                continue;
            };
            let rules = &self.rules;
            self.current.get_or_insert_with(|| AttachmentScrubber::new(rules.of(kind))).push(head, out);
            if self.plan.regions.get(self.next).is_some_and(|region| region.bytes.end == self.at) {
                self.end_region(out);
                self.next += 1;
            }
        }
    }

    fn finish(mut self, out: &mut Vec<u8>) {
        self.end_region(out);
    }
}
