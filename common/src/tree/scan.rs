//! Where a JSON string stops being plain text: the one loop that reading and writing spend their time in.

/// Each byte of a word set to one.
const ONES: u64 = u64::MAX / 255;
/// The highest bit of each byte of a word.
const HIGH_BITS: u64 = ONES << 7;

/// The first byte that can't stand for itself in a JSON string: a quote, a backslash or a control character.
///
/// Eight bytes at a time: most strings of an event have less than twenty, where a call into a vectorised search costs more than the
/// search.
pub(super) fn first_special(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        // A borrow may mark bytes above a marked one, never below: the lowest mark is true.
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let marks = (controls | zero_bytes(word ^ (ONES * 0x22)) | zero_bytes(word ^ (ONES * 0x5c))) & HIGH_BITS;
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')).map(|position| at + position)
}

/// Has the highest bit of the lowest zero byte set, and of none below it.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_special_byte_is_found_wherever_it_is(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let expected = bytes.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
            prop_assert_eq!(first_special(&bytes), expected);
        }

        #[test]
        fn plain_text_around_it_changes_nothing(before in "[ -!#-\\[\\]-~é€]{0,30}", special in 0_usize..5, after in "\\PC{0,20}") {
            let special = [b'"', b'\\', b'\n', 0, 0x1f][special];
            let bytes = [before.as_bytes(), &[special], after.as_bytes()].concat();
            prop_assert_eq!(first_special(&bytes), Some(before.len()));
            prop_assert_eq!(first_special(before.as_bytes()), None);
        }
    }
}
