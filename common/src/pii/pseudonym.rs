//! The hash that stands for a value in redactions of kind `hash`.

use ring::hmac;

/// Forty upper-case hexadecimal digits: HMAC-SHA1 under an empty key, as existing configurations expect. It lets equal values be
/// joined; it does not protect values that can be guessed.
#[must_use]
pub fn hash(value: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[]);
    let tag = hmac::sign(&key, value);
    tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]).map(upper_hex).collect()
}

fn upper_hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn it_is_hmac_sha1_under_an_empty_key() {
        // RFC 2104 over an empty text, as any implementation gives it.
        assert_eq!(hash(b""), "FBDB1D1B18AA6C08324B7D64B71FB76370690E1D");
    }
}
