//! Names under which secrets are kept: keys of objects, headers, parameters.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

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
const STRICT_PARTS: [&str; 19] = [
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
];

/// Whole words of a name.
const STRICT_WORDS: [&str; 25] = [
    "auth",
    "authorization",
    "authorisation",
    "bearer",
    "cookie",
    "cookies",
    "csrf",
    "csrftoken",
    "cvc",
    "cvv",
    "jwt",
    "mfa",
    "oauth",
    "otp",
    "pass",
    "passcode",
    "pwd",
    "sess",
    "sid",
    "ssn",
    "token",
    "tokens",
    "totp",
    "xsrf",
    "xsrftoken",
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

/// Longer names are looked at up to here; none that a person or a program chose is as long.
const NAME_BYTES_MAX: usize = 128;

#[expect(clippy::expect_used, reason = "the parts are constants; a test looks for each")]
static COMPAT_AUTOMATON: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder().ascii_case_insensitive(true).build(COMPAT_PARTS).expect("a few parts fit an automaton")
});

#[expect(clippy::expect_used, reason = "the parts are constants; a test looks for each")]
static STRICT_AUTOMATON: LazyLock<AhoCorasick> =
    LazyLock::new(|| AhoCorasick::new(STRICT_PARTS).expect("a few parts fit an automaton"));

/// Names that mean a secret: those of a profile, and a project's own.
#[derive(Debug, Clone)]
pub struct SensitiveNames {
    profile: NameProfile,
    /// Any name that contains one of these, in any case.
    further: Option<AhoCorasick>,
    /// Names that are never sensitive, in any case.
    excluded: Vec<Box<str>>,
}

impl SensitiveNames {
    /// The names of a profile.
    #[must_use]
    pub const fn new(profile: NameProfile) -> Self {
        Self { profile, further: None, excluded: Vec::new() }
    }

    /// And any name that contains one of these, in any case. Empty ones count for nothing. More than an automaton holds
    /// (gigabytes of them) add nothing.
    #[must_use]
    pub fn and_containing<S: AsRef<str>>(mut self, parts: &[S]) -> Self {
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).filter(|part| !part.is_empty()).collect();
        if !parts.is_empty() {
            self.further = AhoCorasick::builder().ascii_case_insensitive(true).build(parts).ok();
        }
        self
    }

    /// But none of these, compared in any case.
    #[must_use]
    pub fn but_not<S: AsRef<str>>(mut self, names: &[S]) -> Self {
        self.excluded.extend(names.iter().map(|name| Box::from(name.as_ref())));
        self
    }

    /// Whether a value under this name is a secret.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.contains_bytes(name.as_bytes())
    }

    pub(super) fn contains_bytes(&self, name: &[u8]) -> bool {
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        let sensitive = match self.profile {
            NameProfile::Compat => is_sensitive_in_compat(name),
            NameProfile::Strict => is_sensitive_in_strict(name),
        };
        let further = || self.further.as_ref().is_some_and(|parts| parts.is_match(name));
        let excluded = || self.excluded.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(name));
        (sensitive || further()) && !excluded()
    }
}

fn is_sensitive_in_compat(name: &[u8]) -> bool {
    if COMPAT_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) {
        return true;
    }
    let mut parts = COMPAT_AUTOMATON.find_iter(name).map(|found| COMPAT_PARTS[found.pattern().as_usize()]).peekable();
    parts.peek().is_some() && (parts.any(|part| part != "token") || !Words::of(name).count_tokens())
}

fn is_sensitive_in_strict(name: &[u8]) -> bool {
    let words = Words::of(name);
    let by_word = words.iter().any(|word| STRICT_WORDS.iter().any(|known| known.as_bytes() == word));
    let by_part = || STRICT_AUTOMATON.is_match(words.together()) || words.together().ends_with(b"token");
    (by_word || by_part()) && !words.count_tokens()
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

    /// Whether the name counts tokens of a language model.
    fn count_tokens(&self) -> bool {
        let is_token = |word: &[u8]| matches!(word, b"token" | b"tokens");
        let is_counter = |word: &[u8]| COUNTER_WORDS.iter().any(|counter| counter.as_bytes() == word);
        let counts = self.iter().any(is_token) && self.iter().any(is_counter);
        counts && !self.iter().any(|word| matches!(word, b"auth" | b"access" | b"secret" | b"password"))
    }
}

#[cfg(test)]
mod tests {
    use super::{COMPAT_PARTS, NameProfile, STRICT_PARTS, STRICT_WORDS, SensitiveNames};

    #[test]
    fn every_listed_word_makes_a_name_sensitive() {
        let compat = SensitiveNames::new(NameProfile::Compat);
        let strict = SensitiveNames::new(NameProfile::Strict);
        for part in COMPAT_PARTS {
            assert!(compat.contains(&format!("x{part}y")), "{part}");
        }
        for part in STRICT_PARTS {
            assert!(strict.contains(&format!("x_{part}")), "{part}");
        }
        for word in STRICT_WORDS {
            assert!(strict.contains(&format!("my-{word}")), "{word}");
        }
    }

    #[test]
    fn names_are_told_apart_by_words_in_the_strict_profile() {
        let names = SensitiveNames::new(NameProfile::Strict);
        for sensitive in [
            "password",
            "userPassword",
            "DB_PASSWORD",
            "authToken",
            "X-Api-Key",
            "x-auth",
            "OAuth",
            "refresh_token",
            "accesstoken",
            "JWT",
            "client.secret",
            "Set-Cookie",
            "proxy-authorization",
            "tokens",
            "userJWT",
            "otp",
        ] {
            assert!(names.contains(sensitive), "{sensitive}");
        }
        for plain in [
            "author",
            "authors",
            "authored_by",
            "tokenizer",
            "max_tokens",
            "promptTokenCount",
            "compass",
            "passenger",
            "key",
            "name",
            "side",
            "",
            "keyboard",
            "usage.total_tokens",
        ] {
            assert!(!names.contains(plain), "{plain}");
        }
    }

    #[test]
    fn names_are_told_by_any_part_in_the_compat_profile() {
        let names = SensitiveNames::new(NameProfile::Compat);
        for sensitive in ["author", "myPassWord1", "xsrf_token", "OTP", "two_factor", "secretary", "token_auth_count"] {
            assert!(names.contains(sensitive), "{sensitive}");
        }
        for plain in ["otp_code", "two_factors", "max_tokens", "pwd", "session", "cookie", ""] {
            assert!(!names.contains(plain), "{plain}");
        }
    }

    #[test]
    fn a_project_adds_and_excludes_names() {
        let names =
            SensitiveNames::new(NameProfile::Strict).and_containing(&["iban", ""]).but_not(&["Token", "my_iban"]);
        assert!(names.contains("customerIBAN"));
        assert!(!names.contains("MY_IBAN"));
        assert!(!names.contains("token"));
        assert!(names.contains("user_token"));
    }
}
