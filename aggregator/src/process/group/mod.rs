//! Grouping: which events are the same problem.
//!
//! An event yields *variants*, each with the values that contribute to it and their hash. Two events belong to one issue if
//! and only if one of their hashes is equal. The strategies are tried in order and the first that contributes wins:
//!
//! 1. `fingerprint` of the event: replaces what follows, or, where it holds `{{ default }}`, adds to it;
//! 2. exceptions: type and frames of every exception of the chain, in-app frames (`app`) and all frames (`system`);
//! 3. message: the text as it was written, without its parameters;
//! 4. nothing: all such events of a project share one issue (`fallback`).
//!
//! This is the first version: per-platform frame rules, stack-trace rules, server-side fingerprint rules and message
//! parameterisation are not here yet. The hash formula (MD5 over the contributing values) and the variant names are the
//! lasting ones, so that what is stored now stays comparable. MD5 is a name here, not a protection.

mod exception;
mod fingerprint;
mod message;

use std::fmt;

use md5::{Digest, Md5};
use serde::Serialize;
use serde_json::Value;

/// The hash of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupingHash([u8; 16]);

impl GroupingHash {
    /// Wraps a digest.
    #[must_use]
    pub const fn from_bytes(digest: [u8; 16]) -> Self {
        Self(digest)
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut digest = Md5::new();
        for value in values {
            digest.update(value.as_bytes());
        }
        Self(digest.finalize().into())
    }
}

impl fmt::Display for GroupingHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for GroupingHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One way to look at an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variant {
    /// `app`, `system`, `default`, `custom_client_fingerprint` or `fallback`.
    pub name: &'static str,
    /// What contributes, in order.
    pub values: Vec<String>,
    /// The hash of the values.
    pub hash: GroupingHash,
}

impl Variant {
    fn new(name: &'static str, values: Vec<String>) -> Self {
        let hash = GroupingHash::of(values.iter().map(String::as_str));
        Self { name, values, hash }
    }
}

/// How an event is grouped. Never without a variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grouping {
    /// The variants that contribute, most significant first.
    pub variants: Vec<Variant>,
}

impl Grouping {
    /// The hashes of the variants, most significant first, none twice.
    #[must_use]
    pub fn hashes(&self) -> Vec<GroupingHash> {
        let mut hashes = Vec::with_capacity(self.variants.len());
        for variant in &self.variants {
            if !hashes.contains(&variant.hash) {
                hashes.push(variant.hash);
            }
        }
        hashes
    }
}

/// Groups an event.
#[must_use]
pub fn group(event: &Value) -> Grouping {
    let mut variants = exception::variants(event);
    if variants.is_empty() {
        variants = message::variant(event).into_iter().collect();
    }
    if variants.is_empty() {
        variants = vec![Variant::new("fallback", Vec::new())];
    }
    Grouping { variants: fingerprint::apply(event, variants) }
}

#[cfg(test)]
mod tests;
