//! Selectors made ready: which rules apply to a value, in a few steps for most values.
//!
//! ```text
//! selectors ─▸ paths, each once (bit by bit) ─▸ a value's paths: by its types, by its key, and the few that end in `*` or `**`
//!                                                    │ as a set of bits, seen before in this event?
//!                                                    ▼
//!                                     formulas of all applications ─▸ rules in their order
//! ```
//!
//! Invariants:
//! - rules come in the order of the reference: advanced rules first, then by selector, then by id;
//! - what is found depends on the path and types of a value only, never on what it says.

mod keys;
mod path;

use std::borrow::Cow;
use std::collections::HashSet;

use picket_common::pii::selector::{TypeSet, ValueType};
use picket_common::pii::{CompiledApplication, CompiledRule, CompiledSettings, Redaction, Selector};

use super::schema::Sensitivity;
pub(super) use keys::KeyId;
use keys::KeyTable;
use path::PlannedPath;
pub(super) use path::Step;

/// A set of paths, a bit each.
pub(super) type PathSet = Vec<u64>;

/// All applications of a project.
#[derive(Debug)]
pub(super) struct Plan {
    keys: KeyTable,
    paths: Vec<PlannedPath>,
    /// Whether any of them names an index; else a value's index makes no difference.
    names_indices: bool,
    /// How many words a set of paths has.
    words: usize,
    /// Paths of one type only, by type: they match wherever the type is.
    of_type: Vec<PathSet>,
    /// Longer paths that end in a type, by type.
    ending_in_type: Vec<Vec<usize>>,
    /// Paths that end in a key, by key.
    ending_in_key: Vec<Vec<usize>>,
    /// Paths that end in an index, `*` or `**`.
    ending_anyhow: Vec<usize>,
    /// Paths that generic selectors may not use where only specific ones are allowed.
    specific: PathSet,
    applications: Vec<PlannedApplication>,
    /// How many of the applications are advanced rules.
    advanced: usize,
    rules: Vec<PlannedRule>,
    /// Of the rules that look at keys each once.
    key_rules: Vec<usize>,
    /// The texts that rules put in the place of what they find.
    replacements: HashSet<Cow<'static, str>>,
}

#[derive(Debug)]
struct PlannedApplication {
    formula: Formula,
    /// In [`Plan::rules`].
    rules: std::ops::Range<usize>,
}

/// A rule and its part in looking at keys.
#[derive(Debug)]
pub(super) struct PlannedRule {
    pub(super) rule: CompiledRule,
    /// Its bit among the rules that look at keys.
    pub(super) key_bit: u64,
}

/// A selector over the bits of its paths.
#[derive(Debug)]
enum Formula {
    And(Vec<Formula>),
    Or(Vec<Formula>),
    Not(Box<Formula>),
    Path(usize),
}

/// The rules for values with the same paths.
#[derive(Debug, Default)]
pub(super) struct Applying<'p> {
    /// In order.
    pub(super) rules: Vec<&'p PlannedRule>,
    /// How many of them are advanced rules.
    pub(super) advanced: usize,
    /// The bits of those that look at keys.
    pub(super) key_bits: u64,
    /// Which set of rules this is among those that a walk's memory knows.
    pub(super) number: Option<u8>,
}

impl Plan {
    /// Makes compiled settings ready.
    pub(super) fn new(settings: &CompiledSettings) -> Self {
        let mut plan = Self {
            keys: KeyTable::default(),
            paths: Vec::new(),
            names_indices: false,
            words: 0,
            of_type: Vec::new(),
            ending_in_type: vec![Vec::new(); ValueType::all().count()],
            ending_in_key: Vec::new(),
            ending_anyhow: Vec::new(),
            specific: Vec::new(),
            applications: Vec::new(),
            advanced: settings.advanced.len(),
            rules: Vec::new(),
            key_rules: Vec::new(),
            replacements: HashSet::new(),
        };
        for application in settings.advanced.iter().chain(&settings.defaults) {
            plan.add(application);
        }
        plan.index();
        plan
    }

    /// Whether there are rules of the project's own.
    pub(super) const fn has_advanced(&self) -> bool {
        self.advanced > 0
    }

    /// Whether a rule puts this text in the place of what it finds.
    pub(super) fn puts(&self, text: &str) -> bool {
        self.replacements.contains(text)
    }

    /// Whether no rule applies anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The bits of the rules that a value at this key is redacted by.
    pub(super) fn rules_of_key(&self, key: &str) -> u64 {
        let rules = self.key_rules.iter().map(|&position| &self.rules[position]);
        rules.filter(|planned| planned.rule.matches_key(key)).fold(0, |bits, planned| bits | planned.key_bit)
    }

    fn add(&mut self, application: &CompiledApplication) {
        let formula = self.formula(&application.selector);
        let start = self.rules.len();
        for rule in &application.rules {
            if let Redaction::Replace(text) = &rule.redaction {
                self.replacements.insert(text.clone());
            }
            let key_bit = if rule.looks_at_keys() { self.next_key_bit(rule) } else { 0 };
            let is_known = self.key_rules.iter().any(|&known| self.rules[known].rule.is_same_as(rule));
            if key_bit != 0 && !is_known {
                self.key_rules.push(self.rules.len());
            }
            self.rules.push(PlannedRule { rule: rule.clone(), key_bit });
        }
        self.applications.push(PlannedApplication { formula, rules: start..self.rules.len() });
    }

