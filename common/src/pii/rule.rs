//! A compiled rule: what it looks for and what it puts in the place.
//!
//! Two ways to apply one:
//! - **to spans** of a text ([`RuleKind::Text`], [`RuleKind::Pattern`]): each span found is redacted, the rest stays;
//! - **to a whole value** ([`RuleKind::Anything`], and [`RuleKind::Pair`] where the key or the text has a sensitive name).
//!   A text becomes the redaction's text; every other value can only be removed.

use std::borrow::Cow;
use std::ops::Range;

use regex::Regex;

use super::detect::Detector;
use super::sensitive_name;

/// A rule that is ready to run.
#[derive(Debug, Clone)]
pub struct CompiledRule {
    /// Its own id; rules of one selector run in the order of these.
    pub id: Cow<'static, str>,
    /// The id that remarks carry: the own one, or that of the rule which includes it and hides it.
    pub remark_id: Cow<'static, str>,
    /// What it looks for.
    pub kind: RuleKind,
    /// What becomes of what it finds.
    pub redaction: Redaction,
}

/// What a rule looks for.
#[derive(Debug, Clone)]
pub enum RuleKind {
    /// Every value, whatever it is.
    Anything,
    /// What a detector finds in a text.
    Text(Detector),
    /// What an operator's regular expression finds in a text.
    Pattern(UserPattern),
    /// Whole values that have a sensitive key, and whole texts that contain a sensitive name.
    Pair(PairNames),
}

/// An operator's regular expression.
#[derive(Debug, Clone)]
pub struct UserPattern {
    /// The expression, bounded in size.
    pub regex: Regex,
    /// The groups that are redacted, ascending; 0 is the whole match.
    pub groups: Box<[usize]>,
}

impl UserPattern {
    /// Appends the spans to redact, in bytes. Groups that overlap give overlapping spans; empty ones are left out.
    pub fn find(&self, text: &str, out: &mut Vec<Range<usize>>) {
        if *self.groups == [0] {
            out.extend(self.regex.find_iter(text).map(|found| found.range()).filter(|range| !range.is_empty()));
            return;
        }
        for captures in self.regex.captures_iter(text) {
            let groups = self.groups.iter().filter_map(|&group| captures.get(group));
            out.extend(groups.map(|found| found.range()).filter(|range| !range.is_empty()));
        }
    }
}

/// The names that make a value sensitive.
#[derive(Debug, Clone)]
pub enum PairNames {
    /// The default list, as the reference reads it: parts of words count (`author` has `auth`), a text with a name in it is
    /// sensitive as a whole.
    Password,
    /// The default list by words (`author` is none); texts are left to the detectors, which take the value's span only.
    PasswordByWord,
    /// What an operator wrote; counts wherever it matches in a key or a text.
    Custom(Regex),
}

impl PairNames {
    /// Whether a value under this key is sensitive.
    #[must_use]
    pub fn matches_key(&self, key: &str) -> bool {
        match self {
            Self::Password => sensitive_name::contains_part(key),
            Self::PasswordByWord => sensitive_name::has_word(key),
            Self::Custom(names) => names.is_match(key),
        }
    }

    /// Whether a text is sensitive as a whole because of what it says.
    #[must_use]
    pub fn matches_text(&self, text: &str) -> bool {
        match self {
            Self::Password => sensitive_name::mentions(text),
            Self::PasswordByWord => false,
            Self::Custom(names) => names.is_match(text),
        }
    }
}

/// What becomes of what a rule finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redaction {
    /// Like `Remove`, but gives way to the redaction of an included rule.
    Default,
    /// A span becomes nothing, a whole value null. Remark `x`.
    Remove,
    /// This text instead. Remark `s`.
    Replace(Cow<'static, str>),
    /// `*` for every character. Remark `m`.
    Mask,
    /// Forty upper-case hexadecimal digits: HMAC-SHA1 under an empty key. Remark `p`.
    Hash,
    /// A method of a newer version: nothing happens.
    Unknown,
}
