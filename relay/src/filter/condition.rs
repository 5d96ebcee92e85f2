//! Conditions over an event, compiled once per configuration and evaluated without allocating where nothing has to be lowered.
//!
//! A field is a path from a root: `event.tags.browser.name`, `envelope.client_ip`; inside `any` and `all` it begins at the
//! element. Lists of pairs (tags, headers) are looked up like objects, and keys that hold dots are found too.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;
use picket_common::glob::Glob;
use picket_common::project_config::condition::{Condition, EqTest, MAX_DEPTH, NumberTest, TextTest};
use picket_common::project_config::filter_entry::network;
use picket_common::project_config::version::VersionTest;
use picket_common::tree::Value;

/// What a condition is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'v, 'a> {
    pub(super) event: &'v Value<'a>,
    pub(super) client_address: Option<IpAddr>,
}

/// A compiled condition.
#[derive(Debug)]
pub(super) enum Test {
    Eq { field: Field, values: Vec<serde_json::Value>, case: Case },
    Number { field: Field, relation: Relation, number: f64 },
    Glob { field: Field, globs: Vec<Glob> },
    Cidr { field: Field, networks: Vec<IpNet> },
    Release { field: Field, tests: Vec<VersionTest> },
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Any { field: Field, inner: Box<Test> },
    All { field: Field, inner: Box<Test> },
}

/// Whether letters' case matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Matters,
    Ignored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// Where a value is.
#[derive(Debug)]
pub(super) enum Field {
    Event(Box<str>),
    Element(Box<str>),
    ClientAddress,
}

/// What is found at a field.
enum Found<'v, 'a> {
    Value(&'v Value<'a>),
    Address(IpAddr),
}

// === impl Test ===

impl Test {
    /// Compiles a condition; `None` if any part of it is not understood: half a condition would drop what nobody meant.
    pub(super) fn compile(condition: &Condition) -> Option<Self> {
        Self::compile_at(condition, 1)
    }

    fn compile_at(condition: &Condition, depth: usize) -> Option<Self> {
        if depth > MAX_DEPTH {
            return None;
        }
        let inner_of = |inner: &Condition| Self::compile_at(inner, depth + 1).map(Box::new);
        let all_of = |inner: &[Condition]| -> Option<Vec<Self>> {
            inner.iter().map(|condition| Self::compile_at(condition, depth + 1)).collect()
        };
        Some(match condition {
            Condition::Eq(test) => Self::equal(test),
            Condition::Gt(test) => Self::number(test, Relation::Above),
            Condition::Gte(test) => Self::number(test, Relation::AtLeast),
            Condition::Lt(test) => Self::number(test, Relation::Below),
            Condition::Lte(test) => Self::number(test, Relation::AtMost),
            Condition::Glob(TextTest { name, value }) => Self::Glob {
                field: Field::of(name),
                globs: value.iter().map(|text| Glob::new(text).ok()).collect::<Option<_>>()?,
            },
            Condition::Cidr(TextTest { name, value }) => Self::Cidr {
                field: Field::of(name),
                networks: value.iter().map(|text| network(text)).collect::<Option<_>>()?,
            },
            Condition::Release(TextTest { name, value }) => Self::Release {
                field: Field::of(name),
                tests: value.iter().map(|text| VersionTest::read(text).ok()).collect::<Option<_>>()?,
            },
            Condition::And { inner } => Self::And(all_of(inner)?),
            Condition::Or { inner } => Self::Or(all_of(inner)?),
            Condition::Not { inner } => Self::Not(inner_of(inner)?),
            Condition::Any { name, inner } => Self::Any { field: Field::of(name), inner: inner_of(inner)? },
            Condition::All { name, inner } => Self::All { field: Field::of(name), inner: inner_of(inner)? },
            Condition::Unknown => return None,
        })
    }

    fn equal(test: &EqTest) -> Self {
        let case = if test.options.ignore_case { Case::Ignored } else { Case::Matters };
        let values = match &test.value {
            serde_json::Value::Array(values) => values.clone(),
            one => vec![one.clone()],
        };
        Self::Eq { field: Field::of(&test.name), values, case }
    }

    fn number(test: &NumberTest, relation: Relation) -> Self {
        Self::Number { field: Field::of(&test.name), relation, number: test.value }
    }

    /// Whether the condition holds.
    pub(super) fn holds(&self, subject: Subject<'_, '_>) -> bool {
        self.holds_at(subject, subject.event)
    }

