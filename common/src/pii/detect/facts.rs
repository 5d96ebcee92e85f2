//! What one cheap pass over a text tells, so that most texts are never shown to a pattern.
//!
//! One table look-up a byte counts what matters; a hash of each four letters, looked up in a small bit set, finds where a word may
//! begin. No step waits for the one before. Both are independent of the rules, so that a text is looked at once however
//! many rules apply to it.

/// Counts are eight lanes of one word, 8 bits each; a block is short enough that no lane overflows.
const BLOCK_BYTES: usize = 255;
const DIGITS: u32 = 0;
const COLONS: u32 = 8;
const DASHES: u32 = 16;
const DOTS: u32 = 24;
const AT_SIGNS: u32 = 32;
const SLASHES: u32 = 40;
const EQUALS_SIGNS: u32 = 48;

const AT: u8 = 1;
const SLASH: u8 = 1 << 1;
const EQUALS: u8 = 1 << 2;
const PASSWORD_WORD: u8 = 1 << 3;
const BEARER_WORD: u8 = 1 << 4;
const HOME_WORD: u8 = 1 << 5;
const ALL_WORDS: u8 = PASSWORD_WORD | BEARER_WORD | HOME_WORD;

/// The words that are looked for, in any case, with the flag that each sets. None is shorter than four letters.
const WORDS: [(&str, u8); 18] = [
    ("password", PASSWORD_WORD),
    ("secret", PASSWORD_WORD),
    ("passwd", PASSWORD_WORD),
    ("api_key", PASSWORD_WORD),
    ("api-key", PASSWORD_WORD),
    ("apikey", PASSWORD_WORD),
    ("auth", PASSWORD_WORD),
    ("credentials", PASSWORD_WORD),
    ("mysql_pwd", PASSWORD_WORD),
    ("privatekey", PASSWORD_WORD),
    ("private_key", PASSWORD_WORD),
    ("private-key", PASSWORD_WORD),
    ("token", PASSWORD_WORD),
    ("bearer", BEARER_WORD),
    ("users", HOME_WORD),
    ("home", HOME_WORD),
    ("documents and settings", HOME_WORD),
    ("profiles", HOME_WORD),
];

const COUNTS: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = b'0';
    while byte <= b'9' {
        table[byte as usize] = 1 << DIGITS;
        byte += 1;
    }
    table[b':' as usize] = 1 << COLONS;
    table[b'-' as usize] = 1 << DASHES;
    table[b'.' as usize] = 1 << DOTS;
    table[b'@' as usize] = 1 << AT_SIGNS;
    table[b'/' as usize] = 1 << SLASHES;
    table[b'\\' as usize] = 1 << SLASHES;
    table[b'=' as usize] = 1 << EQUALS_SIGNS;
    table
};

/// Bits of the set of word beginnings: 1 KiB, of which less than one bit in four hundred is set.
const BEGINNING_BITS: u32 = 13;

/// The first four letters of each word, hashed.
const BEGINNINGS: [u64; 1 << (BEGINNING_BITS - 6)] = {
    let mut set = [0; 1 << (BEGINNING_BITS - 6)];
    let mut index = 0;
    while index < WORDS.len() {
        let word = WORDS[index].0.as_bytes();
        let bit = hash_of_four(word[0], word[1], word[2], word[3]);
        set[bit / 64] |= 1 << (bit % 64);
        index += 1;
    }
    set
};

/// A hash that is the same for both cases of a letter.
const fn hash_of_four(first: u8, second: u8, third: u8, fourth: u8) -> usize {
    let letters = u32::from_le_bytes([first, second, third, fourth]) | 0x2020_2020;
    // Knuth's multiplicative hash; the upper bits are the mixed ones.
    (letters.wrapping_mul(2_654_435_761) >> (32 - BEGINNING_BITS)) as usize
}

/// What is known of one text. Counts saturate at 65 535.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextFacts {
    len: usize,
    digits: u16,
    colons: u16,
    dashes: u16,
    dots: u16,
    flags: u8,
}

