//! Tokens that are known by their form, whatever name they stand under.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::constant;

/// Prefixes and alphabets as their issuers publish them. Each begins with letters that [`super::facts`] looks for.
const FORMS: &str = concat!(
    r"\b(?:",
    // JSON Web Tokens (RFC 7515 §7.1, RFC 7516 §7.1): three parts or five, the first a JSON object.
    r"(?-i:eyJ[h0rlj4q6])[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*){1,3}",
    // Amazon access key ids.
    r"|(?-i:A[KS]IA)(?-i:[A-Z0-9]{16})\b",
    // Google API keys.
    r"|(?-i:AIza)[\w-]{35}",
    // GitHub.
    r"|(?-i:gh[pousr]_[A-Za-z0-9]{20,})|(?-i:github_pat_)\w{20,}",
    // Slack.
    r"|(?-i:xox[abeprs])-[a-z0-9-]{10,}",
    // Stripe's secret and restricted keys.
    r"|(?-i:[sr]k_(?:live|test)_)[a-z0-9]{10,}",
    // GitLab.
    r"|(?-i:glpat-)[\w-]{16,}",
    // npm.
    r"|(?-i:npm_[A-Za-z0-9]{36})\b",
    // Sentry.
    r"|(?-i:sntry[su]_)[a-z0-9+/=_-]{20,}",
    r")",
);

/// Tokens, and the credentials after `Basic`.
pub(super) fn known_tokens(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| constant(FORMS));
    static BASIC: LazyLock<Regex> = LazyLock::new(|| constant(r"\bbasic +([a-z0-9+/]{6,}={0,2})"));
    out.extend(TOKEN.find_iter(bytes).map(|found| found.range()));
    let credentials = BASIC.captures_iter(bytes).filter_map(|captures| captures.get(1));
    out.extend(credentials.filter(|found| is_user_and_password(found.as_bytes())).map(|found| found.range()));
}

/// Whether Base64 holds `user:password` (RFC 7617 §2): `Basic authentication` does not.
fn is_user_and_password(text: &[u8]) -> bool {
    let letters = text.iter().take_while(|&&byte| byte != b'=').count();
    if letters % 4 == 1 || (letters < text.len() && !text.len().is_multiple_of(4)) {
        return false;
    }
    let mut has_colon = false;
    let (mut bits, mut count) = (0_u32, 0);
    for &letter in &text[..letters] {
        bits = bits << 6 | value_of(letter);
        count += 6;
        if count >= 8 {
            count -= 8;
            let byte = (bits >> count) & 0xff;
            bits &= (1 << count) - 1;
            if byte < 0x20 || byte == 0x7f {
                return false;
            }
            has_colon |= byte == u32::from(b':');
        }
    }
    has_colon
}

fn value_of(letter: u8) -> u32 {
    match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'+' => 62,
        _ => 63,
    }
}
