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
const PERCENT_SIGNS: u32 = 56;

const AT: u16 = 1;
const SLASH: u16 = 1 << 1;
const EQUALS: u16 = 1 << 2;
const PERCENT: u16 = 1 << 3;
const PASSWORD_WORD: u16 = 1 << 4;
const BEARER_WORD: u16 = 1 << 5;
const HOME_WORD: u16 = 1 << 6;
/// Part of a name that the strict profile knows.
const SECRET_WORD: u16 = 1 << 7;
/// The beginning of a token of a well-known form.
const TOKEN_HEAD: u16 = 1 << 8;
const ALL_WORDS: u16 = PASSWORD_WORD | BEARER_WORD | HOME_WORD | SECRET_WORD | TOKEN_HEAD;

/// The words that are looked for, in any case, with the flags that each sets. None is shorter than four letters.
const WORDS: [(&str, u16); 69] = [
    ("password", PASSWORD_WORD | SECRET_WORD),
    ("secret", PASSWORD_WORD | SECRET_WORD),
    ("passwd", PASSWORD_WORD | SECRET_WORD),
    ("api_key", PASSWORD_WORD | SECRET_WORD),
    ("api-key", PASSWORD_WORD | SECRET_WORD),
    ("apikey", PASSWORD_WORD | SECRET_WORD),
    ("auth", PASSWORD_WORD | SECRET_WORD),
    ("credentials", PASSWORD_WORD | SECRET_WORD),
    ("mysql_pwd", PASSWORD_WORD),
    ("privatekey", PASSWORD_WORD | SECRET_WORD),
    ("private_key", PASSWORD_WORD | SECRET_WORD),
    ("private-key", PASSWORD_WORD | SECRET_WORD),
    ("token", PASSWORD_WORD | SECRET_WORD),
    ("bearer", BEARER_WORD),
    ("users", HOME_WORD),
    ("home", HOME_WORD),
    ("documents and settings", HOME_WORD),
    ("profiles", HOME_WORD),
    ("passphrase", SECRET_WORD),
    ("passwort", SECRET_WORD),
    ("passcode", SECRET_WORD),
    ("-pass", SECRET_WORD),
    ("_pass", SECRET_WORD),
    ("<pass", SECRET_WORD),
    ("-pwd", SECRET_WORD),
    ("_pwd", SECRET_WORD),
    ("<pwd", SECRET_WORD),
    ("access_key", SECRET_WORD),
    ("access-key", SECRET_WORD),
    ("accesskey", SECRET_WORD),
    ("signing_key", SECRET_WORD),
    ("signing-key", SECRET_WORD),
    ("signingkey", SECRET_WORD),
    ("encryption_key", SECRET_WORD),
    ("encryption-key", SECRET_WORD),
    ("encryptionkey", SECRET_WORD),
    ("credential", SECRET_WORD),
    ("sessionid", SECRET_WORD),
    ("session_id", SECRET_WORD),
    ("session-id", SECRET_WORD),
    // The first four letters of a JSON object in Base64 that begins with one of the members of a JOSE header.
    ("eyJh", TOKEN_HEAD),
    ("eyJ0", TOKEN_HEAD),
    ("eyJr", TOKEN_HEAD),
    ("eyJl", TOKEN_HEAD),
    ("eyJj", TOKEN_HEAD),
    ("eyJ4", TOKEN_HEAD),
    ("eyJq", TOKEN_HEAD),
    ("eyJ6", TOKEN_HEAD),
    ("akia", TOKEN_HEAD),
    ("asia", TOKEN_HEAD),
    ("aiza", TOKEN_HEAD),
    ("ghp_", TOKEN_HEAD),
    ("gho_", TOKEN_HEAD),
    ("ghu_", TOKEN_HEAD),
    ("ghs_", TOKEN_HEAD),
    ("ghr_", TOKEN_HEAD),
    ("github_pat_", TOKEN_HEAD),
    ("xoxa-", TOKEN_HEAD),
    ("xoxb-", TOKEN_HEAD),
    ("xoxe-", TOKEN_HEAD),
    ("xoxp-", TOKEN_HEAD),
    ("xoxr-", TOKEN_HEAD),
    ("xoxs-", TOKEN_HEAD),
    ("k_live_", TOKEN_HEAD),
    ("k_test_", TOKEN_HEAD),
    ("glpat-", TOKEN_HEAD),
    ("npm_", TOKEN_HEAD),
    ("sntry", TOKEN_HEAD),
    ("basic ", TOKEN_HEAD),
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
    table[b'%' as usize] = 1 << PERCENT_SIGNS;
    table
};

