//! A compiled rule: what it looks for and what it puts in the place.
//!
//! Two ways to apply one:
//! - **to spans** of a text ([`RuleKind::Text`]): each span that the detector finds is redacted, the rest stays;
//! - **to a whole value**: [`RuleKind::Anything`] always, and every rule for which [`CompiledRule::matches_key`] holds for the
//!   value's key. A text becomes the redaction's text; every other value can only be removed.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::detect::{Detector, Held, NameProfile, SensitiveNames, is_session_cookie};

/// A rule that is ready to run. Cheap to clone.
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
    /// What a detector finds in a text. [`Detector::Password`] and [`Detector::PairValue`] look at keys as well.
    Text(Detector),
    /// Values under a sensitive key, whatever they say.
    Key(Arc<SensitiveNames>),
    /// Values under the name of a well-known session cookie; for cookies only.
    SessionCookie,
}

/// What becomes of what a rule finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redaction {
    /// Like `Remove`, but an including rule that hides its inner rules leaves theirs in force.
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

/// The names that [`Detector::Password`] goes by.
static PASSWORD_NAMES: LazyLock<SensitiveNames> = LazyLock::new(|| SensitiveNames::new(NameProfile::Compat));

impl CompiledRule {
    /// Whether it is the same rule, included in the same way.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.id == other.id && self.remark_id == other.remark_id && self.redaction == other.redaction
    }

    /// Whether [`Self::matches_key`] can hold for any key.
    #[must_use]
    pub const fn looks_at_keys(&self) -> bool {
        match &self.kind {
            RuleKind::Text(detector) => matches!(detector, Detector::Password | Detector::PairValue(_)),
            RuleKind::Key(_) | RuleKind::SessionCookie => true,
            RuleKind::Anything => false,
        }
    }

    /// Whether such a value under this key is redacted as a whole, because of the key.
    #[must_use]
    pub fn matches_key_holding(&self, key: &str, held: Held) -> bool {
        match &self.kind {
            RuleKind::Key(names) => names.contains_holding(key, held),
            _ => self.matches_key(key),
        }
    }

    /// Whether a text under this key is redacted as a whole, because of the key; other values never without that.
    #[must_use]
    pub fn matches_key(&self, key: &str) -> bool {
        match &self.kind {
            RuleKind::Text(Detector::Password) => PASSWORD_NAMES.contains(key),
            RuleKind::Text(Detector::PairValue(pattern)) => pattern.is_match(key),
            RuleKind::Key(names) => names.contains(key),
            RuleKind::SessionCookie => is_session_cookie(key),
            RuleKind::Anything | RuleKind::Text(_) => false,
        }
    }
}
