//! Names under which secrets are kept: keys of objects, headers, parameters.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::bytes::{Regex, RegexBuilder};

use super::PATTERN_SIZE_LIMIT_BYTES;

/// Which names are sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameProfile {
    /// As existing configurations expect it: any name that contains one of the words, so `author` for its `auth` too.
    Compat,
    /// By words: `auth` and `authToken`, not `author`; and more of them.
    Strict,
}

/// Parts of a name that make it sensitive wherever they stand.
const COMPAT_PARTS: [&str; 13] = [
    "password",
    "secret",
    "passwd",
    "api_key",
    "api-key",
    "apikey",
    "auth",
    "credentials",
    "mysql_pwd",
    "privatekey",
    "private_key",
    "private-key",
    "token",
];

/// Names that are sensitive as they are.
const COMPAT_NAMES: [&str; 2] = ["otp", "two_factor"];

/// Parts of a name written together, without separators: `x-api-key` is `xapikey`.
const STRICT_PARTS: [&str; 21] = [
    "password",
    "passwd",
    "passwort",
    "passphrase",
    "mysqlpwd",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "secretkey",
    "signingkey",
    "encryptionkey",
    "credential",
    "accesstoken",
    "authtoken",
    "refreshtoken",
    "sessionid",
    "twofactor",
    "creditcard",
    "authcookie",
    "sessioncookie",
];

/// Whole words of a name that mean a secret.
const STRICT_WORDS: [&str; 14] = [
    "authorization",
    "authorisation",
    "bearer",
    "csrf",
    "csrftoken",
    "cvc",
    "cvv",
    "otp",
    "passcode",
    "pwd",
    "ssn",
    "totp",
    "xsrf",
    "xsrftoken",
];

/// Whole words of a name that mean a secret where a text stands under it; a number is a count or an id more often.
const TEXT_WORDS: [&str; 5] = ["jwt", "sess", "sid", "token", "tokens"];

/// The same, and a whole subject as well: what stands in `contexts.auth` is told by its own names.
const SUBJECT_WORDS: [&str; 4] = ["auth", "mfa", "oauth", "pass"];

/// Last words of names that tell something about a secret, and not the secret: `auth_method`, `jwt.alg`, `secret_name`.
const ABOUT_WORDS: [&str; 44] = [
    "alg",
    "algorithm",
    "at",
    "attempts",
    "count",
    "counts",
    "created",
    "duration",
    "enabled",
    "error",
    "errors",
    "exists",
    "expiration",
    "expired",
    "expires",
    "expiry",
    "failed",
    "failures",
    "flow",
    "kind",
    "length",
    "method",
    "methods",
    "ms",
    "name",
    "names",
    "provider",
    "providers",
    "rate",
    "required",
    "scheme",
    "seconds",
    "size",
    "status",
    "strategy",
    "success",
    "time",
    "timeout",
    "ttl",
    "type",
    "types",
    "valid",
    "verified",
    "version",
];

/// Words that make `token` a unit of language models: `max_tokens`, `prompt_token_count`.
const COUNTER_WORDS: [&str; 24] = [
    "audio",
    "cache",
    "cached",
    "completion",
    "count",
    "counts",
    "input",
    "limit",
    "max",
    "min",
    "num",
    "number",
    "output",
    "per",
    "prediction",
    "prompt",
    "reasoning",
    "remaining",
    "throughput",
    "total",
    "usage",
    "used",
    "n",
    "length",
];

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A text, or a list of anything.
    Text,
    /// A number.
    Number,
    /// An object: values with names of their own.
    Fields,
}

/// What a name says of the value under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    /// It is no secret.
    Plain,
    /// Texts are; the name as a whole is one word of [`SUBJECT_WORDS`] or has one.
    Subject,
    /// Texts and objects are.
    Text,
    /// It is, whatever it is.
    Secret,
}

/// Longer names are looked at up to here; none that a person or a program chose is as long.
const NAME_BYTES_MAX: usize = 128;

#[expect(clippy::expect_used, reason = "the parts are constants; a test looks for each")]
static COMPAT_AUTOMATON: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder().ascii_case_insensitive(true).build(COMPAT_PARTS).expect("a few parts fit an automaton")
});

#[expect(clippy::expect_used, reason = "the parts are constants; a test looks for each")]
static STRICT_AUTOMATON: LazyLock<AhoCorasick> =
    LazyLock::new(|| AhoCorasick::new(STRICT_PARTS).expect("a few parts fit an automaton"));

/// Bits of the set of beginnings: 512 bytes, of which less than one bit in a hundred is set.
const BEGINNING_BITS: u32 = 12;

/// The first three letters of each part and word of the strict profile, hashed: a name without any is not looked at further.
const BEGINNINGS: Beginnings = {
    let set = and_beginnings_of([0; 1 << (BEGINNING_BITS - 6)], &STRICT_PARTS);
    let set = and_beginnings_of(set, &STRICT_WORDS);
    and_beginnings_of(and_beginnings_of(set, &TEXT_WORDS), &SUBJECT_WORDS)
};

