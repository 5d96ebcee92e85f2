//! Short ids: the name of an issue that people say aloud, such as `WEB-SHOP-2K`.

/// Digits and capitals without the ones that look like others (I, L, O, U).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The short id of an issue: the project's slug in capitals, a dash, and its number in base 32.
#[must_use]
pub fn short_id(slug: &str, number: u64) -> String {
    let mut digits = Vec::new();
    let mut rest = number;
    loop {
        // The remainder is below 32, so it indexes the alphabet.
        digits.push(char::from(ALPHABET[(rest % 32) as usize]));
        rest /= 32;
        if rest == 0 {
            break;
        }
    }
    let number: String = digits.into_iter().rev().collect();
    format!("{}-{number}", slug.to_ascii_uppercase())
}

/// Takes a short id apart into slug and number. Letters are read in either case, and those that look like others as these.
#[must_use]
pub fn parse_short_id(text: &str) -> Option<(String, u64)> {
    let (slug, digits) = text.trim().rsplit_once('-')?;
    if slug.is_empty() || digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for letter in digits.to_ascii_uppercase().bytes() {
        let letter = match letter {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        let value = ALPHABET.iter().position(|&known| known == letter)? as u64;
        number = number.checked_mul(32)?.checked_add(value)?;
    }
    Some((slug.to_ascii_lowercase(), number))
}

#[cfg(test)]
mod tests {
    use super::{parse_short_id, short_id};

    #[test]
    fn short_ids_are_read_as_people_write_them() {
        assert_eq!(parse_short_id("web-shop-2k"), Some(("web-shop".to_owned(), 83)));
        assert_eq!(parse_short_id("A-1O"), Some(("a".to_owned(), 32)));
        for number in [1, 31, 32, 99_999] {
            assert_eq!(parse_short_id(&short_id("x", number)), Some(("x".to_owned(), number)));
        }
        for text in ["", "web", "-1", "web-", "web-U", "web-ZZZZZZZZZZZZZZZZ"] {
            assert_eq!(parse_short_id(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_in_base_32_after_the_slug() {
        assert_eq!(short_id("web-shop", 1), "WEB-SHOP-1");
        assert_eq!(short_id("web-shop", 31), "WEB-SHOP-Z");
        assert_eq!(short_id("web-shop", 32), "WEB-SHOP-10");
        assert_eq!(short_id("a", 1023), "A-ZZ");
    }
}
