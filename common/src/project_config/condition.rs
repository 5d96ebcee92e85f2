//! Conditions over an event, as generic filters are written in: a tree of tests on named fields.
//!
//! ```text
//! {"op": "and", "inner": [{"op": "eq", "name": "event.release", "value": ["1.0", "1.1"], "options": {"ignoreCase": true}},
//!                         {"op": "not", "inner": {"op": "cidr", "name": "envelope.client_ip", "value": ["10.0.0.0/8"]}}]}
//! {"op": "any", "name": "event.exceptions", "inner": {"op": "glob", "name": "value", "value": ["*timeout*"]}}
//! ```
//!
//! | op | is true if |
//! | --- | --- |
//! | `eq` | the field is the value, or one of the values |
//! | `gt`, `gte`, `lt`, `lte` | it is a number and compares so |
//! | `glob` | it matches one of the globs |
//! | `cidr` | it is an address in one of the networks |
//! | `release` | it matches one of the globs, as a whole or by its version (`package@version`); or one of `<2.1`, `>=2` holds for its version |
//! | `and`, `or`, `not` | all, one, none of `inner` is |
//! | `any`, `all` | `inner` is for one, every element of the list `name`; names in it begin at the element |
//!
//! Bounds: [`MAX_DEPTH`] levels and [`MAX_NODES`] tests. What a relay does not know matches nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::filter_entry::{InvalidFilter, MAX_ENTRIES, network};
use super::version::VersionTest;
use crate::glob::Glob;

/// Most levels of a condition.
pub const MAX_DEPTH: usize = 10;
/// Most tests in a condition.
pub const MAX_NODES: usize = 200;

/// A condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the module's table says what each does")]
pub enum Condition {
    Eq(EqTest),
    Gt(NumberTest),
    Gte(NumberTest),
    Lt(NumberTest),
    Lte(NumberTest),
    Glob(TextTest),
    Cidr(TextTest),
    Release(TextTest),
    And {
        inner: Vec<Condition>,
    },
    Or {
        inner: Vec<Condition>,
    },
    Not {
        inner: Box<Condition>,
    },
    Any {
        name: String,
        inner: Box<Condition>,
    },
    All {
        name: String,
        inner: Box<Condition>,
    },
    #[serde(other)]
    Unknown,
}

/// A comparison with a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EqTest {
    /// The field.
    pub name: String,
    /// A string, number, boolean or null, or a list of such.
    pub value: Value,
    /// How.
    #[serde(default, skip_serializing_if = "EqOptions::is_default")]
    pub options: EqOptions,
}

/// How values are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EqOptions {
    /// Strings are equal if they are in lower case.
    pub ignore_case: bool,
}

/// A comparison with a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberTest {
    /// The field.
    pub name: String,
    /// The number.
    pub value: f64,
}

/// A comparison with patterns or networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextTest {
    /// The field.
    pub name: String,
    /// One or several.
    #[serde(deserialize_with = "one_or_many")]
    pub value: Vec<String>,
}

impl EqOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

// === impl Condition ===

impl Condition {
    /// Checks what an operator sets. `at` is where it stands.
    ///
    /// # Errors
    /// [`InvalidFilter`] for the first test that can't be used.
    pub fn validate(&self, at: &str) -> Result<(), InvalidFilter> {
        let mut nodes = 0;
        self.check(at, 1, &mut nodes)
    }

    fn check(&self, at: &str, depth: usize, nodes: &mut usize) -> Result<(), InvalidFilter> {
        *nodes += 1;
        if depth > MAX_DEPTH {
            return Err(InvalidFilter::new(at, format!("more than {MAX_DEPTH} levels of conditions")));
        }
        if *nodes > MAX_NODES {
            return Err(InvalidFilter::new(at, format!("more than {MAX_NODES} tests in one condition")));
        }
        match self {
            Self::Eq(test) => check_name(at, &test.name).and_then(|()| check_values(at, &test.value)),
            Self::Gt(test) | Self::Gte(test) | Self::Lt(test) | Self::Lte(test) => check_name(at, &test.name),
            Self::Glob(test) => {
                check_texts(at, test, |text| Glob::new(text).map(|_| ()).map_err(|error| error.to_string()))
            }
            Self::Cidr(test) => check_texts(at, test, |text| {
                network(text)
                    .map(|_| ())
                    .ok_or_else(|| "expected an address or a network such as 10.0.0.0/8".to_owned())
            }),
            Self::Release(test) => {
                check_texts(at, test, |text| VersionTest::read(text).map(|_| ()).map_err(|error| error.to_string()))
            }
            Self::And { inner } | Self::Or { inner } => {
                for (position, condition) in inner.iter().enumerate() {
                    condition.check(&format!("{at}.inner[{position}]"), depth + 1, nodes)?;
                }
                Ok(())
            }
            Self::Not { inner } => inner.check(&format!("{at}.inner"), depth + 1, nodes),
            Self::Any { name, inner } | Self::All { name, inner } => {
                check_name(at, name)?;
                inner.check(&format!("{at}.inner"), depth + 1, nodes)
            }
            Self::Unknown => Err(InvalidFilter::new(
                format!("{at}.op"),
                "expected eq, gt, gte, lt, lte, glob, cidr, release, and, or, not, any or all",
            )),
        }
    }
}

