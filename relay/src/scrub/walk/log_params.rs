//! Parameters of log messages that are secret by the place they are filled into: `password=%s` with `["hunter2"]`.
//!
//! ```text
//! template, a stand-in for each parameter ─▸ filled ─▸ what rules find in it ─▸ the parameters whose stand-ins are in that
//! ```
//!
//! Strict profile only: in the compatible one no such rule looks at messages.

use picket_common::normalise::fill_message;
use picket_common::pii::detect::TextFacts;
use picket_common::pii::selector::{TypeSet, ValueType};
use picket_common::pii::{RuleKind, ScrubProfile};
use picket_common::tree::{Object, Value};

use super::super::plan::{Frame, KeyId, PlannedRule};
use super::super::text::redact_whole;
use super::{PLAIN_VALUES, Part, Place, Spot, Walk};

const PARAMS: &str = "params";

/// Stands around a parameter's number: a character of nobody's, which is part of any word.
const MARK: char = '\u{e000}';

impl<'p> Walk<'p> {
    /// Which parameters are secret by their places, each with the rule that says so. To be asked before the template is scrubbed.
    pub(super) fn secret_params(&mut self, entry: &Object<'_>, spot: Spot) -> Vec<(usize, &'p PlannedRule)> {
        let mut secret = Vec::new();
        if self.profile == ScrubProfile::Compat || self.part == Part::Advanced {
            return secret;
        }
        let Some(template) = entry.get("message").and_then(Value::as_str) else { return secret };
        let Some(params) = entry.get(PARAMS).and_then(Value::as_array) else { return secret };
        let stand_ins = (0..params.len()).map(|number| Value::from(format!("{MARK}{number}{MARK}"))).collect();
        let Some(filled) = fill_message(template, &Value::Array(stand_ins)) else { return secret };
        let facts = TextFacts::of(&filled);
        let mut hits = Vec::new();
        for planned in self.rules_of_params(spot) {
            let RuleKind::Text(detector) = &planned.rule.kind else { continue };
            if !detector.may_match(&facts) {
                continue;
            }
            hits.clear();
            detector.find(&filled, &mut hits);
            let numbers = hits.iter().flat_map(|hit| stand_ins_in(&filled[hit.clone()]));
            secret.extend(numbers.filter(|number| *number < params.len()).map(|number| (number, planned)));
        }
        secret
    }

    /// The rules of the switches for any parameter.
    fn rules_of_params(&mut self, spot: Spot) -> Vec<&'p PlannedRule> {
        let list = spot.at_key(PARAMS, self.profile);
        let types = list.types.with(ValueType::Array);
        self.enter(Frame { key: self.plan.key(PARAMS), index: None, types });
        self.enter(Frame { key: KeyId::OTHER, index: Some(0), types: TypeSet::of(ValueType::String) });
        let applying = self.applying(list.access);
        self.leave();
        self.leave();
        applying.rules[applying.advanced..].to_vec()
    }

    /// Replaces them as a whole.
    pub(super) fn redact_params(
        &mut self,
        entry: &mut Object<'_>,
        place: Place<'_>,
        secret: &[(usize, &'p PlannedRule)],
    ) {
        let Some(Value::Array(params)) = entry.get_mut(PARAMS).filter(|_| !secret.is_empty()) else { return };
        let list = place.path.key(PARAMS);
        let known = place.known.and_then(|known| known.child(PARAMS));
        for &(number, planned) in secret {
            let path = list.index(number);
            let said = self.said.find(&path).cloned();
            let known = said.as_ref().or_else(|| known?.child(&number.to_string()));
            let place = Place { path: &path, key: None, index: Some(number), known };
            match &mut params[number] {
                Value::Null | Value::Bool(_) => {}
                Value::String(text) => {
                    if PLAIN_VALUES.iter().any(|plain| text.eq_ignore_ascii_case(plain)) {
                        continue;
                    }
                    let Some(redacted) = redact_whole(text, known.map(|known| &known.meta), &planned.rule) else {
                        continue;
                    };
                    self.say(place, redacted.remarks, Some(redacted.original_chars));
                    params[number] = redacted.text.map_or(Value::Null, Value::from);
                }
                other => {
                    self.remove(&planned.rule, other, place, None);
                }
            }
        }
    }
}

/// The numbers of the parameters that a part of the filled template has stand-ins of.
fn stand_ins_in(text: &str) -> impl Iterator<Item = usize> {
    text.split(MARK).skip(1).filter_map(|number| number.parse().ok())
}
