//! Names that make a value sensitive: `password`, `api_key`, `Authorization` and their kin.
//!
//! Two readings. *By part* is the reference's: a name counts wherever it stands, so `author` is sensitive. *By word* cuts a
//! key into words at separators and capitals first, so `author` is not and `userAuth` is.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// Sensitive wherever they stand in a key, in any case.
const PARTS: &[&str] = &[
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
];

/// Sensitive as a whole key.
const WHOLE: &[&str] = &["otp", "two_factor", "two-factor"];

/// Sensitive by word, wherever they stand in a word: too long to be part of anything else.
const LONG_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "credential",
    "apikey",
    "privatekey",
    "accesskey",
    "sessionid",
    "sessid",
    "mysqlpwd",
    "accesstoken",
    "refreshtoken",
    "authtoken",
    "idtoken",
    "csrf",
    "xsrf",
];

/// Sensitive as a word of their own.
const WORDS: &[&str] = &[
    "auth",
    "authorization",
    "authentication",
    "bearer",
    "cookie",
    "cvc",
    "cvv",
    "jwt",
    "oauth",
    "otp",
    "pass",
    "pwd",
    "ssn",
    "token",
    "tokens",
    "totp",
];

/// Sensitive as words that follow each other.
const WORD_PAIRS: &[(&str, &str)] = &[
    ("access", "key"),
    ("api", "key"),
    ("encryption", "key"),
    ("private", "key"),
    ("session", "id"),
    ("session", "key"),
    ("set", "cookie"),
    ("signing", "key"),
    ("two", "factor"),
];

/// Longer keys are looked at up to here: nobody names a field so, and the work per key stays bounded.
const KEY_BYTES_MAX: usize = 256;

static PART: LazyLock<AhoCorasick> = LazyLock::new(|| automaton(PARTS));

fn automaton(words: &[&str]) -> AhoCorasick {
    #[expect(clippy::expect_used, reason = "a constant list of a dozen words is far from the automaton's limits")]
    AhoCorasick::builder().ascii_case_insensitive(true).build(words).expect("a small automaton")
}

/// Whether a key is sensitive by part.
#[must_use]
pub fn contains_part(key: &str) -> bool {
    WHOLE.iter().any(|whole| key.eq_ignore_ascii_case(whole)) || PART.is_match(key) || has_token_part(key)
}

/// Whether a text names something sensitive, so that by the reference's reading all of it is: one of the parts anywhere, or
/// `token` with a `:` or `=` in the same run of letters, digits, `-` and `_`.
#[must_use]
pub fn mentions(text: &str) -> bool {
    PART.is_match(text) || assigns_token(text)
}

/// `token` in a key, other than counts of what a language model used (`total_tokens`, `token_count`).
fn has_token_part(key: &str) -> bool {
    find_ignoring_case(key, "token").any(|end| {
        let rest = key.as_bytes().get(end..).unwrap_or_default();
        !["s", "_count", "-count", "count", "_limit", "_usage", "iz"]
            .iter()
            .any(|counter| rest.get(..counter.len()).is_some_and(|head| head.eq_ignore_ascii_case(counter.as_bytes())))
    })
}

fn assigns_token(text: &str) -> bool {
    find_ignoring_case(text, "token").any(|end| {
        let rest = text.as_bytes().get(end..).unwrap_or_default();
        let name_end = rest.iter().position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')));
        name_end.is_some_and(|at| matches!(rest.get(at), Some(b':' | b'=')))
    })
}

/// Where each occurrence ends, in bytes. `word` is lower case.
fn find_ignoring_case<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    let windows = text.as_bytes().windows(word.len()).enumerate();
    windows.filter(|(_, window)| window.eq_ignore_ascii_case(word.as_bytes())).map(|(start, _)| start + word.len())
}

/// Whether a key is sensitive by word.
#[must_use]
pub fn has_word(key: &str) -> bool {
    let key = key.get(..KEY_BYTES_MAX).unwrap_or(key);
    let mut joined = String::with_capacity(key.len());
    let mut starts = Vec::with_capacity(8);
    let mut before = ' ';
    for letter in key.chars() {
        if !letter.is_alphanumeric() {
            before = ' ';
            continue;
        }
        if !before.is_alphanumeric() || (letter.is_uppercase() && before.is_lowercase()) {
            starts.push(joined.len());
        }
        joined.extend(letter.to_lowercase());
        before = letter;
    }
    if LONG_WORDS.iter().any(|long| joined.contains(long)) {
        return true;
    }
    let word = |at: usize| {
        starts.get(at).and_then(|&start| joined.get(start..starts.get(at + 1).copied().unwrap_or(joined.len())))
    };
    (0..starts.len()).any(|at| {
        let (this, next) = (word(at).unwrap_or_default(), word(at + 1).unwrap_or_default());
        WORDS.contains(&this) || WORD_PAIRS.contains(&(this, next))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_part_a_name_counts_wherever_it_stands() {
        for key in ["password", "DB_PASSWORD", "author", "x-api-key", "otp", "two_factor", "csrf_token", "myTokenValue"]
        {
            assert!(contains_part(key), "{key}");
        }
        for key in ["user", "otpish", "total_tokens", "token_count", "path", "pwd"] {
            assert!(!contains_part(key), "{key}");
        }
    }

    #[test]
    fn by_word_only_words_count() {
        for key in [
            "password",
            "dbPassword",
            "X-Auth-Token",
            "Authorization",
            "userAuth",
            "API Key",
            "apiKey",
            "sessionId",
            "PASS",
            "pwd",
            "set-cookie",
            "client_secret",
        ] {
            assert!(has_word(key), "{key}");
        }
        for key in [
            "author",
            "authors",
            "coauthored",
            "compass",
            "passenger",
            "keyboard",
            "session",
            "monkey",
            "tokenizer",
            "",
        ] {
            assert!(!has_word(key), "{key}");
        }
    }

    #[test]
    fn a_text_mentions_a_secret_by_part_or_by_assigning_a_token() {
        assert!(mentions("the author is known"));
        assert!(mentions("token=abc") && mentions("TOKEN_ID: 5"));
        assert!(!mentions("unexpected token in line 5: x") && !mentions("all fine"));
    }
}
