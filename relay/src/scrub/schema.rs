//! What is known of an event's fields: which may hold personal data, which types selectors can call them by, what is below.
//!
//! The tables are walked in step with the event. A field's [`Access`] says who may touch it:
//!
//! | | generic selectors (`$string`, `**`) | selectors that name it | in the strict profile |
//! | --- | --- | --- | --- |
//! | [`OPEN`] | yes | yes | yes |
//! | [`NAMED`] | no | yes | as `OPEN` |
//! | [`STRICT`] | no | no | as `OPEN` |
//! | [`FIXED`] | no | no | no |
//!
//! What no table has, is as open as what it is part of; unknown top-level fields are open. The columns up to the third are the
//! reference's, as far as configurations depend on them.

use picket_common::pii::ScrubProfile;
use picket_common::pii::selector::{TypeSet, ValueType};

mod event;
mod other;

pub(super) use event::EVENT;
pub(super) use other::{CHECK_IN, FORM_DATA, HEADERS, SESSION, USER_REPORT};

/// Whether rules may touch a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sensitivity {
    /// Every selector can reach it.
    True,
    /// Only selectors that name it.
    Maybe,
    /// None.
    False,
}

/// Who may touch a field, by profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    compat: Sensitivity,
    strict: Sensitivity,
}

/// Every selector.
pub(super) const OPEN: Access = Access { compat: Sensitivity::True, strict: Sensitivity::True };
/// Selectors that name it; in the strict profile all.
pub(super) const NAMED: Access = Access { compat: Sensitivity::Maybe, strict: Sensitivity::True };
/// In the strict profile all.
pub(super) const STRICT: Access = Access { compat: Sensitivity::False, strict: Sensitivity::True };
/// None: numbers, identifiers and words that the product itself depends on.
pub(super) const FIXED: Access = Access { compat: Sensitivity::False, strict: Sensitivity::False };

/// What is known of a field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) access: Access,
    /// Beside what the value is in JSON.
    pub(super) types: TypeSet,
    pub(super) shape: Shape,
}

/// What is below a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Anything, as open as the field itself.
    Any,
    /// Known fields.
    Object(&'static Schema),
    /// A list of these, bare or under `values`.
    List(&'static Field),
    /// Names with values: an object, or a list of pairs that counts as one.
    Pairs(&'static Field),
    /// The path of a program or library file; its last component is needed to find symbols, and stays.
    ImagePath,
}

/// The fields of an object.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) fields: &'static [(&'static str, Field)],
    /// All others.
    pub(super) rest: Field,
}

impl Access {
    /// Under a profile.
    pub(super) const fn under(self, profile: ScrubProfile) -> Sensitivity {
        match profile {
            ScrubProfile::Compat => self.compat,
            ScrubProfile::Strict => self.strict,
        }
    }
}

impl Schema {
    /// What is known of a key.
    pub(super) fn field(&self, key: &str) -> &Field {
        // Length and first letter tell nearly all apart, without a call.
        let first = key.as_bytes().first();
        let is_it = |known: &str| known.len() == key.len() && known.as_bytes().first() == first && known == key;
        self.fields.iter().find(|(known, _)| is_it(known)).map_or(&self.rest, |(_, field)| field)
    }
}

/// A field of any content.
const fn any(access: Access) -> Field {
    Field { access, types: TypeSet::EMPTY, shape: Shape::Any }
}

/// A field with a type and something below.
const fn typed(access: Access, kind: ValueType, shape: Shape) -> Field {
    Field { access, types: TypeSet::of(kind), shape }
}

/// A field with something below.
const fn shaped(access: Access, shape: Shape) -> Field {
    Field { access, types: TypeSet::EMPTY, shape }
}
