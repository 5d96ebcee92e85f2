//! The one walk over a payload that applies all rules.
//!
//! A value's rules follow from its path and types ([`Plan`]) and from what may be touched there ([`super::schema`]); they run in
//! their order, advanced rules first. A container can only be removed; else the walk goes on below it.
//!
//! Invariants:
//! - texts that no rule changes are not copied;
//! - every change leaves a remark at the value's path, in the tree that is returned;
//! - walking a second time changes nothing;
//! - depth is that of the tree, which is bounded where it is read.

mod image_path;
mod log_params;
mod originals;

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

use picket_common::pii::detect::{Held, flag_name};
use picket_common::pii::selector::{TypeSet, ValueType};
use picket_common::pii::{CompiledRule, Redaction, RuleKind, ScrubProfile};
use picket_common::tree::{Meta, MetaTree, Number, Object, Path, Remark, RemarkKind, Value};

use super::memory::{KeyFacts, Looked, RuleSet, WalkMemory, Way};
use super::plan::{Applying, Frame, PathSet, Plan, PlannedRule};
use super::schema::{Field, Schema, Sensitivity, Shape};
use super::text::{RedactedText, redact, redact_whole};

/// Texts that say that there is nothing: no rule takes them for a secret because of their key.
const PLAIN_VALUES: [&str; 5] = ["", "true", "false", "null", "undefined"];

/// Card numbers begin here.
const SMALLEST_CARD_NUMBER: u64 = 1_000_000_000_000;

/// A walk under way.
pub(super) struct Walk<'p> {
    plan: &'p Plan,
    profile: ScrubProfile,
    /// From the root to the value.
    frames: Vec<Frame>,
    /// Room for the paths of one value.
    found: PathSet,
    /// The ways to the same values, as the memory knows them.
    ways: Vec<Way>,
    /// What applies, by the number of the set of rules; a dozen in an event.
    met: Vec<Option<Rc<Applying<'p>>>>,
    memory: &'p mut WalkMemory,
    part: Part,
    /// What the walk says of values. Where it says anything, it repeats what was said before.
    said: MetaTree,
}

/// Which rules run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Advanced,
    Defaults,
}

/// What is known of a value before it is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    access: Sensitivity,
    types: TypeSet,
    shape: Shape,
}

/// Where a value is.
#[derive(Clone, Copy)]
pub(super) struct Place<'w> {
    path: &'w Path<'w>,
    /// Its key, or that of the pair it is in.
    key: Option<&'w str>,
    index: Option<usize>,
    /// What was said of it before.
    known: Option<&'w MetaTree>,
}

impl Spot {
    pub(super) const fn of(field: &Field, profile: ScrubProfile) -> Self {
        Self { access: field.access.under(profile), types: field.types, shape: field.shape }
    }

    const fn any(access: Sensitivity) -> Self {
        Self { access, types: TypeSet::EMPTY, shape: Shape::Any }
    }

    /// What is known of the value at a key.
    fn at_key(self, key: &str, profile: ScrubProfile) -> Self {
        match self.shape {
            Shape::Object(schema) => Self::of(Schema::field(schema, key), profile),
            Shape::Pairs(field) => Self::of(field, profile),
            Shape::List(_) if key == "values" => Self { types: TypeSet::EMPTY, ..self },
            Shape::Any | Shape::List(_) | Shape::ImagePath => Self::any(self.access),
        }
    }

    /// What is known of the elements.
    const fn at_index(self, profile: ScrubProfile) -> Self {
        match self.shape {
            Shape::List(field) => Self::of(field, profile),
            _ => Self::any(self.access),
        }
    }
}

impl<'w> Place<'w> {
    /// The payload itself.
    pub(super) const fn root(path: &'w Path<'w>, known: Option<&'w MetaTree>) -> Self {
        Self { path, key: None, index: None, known }
    }
}