type Beginnings = [u64; 1 << (BEGINNING_BITS - 6)];

const fn and_beginnings_of(mut set: Beginnings, names: &[&str]) -> Beginnings {
    let mut index = 0;
    while index < names.len() {
        let letters = names[index].as_bytes();
        let bit = hash_of_three(letters[0], letters[1], letters[2]);
        set[bit / 64] |= 1 << (bit % 64);
        index += 1;
    }
    set
}

/// A hash that is the same for both cases of a letter.
const fn hash_of_three(first: u8, second: u8, third: u8) -> usize {
    let letters = u32::from_le_bytes([first, second, third, 0]) | 0x0020_2020;
    // Knuth's multiplicative hash; the upper bits are the mixed ones.
    (letters.wrapping_mul(2_654_435_761) >> (32 - BEGINNING_BITS)) as usize
}

/// Names that mean a secret: those of a profile, and a project's own.
#[derive(Debug, Clone)]
pub struct SensitiveNames {
    profile: NameProfile,
    /// Any name that contains one of these, in any case.
    further: Option<Further>,
    /// Names that are never sensitive, in any case.
    excluded: Vec<Box<str>>,
}

impl SensitiveNames {
    /// The names of a profile.
    #[must_use]
    pub const fn new(profile: NameProfile) -> Self {
        Self { profile, further: None, excluded: Vec::new() }
    }

    /// And any name that contains one of these, in any case. Empty ones count for nothing. More than an automaton or
    /// pattern holds (gigabytes of them; beyond ASCII, [`PATTERN_SIZE_LIMIT_BYTES`] compiled) add nothing.
    #[must_use]
    pub fn and_containing<S: AsRef<str>>(mut self, parts: &[S]) -> Self {
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() {
            self.further = Further::new(&parts);
        }
        self
    }

    /// But none of these, compared in any case.
    #[must_use]
    pub fn but_not<S: AsRef<str>>(mut self, names: &[S]) -> Self {
        self.excluded.extend(names.iter().map(|name| Box::from(name.as_ref())));
        self
    }

    /// Whether a text under this name is a secret.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.contains_bytes(name.as_bytes())
    }

    /// Whether it is one of the project's own names that makes this one sensitive.
    pub(super) fn adds(&self, name: &[u8]) -> bool {
        self.further.as_ref().is_some_and(|further| further.is_match(name))
    }

    /// Whether there are names of the project's own.
    pub(super) const fn has_additions(&self) -> bool {
        self.further.is_some()
    }

    /// Whether what stands under this name is a secret as a whole. Never more than for a text.
    #[must_use]
    pub fn contains_holding(&self, name: &str, held: Held) -> bool {
        match (self.sense(name.as_bytes()), held) {
            (Sense::Plain, _) => false,
            (Sense::Secret, _) | (_, Held::Text) => true,
            (Sense::Text, Held::Fields) => true,
            (Sense::Subject, Held::Fields) => false,
            // A name of one word says that the number is it: `token`, but not `auth_3` or a count of tokens.
            (Sense::Text | Sense::Subject, Held::Number) => {
                let mut words = name.split(|character: char| !character.is_alphanumeric());
                words.next().is_some_and(|word| !word.eq_ignore_ascii_case("tokens")) && words.next().is_none()
            }
        }
    }

    pub(super) fn contains_bytes(&self, name: &[u8]) -> bool {
        self.sense(name) != Sense::Plain
    }

    fn sense(&self, name: &[u8]) -> Sense {
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        let sense = match self.profile {
            NameProfile::Compat if is_sensitive_in_compat(name) => Sense::Secret,
            NameProfile::Compat => Sense::Plain,
            NameProfile::Strict => sense_in_strict(name),
        };
        let sense = if sense != Sense::Secret && self.adds(name) { Sense::Secret } else { sense };
        let excluded = || self.excluded.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(name));
        if sense != Sense::Plain && excluded() { Sense::Plain } else { sense }
    }
}

/// Names of a project, to be found inside of others in any case.
#[derive(Debug, Clone)]
enum Further {
    /// Letters of ASCII only.
    Ascii(AhoCorasick),
    /// Others too, whose cases Unicode knows.
    Unicode(Regex),
}

impl Further {
    fn new(parts: &[&str]) -> Option<Self> {
        if parts.iter().all(|part| part.is_ascii()) {
            return AhoCorasick::builder().ascii_case_insensitive(true).build(parts).ok().map(Self::Ascii);
        }
        let any = parts.iter().map(|part| regex::escape(part)).collect::<Vec<_>>().join("|");
        let pattern = RegexBuilder::new(&any).case_insensitive(true).size_limit(PATTERN_SIZE_LIMIT_BYTES).build();
        // Too many for a pattern: in the case they are written in, at least.
        pattern.map(Self::Unicode).or_else(|_| AhoCorasick::new(parts).map(Self::Ascii)).ok()
    }

