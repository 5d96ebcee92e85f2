//! The keys that selectors name, numbered, so that paths are compared by number.

use std::collections::HashMap;

/// A key that selectors name, or that none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::scrub) struct KeyId(u32);

/// Keys by their letters in lower case.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    numbers: HashMap<Box<str>, u32>,
    /// By the low five bits of the first byte, which are the same in both cases: a bit for each length there is. Most keys of
    /// an event end here.
    lengths: [u64; 32],
}

/// Keys longer than this are looked up at once; the bits of lengths end here.
const LENGTHS: usize = 63;

impl KeyId {
    /// No selector names it.
    pub(in crate::scrub) const OTHER: Self = Self(u32::MAX);

    /// Its place in tables; beyond their end for [`Self::OTHER`].
    pub(super) const fn position(self) -> usize {
        self.0 as usize
    }
}

impl KeyTable {
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a key that a selector names.
    pub(super) fn add(&mut self, key: &str) -> KeyId {
        let lower = key.to_lowercase();
        // The same key can have another length in lower case; then its first letter is not ASCII, see `find`.
        if let Some(&first) = lower.as_bytes().first() {
            self.lengths[usize::from(first & 31)] |= 1 << lower.len().min(LENGTHS);
        }
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        KeyId(*self.numbers.entry(lower.into()).or_insert(next))
    }

    pub(super) fn find(&self, key: &str) -> KeyId {
        let mut letters = [0; LENGTHS];
        let Some(letters) = letters.get_mut(..key.len()) else {
            return self.find_lower(&key.to_lowercase());
        };
        let Some(&first) = key.as_bytes().first() else {
            return self.find_lower("");
        };
        if self.lengths[usize::from(first & 31)] & (1 << key.len()) == 0 && key.is_ascii() {
            return KeyId::OTHER;
        }
        letters.copy_from_slice(key.as_bytes());
        letters.make_ascii_lowercase();
        match std::str::from_utf8(letters) {
            Ok(lower) if lower.is_ascii() => self.find_lower(lower),
            _ => self.find_lower(&key.to_lowercase()),
        }
    }

    fn find_lower(&self, lower: &str) -> KeyId {
        self.numbers.get(lower).map_or(KeyId::OTHER, |number| KeyId(*number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_any_case() {
        let mut table = KeyTable::default();
        let email = table.add("Email");
        let umlaut = table.add("Größe");
        let long = table.add(&"x".repeat(100));
        assert_eq!(table.add("EMAIL"), email);
        for (key, expected) in [
            ("email", email),
            ("EMAIL", email),
            ("größe", umlaut),
            ("GRÖßE", umlaut),
            (&*"X".repeat(100), long),
            ("e-mail", KeyId::OTHER),
            ("", KeyId::OTHER),
            ("emails", KeyId::OTHER),
        ] {
            assert_eq!(table.find(key), expected, "{key}");
        }
    }
}
