//! Patterns from a project's configuration.
//!
//! They are foreign input: their compiled size is bounded, they are run by automata only, and what they match in bytes does
//! not depend on Unicode tables.

use std::ops::Range;
use std::sync::OnceLock;

use regex::{Regex, RegexBuilder, bytes};

/// The most memory a compiled pattern may take.
pub const PATTERN_SIZE_LIMIT_BYTES: usize = 256 * 1024;

/// Whether letters match in both cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// `a` is not `A`.
    Sensitive,
    /// `a` is `A`.
    Ignored,
}

/// Why a pattern can't be used. The pattern itself is not repeated: it may hold what it is to find.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Not in the syntax of the `regex` crate.
    #[error("the pattern is not a valid regular expression: {0}")]
    Syntax(String),
    /// Larger than [`PATTERN_SIZE_LIMIT_BYTES`] when compiled.
    #[error(
        "the pattern takes more than {PATTERN_SIZE_LIMIT_BYTES} bytes when compiled: use smaller repetition counts"
    )]
    TooLarge,
    /// `replaceGroups` names a group that the pattern does not have.
    #[error("the pattern has no group {0}: it has groups 0 to {1}")]
    NoSuchGroup(usize, usize),
}

/// One pattern, compiled for texts now and for bytes when first needed.
#[derive(Debug)]
struct Compiled {
    text: Regex,
    case: Case,
    bytes: OnceLock<Option<bytes::Regex>>,
}

impl Compiled {
    fn new(pattern: &str, case: Case) -> Result<Self, InvalidPattern> {
        let text = RegexBuilder::new(pattern)
            .case_insensitive(case == Case::Ignored)
            .size_limit(PATTERN_SIZE_LIMIT_BYTES)
            .build()
            .map_err(|failure| match failure {
                regex::Error::CompiledTooBig(_) => InvalidPattern::TooLarge,
                other => InvalidPattern::Syntax(reason_line(&other.to_string())),
            })?;
        Ok(Self { text, case, bytes: OnceLock::new() })
    }

    /// The pattern for bytes: without Unicode, or with it where the pattern asks for Unicode classes.
    fn bytes(&self) -> Option<&bytes::Regex> {
        let build = || {
            let mut builder = bytes::RegexBuilder::new(self.text.as_str());
            builder.case_insensitive(self.case == Case::Ignored).size_limit(PATTERN_SIZE_LIMIT_BYTES);
            builder.unicode(false).build().or_else(|_| builder.unicode(true).build()).ok()
        };
        self.bytes.get_or_init(build).as_ref()
    }
}

/// The last line of a message of the `regex` crate: the reason. The lines before it repeat the pattern.
fn reason_line(message: &str) -> String {
    let last = message.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A `pattern` rule: what it matches, or some of its groups, is personal data.
#[derive(Debug)]
pub struct CustomPattern {
    compiled: Compiled,
    /// Sorted, no duplicates; `[0]` is the whole match.
    groups: Vec<usize>,
}

impl CustomPattern {
    /// Compiles a pattern. No `groups` means the whole match.
    ///
    /// # Errors
    /// If it is no regular expression, too large, or lacks a group.
    pub fn new(pattern: &str, groups: &[usize], case: Case) -> Result<Self, InvalidPattern> {
        let compiled = Compiled::new(pattern, case)?;
        let last_group = compiled.text.captures_len() - 1;
        if let Some(&missing) = groups.iter().find(|&&group| group > last_group) {
            return Err(InvalidPattern::NoSuchGroup(missing, last_group));
        }
        let mut groups = if groups.is_empty() { vec![0] } else { groups.to_vec() };
        groups.sort_unstable();
        groups.dedup();
        Ok(Self { compiled, groups })
    }

    pub(super) fn find(&self, text: &str, out: &mut Vec<Range<usize>>) {
        if self.groups == [0] {
            out.extend(self.compiled.text.find_iter(text).map(|found| found.range()));
            return;
        }
        for captures in self.compiled.text.captures_iter(text) {
            out.extend(self.groups.iter().filter_map(|&group| captures.get(group)).map(|found| found.range()));
        }
    }

    pub(super) fn find_bytes(&self, bytes: &[u8], out: &mut Vec<Range<usize>>) {
        let Some(pattern) = self.compiled.bytes() else { return };
        if self.groups == [0] {
            out.extend(pattern.find_iter(bytes).map(|found| found.range()));
            return;
        }
        for captures in pattern.captures_iter(bytes) {
            out.extend(self.groups.iter().filter_map(|&group| captures.get(group)).map(|found| found.range()));
        }
    }
}

/// The key pattern of a `redact_pair` rule.
#[derive(Debug)]
pub struct KeyPattern {
    compiled: Compiled,
}

impl KeyPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// If it is no regular expression or too large.
    pub fn new(pattern: &str, case: Case) -> Result<Self, InvalidPattern> {
        Ok(Self { compiled: Compiled::new(pattern, case)? })
    }

    /// Whether it matches somewhere in a key or value.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.text.is_match(text)
    }

    pub(super) fn find_bytes(&self, bytes: &[u8], out: &mut Vec<Range<usize>>) {
        let Some(pattern) = self.compiled.bytes() else { return };
        out.extend(pattern.find_iter(bytes).map(|found| found.range()));
    }
}