    fn holds_at(&self, subject: Subject<'_, '_>, element: &Value<'_>) -> bool {
        match self {
            Self::Eq { field, values, case } => {
                let found = field.find(subject, element);
                values.iter().any(|value| is_equal(found.as_ref(), value, *case))
            }
            Self::Number { field, relation, number } => match field.find(subject, element) {
                Some(Found::Value(value)) => {
                    value.as_number().is_some_and(|found| relation.holds(found.as_f64(), *number))
                }
                _ => false,
            },
            Self::Glob { field, globs } => field.text(subject, element).is_some_and(|text| {
                let text = text.to_lowercase();
                globs.iter().any(|glob| glob.matches_lowercase(&text))
            }),
            Self::Cidr { field, networks } => field
                .find(subject, element)
                .and_then(|found| found.address())
                .is_some_and(|address| networks.iter().any(|network| network.contains(&address))),
            Self::Release { field, tests } => {
                field.text(subject, element).is_some_and(|release| tests.iter().any(|test| test.matches(&release)))
            }
            Self::And(inner) => inner.iter().all(|test| test.holds_at(subject, element)),
            Self::Or(inner) => inner.iter().any(|test| test.holds_at(subject, element)),
            Self::Not(inner) => !inner.holds_at(subject, element),
            Self::Any { field, inner } => {
                field.elements(subject, element).any(|element| inner.holds_at(subject, element))
            }
            // Of an event that has no such list nothing is said.
            Self::All { field, inner } => {
                let mut elements = field.elements(subject, element).peekable();
                elements.peek().is_some() && elements.all(|element| inner.holds_at(subject, element))
            }
        }
    }
}

impl Relation {
    fn holds(self, found: f64, number: f64) -> bool {
        match self {
            Self::Above => found > number,
            Self::AtLeast => found >= number,
            Self::Below => found < number,
            Self::AtMost => found <= number,
        }
    }
}

fn is_equal(found: Option<&Found<'_, '_>>, expected: &serde_json::Value, case: Case) -> bool {
    let Some(found) = found else { return expected.is_null() };
    match (found, expected) {
        (Found::Value(Value::Null), expected) => expected.is_null(),
        (Found::Value(Value::Bool(found)), serde_json::Value::Bool(expected)) => found == expected,
        (Found::Value(Value::Number(found)), serde_json::Value::Number(expected)) => {
            expected.as_f64().is_some_and(|expected| found.as_f64().total_cmp(&expected).is_eq())
        }
        (found, serde_json::Value::String(expected)) => found.text().is_some_and(|text| match case {
            Case::Matters => text == expected.as_str(),
            Case::Ignored => text.to_lowercase() == expected.to_lowercase(),
        }),
        _ => false,
    }
}

// === impl Field ===

impl Field {
    fn of(name: &str) -> Self {
        match name.split_once('.') {
            Some(("envelope", "client_ip")) => Self::ClientAddress,
            Some(("event", "exceptions")) => Self::Event("exception.values".into()),
            Some(("event", rest)) => Self::Event(rest.into()),
            _ if name == "ty" => Self::Element("type".into()),
            _ => Self::Element(name.into()),
        }
    }

    fn find<'v, 'a>(&self, subject: Subject<'v, 'a>, element: &'v Value<'a>) -> Option<Found<'v, 'a>> {
        match self {
            Self::Event(path) => value_at(subject.event, path).map(Found::Value),
            Self::Element(path) => value_at(element, path).map(Found::Value),
            Self::ClientAddress => subject.client_address.map(Found::Address),
        }
    }

    fn text<'v>(&self, subject: Subject<'v, '_>, element: &'v Value<'_>) -> Option<Cow<'v, str>> {
        match self {
            Self::Event(path) => value_at(subject.event, path).and_then(text_of),
            Self::Element(path) => value_at(element, path).and_then(text_of),
            Self::ClientAddress => subject.client_address.map(|address| Cow::Owned(address.to_string())),
        }
    }

    fn elements<'v, 'a>(
        &self,
        subject: Subject<'v, 'a>,
        element: &'v Value<'a>,
    ) -> impl Iterator<Item = &'v Value<'a>> {
        let list = match self.find(subject, element) {
            Some(Found::Value(value)) => value.as_array().or_else(|| value.get("values")?.as_array()),
            _ => None,
        };
        list.into_iter().flatten()
    }
}

impl Found<'_, '_> {
    fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Value(value) => text_of(value),
            Self::Address(address) => Some(Cow::Owned(address.to_string())),
        }
    }

    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Value(value) => value.as_str()?.parse().ok(),
            Self::Address(address) => Some(*address),
        }
    }
}

fn text_of<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(is_true) => Some(Cow::Borrowed(if *is_true { "true" } else { "false" })),
        _ => None,
    }
}

