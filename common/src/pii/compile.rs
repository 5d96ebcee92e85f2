//! From rules as they are written to rules that run.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::builtin;
use super::convert::{STRIP_FIELDS, convert};
use super::detect::{Case, CustomPattern, Detector, KeyPattern};
use super::rule::{CompiledRule, Redaction, RuleKind};
use super::ruleset::{Inner, PiiError, RuleSpec, Ruleset, SpecKind, Unknown};
use super::selector::Selector;
use super::settings::ScrubSettings;

/// How far rules may include each other.
const INCLUSION_DEPTH_MAX: usize = 200;

/// A selector with the rules that run where it matches, in their order.
#[derive(Debug, Clone)]
pub struct CompiledApplication {
    /// Where.
    pub selector: Selector,
    /// What, sorted by id.
    pub rules: Box<[CompiledRule]>,
}

/// Both passes over an event.
#[derive(Debug, Clone, Default)]
pub struct CompiledSettings {
    /// The project's own rules; they come first.
    pub advanced: Vec<CompiledApplication>,
    /// What the data-scrubbing switches add.
    pub defaults: Vec<CompiledApplication>,
}

/// Compiles settings for use. Rules that do not exist here are passed over, as a newer aggregator may know them.
///
/// # Errors
/// [`PiiError`] naming the rule or selector that can't be used. Events must not pass unscrubbed then.
pub fn compile(settings: &ScrubSettings) -> Result<CompiledSettings, PiiError> {
    compile_with(settings, Unknown::Ignore)
}

/// Checks settings that an operator is about to store: as [`compile`], and whatever is unknown is an error.
///
/// # Errors
/// [`PiiError`] naming the rule or selector and saying what is wrong with it.
pub fn validate(settings: &ScrubSettings) -> Result<(), PiiError> {
    compile_with(settings, Unknown::Refuse).map(drop)
}

fn compile_with(settings: &ScrubSettings, unknown: Unknown) -> Result<CompiledSettings, PiiError> {
    let advanced = match &settings.pii_config {
        Some(config) => Ruleset::read(config, unknown)?.compile(unknown)?,
        None => Vec::new(),
    };
    let switches = &settings.datascrubbing_settings;
    let defaults = convert(switches, settings.scrub_profile).compile(Unknown::Ignore).map_err(|error| match error {
        PiiError::Rule { rule, problem } if rule == STRIP_FIELDS => {
            PiiError::SensitiveFields { count: switches.sensitive_fields.len(), problem }
        }
        other => other,
    })?;
    Ok(CompiledSettings { advanced, defaults })
}

impl Ruleset {
    /// Compiles the rules of each selector.
    ///
    /// # Errors
    /// [`PiiError`] naming the rule, or the selector that applies a rule which does not exist.
    pub fn compile(&self, unknown: Unknown) -> Result<Vec<CompiledApplication>, PiiError> {
        let mut compiler = Compiler { rules: &self.rules, kinds: BTreeMap::new(), unknown };
        // Rules that nothing applies are checked too: their errors should not wait until something does.
        let mut checked = BTreeSet::new();
        for id in self.rules.keys() {
            compiler.visit(id, None, &mut checked, 0, &mut Vec::new())?;
        }
        let mut applications = Vec::with_capacity(self.applications.len());
        for (selector, ids) in &self.applications {
            let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
            for id in ids {
                if unknown == Unknown::Refuse && compiler.spec(id).is_none() {
                    return Err(PiiError::Application {
                        selector: selector.to_string(),
                        problem: format!("it applies the rule `{id}`, which does not exist"),
                    });
                }
                compiler.visit(id, None, &mut seen, 0, &mut found)?;
            }
            if !found.is_empty() {
                found.sort_by(|one, other| one.id.cmp(&other.id));
                applications.push(CompiledApplication { selector: selector.clone(), rules: found.into() });
            }
        }
        Ok(applications)
    }
}

struct Compiler<'r> {
    rules: &'r BTreeMap<String, RuleSpec>,
    /// What a project's rules look for; their patterns are compiled once, however often they are applied.
    kinds: BTreeMap<String, RuleKind>,
    unknown: Unknown,
}

