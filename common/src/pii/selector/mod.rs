//! Selectors: which values of an event a rule is for.
//!
//! ```text
//! or   := and ( ("||" | "|") and )*
//! and  := unary ( ("&&" | "&") unary )*
//! unary := ("!" | "~")? ( "(" or ")" | path )
//! path := item ( "." item )*
//! item := "$" type | "**" | "*" | index | key | "'" any text, '' is a quote "'"
//! key  := [A-Za-z_] [A-Za-z0-9_-]*
//! ```
//!
//! A path matches every value whose own path ends with it, keys in any case. `*` is one step, `**` any number; what stands before
//! `**` must stand together somewhere above. Blanks between words mean nothing.
//!
//! Invariants:
//! - what [`Selector`]'s `Display` writes is read back as the same selector (property test);
//! - no text makes the parser panic or recurse deeper than [`DEPTH_MAX`];
//! - the order of selectors is the order in which their rules run: conjunctions, disjunctions, negations, paths.

mod parse;
mod value_type;

use std::fmt;
use std::str::FromStr;

pub use parse::SelectorError;
pub(super) use parse::one_or;
pub use value_type::{TypeSet, ValueType};

/// Parentheses within each other.
pub const DEPTH_MAX: usize = 32;

/// Longest selector, in bytes. The longest that Sentry's editor makes is a few hundred.
pub const SELECTOR_BYTES_MAX: usize = 16 * 1024;

/// A condition on the path of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// All of them; at least two.
    And(Vec<Selector>),
    /// One of them; at least two.
    Or(Vec<Selector>),
    /// Not this.
    Not(Box<Selector>),
    /// The end of the path.
    Path(SelectorPath),
}

/// Items from the outermost to the value itself; at least one, at most one of them `**`, never `*` alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SelectorPath(Vec<SelectorItem>);

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SelectorItem {
    /// A value of this type.
    Type(ValueType),
    /// An element of an array, from 0.
    Index(usize),
    /// The value at a key.
    Key(Box<str>),
    /// Any one step.
    Wildcard,
    /// Any steps, also none.
    DeepWildcard,
}

// === impl SelectorPath ===

impl SelectorPath {
    /// A path of these items, for selectors that are made by the program.
    ///
    /// # Errors
    /// What is wrong with it, in words that end a sentence about the path.
    pub fn new(items: Vec<SelectorItem>) -> Result<Self, &'static str> {
        let deep = items.iter().filter(|item| **item == SelectorItem::DeepWildcard).count();
        match items.as_slice() {
            [] => Err("a path needs at least one item"),
            [SelectorItem::Wildcard] => Err("a single `*` would select by nothing; write `**` for every value"),
            _ if deep > 1 => Err("a path can have one `**` only"),
            _ => Ok(Self(items)),
        }
    }

    /// Every value: `**`.
    #[must_use]
    pub fn everything() -> Self {
        Self(vec![SelectorItem::DeepWildcard])
    }

    /// The items, outermost first.
    #[must_use]
    pub fn items(&self) -> &[SelectorItem] {
        &self.0
    }

    /// Whether it names what it selects, so that it reaches fields that generic selectors must not: keys, indices, `*` between
    /// them, and a type of the schema in first place; no `**` and no type that any value can have.
    #[must_use]
    pub fn is_specific(&self) -> bool {
        self.0.iter().enumerate().all(|(position, item)| match item {
            SelectorItem::DeepWildcard => false,
            SelectorItem::Type(kind) if kind.is_basic() => false,
            SelectorItem::Type(kind) => position == 0 || kind.is_memory(),
            SelectorItem::Index(_) | SelectorItem::Key(_) | SelectorItem::Wildcard => true,
        })
    }
}

// === impl Selector ===

impl Selector {
    /// The value at a key, wherever it is.
    #[must_use]
    pub fn key(key: &str) -> Self {
        Self::Path(SelectorPath(vec![SelectorItem::Key(key.into())]))
    }

    /// Whether one of its paths begins with `$attachments` and then names a file: only such selectors make the relay look
    /// into attachments.
    #[must_use]
    pub fn names_attachment(&self) -> bool {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().any(Self::names_attachment),
            Self::Not(inner) => inner.names_attachment(),
            Self::Path(path) => {
                matches!(path.items(), [SelectorItem::Type(ValueType::Attachments), SelectorItem::Key(_), ..])
            }
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        parse::selector(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(all) => joined(f, all, " && "),
            Self::Or(all) => joined(f, all, " || "),
            Self::Not(inner) if matches!(**inner, Self::Not(_)) => write!(f, "!({inner})"),
            Self::Not(inner) => write!(f, "!{inner}"),
            Self::Path(path) => write!(f, "{path}"),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, all: &[Selector], operator: &str) -> fmt::Result {
    f.write_str("(")?;
    for (position, selector) in all.iter().enumerate() {
        if position > 0 {
            f.write_str(operator)?;
        }
        write!(f, "{selector}")?;
    }
    f.write_str(")")
}

impl fmt::Display for SelectorPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, item) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

impl fmt::Display for SelectorItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(kind) => write!(f, "${}", kind.name()),
            Self::Index(index) => write!(f, "{index}"),
            Self::Key(key) if parse::is_plain_key(key) => f.write_str(key),
            Self::Key(key) => write!(f, "'{}'", key.replace('\'', "''")),
            Self::Wildcard => f.write_str("*"),
            Self::DeepWildcard => f.write_str("**"),
        }
    }
}

#[cfg(test)]
mod tests;
