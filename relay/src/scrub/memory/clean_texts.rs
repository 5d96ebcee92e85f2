//! Texts in which no rule found anything, remembered from event to event: the events of an application name the same functions,
//! files, modules and lines of source again and again.
//!
//! Invariants: a text is known only if it is the same, byte by byte, under the same rules; what takes memory is bounded by the
//! constants below, whatever texts come. Texts that are seen once, as most values of variables are, take no memory at all.

use std::hash::Hasher;

use rustc_hash::FxHasher;

/// What a text was looked at with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::scrub) struct RuleSet {
    /// The rules.
    pub(in crate::scrub) number: u8,
    /// Whether it was taken for the path of a program or library.
    pub(in crate::scrub) is_path: bool,
}

/// Shorter texts are looked at sooner than they are found.
const MIN_BYTES: usize = 12;
/// Names and source lines are shorter.
const MAX_BYTES: usize = 256;
/// A power of two. With texts of the greatest length the table has 1 MiB.
const SLOTS: usize = 4096;

/// A table with one slot for each hash.
#[derive(Debug)]
pub(in crate::scrub) struct CleanTexts {
    slots: Vec<Option<Known>>,
    /// The hash of what came last to each slot and found it taken by another text or by none.
    candidates: Vec<u32>,
}

#[derive(Debug)]
struct Known {
    rules: RuleSet,
    text: Box<str>,
}

/// Where a text would be.
#[derive(Debug, Clone, Copy)]
pub(in crate::scrub) struct Room {
    slot: usize,
    candidate: u32,
    rules: RuleSet,
}

/// Whether a text is known.
#[derive(Debug, Clone, Copy)]
pub(in crate::scrub) enum Looked {
    /// No rule finds anything in it.
    Clean,
    /// It is to be looked at; if no rule finds anything, that can be noted here.
    Unknown(Room),
    /// It is to be looked at and is not of a length that is remembered.
    Never,
}

impl CleanTexts {
    pub(in crate::scrub) fn new() -> Self {
        Self { slots: std::iter::repeat_with(|| None).take(SLOTS).collect(), candidates: vec![0; SLOTS] }
    }

    pub(in crate::scrub) fn look_up(&self, text: &str, rules: RuleSet) -> Looked {
        if !(MIN_BYTES..=MAX_BYTES).contains(&text.len()) {
            return Looked::Never;
        }
        let mut hasher = FxHasher::default();
        hasher.write(text.as_bytes());
        hasher.write_u16(u16::from(rules.number) * 2 + u16::from(rules.is_path));
        let hash = hasher.finish();
        // The upper bits choose the slot, others tell candidates apart.
        let slot = (hash >> 52) as usize % SLOTS;
        match &self.slots[slot] {
            Some(known) if known.rules == rules && *known.text == *text => Looked::Clean,
            #[expect(clippy::cast_possible_truncation, reason = "some of the bits are what is wanted")]
            _ => Looked::Unknown(Room { slot, candidate: hash as u32, rules }),
        }
    }

    /// No rule has found anything in a text that was looked up here: it is remembered the second time.
    pub(in crate::scrub) fn note(&mut self, room: Room, text: &str) {
        let candidate = &mut self.candidates[room.slot];
        if *candidate == room.candidate {
            self.slots[room.slot] = Some(Known { rules: room.rules, text: text.into() });
        } else {
            *candidate = room.candidate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: RuleSet = RuleSet { number: 1, is_path: false };

    fn see(texts: &mut CleanTexts, text: &str, rules: RuleSet) -> bool {
        match texts.look_up(text, rules) {
            Looked::Clean => return true,
            Looked::Unknown(room) => texts.note(room, text),
            Looked::Never => {}
        }
        false
    }

    #[test]
    fn a_text_is_known_from_its_third_time_on_and_under_its_own_rules_only() {
        let mut texts = CleanTexts::new();
        let seen: Vec<bool> = (0..4).map(|_| see(&mut texts, "django/core/handlers/base.py", ONE)).collect();
        assert_eq!(seen, [false, false, true, true]);
        assert!(!see(&mut texts, "django/core/handlers/base.py", RuleSet { number: 2, ..ONE }));
        assert!(!see(&mut texts, "django/core/handlers/base.py", RuleSet { is_path: true, ..ONE }));
        assert!(!see(&mut texts, "django/core/handlers/base.pi", ONE));
    }

    #[test]
    fn texts_that_come_once_leave_those_alone_that_come_again() {
        let mut texts = CleanTexts::new();
        let known = "django/core/handlers/base.py";
        while !see(&mut texts, known, ONE) {}
        for number in 0..20_000 {
            let _ = see(&mut texts, &format!("order 4711-{number} of today"), ONE);
        }
        assert!(see(&mut texts, known, ONE));
        assert!(texts.slots.iter().flatten().count() < 10);
    }

    #[test]
    fn short_and_long_texts_are_never_remembered() {
        let mut texts = CleanTexts::new();
        for text in ["short".to_owned(), "x".repeat(MAX_BYTES + 1)] {
            for _ in 0..4 {
                assert!(!see(&mut texts, &text, ONE));
            }
        }
    }
}
