//! Times inside events: read in every form that SDKs send, written as seconds since the epoch with microseconds.
//!
//! Read are numbers (seconds) and RFC 3339, also with a blank for the `T`, and without an offset (then UTC). A number inside a
//! string is none. Times are whole microseconds in between, so that shifting them is exact.

use crate::timestamp::Timestamp;
use crate::tree::{Number, Value};

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;
/// The first microsecond after the year 9999, the last that RFC 3339 can name.
const END: i64 = 253_402_300_800 * SECOND;
/// From here on (the year 2106) a double no longer holds microseconds exactly, so it stays as it came.
const EXACT_BELOW_SECONDS: f64 = 4_294_967_296.0;
/// The Julian day of 1970-01-01.
const EPOCH_DAY: i32 = 2_440_588;

/// What is wrong with a time that a clock before its start would show.
pub(super) const BEFORE_EPOCH: &str = "a timestamp before 1970";

/// Microseconds since the epoch, from 1970 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(i64);

/// How far times of an item are moved, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Shift(i64);

// === impl Shift ===

impl Shift {
    /// No shift.
    pub(super) const NONE: Self = Self(0);

    /// The shift that moves `from` to `to`.
    pub(super) const fn between(from: Time, to: Time) -> Self {
        Self(to.0 - from.0)
    }

    /// One shift after the other.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Its length, whatever its direction.
    pub(super) const fn length(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.unsigned_abs())
    }
}

// === impl Time ===

impl Time {
    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(value: &Value<'_>) -> Result<Self, &'static str> {
        let micros = match value {
            Value::Number(number) => micros_of(*number),
            Value::String(text) => parse(text),
            _ => None,
        };
        match micros {
            None => Err("expected a timestamp"),
            Some(..0) => Err(BEFORE_EPOCH),
            Some(END..) => Err("a timestamp after the year 9999"),
            Some(micros) => Ok(Self(micros)),
        }
    }

    /// The time moved; `None` where it leaves the years that can be named.
    pub(super) fn shifted(self, by: Shift) -> Option<Self> {
        self.0.checked_add(by.0).filter(|micros| (0..END).contains(micros)).map(Self)
    }

    /// The time as events hold it.
    #[expect(clippy::cast_precision_loss, reason = "exact until 2106, to two microseconds until 9999")]
    pub(super) fn to_value(self) -> Value<'static> {
        Value::from(self.0 as f64 / SECOND as f64)
    }

    /// In RFC 3339, with milliseconds.
    pub(super) fn to_text(self) -> String {
        self.to_timestamp().to_rfc3339()
    }

    pub(super) const fn to_timestamp(self) -> Timestamp {
        Timestamp::from_millis(self.0.unsigned_abs() / 1000)
    }
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at.as_i64() * 1000)
    }
}

/// Reads, moves and writes a time in its place.
///
/// # Errors
/// What is wrong with the value, which is unchanged then.
pub(super) fn settle(value: &mut Value<'_>, shift: Shift) -> Result<Time, &'static str> {
    let time = Time::read(value)?.shifted(shift).ok_or("a timestamp outside of the years 1970 to 9999")?;
    let is_exact = !matches!(value, Value::Number(Number::Float(seconds)) if *seconds >= EXACT_BELOW_SECONDS);
    if is_exact || shift != Shift::NONE {
        *value = time.to_value();
    }
    Ok(time)
}

#[expect(clippy::cast_possible_truncation, reason = "the seconds are bounded before, and the fraction is below one")]
fn micros_of(number: Number) -> Option<i64> {
    let seconds = number.as_f64();
    // Far beyond both ends, so that what is refused is told apart by its sign.
    if !(-1e12..1e12).contains(&seconds) {
        return Some(if seconds < 0.0 { -1 } else { END }).filter(|_| !seconds.is_nan());
    }
    let whole = seconds.floor();
    let fraction = ((seconds - whole) * 1e6).round();
    Some(whole as i64 * SECOND + fraction as i64)
}

/// `2026-11-22T14:05:06.789123Z`, and the other forms above.
fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| decimal(bytes.get(range)?);
    let is_separated = bytes.len() >= 19
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && matches!(bytes[10], b'T' | b't' | b' ')
        && bytes[13] == b':'
        && bytes[16] == b':';
    if !is_separated {
        return None;
    }
    let month = time::Month::try_from(u8::try_from(number(5..7)?).ok()?).ok()?;
    let year = i32::try_from(number(0..4)?).ok()?;
    let date = time::Date::from_calendar_date(year, month, u8::try_from(number(8..10)?).ok()?).ok()?;
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, rest) = fraction(&bytes[19..])?;
    let days = i64::from(date.to_julian_day() - EPOCH_DAY);
    // A leap second is the last of its minute.
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second.min(59) - offset(rest)?;
    Some(seconds * SECOND + micros)
}