impl<'p> Walk<'p> {
    /// `memory` is that of other walks with the same plan.
    pub(super) fn new(plan: &'p Plan, profile: ScrubProfile, memory: &'p mut WalkMemory) -> Self {
        Self {
            plan,
            profile,
            frames: Vec::with_capacity(16),
            found: PathSet::new(),
            ways: Vec::with_capacity(16),
            met: Vec::with_capacity(32),
            memory,
            part: Part::All,
            said: MetaTree::default(),
        }
    }

    /// What was said on the way.
    pub(super) fn into_said(self) -> MetaTree {
        self.said
    }

    /// Applies the rules to a value and what is below it.
    pub(super) fn value(&mut self, value: &mut Value<'_>, place: Place<'_>, spot: Spot) {
        let kind = match value {
            Value::Null => return,
            Value::Bool(_) => ValueType::Boolean,
            Value::Number(_) => ValueType::Number,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::Object(_) => ValueType::Object,
        };
        let is_container = matches!(kind, ValueType::Array | ValueType::Object);
        if spot.access == Sensitivity::False && !is_container {
            return;
        }
        let key = self.key_facts(place.key);
        self.enter(Frame { key: key.id, index: place.index, types: spot.types.with(kind) });
        if self.apply(value, place, spot, key.rules) == Fate::Kept && is_container {
            self.below(value, place, spot);
        }
        self.leave();
    }

    fn key_facts(&mut self, key: Option<&str>) -> KeyFacts {
        key.map_or(KeyFacts::NO_KEY, |key| self.memory.keys.facts(self.plan, key))
    }

    fn below(&mut self, value: &mut Value<'_>, place: Place<'_>, spot: Spot) {
        match value {
            Value::Object(object) => {
                let is_log = spot.types.contains(ValueType::LogEntry);
                let secret = if is_log { self.secret_params(object, spot) } else { Vec::new() };
                let done = if spot.types.contains(ValueType::User) { self.address(object, place, spot) } else { &[] };
                for (key, value) in object.iter_mut().filter(|(key, _)| !done.contains(&key.as_ref())) {
                    self.at_key(key, value, place, spot);
                }
                self.redact_params(object, place, &secret);
            }
            Value::Array(elements) => self.elements(elements, place, spot),
            _ => {}
        }
    }

    fn at_key(&mut self, key: &str, value: &mut Value<'_>, place: Place<'_>, spot: Spot) {
        let path = place.path.key(key);
        let known = place.known.and_then(|known| known.child(key));
        let below = Place { path: &path, key: Some(key), index: None, known };
        self.value(value, below, spot.at_key(key, self.profile));
    }