    /// One bit for each rule, however often it is applied.
    fn next_key_bit(&self, rule: &CompiledRule) -> u64 {
        let known = self.rules.iter().find(|planned| planned.key_bit != 0 && planned.rule.id == rule.id);
        known.map_or_else(
            || {
                let used = self.rules.iter().fold(0, |bits, planned| bits | planned.key_bit);
                1 << used.count_ones().min(63)
            },
            |planned| planned.key_bit,
        )
    }

    fn formula(&mut self, selector: &Selector) -> Formula {
        match selector {
            Selector::And(all) => Formula::And(all.iter().map(|inner| self.formula(inner)).collect()),
            Selector::Or(all) => Formula::Or(all.iter().map(|inner| self.formula(inner)).collect()),
            Selector::Not(inner) => Formula::Not(Box::new(self.formula(inner))),
            Selector::Path(path) => {
                let planned = PlannedPath::new(path, &mut self.keys);
                let known = self.paths.iter().position(|other| *other == planned);
                Formula::Path(known.unwrap_or_else(|| {
                    self.paths.push(planned);
                    self.paths.len() - 1
                }))
            }
        }
    }

    fn index(&mut self) {
        self.words = self.paths.len().div_ceil(64);
        self.of_type = vec![vec![0; self.words]; self.ending_in_type.len()];
        self.specific = vec![0; self.words];
        self.ending_in_key = vec![Vec::new(); self.keys.len()];
        self.names_indices = self.paths.iter().any(PlannedPath::names_index);
        for (number, path) in self.paths.iter().enumerate() {
            if path.is_specific {
                set_bit(&mut self.specific, number);
            }
            match path.last() {
                Step::Type(kind) if path.is_single() => set_bit(&mut self.of_type[kind as usize], number),
                Step::Type(kind) => self.ending_in_type[kind as usize].push(number),
                Step::Key(key) => self.ending_in_key[key.position()].push(number),
                Step::Index(_) | Step::Any | Step::Deep => self.ending_anyhow.push(number),
            }
        }
    }

    /// What is known of a key.
    pub(super) fn key(&self, key: &str) -> KeyId {
        self.keys.find(key)
    }

    /// Sets the bits of the paths that match the last of `frames`.
    pub(super) fn match_paths(&self, frames: &[Frame], sensitivity: Sensitivity, found: &mut PathSet) {
        found.clear();
        found.resize(self.words, 0);
        let Some(last) = frames.last() else { return };
        for position in last.types.positions() {
            for (word, bits) in found.iter_mut().zip(&self.of_type[position]) {
                *word |= bits;
            }
            self.try_paths(&self.ending_in_type[position], frames, found);
        }
        if let Some(paths) = self.ending_in_key.get(last.key.position()) {
            self.try_paths(paths, frames, found);
        }
        self.try_paths(&self.ending_anyhow, frames, found);
        if sensitivity == Sensitivity::Maybe {
            for (word, bits) in found.iter_mut().zip(&self.specific) {
                *word &= bits;
            }
        }
    }

    fn try_paths(&self, numbers: &[usize], frames: &[Frame], found: &mut PathSet) {
        for &number in numbers {
            if self.paths[number].matches(frames) {
                set_bit(found, number);
            }
        }
    }

    /// What tells a step from others for this plan: an index only where a selector names one.
    pub(super) fn distinct(&self, frame: Frame) -> Frame {
        Frame { index: frame.index.filter(|_| self.names_indices), ..frame }
    }

    /// The rules for a text that is nobody's: of the switches, as for any text.
    pub(super) fn rules_of_any_text(&self) -> Vec<&PlannedRule> {
        let text = Frame { key: KeyId::OTHER, index: None, types: TypeSet::of(ValueType::String) };
        let mut found = Vec::new();
        self.match_paths(&[text], Sensitivity::True, &mut found);
        let applying = self.applying(&found);
        applying.rules[applying.advanced..].to_vec()
    }

    /// The rules of all applications whose selectors hold for these paths.
    pub(super) fn applying(&self, paths: &PathSet) -> Applying<'_> {
        let mut applying = Applying::default();
        for (position, application) in self.applications.iter().enumerate() {
            if !application.formula.holds(paths) {
                continue;
            }
            for planned in &self.rules[application.rules.clone()] {
                // The same rule by two selectors: the second time it finds nothing more.
                if !applying.rules.iter().any(|known| known.rule.is_same_as(&planned.rule)) {
                    applying.rules.push(planned);
                    applying.key_bits |= planned.key_bit;
                }
            }
            if position < self.advanced {
                applying.advanced = applying.rules.len();
            }
        }
        applying
    }
}

impl Formula {
    fn holds(&self, paths: &PathSet) -> bool {
        match self {
            Self::And(all) => all.iter().all(|inner| inner.holds(paths)),
            Self::Or(all) => all.iter().any(|inner| inner.holds(paths)),
            Self::Not(inner) => !inner.holds(paths),
            Self::Path(number) => paths[number / 64] & (1 << (number % 64)) != 0,
        }
    }
}

fn set_bit(set: &mut PathSet, number: usize) {
    set[number / 64] |= 1 << (number % 64);
}

/// One step of the way from the root to a value, with what selectors ask about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// The key, if a selector names it.
    pub(super) key: KeyId,
    /// The index, for an element of an array.
    pub(super) index: Option<usize>,
    /// The value's types.
    pub(super) types: TypeSet,
}

#[cfg(test)]
mod tests;