    fn is_match(&self, name: &[u8]) -> bool {
        match self {
            Self::Ascii(parts) => parts.is_match(name),
            Self::Unicode(pattern) => pattern.is_match(name),
        }
    }
}

/// Whether a name is sensitive for a part that means a secret and nothing else, such as `password`; not for a word such as
/// `auth` or `token`, which titles of errors and modules have too.
pub(super) fn has_strict_part(name: &[u8]) -> bool {
    STRICT_AUTOMATON.is_match(Words::of(name).together())
}

/// Whether a text is a word or part of the strict profile and nothing else: the name of a field, not its value.
pub(super) fn is_strict_name(text: &[u8]) -> bool {
    let words = Words::of(text);
    let known = STRICT_PARTS.iter().chain(&STRICT_WORDS).chain(&TEXT_WORDS).chain(&SUBJECT_WORDS);
    text.len() <= NAME_BYTES_MAX && known.into_iter().any(|known| known.as_bytes() == words.together())
}

fn is_sensitive_in_compat(name: &[u8]) -> bool {
    if COMPAT_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
        return true;
    }
    let mut parts = COMPAT_AUTOMATON.find_iter(name).map(|found| COMPAT_PARTS[found.pattern().as_usize()]).peekable();
    parts.peek().is_some() && (parts.any(|part| part != "token") || !Words::of(name).count_tokens())
}

fn sense_in_strict(name: &[u8]) -> Sense {
    let begins = |letters: &[u8]| {
        let bit = hash_of_three(letters[0], letters[1], letters[2]);
        BEGINNINGS[bit / 64] >> (bit % 64) & 1 != 0
    };
    if !name.windows(3).any(begins) {
        return Sense::Plain;
    }
    let words = Words::of(name);
    let has_one_of = |listed: &[&str]| words.iter().any(|word| listed.iter().any(|known| known.as_bytes() == word));
    let together = words.together();
    let ends_in_token = together.len() > b"token".len() && together.ends_with(b"token");
    let sense = if has_one_of(&STRICT_WORDS) || STRICT_AUTOMATON.is_match(together) || ends_in_token {
        Sense::Secret
    } else if has_one_of(&TEXT_WORDS) {
        Sense::Text
    } else if has_one_of(&SUBJECT_WORDS) {
        Sense::Subject
    } else {
        return Sense::Plain;
    };
    if words.count_tokens() || words.are_about() { Sense::Plain } else { sense }
}

/// A name cut into its words (`authToken`, `auth_token`, `AUTH-TOKEN`), in small letters, on the stack.
struct Words {
    letters: [u8; NAME_BYTES_MAX],
    len: usize,
    /// `true` where a word starts.
    starts: [bool; NAME_BYTES_MAX],
}

impl Words {
    fn of(name: &[u8]) -> Self {
        let mut words = Self { letters: [0; NAME_BYTES_MAX], len: 0, starts: [false; NAME_BYTES_MAX] };
        let mut previous = b' ';
        for (at, &byte) in name.iter().take(NAME_BYTES_MAX).enumerate() {
            if byte.is_ascii_alphanumeric() || byte >= 0x80 {
                let after_small = previous.is_ascii_lowercase() || previous.is_ascii_digit();
                let before_small = name.get(at + 1).is_some_and(u8::is_ascii_lowercase);
                let hump =
                    byte.is_ascii_uppercase() && (after_small || (previous.is_ascii_uppercase() && before_small));
                let after_separator = !(previous.is_ascii_alphanumeric() || previous >= 0x80);
                words.letters[words.len] = byte.to_ascii_lowercase();
                words.starts[words.len] = hump || after_separator;
                words.len += 1;
            }
            previous = byte;
        }
        words
    }

    fn together(&self) -> &[u8] {
        &self.letters[..self.len]
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        std::iter::from_fn(move || {
            if start >= self.len {
                return None;
            }
            let end = (start + 1..self.len).find(|&at| self.starts[at]).unwrap_or(self.len);
            let word = &self.letters[start..end];
            start = end;
            Some(word)
        })
    }

    /// Whether the name is one of something about a secret.
    fn are_about(&self) -> bool {
        let last = self.iter().skip(1).last();
        last.is_some_and(|last| ABOUT_WORDS.iter().any(|known| known.as_bytes() == last))
    }

    /// Whether the name counts tokens of a language model.
    fn count_tokens(&self) -> bool {
        let is_token = |word: &[u8]| matches!(word, b"token" | b"tokens");
        let is_counter = |word: &[u8]| COUNTER_WORDS.iter().any(|counter| counter.as_bytes() == word);
        let counts = self.iter().any(is_token) && self.iter().any(is_counter);
        counts && !self.iter().any(|word| matches!(word, b"auth" | b"access" | b"secret" | b"password"))
    }
}

#[cfg(test)]
mod tests;
