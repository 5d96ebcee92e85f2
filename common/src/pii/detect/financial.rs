//! Numbers that stand for money or persons: payment cards, bank accounts, social security, and IMEI for its kinship.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::{CardCheck, IbanCheck, constant, is_word};

/// The most digits a payment card number has (ISO/IEC 7812).
const CARD_DIGITS_MAX: usize = 19;

/// First digits (from, to, inclusive) and lengths of the issuers that the plain check knows.
const PLAIN_ISSUERS: [(u32, u32, &[usize]); 6] = [
    (3400, 3499, &[15]),
    (3700, 3799, &[15]),
    (4000, 4999, &[16]),
    (5100, 5599, &[16]),
    (6011, 6011, &[16]),
    (6500, 6599, &[16]),
];

/// Further issuers, for numbers whose check digit is right: ISO/IEC 7812 prefixes as the networks publish them.
const FURTHER_ISSUERS: [(u32, u32, &[usize]); 8] = [
    (2221, 2720, &[16]),
    (3000, 3059, &[14]),
    (3528, 3589, &[16, 17, 18, 19]),
    (3600, 3699, &[14]),
    (3800, 3999, &[14]),
    (4000, 4999, &[13, 19]),
    (6200, 6299, &[16, 17, 18, 19]),
    (6440, 6499, &[16]),
];

/// Payment cards: groups of digits, joined by single spaces or dashes, that together make a number. Where the check digit
/// decides, also by two spaces, a space that does not break lines, or between groups of four and more by dots.
pub(super) fn credit_card(bytes: &[u8], check: CardCheck, out: &mut Vec<Range<usize>>) {
    let mut at = 0;
    while let Some(start) = next_digit(bytes, at) {
        let free = start == 0 || !is_word(bytes[start - 1]);
        let card_end = if free { card_from(bytes, start, check) } else { None };
        if let Some(end) = card_end {
            out.push(start..end);
        }
        at = card_end.unwrap_or_else(|| digit_run_end(bytes, start));
    }
}

fn next_digit(bytes: &[u8], from: usize) -> Option<usize> {
    bytes[from..].iter().position(u8::is_ascii_digit).map(|offset| from + offset)
}

fn digit_run_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |offset| start + offset)
}

/// The end of the longest card number that starts here and ends where a group of digits ends.
fn card_from(bytes: &[u8], start: usize, check: CardCheck) -> Option<usize> {
    let mut digits = [0_u8; CARD_DIGITS_MAX];
    let mut count = 0;
    let mut at = start;
    let mut longest = None;
    loop {
        let group_end = digit_run_end(bytes, at);
        if count + (group_end - at) > CARD_DIGITS_MAX {
            return longest;
        }
        for &byte in &bytes[at..group_end] {
            digits[count] = byte - b'0';
            count += 1;
        }
        let is_blank = |after: &[u8]| matches!(after, [0xe2, 0x80, 0xaf, ..] | [0xc2, 0xa0, ..]);
        let bounded = bytes.get(group_end).is_none_or(|&byte| !is_word(byte)) || is_blank(&bytes[group_end..]);
        if bounded && is_card(&digits[..count], check) {
            longest = Some(group_end);
        }
        let joint = match check {
            CardCheck::Issuer => usize::from(matches!(bytes.get(group_end), Some(b' ' | b'-'))),
            CardCheck::Luhn => joint_len(&bytes[group_end..], group_end - at),
        };
        if joint == 0 || !bytes.get(group_end + joint).is_some_and(u8::is_ascii_digit) {
            return longest;
        }
        at = group_end + joint;
    }
}

/// How long what joins two groups is; the first of them has `group` digits.
fn joint_len(after: &[u8], group: usize) -> usize {
    match after {
        // U+202F, U+00A0.
        [0xe2, 0x80, 0xaf, ..] => 3,
        [0xc2, 0xa0, ..] | [b' ', b' ', ..] => 2,
        [b' ' | b'-', ..] => 1,
        [b'.', ..] if group >= 4 => 1,
        _ => 0,
    }
}

fn is_card(digits: &[u8], check: CardCheck) -> bool {
    if digits.len() < 13 {
        return false;
    }
    let prefix = digits[..4].iter().fold(0, |prefix, &digit| prefix * 10 + u32::from(digit));
    let issued_by =
        |&(from, to, lengths): &(u32, u32, &[usize])| (from..=to).contains(&prefix) && lengths.contains(&digits.len());
    match check {
        CardCheck::Issuer => PLAIN_ISSUERS.iter().any(issued_by),
        CardCheck::Luhn => PLAIN_ISSUERS.iter().chain(&FURTHER_ISSUERS).any(issued_by) && passes_luhn(digits),
    }
}

