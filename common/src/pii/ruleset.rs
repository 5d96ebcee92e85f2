//! Rules as they are written, and where they apply; the form that both kinds of settings are brought into.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::detect::{Detector, SensitiveNames};
use super::rule::Redaction;
use super::selector::{Selector, SelectorError};
use super::settings::PiiConfig;

/// Most rules that a project may write. Each pattern is bounded too, so this bounds what they take together.
pub const RULES_MAX: usize = 500;

/// Most selectors that a project may write.
pub const APPLICATIONS_MAX: usize = 500;

/// Most ids that the rules of a project may include together, and most that its selectors may apply together.
pub const IDS_MAX: usize = 5_000;

/// The text that stands for what was removed where a rule does not say otherwise.
pub const FILTERED: &str = "[Filtered]";

/// Why settings can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PiiError {
    /// A rule is wrong.
    #[error("scrubbing rule `{rule}`: {problem}")]
    Rule {
        /// Its id.
        rule: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A selector can't be read.
    #[error("scrubbing selector `{selector}`: {error}")]
    Selector {
        /// As it was written.
        selector: String,
        /// What is wrong with it, and where.
        error: SelectorError,
    },
    /// What a selector applies is wrong.
    #[error("scrubbing selector `{selector}`: {problem}")]
    Application {
        /// As it was written.
        selector: String,
        /// What is wrong.
        problem: String,
    },
    /// The names of a project's own can't be made one expression, as the compatible profile does.
    #[error("the {count} `sensitiveFields` can't be looked for: {problem}; use fewer or shorter names")]
    SensitiveFields {
        /// How many names there are.
        count: usize,
        /// What is wrong.
        problem: String,
    },
    /// There is too much of something.
    #[error("the scrubbing settings have {found} {what}; at most {most} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many may be.
        most: usize,
    },
}

impl PiiError {
    /// A rule is wrong.
    pub(super) fn rule(rule: &str, problem: impl Into<String>) -> Self {
        Self::Rule { rule: rule.to_owned(), problem: problem.into() }
    }
}

/// What to do with rule types and rules that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// Pass over them, as the reference does: a newer version may know them.
    Ignore,
    /// Refuse the settings: most likely it is a typing error, and personal data would stay.
    Refuse,
}

/// Rules and where they apply.
#[derive(Debug, Clone, Default)]
pub struct Ruleset {
    /// By id. Built-in rules are not in it.
    pub rules: BTreeMap<String, RuleSpec>,
    /// Ids by selector, in the order in which they run.
    pub applications: BTreeMap<Selector, Vec<String>>,
}

/// A rule as it is written.
#[derive(Debug, Clone)]
pub struct RuleSpec {
    /// What it looks for.
    pub kind: SpecKind,
    /// What becomes of what it finds.
    pub redaction: Redaction,
}

/// What a rule looks for, as it is written.
#[derive(Debug, Clone)]
pub enum SpecKind {
    /// Every value.
    Anything,
    /// A built-in detector.
    Detector(Detector),
    /// Values under these names.
    Names(Arc<SensitiveNames>),
    /// Values under the names of session cookies.
    SessionCookie,
    /// A regular expression.
    Pattern {
        /// The expression.
        pattern: String,
        /// The groups to redact; empty for the whole match.
        groups: Vec<usize>,
    },
    /// A regular expression for keys.
    RedactPair {
        /// The expression, in any case.
        key_pattern: String,
    },
    /// Other rules.
    Multiple {
        /// Their ids.
        rules: Vec<Cow<'static, str>>,
        /// Whether remarks show them.
        inner: Inner,
    },
    /// Not known; finds nothing.
    Unknown(String),
}

/// Whether the rules that a rule includes are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inner {
    /// Remarks carry their ids, and their redactions count.
    Shown,
    /// Remarks carry the including rule's id, and its redaction counts unless it is the default one.
    Hidden,
}

impl Ruleset {
    /// Reads advanced rules.
    ///
    /// # Errors
    /// [`PiiError`] naming the rule or selector.
    pub fn read(config: &PiiConfig, unknown: Unknown) -> Result<Self, PiiError> {
        bounded("rules", config.rules.len(), RULES_MAX)?;
        bounded("selectors", config.applications.len(), APPLICATIONS_MAX)?;
        let mut ruleset = Self::default();
        let mut included = 0;
        for (id, written) in &config.rules {
            let rule = RuleSpec::read(written, unknown).map_err(|problem| PiiError::rule(id, problem))?;
            if let SpecKind::Multiple { rules, .. } = &rule.kind {
                included += rules.len();
                bounded("included rules", included, IDS_MAX)?;
            }
            if let (SpecKind::Unknown(kind), Unknown::Refuse) = (&rule.kind, unknown) {
                return Err(PiiError::rule(id, unknown_type(kind)));
            }
            if (Unknown::Refuse, &Redaction::Unknown) == (unknown, &rule.redaction) {
                return Err(PiiError::rule(
                    id,
                    "its redaction method is unknown; there are default, remove, replace, mask and hash",
                ));
            }
            ruleset.rules.insert(id.clone(), rule);
        }
        let mut applied = 0;
        for (written, ids) in &config.applications {
            let selector: Selector =
                written.parse().map_err(|error| PiiError::Selector { selector: written.clone(), error })?;
            let ids = Vec::<String>::deserialize(ids).map_err(|_| PiiError::Application {
                selector: written.clone(),
                problem: "expected a list of rule ids".to_owned(),
            })?;
            applied += ids.len();
            bounded("applied rules", applied, IDS_MAX)?;
            // Two ways to write one selector, `a.b` and `a . b`.
            ruleset.applications.entry(selector).or_default().extend(ids);
        }
        Ok(ruleset)
    }
}