/// A rule that includes others, as far as they must know.
#[derive(Clone)]
struct Including {
    remark_id: Cow<'static, str>,
    redaction: Redaction,
}

impl<'r> Compiler<'r> {
    fn spec(&self, id: &str) -> Option<Cow<'r, RuleSpec>> {
        self.rules.get(id).map(Cow::Borrowed).or_else(|| builtin::find(id).map(Cow::Owned))
    }

    /// Appends the rule and all that it includes, but for those that were seen before.
    fn visit(
        &mut self,
        id: &str,
        including: Option<&Including>,
        seen: &mut BTreeSet<String>,
        depth: usize,
        found: &mut Vec<CompiledRule>,
    ) -> Result<(), PiiError> {
        if seen.contains(id) {
            return Ok(());
        }
        let Some(spec) = self.spec(id) else {
            return Ok(());
        };
        if depth == INCLUSION_DEPTH_MAX {
            return Err(PiiError::rule(id, format!("rules include each other more than {INCLUSION_DEPTH_MAX} deep")));
        }
        seen.insert(id.to_owned());
        let (remark_id, redaction) = match including {
            None => (own_id(id), spec.redaction.clone()),
            Some(outer) if outer.redaction == Redaction::Default => (outer.remark_id.clone(), spec.redaction.clone()),
            Some(outer) => (outer.remark_id.clone(), outer.redaction.clone()),
        };
        let SpecKind::Multiple { rules, inner } = &spec.kind else {
            let Some(kind) = self.kind(id, &spec)? else {
                return Ok(());
            };
            // A cookie that goes by its name goes as the reference lets it go: by a selector for it and this rule.
            let remark_id = match kind {
                RuleKind::SessionCookie => Cow::Borrowed("@anything:filter"),
                _ => remark_id,
            };
            found.push(CompiledRule { id: own_id(id), remark_id, kind, redaction });
            return Ok(());
        };
        let hiding = match inner {
            Inner::Hidden => Some(Including { remark_id, redaction }),
            // What a hiding rule further out says, goes for all that it includes.
            Inner::Shown => including.cloned(),
        };
        for member in rules {
            let is_missing =
                self.unknown == Unknown::Refuse && self.rules.contains_key(id) && self.spec(member).is_none();
            if is_missing {
                return Err(PiiError::rule(id, format!("it includes the rule `{member}`, which does not exist")));
            }
            self.visit(member, hiding.as_ref(), seen, depth + 1, found)?;
        }
        Ok(())
    }

    fn kind(&mut self, id: &str, spec: &RuleSpec) -> Result<Option<RuleKind>, PiiError> {
        if let Some(kind) = self.kinds.get(id) {
            return Ok(Some(kind.clone()));
        }
        let invalid = |error: &dyn std::fmt::Display| PiiError::rule(id, error.to_string());
        let kind = match &spec.kind {
            SpecKind::Anything => RuleKind::Anything,
            SpecKind::Detector(detector) => RuleKind::Text(detector.clone()),
            SpecKind::Names(names) => RuleKind::Key(Arc::clone(names)),
            SpecKind::SessionCookie => RuleKind::SessionCookie,
            SpecKind::Pattern { pattern, groups } => {
                let compiled = CustomPattern::new(pattern, groups, Case::Sensitive).map_err(|error| invalid(&error))?;
                RuleKind::Text(Detector::Pattern(Arc::new(compiled)))
            }
            SpecKind::RedactPair { key_pattern } => {
                let compiled = KeyPattern::new(key_pattern, Case::Ignored).map_err(|error| invalid(&error))?;
                RuleKind::Text(Detector::PairValue(Arc::new(compiled)))
            }
            SpecKind::Multiple { .. } | SpecKind::Unknown(_) => return Ok(None),
        };
        self.kinds.insert(id.to_owned(), kind.clone());
        Ok(Some(kind))
    }
}

fn own_id(id: &str) -> Cow<'static, str> {
    Cow::Owned(id.to_owned())
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
