//! The ways from the root that values were met on, and which rules apply at their ends: the events of an SDK have the same few
//! hundred, and finding the rules costs more than most texts.

use std::collections::HashMap;

use picket_common::pii::selector::TypeSet;
use rustc_hash::FxBuildHasher;

use super::super::plan::{Frame, KeyId};
use super::super::schema::Sensitivity;

/// Ways that are told apart; beyond them rules are found anew each time.
const WAYS_MAX: usize = 4096;

/// A way, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::scrub) struct Way(u32);

/// Known ways as a tree.
#[derive(Debug)]
pub(in crate::scrub) struct Ways {
    numbers: HashMap<LastStep, Way, FxBuildHasher>,
    /// For each way the numbers of its sets of rules: for values that every selector reaches, and for those to be named.
    rules: Vec<[Option<u8>; 2]>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LastStep {
    before: Way,
    key: KeyId,
    types: TypeSet,
    index: Option<usize>,
}

impl Way {
    /// To nowhere yet.
    pub(in crate::scrub) const ROOT: Self = Self(u32::MAX);
    /// One of too many.
    const UNKNOWN: Self = Self(u32::MAX - 1);

    const fn position(self) -> usize {
        self.0 as usize
    }
}

impl Ways {
    pub(in crate::scrub) fn new() -> Self {
        Self { numbers: HashMap::default(), rules: Vec::new() }
    }

    /// The way that goes on with `frame`. Its index counts where selectors name any.
    pub(in crate::scrub) fn below(&mut self, before: Way, frame: &Frame) -> Way {
        if before == Way::UNKNOWN {
            return Way::UNKNOWN;
        }
        let step = LastStep { before, key: frame.key, types: frame.types, index: frame.index };
        if let Some(way) = self.numbers.get(&step) {
            return *way;
        }
        match u32::try_from(self.rules.len()) {
            Ok(number) if self.rules.len() < WAYS_MAX => {
                self.numbers.insert(step, Way(number));
                self.rules.push([None; 2]);
                Way(number)
            }
            _ => Way::UNKNOWN,
        }
    }

    /// The number of the set of rules that applies at the end of a way, if it is known.
    pub(in crate::scrub) fn rules(&self, way: Way, access: Sensitivity) -> Option<u8> {
        self.rules.get(way.position())?[usize::from(access == Sensitivity::Maybe)]
    }

    /// Which set of rules applies at the end of a way.
    pub(in crate::scrub) fn note(&mut self, way: Way, access: Sensitivity, number: u8) {
        if let Some(rules) = self.rules.get_mut(way.position()) {
            rules[usize::from(access == Sensitivity::Maybe)] = Some(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use picket_common::pii::selector::ValueType;

    use super::*;

    fn frame(kind: ValueType, index: Option<usize>) -> Frame {
        Frame { key: KeyId::OTHER, index, types: TypeSet::of(kind) }
    }

    #[test]
    fn a_way_is_known_by_all_its_steps_and_by_how_open_its_end_is() {
        let mut ways = Ways::new();
        let event = ways.below(Way::ROOT, &frame(ValueType::Event, None));
        let text = ways.below(event, &frame(ValueType::String, None));
        ways.note(text, Sensitivity::True, 7);
        assert_eq!(ways.below(event, &frame(ValueType::String, None)), text);
        assert_eq!(ways.rules(text, Sensitivity::True), Some(7));
        assert_eq!(ways.rules(text, Sensitivity::Maybe), None);
        assert_ne!(ways.below(text, &frame(ValueType::String, None)), text);
        assert_ne!(ways.below(event, &frame(ValueType::Number, None)), text);
        assert_ne!(ways.below(event, &frame(ValueType::String, Some(1))), text);
    }

    #[test]
    fn ways_without_end_are_not_kept() {
        let mut ways = Ways::new();
        let last = (0..WAYS_MAX + 10).fold(Way::ROOT, |way, _| ways.below(way, &frame(ValueType::Array, None)));
        assert_eq!(last, Way::UNKNOWN);
        ways.note(last, Sensitivity::True, 1);
        assert_eq!(ways.rules(last, Sensitivity::True), None);
        assert_eq!(ways.numbers.len(), WAYS_MAX);
    }
}