fn bounded(what: &'static str, found: usize, most: usize) -> Result<(), PiiError> {
    if found > most { Err(PiiError::TooMany { what, found, most }) } else { Ok(()) }
}

fn unknown_type(kind: &str) -> String {
    let known: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
    format!("there is no rule type `{kind}`; there are {}, pattern, redact_pair, multiple and alias", known.join(", "))
}

/// The rule types that take no parameters.
const WORDS: &[(&str, SpecKind)] = {
    use super::detect::{BearerCheck, CardCheck, Detector, HomePath, IbanCheck, IpCheck, UrlAuthPart};
    &[
        ("anything", SpecKind::Anything),
        ("imei", SpecKind::Detector(Detector::Imei)),
        ("mac", SpecKind::Detector(Detector::Mac)),
        ("uuid", SpecKind::Detector(Detector::Uuid)),
        ("email", SpecKind::Detector(Detector::Email)),
        ("ip", SpecKind::Detector(Detector::Ip(IpCheck::Form))),
        ("creditcard", SpecKind::Detector(Detector::CreditCard(CardCheck::Issuer))),
        ("iban", SpecKind::Detector(Detector::Iban(IbanCheck::Form))),
        ("userpath", SpecKind::Detector(Detector::UserPath(HomePath::Anywhere))),
        ("pemkey", SpecKind::Detector(Detector::PemKey)),
        ("url_auth", SpecKind::Detector(Detector::UrlAuth(UrlAuthPart::UserAndPassword))),
        ("us_ssn", SpecKind::Detector(Detector::UsSsn)),
        ("bearer", SpecKind::Detector(Detector::Bearer(BearerCheck::Word))),
        ("password", SpecKind::Detector(Detector::Password)),
        ("cookies", SpecKind::Detector(Detector::Cookies)),
    ]
};

/// A rule in JSON: the parameters of all types, those of other types ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(rename = "type")]
    kind: String,
    pattern: Option<String>,
    replace_groups: Option<Vec<usize>>,
    key_pattern: Option<String>,
    rules: Option<Vec<String>>,
    rule: Option<String>,
    #[serde(default)]
    hide_inner: bool,
    redaction: Option<WrittenRedaction>,
}

#[derive(Deserialize)]
struct WrittenRedaction {
    method: Option<String>,
    text: Option<String>,
}

/// The keys of a rule, whatever its type.
const RULE_KEYS: [&str; 8] =
    ["type", "pattern", "replaceGroups", "keyPattern", "rules", "rule", "hideInner", "redaction"];
/// The keys of a redaction, whatever its method.
const REDACTION_KEYS: [&str; 2] = ["method", "text"];

/// Refuses a misspelt key: a rule without what it says would do something else.
fn only_known(what: &str, fields: &serde_json::Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{what} has an unknown key `{key}`; there are {}", known.join(", "))),
        None => Ok(()),
    }
}

impl RuleSpec {
    fn read(written: &Value, unknown: Unknown) -> Result<Self, String> {
        let fields = written.as_object().ok_or("expected an object such as {\"type\": \"email\"}")?;
        let redaction = match fields.get("redaction") {
            None | Some(Value::Null) => None,
            Some(Value::Object(redaction)) => Some(redaction),
            Some(_) => return Err("expected its redaction to be an object such as {\"method\": \"mask\"}".to_owned()),
        };
        if unknown == Unknown::Refuse {
            only_known("it", fields, &RULE_KEYS)?;
            redaction.map_or(Ok(()), |redaction| only_known("its redaction", redaction, &REDACTION_KEYS))?;
        }
        let written = Written::deserialize(written).map_err(|error| error.to_string())?;
        let redaction = written.redaction.as_ref().map_or(Redaction::Default, WrittenRedaction::meaning);
        Ok(Self { kind: written.spec_kind()?, redaction })
    }
}

impl Written {
    fn spec_kind(self) -> Result<SpecKind, String> {
        let inner = if self.hide_inner { Inner::Hidden } else { Inner::Shown };
        let missing = |parameter: &str| format!("a rule of type `{}` needs `{parameter}`", self.kind);
        Ok(match self.kind.as_str() {
            "pattern" => SpecKind::Pattern {
                pattern: self.pattern.ok_or_else(|| missing("pattern"))?,
                groups: self.replace_groups.unwrap_or_default(),
            },
            "redact_pair" | "redactPair" => {
                SpecKind::RedactPair { key_pattern: self.key_pattern.ok_or_else(|| missing("keyPattern"))? }
            }
            "multiple" => {
                let rules = self.rules.ok_or_else(|| missing("rules"))?;
                SpecKind::Multiple { rules: rules.into_iter().map(Cow::Owned).collect(), inner }
            }
            "alias" => {
                let rule = self.rule.ok_or_else(|| missing("rule"))?;
                SpecKind::Multiple { rules: vec![Cow::Owned(rule)], inner }
            }
            word => WORDS
                .iter()
                .find(|(known, _)| *known == word)
                .map_or_else(|| SpecKind::Unknown(word.to_owned()), |(_, kind)| kind.clone()),
        })
    }
}

impl WrittenRedaction {
    fn meaning(&self) -> Redaction {
        match self.method.as_deref() {
            None | Some("default") => Redaction::Default,
            Some("remove") => Redaction::Remove,
            Some("replace") => {
                Redaction::Replace(self.text.as_ref().map_or(Cow::Borrowed(FILTERED), |text| Cow::Owned(text.clone())))
            }
            Some("mask") => Redaction::Mask,
            Some("hash") => Redaction::Hash,
            Some(_) => Redaction::Unknown,
        }
    }
}