fn check_name(at: &str, name: &str) -> Result<(), InvalidFilter> {
    if name.is_empty() || name.len() > 200 || name.split('.').any(str::is_empty) {
        return Err(InvalidFilter::new(format!("{at}.name"), "expected a field such as event.release"));
    }
    Ok(())
}

fn check_values(at: &str, value: &Value) -> Result<(), InvalidFilter> {
    let is_scalar = |value: &Value| !value.is_array() && !value.is_object();
    let is_usable = match value {
        Value::Array(values) => values.len() <= MAX_ENTRIES && values.iter().all(is_scalar),
        other => is_scalar(other),
    };
    let problem = "expected a string, number, boolean or null, or a list of such";
    is_usable.then_some(()).ok_or_else(|| InvalidFilter::new(format!("{at}.value"), problem))
}

fn check_texts(at: &str, test: &TextTest, check: impl Fn(&str) -> Result<(), String>) -> Result<(), InvalidFilter> {
    check_name(at, &test.name)?;
    if test.value.len() > MAX_ENTRIES {
        let problem = format!("{} values, at most {MAX_ENTRIES} are taken", test.value.len());
        return Err(InvalidFilter::new(format!("{at}.value"), problem));
    }
    for (position, text) in test.value.iter().enumerate() {
        check(text).map_err(|problem| InvalidFilter::new(format!("{at}.value[{position}]"), problem))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn problem(condition: Value) -> String {
        let condition: Condition = serde_json::from_value(condition).unwrap();
        condition.validate("condition").unwrap_err().to_string()
    }

    #[test]
    fn a_condition_is_written_as_it_was_read() {
        let document = json!({"op": "and", "inner": [
            {"op": "eq", "name": "event.release", "value": ["1.0", null], "options": {"ignoreCase": true}},
            {"op": "not", "inner": {"op": "cidr", "name": "envelope.client_ip", "value": ["10.0.0.0/8"]}},
            {"op": "any", "name": "event.exceptions", "inner": {"op": "glob", "name": "value", "value": ["*timeout*"]}},
            {"op": "gte", "name": "event.contexts.app.build", "value": 3.0},
        ]});
        let condition: Condition = serde_json::from_value(document.clone()).unwrap();
        condition.validate("condition").unwrap();
        assert_eq!(serde_json::to_value(&condition).unwrap(), document);
    }

    #[test]
    fn depth_and_number_of_tests_are_bounded() {
        let mut deep = json!({"op": "eq", "name": "event.release", "value": "1"});
        for _ in 0..MAX_DEPTH {
            deep = json!({"op": "not", "inner": deep});
        }
        assert!(problem(deep).contains("more than 10 levels"));
        let test = json!({"op": "eq", "name": "event.release", "value": "1"});
        assert!(problem(json!({"op": "or", "inner": vec![test; MAX_NODES]})).contains("more than 200 tests"));
    }

    #[test]
    fn a_test_that_can_not_be_used_is_named() {
        for (condition, expected) in [
            (json!({"op": "eq", "name": "event..x", "value": 1}), "condition.name"),
            (json!({"op": "eq", "name": "event.x", "value": {}}), "condition.value"),
            (json!({"op": "glob", "name": "event.x", "value": "[a"}), "condition.value[0]"),
            (json!({"op": "cidr", "name": "event.x", "value": ["x"]}), "condition.value[0]"),
            (json!({"op": "release", "name": "event.release", "value": ["1.*", ">=1.0.*"]}), "condition.value[1]"),
            (json!({"op": "release", "name": "event.release", "value": ">"}), "condition.value[0]"),
            (json!({"op": "or", "inner": [{"op": "novelty"}]}), "condition.inner[0].op"),
        ] {
            let message = problem(condition);
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
