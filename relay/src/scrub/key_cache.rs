//! Which rules a key makes apply, remembered: a stack trace has the same twenty keys in every frame.

use super::plan::{Plan, PlannedRule};

/// Keys longer than this are not remembered. Those of the protocol have up to twenty letters.
const KEY_BYTES: usize = 23;

/// A power of two; an event has about this many different keys.
const SLOTS: usize = 128;

/// A table with one slot for each hash; a new key takes the place of the former.
pub(super) struct KeyCache<'p> {
    rules: Vec<&'p PlannedRule>,
    slots: Box<[Slot; SLOTS]>,
}

#[derive(Clone, Copy)]
struct Slot {
    key: [u8; KEY_BYTES],
    /// Above [`KEY_BYTES`] in an empty slot.
    length: u8,
    bits: u64,
}

impl<'p> KeyCache<'p> {
    pub(super) fn new(plan: &'p Plan) -> Self {
        let mut rules: Vec<&PlannedRule> = Vec::new();
        for planned in plan.key_rules() {
            if !rules.iter().any(|known| known.rule.is_same_as(&planned.rule)) {
                rules.push(planned);
            }
        }
        let empty = Slot { key: [0; KEY_BYTES], length: u8::MAX, bits: 0 };
        Self { rules, slots: Box::new([empty; SLOTS]) }
    }

    /// The bits of the rules that a value under this key is redacted by.
    pub(super) fn bits(&mut self, key: &str) -> u64 {
        let bytes = key.as_bytes();
        if bytes.len() > KEY_BYTES {
            return of_rules(&self.rules, key);
        }
        // FNV-1a: short keys, and a collision only costs asking the rules again.
        let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let slot = &mut self.slots[(hash ^ (hash >> 16)) as usize % SLOTS];
        let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
        if slot.length == length && slot.key[..bytes.len()] == *bytes {
            return slot.bits;
        }
        let bits = of_rules(&self.rules, key);
        slot.key[..bytes.len()].copy_from_slice(bytes);
        (slot.length, slot.bits) = (length, bits);
        bits
    }
}

fn of_rules(rules: &[&PlannedRule], key: &str) -> u64 {
    rules.iter().filter(|planned| planned.rule.matches_key(key)).fold(0, |bits, planned| bits | planned.key_bit)
}
