//! An event as a tree that borrows from its text.
//!
//! ```text
//! payload ──read──▸ Document { value: Value<'payload>, meta: MetaTree } ──write_json──▸ payload
//!            └─ not JSON ─▸ read_lenient: what SDKs are known to break is repaired, each repair is an error in `meta`
//! ```
//!
//! Normalisation and scrubbing walk this tree; an event is parsed once for all of them. Why not `serde_json::Value`: nine of ten
//! strings of an event are never changed, and here they are never copied.
//!
//! Invariants:
//! - no tree is deeper than [`MAX_DEPTH`], so that recursive walks need a bounded stack;
//! - keys of an object are unique (the last of two in the text wins, as in every JSON library behind us) and keep their order;
//! - [`MetaTree`] mirrors the value: what is said about a value stands at the value's path.

mod lenient;
mod meta;
mod meta_json;
mod path;
mod read;
mod scan;
mod value;
mod write;

#[cfg(test)]
mod tests;

pub use lenient::{PythonFloats, read_lenient};
pub use meta::{Meta, MetaError, MetaTree, Remark, RemarkKind};
pub use path::{Path, Segment};
pub use read::{ReadError, read};
pub use value::{Number, Object, Value};

/// Deepest nesting that is kept. An event's own structure has about ten levels; what is deeper in a value becomes a string.
pub const MAX_DEPTH: usize = 100;

/// The key under which an event carries annotations about its own values.
const META_KEY: &str = "_meta";

/// A payload parsed, with what is said about its values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document<'a> {
    /// The payload, without `_meta`.
    pub value: Value<'a>,
    /// Its `_meta`, and what the stages add.
    pub meta: MetaTree,
}

// === impl Document ===

impl<'a> Document<'a> {
    /// Reads a payload: as JSON, else with the repairs of [`read_lenient`].
    ///
    /// # Errors
    /// [`ReadError`] if it is no JSON even so.
    pub fn read(text: &'a [u8], floats: PythonFloats) -> Result<Self, ReadError> {
        let mut meta = MetaTree::default();
        let mut value = match read(text) {
            Ok(value) => value,
            Err(_) => read_lenient(text, &mut meta, floats)?,
        };
        if let Some(object) = value.as_object_mut()
            && let Some(said) = object.remove(META_KEY)
        {
            meta.merge(MetaTree::from_value(&said));
        }
        Ok(Self { value, meta })
    }

    /// Appends the payload as JSON, with `_meta` as its last key where there is anything to say.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let Some(object) = self.value.as_object().filter(|_| !self.meta.is_empty()) else {
            self.value.write_json(out);
            return;
        };
        object.write_json_with(META_KEY, &self.meta.to_value(), out);
    }

    /// The payload as JSON, see [`Self::write_json`].
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        self.write_json(&mut out);
        out
    }
}
