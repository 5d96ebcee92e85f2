//! What one cheap pass over a text tells, so that most texts are never shown to a pattern.
//!
//! Two table look-ups a byte for counts and flags, one step of an automaton a byte for the words. Both are independent of the
//! rules, so that a text is looked at once however many rules apply to it.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind, StartKind};

/// Counts are four 16-bit lanes of one word, saturating at a block's end; a block is short enough that no lane overflows.
const BLOCK_BYTES: usize = 32 * 1024;
const DIGITS: u32 = 0;
const COLONS: u32 = 16;
const DASHES: u32 = 32;
const DOTS: u32 = 48;

const AT: u8 = 1;
const SLASH: u8 = 1 << 1;
const EQUALS: u8 = 1 << 2;
const PASSWORD_WORD: u8 = 1 << 3;
const BEARER_WORD: u8 = 1 << 4;
const HOME_WORD: u8 = 1 << 5;
const ALL_WORDS: u8 = PASSWORD_WORD | BEARER_WORD | HOME_WORD;

/// The words that are looked for, in any case, with the flag that each sets.
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

#[expect(clippy::expect_used, reason = "the words are constants; a test looks for each")]
static WORD_AUTOMATON: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .kind(Some(AhoCorasickKind::DFA))
        .start_kind(StartKind::Unanchored)
        .build(WORDS.map(|(word, _)| word))
        .expect("eighteen words fit an automaton")
});

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
    table
};

const FLAGS: [u8; 256] = {
    let mut table = [0; 256];
    table[b'@' as usize] = AT;
    table[b'/' as usize] = SLASH;
    table[b'\\' as usize] = SLASH;
    table[b'=' as usize] = EQUALS;
    table
};

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
        facts.flags |= words_of(bytes);
        facts
    }

    #[expect(clippy::cast_possible_truncation, reason = "each lane is 16 bits wide")]
    fn add_block(&mut self, block: &[u8]) {
        let mut counts = 0_u64;
        for &byte in block {
            counts += COUNTS[usize::from(byte)];
            self.flags |= FLAGS[usize::from(byte)];
        }
        self.digits = self.digits.saturating_add((counts >> DIGITS) as u16);
        self.colons = self.colons.saturating_add((counts >> COLONS) as u16);
        self.dashes = self.dashes.saturating_add((counts >> DASHES) as u16);
        self.dots = self.dots.saturating_add((counts >> DOTS) as u16);
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

/// The flags of all words that occur.
fn words_of(bytes: &[u8]) -> u8 {
    let mut flags = 0;
    for found in WORD_AUTOMATON.find_overlapping_iter(bytes) {
        flags |= WORDS[found.pattern().as_usize()].1;
        if flags == ALL_WORDS {
            break;
        }
    }
    flags
}

/// Whether one of the words that the default password rule looks for anywhere occurs; `token` alone does not count.
pub(super) fn has_password_word_but_token(bytes: &[u8]) -> bool {
    WORD_AUTOMATON.find_overlapping_iter(bytes).any(|found| {
        let (word, flag) = WORDS[found.pattern().as_usize()];
        flag == PASSWORD_WORD && word != "token"
    })
}
