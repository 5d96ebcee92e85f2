//! What walks over events leave for the next ones with the same rules: what the rules make of keys, which rules
//! apply where, and texts in which they found nothing. About a megabyte at most; a scrubber has as many as there were walks at once.
//!
//! Invariant: with a memory or without, a walk comes to the same.

mod clean_texts;
mod key_cache;
mod ways;

use super::plan::PathSet;
use clean_texts::CleanTexts;
pub(super) use clean_texts::{Looked, RuleSet};
use key_cache::KeyCache;
pub(super) use key_cache::KeyFacts;
pub(super) use ways::Way;
use ways::Ways;

/// Sets of rules that are told apart. Settings of the usual kind make about twenty; texts under further sets are not remembered.
const RULE_SETS_MAX: usize = 255;

/// The memory of walks with one plan.
#[derive(Debug)]
pub(super) struct WalkMemory {
    pub(super) keys: KeyCache,
    pub(super) texts: CleanTexts,
    pub(super) ways: Ways,
    /// The paths of selectors that make up each set of rules.
    sets: Vec<PathSet>,
}

impl WalkMemory {
    /// Remembers nothing yet. To be used with one plan only.
    pub(super) fn new() -> Self {
        Self { keys: KeyCache::new(), texts: CleanTexts::new(), ways: Ways::new(), sets: Vec::new() }
    }

    /// The number of the set of rules that these paths make, if there are not too many.
    pub(super) fn number_of(&mut self, paths: &PathSet) -> Option<u8> {
        let known = self.sets.iter().position(|known| known == paths);
        let position = known.or_else(|| {
            (self.sets.len() < RULE_SETS_MAX).then(|| {
                self.sets.push(paths.clone());
                self.sets.len() - 1
            })
        });
        u8::try_from(position?).ok()
    }
}
