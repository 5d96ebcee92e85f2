//! Globs, as inbound filters are written with: `*` any text, `?` one character, `[a-z]` and `[!a-z]` one of some characters,
//! `{a,b}` one of some texts, `\` takes the next character as it is. The whole text must match; case does not matter.
//!
//! Invariant: matching takes time linear in the text, whatever the pattern: plain pieces between stars are searched one after
//! the other, anything else is a regular expression without backtracking.

use memchr::memmem::Finder;
use regex::{Regex, RegexBuilder};

/// Longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// Most memory that one compiled pattern may take; the longest pattern of plain characters takes a tenth of it.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;

/// A compiled glob.
#[derive(Debug, Clone)]
pub struct Glob(Form);

#[derive(Debug, Clone)]
enum Form {
    /// No star: the text itself.
    Exact(Box<str>),
    /// Plain pieces around stars. The first must begin the text and the last must end it.
    Pieces {
        first: Box<str>,
        middle: Vec<Finder<'static>>,
        last: Box<str>,
    },
    Regex(Regex),
}

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGlob {
    /// It is too long.
    #[error("the pattern has {0} bytes, at most {MAX_PATTERN_BYTES} are taken")]
    TooLong(usize),
    /// A bracket or brace has no end, or a class is empty.
    #[error("the pattern has an unfinished [, {{ or \\")]
    Unfinished,
    /// The alternatives multiply beyond bounds.
    #[error("the pattern is too complex")]
    TooComplex,
}

// === impl Glob ===

impl Glob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`InvalidGlob`].
    pub fn new(pattern: &str) -> Result<Self, InvalidGlob> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(InvalidGlob::TooLong(pattern.len()));
        }
        let pattern = pattern.to_lowercase();
        if pattern.contains(['?', '[', '{', '\\']) {
            return regex_of(&pattern).map(|regex| Self(Form::Regex(regex)));
        }
        let mut pieces: Vec<&str> = pattern.split('*').collect();
        let first = pieces.remove(0).into();
        let Some(last) = pieces.pop() else { return Ok(Self(Form::Exact(first))) };
        let middle = pieces.into_iter().filter(|piece| !piece.is_empty());
        let middle = middle.map(|piece| Finder::new(piece).into_owned()).collect();
        Ok(Self(Form::Pieces { first, middle, last: last.into() }))
    }

    /// Whether a text matches. It must be in lower case: whoever has many patterns makes it so once.
    #[must_use]
    pub fn matches_lowercase(&self, text: &str) -> bool {
        match &self.0 {
            Form::Exact(exact) => **exact == *text,
            Form::Regex(regex) => regex.is_match(text),
            Form::Pieces { first, middle, last } => {
                let Some(rest) = text.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last)) else {
                    return false;
                };
                let mut rest = rest.as_bytes();
                for piece in middle {
                    let Some(at) = piece.find(rest) else { return false };
                    rest = &rest[at + piece.needle().len()..];
                }
                true
            }
        }
    }
}

fn regex_of(pattern: &str) -> Result<Regex, InvalidGlob> {
    let mut regex = String::from("^(?s:");
    let mut characters = pattern.chars();
    let mut depth = 0_u32;
    while let Some(character) = characters.next() {
        match character {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => push_class(&mut regex, &mut characters)?,
            '{' => {
                depth += 1;
                regex.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                regex.push(')');
            }
            ',' if depth > 0 => regex.push('|'),
            '\\' => push_literal(&mut regex, characters.next().ok_or(InvalidGlob::Unfinished)?),
            other => push_literal(&mut regex, other),
        }
    }
    if depth > 0 {
        return Err(InvalidGlob::Unfinished);
    }
    regex.push_str(")$");
    let built = RegexBuilder::new(&regex).size_limit(MAX_COMPILED_BYTES).build();
    built.map_err(|_| InvalidGlob::TooComplex)
}

fn push_literal(regex: &mut String, character: char) {
    regex.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
}

/// The rest of a class, after its `[`. Only `-` between two characters has a meaning in it.
fn push_class(regex: &mut String, characters: &mut std::str::Chars<'_>) -> Result<(), InvalidGlob> {
    let text = characters.as_str();
    let (negation, members) = match text.strip_prefix(['!', '^']) {
        Some(members) => ("^", members),
        None => ("", text),
    };
    // A bracket that comes first is a member.
    let skipped = members.chars().next().map_or(0, char::len_utf8);
    let end = skipped + members.get(skipped..).and_then(|rest| rest.find(']')).ok_or(InvalidGlob::Unfinished)?;
    regex.push('[');
    regex.push_str(negation);
    for member in members[..end].chars() {
        if member != '-' && !member.is_alphanumeric() {
            regex.push('\\');
            // Characters that regular expressions do not know escaped are written by their number.
            regex.push_str(&format!("x{{{:x}}}", u32::from(member)));
        } else {
            regex.push(member);
        }
    }
    regex.push(']');
    let consumed = text.len() - members.len() + end + 1;
    *characters = text[consumed..].chars();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern).unwrap().matches_lowercase(&text.to_lowercase())
    }

    #[test]
    fn every_form_matches_what_it_should_and_nothing_else() {
        let table = [
            ("abc", &["abc", "ABC"][..], &["abcd", "xabc", ""][..]),
            ("*", &["", "anything\nat all"], &[]),
            ("a*c", &["ac", "abc", "abcbc"], &["a", "abcd", "c"]),
            ("aba*aba", &["abaaba", "abaxaba"], &["aba", "ababa"]),
            ("*fail*net*", &["it failed: network", "failnet"], &["net fail"]),
            ("a?c", &["abc", "aéc"], &["ac", "abbc"]),
            ("v[1-3].*", &["v1.0", "v3."], &["v4.0"]),
            ("[!a]b", &["xb"], &["ab"]),
            ("[]x]", &["]", "x"], &["y"]),
            ("[&&^]", &["&", "^"], &["x"]),
            ("{foo,ba?}", &["foo", "BAR"], &["foo,bar", "ba"]),
            (r"a\*b", &["a*b"], &["axb"]),
            ("a.b+(c)", &["A.B+(C)"], &["axb+(c)"]),
            ("}", &["}"], &["{"]),
        ];
        for (pattern, yes, no) in table {
            assert!(yes.iter().all(|text| matches(pattern, text)), "{pattern} does not match one of {yes:?}");
            assert!(!no.iter().any(|text| matches(pattern, text)), "{pattern} matches one of {no:?}");
        }
    }

    #[test]
    fn a_pattern_that_is_unfinished_or_too_long_is_refused() {
        for pattern in ["[abc", "{a,b", "a\\", "[", "[]"] {
            assert_eq!(Glob::new(pattern).unwrap_err(), InvalidGlob::Unfinished, "{pattern}");
        }
        assert_eq!(Glob::new(&"x".repeat(1025)).unwrap_err(), InvalidGlob::TooLong(1025));
    }

    proptest! {
        #[test]
        fn no_pattern_and_no_text_make_it_panic(pattern in "\\PC{0,40}", text in "\\PC{0,80}") {
            if let Ok(glob) = Glob::new(&pattern) {
                let _ = glob.matches_lowercase(&text);
            }
        }

        #[test]
        fn both_forms_agree(pattern in "[ab*]{0,8}", text in "[ab]{0,12}") {
            let as_regex = regex_of(&pattern).unwrap().is_match(&text);
            prop_assert_eq!(Glob::new(&pattern).unwrap().matches_lowercase(&text), as_regex);
        }
    }
}