/// The value at a path. A key may hold dots itself, so the longest is tried first.
fn value_at<'v, 'a>(value: &'v Value<'a>, path: &str) -> Option<&'v Value<'a>> {
    if let Some(found) = member(value, path) {
        return Some(found);
    }
    let (key, rest) = path.split_once('.')?;
    value_at(member(value, key)?, rest)
}

fn member<'v, 'a>(value: &'v Value<'a>, key: &str) -> Option<&'v Value<'a>> {
    match value {
        Value::Object(object) => object.get(key),
        Value::Array(pairs) => pairs.iter().find_map(|pair| match pair.as_array()?.as_slice() {
            [name, value] if name.as_str()? == key => Some(value),
            _ => None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::tree::read;
    use serde_json::json;

    const EVENT: &str = r#"{"release":"shop@2.1.0","level":"error","tags":[["browser.name","Firefox"],["n","1"]],
        "user":{"ip_address":"10.1.2.3"},"contexts":{"app":{"build":7,"beta":true}},"dist":null,
        "exception":{"values":[{"type":"ValueError","value":"bad cart"},{"type":"TimeoutError","value":"too slow"}]}}"#;

    fn holds(condition: serde_json::Value) -> bool {
        let condition: Condition = serde_json::from_value(condition).unwrap();
        let event = read(EVENT.as_bytes()).unwrap();
        let subject = Subject { event: &event, client_address: Some("203.0.113.9".parse().unwrap()) };
        Test::compile(&condition).unwrap().holds(subject)
    }

    #[test]
    fn every_operator_does_what_its_name_says() {
        let table = [
            (json!({"op": "eq", "name": "event.level", "value": "error"}), true),
            (json!({"op": "eq", "name": "event.level", "value": "ERROR"}), false),
            (json!({"op": "eq", "name": "event.level", "value": "ERROR", "options": {"ignoreCase": true}}), true),
            (json!({"op": "eq", "name": "event.level", "value": ["info", "error"]}), true),
            (json!({"op": "eq", "name": "event.tags.browser.name", "value": "Firefox"}), true),
            (json!({"op": "eq", "name": "event.contexts.app.build", "value": 7}), true),
            (json!({"op": "eq", "name": "event.contexts.app.beta", "value": true}), true),
            (json!({"op": "eq", "name": "event.dist", "value": null}), true),
            (json!({"op": "eq", "name": "event.nothing", "value": null}), true),
            (json!({"op": "gt", "name": "event.contexts.app.build", "value": 7}), false),
            (json!({"op": "gte", "name": "event.contexts.app.build", "value": 7}), true),
            (json!({"op": "lt", "name": "event.contexts.app.build", "value": 7.5}), true),
            (json!({"op": "lte", "name": "event.contexts.app.build", "value": 6}), false),
            (json!({"op": "gt", "name": "event.level", "value": 1}), false),
            (json!({"op": "glob", "name": "event.release", "value": ["*@1.*", "SHOP@2.*"]}), true),
            (json!({"op": "glob", "name": "event.tags.n", "value": "?"}), true),
            (json!({"op": "cidr", "name": "envelope.client_ip", "value": ["203.0.113.0/24"]}), true),
            (json!({"op": "cidr", "name": "event.user.ip_address", "value": "10.0.0.0/8"}), true),
            (json!({"op": "cidr", "name": "event.level", "value": "10.0.0.0/8"}), false),
            (json!({"op": "release", "name": "event.release", "value": ["<2.1.1"]}), true),
            (json!({"op": "and", "inner": []}), true),
            (json!({"op": "or", "inner": []}), false),
            (json!({"op": "not", "inner": {"op": "or", "inner": []}}), true),
        ];
        for (condition, expected) in table {
            assert_eq!(holds(condition.clone()), expected, "{condition}");
        }
    }

    #[test]
    fn any_and_all_look_at_the_elements_of_a_list() {
        let test = |op: &str, name: &str, glob: &str| json!({"op": op, "name": name, "inner": {"op": "glob", "name": "ty", "value": [glob]}});
        assert!(holds(test("any", "event.exceptions", "Timeout*")));
        assert!(holds(test("any", "event.exception", "Timeout*")));
        assert!(holds(test("all", "event.exceptions", "*Error")));
        assert!(!holds(test("all", "event.exceptions", "Timeout*")));
        assert!(!holds(test("all", "event.threads", "*")), "nothing is said of a list that is not there");
    }

    #[test]
    fn a_condition_that_is_not_understood_as_a_whole_is_not_used_at_all() {
        let condition: Condition =
            serde_json::from_value(json!({"op": "not", "inner": {"op": "or", "inner": [{"op": "guess"}]}})).unwrap();
        assert!(Test::compile(&condition).is_none());
    }
}