/// The microseconds after the point, further digits cut off, and what follows.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".").or_else(|| text.strip_prefix(b",")) else {
        return Some((0, text));
    };
    let length = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    if length == 0 {
        return None;
    }
    let used = &digits[..length.min(6)];
    let missing = 6 - u32::try_from(used.len()).ok()?;
    Some((decimal(used)? * 10_i64.pow(missing), &digits[length..]))
}

/// Seconds east of UTC: nothing, `Z`, `+hh:mm`, `+hhmm` or `+hh`.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits {
        [_, _] => (decimal(digits)?, 0),
        [hours @ .., b':', _, _] if hours.len() == 2 => (decimal(hours)?, decimal(&digits[3..])?),
        [_, _, _, _] => (decimal(&digits[..2])?, decimal(&digits[2..])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// A number of at most six digits.
fn decimal(digits: &[u8]) -> Option<i64> {
    let value = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    digits.iter().try_fold(0, |number, byte| Some(number * 10 + value(byte)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::read;
    use proptest::prelude::*;

    fn settled(json: &str, shift: i64) -> Result<String, &'static str> {
        let mut value = read(json.as_bytes()).unwrap();
        settle(&mut value, Shift(shift)).map(|_| value.to_json())
    }

    #[test]
    fn every_form_of_a_time_becomes_seconds_with_microseconds() {
        for (json, expected) in [
            ("1763820306.789123", "1763820306.789123"),
            ("1763820306", "1763820306.0"),
            ("0", "0.0"),
            ("1763820306.7891239", "1763820306.789124"),
            (r#""2025-11-22T14:05:06.789123Z""#, "1763820306.789123"),
            (r#""2025-11-22T14:05:06.789123456Z""#, "1763820306.789123"),
            (r#""2025-11-22T14:05:06Z""#, "1763820306.0"),
            (r#""2025-11-22T14:05:06""#, "1763820306.0"),
            (r#""2025-11-22 14:05:06.5""#, "1763820306.5"),
            (r#""2025-11-22T15:05:06+01:00""#, "1763820306.0"),
            (r#""2025-11-22T08:35:06-0530""#, "1763820306.0"),
            (r#""9999-12-31T23:59:59Z""#, "253402300799.0"),
        ] {
            assert_eq!(settled(json, 0).as_deref(), Ok(expected), "{json}");
        }
        assert_eq!(settled("1763820306.5", -1_250_000).as_deref(), Ok("1763820305.25"));
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_reason() {
        for (json, reason) in [
            (r#""1763820306.5""#, "expected a timestamp"),
            (r#""yesterday""#, "expected a timestamp"),
            (r#""2025-13-01T00:00:00Z""#, "expected a timestamp"),
            (r#""2025-02-29T00:00:00Z""#, "expected a timestamp"),
            (r#""2025-11-22T14:05:06.Z""#, "expected a timestamp"),
            (r#""2025-11-22T14:05:06 ada""#, "expected a timestamp"),
            ("[]", "expected a timestamp"),
            ("-1", "a timestamp before 1970"),
            ("-1e300", "a timestamp before 1970"),
            (r#""1969-12-31T23:59:59Z""#, "a timestamp before 1970"),
            ("253402300800", "a timestamp after the year 9999"),
            ("1e300", "a timestamp after the year 9999"),
        ] {
            assert_eq!(settled(json, 0), Err(reason), "{json}");
        }
        assert!(settled("1", -2_000_000).is_err());
    }

    proptest! {
        #[test]
        fn a_time_once_written_stays(seconds in 0.0..253_402_300_799.0_f64) {
            let once = settled(&serde_json::json!(seconds).to_string(), 0).unwrap();
            prop_assert_eq!(settled(&once, 0).unwrap(), once);
        }

        #[test]
        fn no_text_panics(text in "[0-9TtZz:+. -]{0,40}", any in "\\PC{0,40}") {
            let _ = (parse(&text), parse(&any));
        }
    }
}