/// ISO/IEC 7812-1, annex B.
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(position, &digit)| {
            let doubled = u32::from(digit) << (position % 2);
            doubled / 10 + doubled % 10
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Device numbers: type allocation code, serial number, check digit or version, joined or apart.
pub(super) fn imei(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static IMEI: LazyLock<Regex> = LazyLock::new(|| constant(r"\b\d{2}[ /-]?\d{6}[ /-]?\d{6}[ /-]?\d{1,2}\b"));
    out.extend(IMEI.find_iter(bytes).map(|found| found.range()));
}

/// Three, two and four digits, joined by dashes.
pub(super) fn us_ssn(bytes: &[u8], out: &mut Vec<Range<usize>>) {
    static SSN: LazyLock<Regex> = LazyLock::new(|| constant(r"\b\d{3}-\d{2}-\d{4}\b"));
    out.extend(SSN.find_iter(bytes).map(|found| found.range()));
}

/// The most characters an IBAN has (ISO 13616).
const IBAN_CHARS_MAX: usize = 34;

/// Countries that issue IBANs (ISO 13616 registry), sorted.
const IBAN_COUNTRIES: [&[u8; 2]; 89] = [
    b"AD", b"AE", b"AL", b"AT", b"AZ", b"BA", b"BE", b"BG", b"BH", b"BI", b"BR", b"BY", b"CH", b"CR", b"CY", b"CZ",
    b"DE", b"DJ", b"DK", b"DO", b"EE", b"EG", b"ES", b"FI", b"FK", b"FO", b"FR", b"GB", b"GE", b"GI", b"GL", b"GR",
    b"GT", b"HN", b"HR", b"HU", b"IE", b"IL", b"IQ", b"IR", b"IS", b"IT", b"JO", b"KW", b"KZ", b"LB", b"LC", b"LI",
    b"LT", b"LU", b"LV", b"LY", b"MC", b"MD", b"ME", b"MK", b"MN", b"MR", b"MT", b"MU", b"NI", b"NL", b"NO", b"OM",
    b"PK", b"PL", b"PS", b"PT", b"QA", b"RO", b"RS", b"RU", b"SA", b"SC", b"SD", b"SE", b"SI", b"SK", b"SM", b"SO",
    b"ST", b"SV", b"TL", b"TN", b"TR", b"UA", b"VA", b"VG", b"XK",
];

/// The fewest digits of an account whose check digits are asked for, those included.
pub(super) const CHECKED_IBAN_DIGITS_MIN: u16 = 6;

/// Bank accounts: country, check digits, 11 to 30 letters and digits. If form is enough, it is in capitals and without spaces; in
/// small letters, or in groups of four, the check digits must be right too, because hashes and prose look the same.
pub(super) fn iban(bytes: &[u8], check: IbanCheck, out: &mut Vec<Range<usize>>) {
    let mut resume = 0;
    for (at, head) in bytes.windows(4).enumerate() {
        let begins = head[2].is_ascii_digit()
            && head[3].is_ascii_digit()
            && head[0].is_ascii_alphabetic()
            && head[1].is_ascii_alphabetic()
            && (at == 0 || !is_word(bytes[at - 1]));
        if !begins || at < resume {
            continue;
        }
        if let Some(end) = joined_iban_end(bytes, at, check).or_else(|| grouped_iban_end(bytes, at)) {
            let digits = bytes[at..end].iter().filter(|byte| byte.is_ascii_digit()).count();
            if check == IbanCheck::Form || digits >= usize::from(CHECKED_IBAN_DIGITS_MIN) {
                out.push(at..end);
            }
            resume = end;
        }
    }
}

fn joined_iban_end(bytes: &[u8], start: usize, check: IbanCheck) -> Option<usize> {
    let len = bytes[start..].iter().take(IBAN_CHARS_MAX + 1).take_while(|&&byte| is_word(byte)).count();
    let text = &bytes[start..start + len];
    if !(15..=IBAN_CHARS_MAX).contains(&len) || !text.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    // 33: the longest that the form alone is enough for in existing configurations.
    let form_is_enough = check == IbanCheck::Form
        && len <= 33
        && is_iban_country([text[0], text[1]])
        && !text.iter().any(u8::is_ascii_lowercase);
    (form_is_enough || has_iban_check_digits(text)).then_some(start + len)
}

/// Groups of four, the last one shorter. A word after the account may look like its last group: the longest account with right
/// check digits counts.
fn grouped_iban_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut end = start + 4;
    let mut found = None;
    while end - start < IBAN_CHARS_MAX / 4 * 5 && bytes.get(end) == Some(&b' ') {
        let group = bytes[end + 1..].iter().take(5).take_while(|&&byte| is_word(byte)).count();
        let text = &bytes[end + 1..end + 1 + group];
        if !(1..=4).contains(&group) || !text.iter().all(u8::is_ascii_alphanumeric) {
            break;
        }
        end += 1 + group;
        if end - start >= 15 && has_iban_check_digits(&bytes[start..end]) {
            found = Some(end);
        }
        if group < 4 {
            break;
        }
    }
    found
}

fn is_iban_country(letters: [u8; 2]) -> bool {
    IBAN_COUNTRIES.binary_search_by(|known| known.as_slice().cmp(&letters)).is_ok()
}

/// ISO 7064 mod 97-10 over letters as two digits, the first four characters moved to the end.
fn has_iban_check_digits(text: &[u8]) -> bool {
    if !is_iban_country([text[0].to_ascii_uppercase(), text[1].to_ascii_uppercase()]) {
        return false;
    }
    let rotated = text[4..].iter().chain(&text[..4]).filter(|&&byte| byte != b' ');
    let remainder = rotated.fold(0_u32, |remainder, &byte| match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97,
    });
    remainder == 1
}