    fn elements(&mut self, elements: &mut [Value<'_>], place: Place<'_>, spot: Spot) {
        let are_pairs = match spot.shape {
            Shape::Pairs(_) => true,
            Shape::List(_) => false,
            _ => !elements.is_empty() && elements.iter().all(|element| pair_key(element).is_some()),
        };
        for index in 0..elements.len() {
            let (before, rest) = elements.split_at_mut(index);
            let Some(element) = rest.first_mut() else { return };
            let path = place.path.index(index);
            let known = place.known.and_then(|known| known.child(&index.to_string()));
            if are_pairs && self.pair(element, &path, known, spot) {
                continue;
            }
            let key = before.last().and_then(|before| self.flag(before, element));
            let below = Place { path: &path, key, index: Some(index), known };
            self.value(element, below, spot.at_index(self.profile));
        }
    }

    /// In the strict profile, the name of the flag before an argument of a command line: `["--password", "hunter2"]`.
    fn flag<'v>(&self, before: &'v Value<'_>, argument: &Value<'_>) -> Option<&'v str> {
        let is_flag = self.profile == ScrubProfile::Strict && !argument.as_str()?.starts_with('-');
        if is_flag { flag_name(before.as_str()?) } else { None }
    }

    /// A name with its value: the value is treated as if it stood at a key of that name.
    fn pair(&mut self, pair: &mut Value<'_>, path: &Path<'_>, known: Option<&MetaTree>, spot: Spot) -> bool {
        let Value::Array(pair) = pair else { return false };
        let [Value::String(key), value] = pair.as_mut_slice() else { return false };
        let path = path.index(1);
        let known = known.and_then(|known| known.child("1"));
        let below = Place { path: &path, key: Some(key), index: None, known };
        self.value(value, below, spot.at_key(key, self.profile));
        true
    }

    /// Goes one step on from where the walk is.
    fn enter(&mut self, frame: Frame) {
        let before = self.ways.last().copied().unwrap_or(Way::ROOT);
        self.ways.push(self.memory.ways.below(before, &self.plan.distinct(frame)));
        self.frames.push(frame);
    }

    /// Goes back one step.
    fn leave(&mut self) {
        self.ways.pop();
        self.frames.pop();
    }

    /// The rules for the last frame.
    fn applying(&mut self, access: Sensitivity) -> Rc<Applying<'p>> {
        let way = self.ways.last().copied().unwrap_or(Way::ROOT);
        if let Some(applying) = self.memory.ways.rules(way, access).and_then(|number| self.met(number)) {
            return applying;
        }
        self.plan.match_paths(&self.frames, access, &mut self.found);
        let number = self.memory.number_of(&self.found);
        if let Some(number) = number {
            self.memory.ways.note(way, access, number);
            if let Some(applying) = self.met(number) {
                return applying;
            }
        }
        let applying = Rc::new(Applying { number, ..self.plan.applying(&self.found) });
        if let Some(position) = number.map(usize::from) {
            self.met.resize(self.met.len().max(position + 1), None);
            self.met[position] = Some(Rc::clone(&applying));
        }
        applying
    }

    fn met(&self, number: u8) -> Option<Rc<Applying<'p>>> {
        self.met.get(usize::from(number))?.clone()
    }

    /// The rules that run now.
    fn rules_of_part<'a>(&self, applying: &'a Applying<'p>) -> &'a [&'p PlannedRule] {
        match self.part {
            Part::All => &applying.rules,
            Part::Advanced => &applying.rules[..applying.advanced],
            Part::Defaults => &applying.rules[applying.advanced..],
        }
    }

    /// `key_bits` are those of the rules that the value's key makes apply.
    fn apply(&mut self, value: &mut Value<'_>, place: Place<'_>, spot: Spot, key_bits: u64) -> Fate {
        if spot.access == Sensitivity::False {
            return Fate::Kept;
        }
        let applying = self.applying(spot.access);
        let rules = self.rules_of_part(&applying);
        if rules.is_empty() {
            return Fate::Kept;
        }
        let held = match value {
            Value::Number(_) => Held::Number,
            Value::Object(_) => Held::Fields,
            _ => Held::Text,
        };
        let named = place.key.filter(|_| key_bits & applying.key_bits != 0);
        let by_key = named.and_then(|key| rule_of_key(key, held, rules));
        match value {
            Value::Null => Fate::Kept,
            Value::String(_) => self.apply_to_text(value, place, spot, &applying, by_key),
            Value::Bool(_) => self.remove_if(rules.iter().find(|rule| takes_anything(&rule.rule)), value, place),
            Value::Number(number) => {
                let number = *number;
                let whole = by_key.map(|position| rules[position]);
                let whole = whole.or_else(|| rules.iter().find(|rule| takes_anything(&rule.rule)).copied());
                let whole = whole.or_else(|| self.card_rule(number, rules));
                self.remove_if(whole.as_ref(), value, place)
            }
            Value::Array(_) | Value::Object(_) => {
                let whole = rules
                    .iter()
                    .enumerate()
                    .find(|(position, rule)| by_key == Some(*position) || takes_anything(&rule.rule));
                self.remove_if(whole.map(|(_, rule)| rule), value, place)
            }
        }
    }

    fn apply_to_text(
        &mut self,
        value: &mut Value<'_>,
        place: Place<'_>,
        spot: Spot,
        applying: &Applying<'p>,
        by_key: Option<usize>,
    ) -> Fate {
        let Value::String(text) = value else { return Fate::Kept };
        let rules = self.rules_of_part(applying);
        let is_path = matches!(spot.shape, Shape::ImagePath);
        if !is_path && let Some(rule) = rules.iter().find(|planned| removes_anything(&planned.rule)) {
            let chars = text.chars().count() as u64;
            return self.remove(&rule.rule, value, place, Some(chars));
        }
        let by_key = by_key.filter(|_| !PLAIN_VALUES.iter().any(|plain| text.eq_ignore_ascii_case(plain)));
        let meta = place.known.map(|known| &known.meta);
        // What the rules find depends on the text alone then.
        let is_bare = by_key.is_none() && self.part == Part::All && meta.is_none_or(|meta| meta.remarks.is_empty());
        let looked = match applying.number.filter(|_| is_bare) {
            Some(number) => self.memory.texts.look_up(text, RuleSet { number, is_path }),
            None => Looked::Never,
        };
        if matches!(looked, Looked::Clean) {
            return Fate::Kept;
        }
        let redacted = if is_path {
            self.image_path(text, meta, applying, by_key)
        } else {
            redact_text(text, meta, rules, by_key)
        };
        let Some(redacted) = redacted else {
            if let Looked::Unknown(room) = looked {
                self.memory.texts.note(room, text);
            }
            return Fate::Kept;
        };
        self.say(place, redacted.remarks, Some(redacted.original_chars));
        *value = redacted.text.map_or(Value::Null, |text| Value::String(Cow::Owned(text)));
        Fate::Changed
    }

    /// In the strict profile, the rule that takes a number for a card's.
    fn card_rule<'r>(&self, number: Number, rules: &[&'r PlannedRule]) -> Option<&'r PlannedRule> {
        let whole = number.as_u64().or_else(|| whole_number(number))?;
        if self.profile == ScrubProfile::Compat || whole < SMALLEST_CARD_NUMBER {
            return None;
        }
        let digits = whole.to_string();
        let mut hits = Vec::new();
        rules.iter().copied().find(|planned| {
            let RuleKind::Text(detector) = &planned.rule.kind else { return false };
            hits.clear();
            detector.find(&digits, &mut hits);
            hits.first().is_some_and(|hit| hit.len() == digits.len())
        })
    }

    fn remove_if(&mut self, rule: Option<&&PlannedRule>, value: &mut Value<'_>, place: Place<'_>) -> Fate {
        rule.map_or(Fate::Kept, |planned| self.remove(&planned.rule, value, place, None))
    }

    fn remove(&mut self, rule: &CompiledRule, value: &mut Value<'_>, place: Place<'_>, length: Option<u64>) -> Fate {
        *value = Value::Null;
        let known = place.known.map_or(&[][..], |known| &known.meta.remarks);
        // Those on spans have nothing to stand on any more.
        let mut remarks: Vec<Remark> = known.iter().filter(|remark| remark.range.is_none()).cloned().collect();
        remarks.push(Remark::whole(rule.remark_id.clone(), RemarkKind::Removed));
        self.say(place, remarks, length);
        Fate::Changed
    }

    fn say(&mut self, place: Place<'_>, remarks: Vec<Remark>, original_length: Option<u64>) {
        let meta = self.said.at(place.path);
        meta.remarks = remarks;
        meta.original_length = original_length;
    }

    /// A user who is known by the address only stays countable where an advanced rule replaces the address by something else (a
    /// hash, say): that becomes the user's id. Returns the keys that are done with.
    fn address(&mut self, user: &mut Object<'_>, place: Place<'_>, spot: Spot) -> &'static [&'static str] {
        const ADDRESS: &str = "ip_address";
        if !self.plan.has_advanced() || ["id", "username", "email"].iter().any(|key| says_something(user.get(key))) {
            return &[];
        }
        let Some(address) = user.get_mut(ADDRESS).filter(|address| is_address(address)) else { return &[] };
        self.part = Part::Advanced;
        self.at_key(ADDRESS, address, place, spot);
        self.part = Part::Defaults;
        if matches!(address, Value::String(_)) && !is_address(address) {
            let mut id = address.take();
            let here = self.said.node(place.path);
            let said = here.remove_child(ADDRESS).unwrap_or_default();
            here.set_child("id", said);
            let said = self.said.at(&place.path.key(ADDRESS));
            said.remarks.push(Remark::whole("pii:ip_address", RemarkKind::Removed));
            self.again("id", &mut id, place, spot);
            user.insert("id", id);
            self.part = Part::All;
            return &[ADDRESS, "id"];
        }
        self.again(ADDRESS, address, place, spot);
        self.part = Part::All;
        &[ADDRESS]
    }

    /// Applies the other part of the rules to a value of which something was said on this walk.
    fn again(&mut self, key: &str, value: &mut Value<'_>, place: Place<'_>, spot: Spot) {
        let said = self.said.find(&place.path.key(key)).cloned();
        let before = place.known.and_then(|known| known.child(key));
        let path = place.path.key(key);
        let below = Place { path: &path, key: Some(key), index: None, known: said.as_ref().or(before) };
        self.value(value, below, spot.at_key(key, self.profile));
    }
}

