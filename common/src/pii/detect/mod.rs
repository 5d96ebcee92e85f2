//! Detectors: where in a text personal data or a secret stands.
//!
//! ```text
//! text ─▸ TextFacts (one cheap pass) ─▸ Detector::may_match ─no─▸ nothing, no pattern is run
//!                                              └─yes─▸ Detector::find ─▸ byte ranges
//! ```
//!
//! Invariants:
//! - ranges are sorted, not empty, do not overlap and, in texts, lie on character boundaries;
//! - whatever [`Detector::may_match`] denies, [`Detector::find`] would not have found (property test);
//! - no detector backtracks: patterns are run by automata, scanners never look back or ahead without a bound.
//!
//! What it does not do: decide what a hit is replaced with, or which fields are looked at.

mod cookie;
mod facts;
mod financial;
mod known_token;
mod named_value;
mod names;
mod network;
mod path;
mod pattern;
mod query;
mod secret;

use std::ops::Range;
use std::sync::Arc;

pub use cookie::is_session_cookie;
pub use facts::TextFacts;
use financial::CHECKED_IBAN_DIGITS_MIN;
use named_value::Reading;
pub use named_value::flag_name;
pub use names::{Held, NameProfile, SensitiveNames};
pub use pattern::{Case, CustomPattern, InvalidPattern, KeyPattern, PATTERN_SIZE_LIMIT_BYTES};

/// How sure a card number has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardCheck {
    /// The issuer's prefix and length: American Express, Visa, Mastercard, Discover.
    Issuer,
    /// Any known issuer's prefix and length, and the check digit is right.
    Luhn,
}

/// How sure an account number has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IbanCheck {
    /// The country and the length, in capitals; else as `Digits`.
    Form,
    /// The check digits are right.
    Digits,
}

/// What is taken for an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpCheck {
    /// Whatever is one.
    Form,
    /// Not what is a name or version sooner: `bad::1`, `nginx/1.2.3.4`.
    NoNames,
}

/// What is taken for a bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BearerCheck {
    /// Any word.
    Word,
    /// Not a word of a language.
    Token,
}

/// Which part of a URL's credentials is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlAuthPart {
    /// `user:password`, or the user alone where there is no password.
    UserAndPassword,
    /// What stands after the colon only.
    Password,
}

/// Where in a text the path of a home directory is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomePath {
    /// After any directory `home`, `users`, …: also in the middle of a path and in routes such as `/users/7`.
    Anywhere,
    /// Where a file path begins: `/home/…`, `/Users/…`, `C:\Users\…`.
    AtRoot,
}

/// One kind of personal data or secret.
#[derive(Debug, Clone)]
pub enum Detector {
    /// Serial number of a mobile device: 15 digits, or 16 with the software version.
    Imei,
    /// Hardware address of a network interface, written with `:` or `-`.
    Mac,
    /// UUID, with or without its dashes.
    Uuid,
    /// E-mail address whose domain has a dot and looks public.
    Email,
    /// The same in a URL, with `%40` for the `@`.
    EncodedEmail,
    /// IPv4 or IPv6 address. Versions and times of day are told apart as far as that can be done.
    Ip(IpCheck),
    /// Number of a payment card, digits in groups or not.
    CreditCard(CardCheck),
    /// International bank account number.
    Iban(IbanCheck),
    /// Name of a user in the path of a home directory: the name only.
    UserPath(HomePath),
    /// Body of a PEM key, public or private: what stands between its first and last line.
    PemKey,
    /// Credentials in a URL.
    UrlAuth(UrlAuthPart),
    /// Social security number of the United States.
    UsSsn,
    /// `Bearer` and the token after it.
    Bearer(BearerCheck),
    /// Token or key of a well-known form, such as a JWT; credentials after `Basic`.
    KnownToken,
    /// A text that speaks of a password, key or token: the whole of it. In bytes: the values after such names only.
    Password,
    /// Values of well-known session cookies in a `Cookie` or `Set-Cookie` header.
    Cookies,
    /// A pattern from the project's configuration.
    Pattern(Arc<CustomPattern>),
    /// A text that a key pattern matches: the whole of it. In bytes: what the pattern matches.
    PairValue(Arc<KeyPattern>),
    /// `name=value`, `name: value` or `"name": "value"` in a text, where the name is sensitive: the value.
    NamedValue(Arc<SensitiveNames>),
    /// The same in a line of source text, where the value is a literal.
    NamedLiteral(Arc<SensitiveNames>),
    /// `--name value`, `<name>value</name>`, `["name", "value"]`, `name is value`, where the name is sensitive: the value.
    NamedPhrase(Arc<SensitiveNames>),
    /// `?name=value` or `&name=value` where the name is sensitive: the value.
    QueryParameter(Arc<SensitiveNames>),
}

impl Detector {
    /// Appends to `out` where in `text` this kind of data stands.
    pub fn find(&self, text: &str, out: &mut Vec<Range<usize>>) {
        let before = out.len();
        match self {
            Self::Password => secret::password_text(text.as_bytes(), out),
            Self::Pattern(pattern) => pattern.find(text, out),
            Self::PairValue(pattern) => {
                if !text.is_empty() && pattern.is_match(text) {
                    out.push(0..text.len());
                }
            }
            _ => self.find_bytes(text.as_bytes(), out),
        }
        snap_to_characters(text, &mut out[before..]);
        tidy(out, before);
    }

