//! What is said about values: redactions, repairs, cuts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::path::{Path, Segment};
use super::value::Value;

/// Annotations in the shape of the payload. Nodes are made on demand; most payloads have none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetaTree {
    /// What is said about the value here.
    pub meta: Meta,
    /// By key, or by index as a decimal number.
    children: BTreeMap<Box<str>, MetaTree>,
}

/// What is said about one value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meta {
    /// What rules did to it, in order.
    pub remarks: Vec<Remark>,
    /// What was wrong with it.
    pub errors: Vec<MetaError>,
    /// How long it was: characters of a string, elements of a container.
    pub original_length: Option<u64>,
    /// What it was, where that may be kept.
    pub original_value: Option<Value<'static>>,
}

/// What a rule did to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Which rule.
    pub rule: Cow<'static, str>,
    /// What it did.
    pub kind: RemarkKind,
    /// Which bytes of the new string it is about; `None` for the value as a whole.
    pub range: Option<(usize, usize)>,
}

/// What a rule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemarkKind {
    /// Only looked at.
    Annotated,
    /// Taken away.
    Removed,
    /// Replaced by other text.
    Substituted,
    /// Covered, character by character.
    Masked,
    /// Replaced by a hash.
    Pseudonymised,
    /// Replaced by a ciphertext.
    Encrypted,
}

/// What was wrong with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct MetaError {
    /// A stable word: `invalid_data`, `past_timestamp`, …
    pub kind: Cow<'static, str>,
    /// More about it, such as `reason`.
    pub data: Vec<(Cow<'static, str>, Value<'static>)>,
}

// === impl RemarkKind ===

impl RemarkKind {
    /// The protocol's letter.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Annotated => "a",
            Self::Removed => "x",
            Self::Substituted => "s",
            Self::Masked => "m",
            Self::Pseudonymised => "p",
            Self::Encrypted => "e",
        }
    }

    /// The kind of a letter.
    #[must_use]
    pub fn from_letter(letter: &str) -> Option<Self> {
        [Self::Annotated, Self::Removed, Self::Substituted, Self::Masked, Self::Pseudonymised, Self::Encrypted]
            .into_iter()
            .find(|kind| kind.letter() == letter)
    }
}

// === impl Remark ===

impl Remark {
    /// A remark on a value as a whole.
    #[must_use]
    pub fn whole(rule: impl Into<Cow<'static, str>>, kind: RemarkKind) -> Self {
        Self { rule: rule.into(), kind, range: None }
    }

    /// A remark on bytes `start..end` of the new string.
    #[must_use]
    pub fn span(rule: impl Into<Cow<'static, str>>, kind: RemarkKind, start: usize, end: usize) -> Self {
        Self { rule: rule.into(), kind, range: Some((start, end)) }
    }
}

// === impl MetaError ===

impl MetaError {
    /// An error without more about it.
    #[must_use]
    pub fn new(kind: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: kind.into(), data: Vec::new() }
    }

    /// A value that is not what its place holds.
    #[must_use]
    pub fn invalid_data(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new("invalid_data").with("reason", Value::String(reason.into()))
    }

    /// Adds a datum.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value<'static>>) -> Self {
        self.data.push((Cow::Borrowed(key), value.into()));
        self
    }
}

// === impl Meta ===

impl Meta {
    /// Whether nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.remarks.is_empty()
            && self.errors.is_empty()
            && self.original_length.is_none()
            && self.original_value.is_none()
    }

    /// Adds an error that is not there yet, so that saying the same twice changes nothing.
    pub fn add_error(&mut self, error: MetaError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    /// Notes the original length, unless an earlier stage knows one.
    pub const fn note_length(&mut self, length: usize) {
        if self.original_length.is_none() {
            self.original_length = Some(length as u64);
        }
    }

    fn merge(&mut self, other: Self) {
        self.remarks.extend(other.remarks);
        other.errors.into_iter().for_each(|error| self.add_error(error));
        self.original_length = self.original_length.or(other.original_length);
        self.original_value = self.original_value.take().or(other.original_value);
    }
}

// === impl MetaTree ===

impl MetaTree {
    /// What is said about the value at a path; nodes on the way are made.
    pub fn at(&mut self, path: &Path<'_>) -> &mut Meta {
        &mut self.node(path).meta
    }

    /// The node at a path, made if it is missing.
    pub fn node(&mut self, path: &Path<'_>) -> &mut Self {
        match path.split() {
            None => self,
            Some((parent, segment)) => {
                let parent = self.node(parent);
                match segment {
                    Segment::Key(key) => parent.child_made(key),
                    Segment::Index(index) => parent.child_made(&index.to_string()),
                }
            }
        }
    }

    /// What is said about the value at a path.
    #[must_use]
    pub fn get(&self, path: &Path<'_>) -> Option<&Meta> {
        self.find(path).map(|node| &node.meta)
    }

    /// The node at a path.
    #[must_use]
    pub fn find(&self, path: &Path<'_>) -> Option<&Self> {
        if self.children.is_empty() && path.depth() > 0 {
            return None;
        }
        match path.split() {
            None => Some(self),
            Some((parent, Segment::Key(key))) => self.find(parent)?.child(key),
            Some((parent, Segment::Index(index))) => self.find(parent)?.child(&index.to_string()),
        }
    }

    /// The node of a key or index.
    #[must_use]
    pub fn child(&self, key: &str) -> Option<&Self> {
        self.children.get(key)
    }

    /// The node of a key or index.
    #[must_use]
    pub fn child_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.children.get_mut(key)
    }

    /// The nodes below, with their keys or indices.
    pub fn children(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.children.iter().map(|(key, child)| (key.as_ref(), child))
    }

    /// The nodes below, with their keys or indices.
    pub fn children_mut(&mut self) -> impl Iterator<Item = (&str, &mut Self)> {
        self.children.iter_mut().map(|(key, child)| (key.as_ref(), child))
    }

    /// Takes the node of a key or index out, for a value that is moved.
    pub fn remove_child(&mut self, key: &str) -> Option<Self> {
        self.children.remove(key)
    }

    /// Puts a node at a key or index, replacing what was there.
    pub fn set_child(&mut self, key: &str, child: Self) {
        self.children.insert(key.into(), child);
    }

    /// Forgets what is said about everything below, for a value that was replaced as a whole.
    pub fn clear_children(&mut self) {
        self.children.clear();
    }

    /// Whether nothing is said, here and below. What is said about the value of an empty key does not count: the JSON form has
    /// no place for it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty() && self.children.iter().all(|(key, child)| key.is_empty() || child.is_empty())
    }

    /// Adds what another tree says.
    pub fn merge(&mut self, other: Self) {
        self.meta.merge(other.meta);
        for (key, child) in other.children {
            self.child_made(&key).merge(child);
        }
    }

    fn child_made(&mut self, key: &str) -> &mut Self {
        // Two look-ups, because the key is copied only where a node is made.
        if !self.children.contains_key(key) {
            self.children.insert(key.into(), Self::default());
        }
        self.children.entry(key.into()).or_default()
    }
}