/// What became of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Changed,
}

/// The name of a pair.
fn pair_key<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value.as_array()?.as_slice() {
        [Value::String(key), _] => Some(key),
        _ => None,
    }
}

fn takes_anything(rule: &CompiledRule) -> bool {
    matches!(rule.kind, RuleKind::Anything) && rule.redaction != Redaction::Unknown
}

/// The first of the rules that the key makes apply.
fn rule_of_key(key: &str, held: Held, rules: &[&PlannedRule]) -> Option<usize> {
    rules.iter().position(|planned| {
        planned.key_bit != 0
            && planned.rule.redaction != Redaction::Unknown
            && planned.rule.matches_key_holding(key, held)
    })
}

/// Whether a rule leaves nothing of any value, be it redacted already or not.
fn removes_anything(rule: &CompiledRule) -> bool {
    matches!(rule.kind, RuleKind::Anything) && matches!(rule.redaction, Redaction::Remove | Redaction::Default)
}

/// A float without a fraction, as programs in JavaScript and spreadsheets make of a number.
fn whole_number(number: Number) -> Option<u64> {
    /// Above it not every whole number is a float: 2^53.
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    let Number::Float(float) = number else { return None };
    (float.fract() == 0.0 && (0.0..=LARGEST).contains(&float)).then_some(float as u64)
}

fn says_something(value: Option<&Value<'_>>) -> bool {
    value.is_some_and(|value| !value.is_null() && value.as_str() != Some(""))
}

fn is_address(value: &Value<'_>) -> bool {
    value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok())
}

/// Applies rules in their order; the one at `by_key` replaces the whole text, and nothing is left for those after it.
fn redact_text(text: &str, meta: Option<&Meta>, rules: &[&PlannedRule], by_key: Option<usize>) -> Option<RedactedText> {
    let Some(position) = by_key else {
        return redact(text, meta, rules.iter().map(|planned| &planned.rule));
    };
    let first = redact(text, meta, rules[..position].iter().map(|planned| &planned.rule));
    let rule = &rules[position].rule;
    match first {
        None => redact_whole(text, meta, rule),
        Some(RedactedText { text: Some(text), remarks, original_chars }) => {
            let said = Meta { remarks, original_length: Some(original_chars), ..Meta::default() };
            let whole = redact_whole(&text, Some(&said), rule);
            whole.or(Some(RedactedText { text: Some(text), remarks: said.remarks, original_chars }))
        }
        removed => removed,
    }
}
