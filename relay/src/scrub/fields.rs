//! What is below a value, for looking up many keys: an object finds a key by looking at all of them, which for each of forty
//! thousand annotations would take a second.

use std::collections::HashMap;

use picket_common::tree::Value;

/// Up to here each key is looked for as it comes.
const FEW_LOOK_UPS: usize = 16;

/// The values below a value by the segments of their paths.
pub(super) enum Fields<'v> {
    /// As they stand there.
    Few(Option<&'v Value<'v>>),
    /// An object's, by key.
    Many(HashMap<&'v str, &'v Value<'v>>),
}

impl<'v> Fields<'v> {
    /// Prepares for so many look-ups.
    pub(super) fn of(value: Option<&'v Value<'v>>, look_ups: usize) -> Self {
        match value {
            Some(Value::Object(object)) if look_ups > FEW_LOOK_UPS => Self::Many(object.iter().collect()),
            other => Self::Few(other),
        }
    }

    /// The value at a key, or at an index written as a number.
    pub(super) fn get(&self, segment: &str) -> Option<&'v Value<'v>> {
        match self {
            Self::Many(fields) => fields.get(segment).copied(),
            Self::Few(Some(Value::Array(elements))) => elements.get(segment.parse::<usize>().ok()?),
            Self::Few(value) => (*value)?.get(segment),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use picket_common::tree::read;

    use super::*;

    #[test]
    fn forty_thousand_annotations_do_not_look_through_forty_thousand_keys_each() {
        let value = read(br#"{"a":1,"b":[2],"":3}"#).unwrap();
        let (few, many) = (Fields::of(Some(&value), 1), Fields::of(Some(&value), 40_000));
        assert!(matches!((&few, &many), (Fields::Few(_), Fields::Many(_))));
        for key in ["a", "b", "", "0", "none"] {
            assert_eq!(few.get(key), many.get(key), "{key}");
        }
        let list = Fields::of(value.get("b"), 40_000);
        assert_eq!(list.get("0"), Some(&Value::from(2_u64)));
        assert_eq!((list.get("1"), list.get("x"), Fields::of(None, 40_000).get("a")), (None, None, None));
    }
}