impl TextFacts {
    /// Looks at a text once.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self::of_bytes(text.as_bytes())
    }

    /// Looks at bytes once.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut facts = Self { len: bytes.len(), digits: 0, colons: 0, dashes: 0, dots: 0, flags: 0 };
        for block in bytes.chunks(BLOCK_BYTES) {
            facts.add_block(block);
        }
        for_each_word(bytes, |_, flag| {
            facts.flags |= flag;
            facts.flags & ALL_WORDS != ALL_WORDS
        });
        facts
    }

    fn add_block(&mut self, block: &[u8]) {
        let counts = block.iter().fold(0, |counts, &byte| counts + COUNTS[usize::from(byte)]);
        let lane = |lane: u32| u16::from((counts >> lane).to_le_bytes()[0]);
        self.digits = self.digits.saturating_add(lane(DIGITS));
        self.colons = self.colons.saturating_add(lane(COLONS));
        self.dashes = self.dashes.saturating_add(lane(DASHES));
        self.dots = self.dots.saturating_add(lane(DOTS));
        for (signs, flag) in [(AT_SIGNS, AT), (SLASHES, SLASH), (EQUALS_SIGNS, EQUALS)] {
            self.flags |= if lane(signs) > 0 { flag } else { 0 };
        }
    }

    /// Length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a length of something else, not of a collection")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Number of ASCII digits.
    #[must_use]
    pub const fn digits(&self) -> u16 {
        self.digits
    }

    /// Number of `:`.
    #[must_use]
    pub const fn colons(&self) -> u16 {
        self.colons
    }

    /// Number of `-`.
    #[must_use]
    pub const fn dashes(&self) -> u16 {
        self.dashes
    }

    /// Number of `.`.
    #[must_use]
    pub const fn dots(&self) -> u16 {
        self.dots
    }

    /// Whether there is an `@`.
    #[must_use]
    pub const fn has_at(&self) -> bool {
        self.flags & AT != 0
    }

    /// Whether there is a `/` or a `\`.
    #[must_use]
    pub const fn has_slash(&self) -> bool {
        self.flags & SLASH != 0
    }

    /// Whether there is a `=`.
    #[must_use]
    pub const fn has_equals(&self) -> bool {
        self.flags & EQUALS != 0
    }

    /// Whether a word of the default password rule occurs, `token` included.
    #[must_use]
    pub const fn has_password_word(&self) -> bool {
        self.flags & PASSWORD_WORD != 0
    }

    /// Whether `bearer` occurs.
    #[must_use]
    pub const fn has_bearer_word(&self) -> bool {
        self.flags & BEARER_WORD != 0
    }

    /// Whether the name of a directory occurs that holds home directories.
    #[must_use]
    pub const fn has_home_word(&self) -> bool {
        self.flags & HOME_WORD != 0
    }
}

/// Calls `found` with each word that occurs and its flag, until it says no.
fn for_each_word(bytes: &[u8], mut found: impl FnMut(&'static str, u8) -> bool) {
    for (at, letters) in bytes.windows(4).enumerate() {
        let bit = hash_of_four(letters[0], letters[1], letters[2], letters[3]);
        if BEGINNINGS[bit / 64] >> (bit % 64) & 1 == 0 {
            continue;
        }
        for (word, flag) in WORDS {
            let here = bytes.get(at..at + word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()));
            if here && !found(word, flag) {
                return;
            }
        }
    }
}

/// Whether one of the words that the default password rule looks for anywhere occurs; `token` alone does not count.
pub(super) fn has_password_word_but_token(bytes: &[u8]) -> bool {
    let mut has_word = false;
    for_each_word(bytes, |word, flag| {
        has_word |= flag == PASSWORD_WORD && word != "token";
        !has_word
    });
    has_word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_in_any_case_and_at_any_place() {
        for (word, flag) in WORDS {
            for text in [word.to_owned(), word.to_uppercase(), format!("passbe{word}x")] {
                assert_eq!(TextFacts::of(&text).flags & flag, flag, "{text}");
            }
            let cut = &word[..word.len() - 1];
            assert_eq!(TextFacts::of(cut).flags & ALL_WORDS, 0, "{cut}");
        }
    }

    #[test]
    fn counts_are_right_across_blocks_and_saturate() {
        let facts = TextFacts::of(&"1:-.".repeat(100));
        assert_eq!((facts.digits(), facts.colons(), facts.dashes(), facts.dots()), (100, 100, 100, 100));
        assert!(!facts.has_at() && !facts.has_slash() && !facts.has_equals());
        assert_eq!(TextFacts::of(&"7".repeat(70_000)).digits(), u16::MAX);
        let signs = TextFacts::of(&format!("{}@=\\", " ".repeat(600)));
        assert!(signs.has_at() && signs.has_slash() && signs.has_equals());
    }
}