    /// As [`Self::find`], in bytes of unknown encoding. Rules that replace a whole text replace here what gives it away.
    pub fn find_bytes(&self, bytes: &[u8], out: &mut Vec<Range<usize>>) {
        let before = out.len();
        match self {
            Self::Imei => financial::imei(bytes, out),
            Self::Mac => network::mac(bytes, out),
            Self::Uuid => network::uuid(bytes, out),
            Self::Email => network::email(bytes, out),
            Self::EncodedEmail => network::encoded_email(bytes, out),
            Self::Ip(check) => network::ip(bytes, *check, out),
            Self::CreditCard(check) => financial::credit_card(bytes, *check, out),
            Self::Iban(check) => financial::iban(bytes, *check, out),
            Self::UserPath(which) => path::user_path(bytes, *which, out),
            Self::PemKey => secret::pem_key(bytes, out),
            Self::UrlAuth(part) => network::url_auth(bytes, *part, out),
            Self::UsSsn => financial::us_ssn(bytes, out),
            Self::Bearer(check) => secret::bearer(bytes, *check, out),
            Self::KnownToken => known_token::known_tokens(bytes, out),
            Self::Password => secret::password_bytes(bytes, out),
            Self::Cookies => cookie::session_cookies(bytes, out),
            Self::Pattern(pattern) => pattern.find_bytes(bytes, out),
            Self::PairValue(pattern) => pattern.find_bytes(bytes, out),
            Self::NamedValue(names) => named_value::named_values(bytes, names, Reading::Text, out),
            Self::NamedLiteral(names) => named_value::named_values(bytes, names, Reading::Source, out),
            Self::NamedPhrase(names) => named_value::named_phrases(bytes, names, out),
            Self::QueryParameter(names) => query::query_parameters(bytes, names, out),
        }
        tidy(out, before);
    }

    /// Whether a text with these facts can hold what this detector finds; no means that [`Self::find`] need not be called.
    #[must_use]
    pub fn may_match(&self, facts: &TextFacts) -> bool {
        match self {
            Self::Imei => facts.digits() >= 15,
            Self::Mac => facts.colons() >= 5 || facts.dashes() >= 5,
            Self::Uuid => facts.len() >= 32,
            Self::Email => facts.has_at() && facts.dots() >= 1,
            Self::EncodedEmail => facts.has_percent() && facts.dots() >= 1,
            Self::Ip(_) => facts.colons() >= 2 || (facts.dots() >= 3 && facts.digits() >= 4),
            Self::CreditCard(_) => facts.digits() >= 13,
            Self::Iban(IbanCheck::Form) => facts.digits() >= 2 && facts.len() >= 15,
            Self::Iban(IbanCheck::Digits) => facts.digits() >= CHECKED_IBAN_DIGITS_MIN && facts.len() >= 15,
            Self::UserPath(_) => facts.has_slash() && facts.has_home_word(),
            Self::PemKey => facts.dashes() >= 10,
            Self::UrlAuth(_) => facts.has_at() && facts.has_slash(),
            Self::UsSsn => facts.digits() >= 9 && facts.dashes() >= 2,
            Self::Bearer(_) => facts.has_bearer_word(),
            Self::KnownToken => facts.has_token_head(),
            Self::Password => facts.has_password_word() || facts.has_bearer_word(),
            Self::Cookies | Self::QueryParameter(_) => facts.has_equals(),
            Self::NamedValue(_) | Self::NamedLiteral(_) => facts.has_equals() || facts.colons() >= 1,
            // Names of the project's own may be any.
            Self::NamedPhrase(names) => facts.has_secret_word() || names.has_additions(),
            Self::Pattern(_) | Self::PairValue(_) => true,
        }
    }
}

/// Widens ranges to whole characters: scanners work on bytes, and a bound may cut a character.
fn snap_to_characters(text: &str, ranges: &mut [Range<usize>]) {
    for range in ranges {
        while !text.is_char_boundary(range.start) {
            range.start -= 1;
        }
        while !text.is_char_boundary(range.end) {
            range.end += 1;
        }
    }
}

/// Brings the ranges from `before` on into the promised form: sorted, not empty, joined where they overlap.
fn tidy(out: &mut Vec<Range<usize>>, before: usize) {
    let in_order = out[before..].windows(2).all(|pair| pair[0].end <= pair[1].start);
    if in_order && out[before..].iter().all(|range| !range.is_empty()) {
        return;
    }
    let mut found = out.split_off(before);
    found.retain(|range| !range.is_empty());
    found.sort_unstable_by_key(|range| (range.start, range.end));
    for range in found {
        match out[before..].last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
}

/// Compiles a pattern of this program: bytes, ASCII only, any case.
#[expect(clippy::expect_used, reason = "the patterns are constants; a test runs each of them")]
fn constant(pattern: &str) -> regex::bytes::Regex {
    regex::bytes::RegexBuilder::new(pattern)
        .unicode(false)
        .case_insensitive(true)
        .build()
        .expect("a pattern of this program compiles")
}

/// Letters, digits and underscore, and whatever is not ASCII: a character inside of a word.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests;
