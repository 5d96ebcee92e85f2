//! What the rules make of a key, remembered from value to value and from event to event: a stack trace has the same twenty keys in
//! every frame, and all events of an SDK have the same two hundred.

use super::super::plan::{KeyId, Plan};

/// Keys longer than this are not remembered. Those of the protocol have up to twenty letters.
const KEY_BYTES: usize = 23;

/// A power of two; an SDK's events have about this many different keys.
const SLOTS: usize = 512;

/// A table with one slot for each hash; a new key takes the place of the former. Of some 20 KiB, whatever keys it is shown.
#[derive(Debug)]
pub(in crate::scrub) struct KeyCache {
    slots: Vec<Slot>,
}

/// What the rules make of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scrub) struct KeyFacts {
    /// Which of the selectors' keys it is.
    pub(in crate::scrub) id: KeyId,
    /// The bits of the rules that redact what stands at it.
    pub(in crate::scrub) rules: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    key: [u8; KEY_BYTES],
    /// Above [`KEY_BYTES`] in an empty slot.
    length: u8,
    facts: KeyFacts,
}

impl KeyFacts {
    /// Where there is no key.
    pub(in crate::scrub) const NO_KEY: Self = Self { id: KeyId::OTHER, rules: 0 };

    fn of(plan: &Plan, key: &str) -> Self {
        Self { id: plan.key(key), rules: plan.rules_of_key(key) }
    }
}

impl KeyCache {
    /// Remembers nothing yet. To be used with one plan only.
    pub(in crate::scrub) fn new() -> Self {
        Self { slots: vec![Slot { key: [0; KEY_BYTES], length: u8::MAX, facts: KeyFacts::NO_KEY }; SLOTS] }
    }

    /// What `plan` makes of a key.
    pub(in crate::scrub) fn facts(&mut self, plan: &Plan, key: &str) -> KeyFacts {
        let bytes = key.as_bytes();
        if bytes.len() > KEY_BYTES {
            return KeyFacts::of(plan, key);
        }
        // FNV-1a: short keys, and a collision only costs asking the rules again.
        let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let slot = &mut self.slots[(hash ^ (hash >> 16)) as usize % SLOTS];
        let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        if slot.length == length && slot.key[..bytes.len()] == *bytes {
            return slot.facts;
        }
        let facts = KeyFacts::of(plan, key);
        slot.key[..bytes.len()].copy_from_slice(bytes);
        (slot.length, slot.facts) = (length, facts);
        facts
    }
}