/// Bits of the set of word beginnings: 2 KiB, of which less than one bit in three hundred is set.
const BEGINNING_BITS: u32 = 14;

/// The first four letters of each word, hashed.
const BEGINNINGS: [u64; 1 << (BEGINNING_BITS - 6)] = {
    let mut set = [0; 1 << (BEGINNING_BITS - 6)];
    let mut index = 0;
    while index < WORDS.len() {
        let bit = hash_of_four(FIRST_FOUR[index]);
        set[bit / 64] |= 1 << (bit % 64);
        index += 1;
    }
    set
};

/// The first four letters of each word, in the form of [`four`].
const FIRST_FOUR: [u32; WORDS.len()] = {
    let mut letters = [0; WORDS.len()];
    let mut index = 0;
    while index < WORDS.len() {
        let word = WORDS[index].0.as_bytes();
        letters[index] = four(word[0], word[1], word[2], word[3]);
        index += 1;
    }
    letters
};

/// Four letters as a number that is the same for both cases of a letter.
const fn four(first: u8, second: u8, third: u8, fourth: u8) -> u32 {
    u32::from_le_bytes([first, second, third, fourth]) | 0x2020_2020
}

const fn hash_of_four(letters: u32) -> usize {
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
    flags: u16,
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
        for_each_word(bytes, |_, flags| {
            facts.flags |= flags;
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
        for (signs, flag) in [(AT_SIGNS, AT), (SLASHES, SLASH), (EQUALS_SIGNS, EQUALS), (PERCENT_SIGNS, PERCENT)] {
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

    /// Whether there is a `%`.
    #[must_use]
    pub const fn has_percent(&self) -> bool {
        self.flags & PERCENT != 0
    }

    /// Whether there is part of a longer name that the strict profile takes for that of a secret.
    #[must_use]
    pub const fn has_secret_word(&self) -> bool {
        self.flags & SECRET_WORD != 0
    }

    /// Whether there is the beginning of a token of a well-known form.
    #[must_use]
    pub const fn has_token_head(&self) -> bool {
        self.flags & TOKEN_HEAD != 0
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

/// Calls `found` with each word that occurs and its flags, until it says no.
fn for_each_word(bytes: &[u8], mut found: impl FnMut(&'static str, u16) -> bool) {
    for (at, letters) in bytes.windows(4).enumerate() {
        let letters = four(letters[0], letters[1], letters[2], letters[3]);
        let bit = hash_of_four(letters);
        if BEGINNINGS[bit / 64] >> (bit % 64) & 1 == 0 {
            continue;
        }
        for ((word, flags), _) in WORDS.into_iter().zip(FIRST_FOUR).filter(|&(_, first)| first == letters) {
            let here = bytes.get(at..at + word.len()).is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()));
            if here && !found(word, flags) {
                return;
            }
        }
    }
}

/// Whether one of the words that the default password rule looks for anywhere occurs; `token` alone does not count.
pub(super) fn has_password_word_but_token(bytes: &[u8]) -> bool {
    let mut has_word = false;
    for_each_word(bytes, |word, flags| {
        has_word |= flags & PASSWORD_WORD != 0 && word != "token";
        !has_word
    });
    has_word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_in_any_case_and_at_any_place() {
        for (word, flags) in WORDS {
            for text in [word.to_owned(), word.to_uppercase(), format!("passbe{word}x")] {
                assert_eq!(TextFacts::of(&text).flags & flags, flags, "{text}");
            }
            let cut = &word[..word.len() - 1];
            let is_word_itself = WORDS.iter().any(|(other, _)| cut.contains(other));
            assert!(is_word_itself || TextFacts::of(cut).flags & ALL_WORDS == 0, "{cut}");
        }
    }

    #[test]
    fn counts_are_right_across_blocks_and_saturate() {
        let facts = TextFacts::of(&"1:-.".repeat(100));
        assert_eq!((facts.digits(), facts.colons(), facts.dashes(), facts.dots()), (100, 100, 100, 100));
        assert!(!facts.has_at() && !facts.has_slash() && !facts.has_equals());
        assert_eq!(TextFacts::of(&"7".repeat(70_000)).digits(), u16::MAX);
        let signs = TextFacts::of(&format!("{}@=\\%", " ".repeat(600)));
        assert!(signs.has_at() && signs.has_slash() && signs.has_equals() && signs.has_percent());
    }
}
