//! Points in time as both sides store and send them: whole milliseconds since the Unix epoch, UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970-01-01T00:00:00Z. Times before the epoch can't be expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// 9999-12-31T23:59:59.999Z, the last moment RFC 3339 can name.
    pub const LATEST: Self = Self(253_402_300_799_999);

    /// The clock of this host. Code that a test must hold in its hand takes a [`Timestamp`] instead of calling this.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Wraps milliseconds since the epoch; later times than [`Self::LATEST`] become that.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::LATEST.0 { Self::LATEST } else { Self(millis) }
    }

    /// Wraps seconds since the epoch as SDKs send them (fractional); `None` where negative, not finite or after the year 9999.
    #[must_use]
    pub fn from_float_seconds(seconds: f64) -> Option<Self> {
        let millis = (seconds * 1000.0).round();
        if !(0.0..=253_402_300_799_999.0).contains(&millis) {
            return None;
        }
        // In range by the check above, so neither sign nor magnitude is lost.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked above")]
        Some(Self(millis as u64))
    }

    /// Reads RFC 3339, also with a blank for the `T` and without an offset (then UTC), the forms SDKs send.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const MAX_LEN: usize = 40;
        if text.len() > MAX_LEN || !text.is_ascii() || text.len() < 19 {
            return None;
        }
        let mut owned = text.trim().replacen(' ', "T", 1);
        let has_offset = owned.ends_with(['Z', 'z']) || owned.get(19..).is_some_and(|rest| rest.contains(['+', '-']));
        if !has_offset {
            owned.push('Z');
        }
        let parsed = OffsetDateTime::parse(&owned, &Rfc3339).ok()?;
        u64::try_from(parsed.unix_timestamp_nanos() / 1_000_000).ok().map(Self::from_millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Milliseconds since the epoch as SQL and ClickHouse store them. [`Self::LATEST`] keeps it in range.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0.cast_signed()
    }

    /// Reads what [`Self::as_i64`] gave; a negative number becomes the epoch.
    #[must_use]
    pub const fn from_i64(millis: i64) -> Self {
        if millis < 0 { Self::EPOCH } else { Self::from_millis(millis.cast_unsigned()) }
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn as_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// When the hour that it is in began, UTC.
    #[must_use]
    pub const fn start_of_hour(self) -> Self {
        const HOUR_MILLIS: u64 = 3_600_000;
        Self(self.0 / HOUR_MILLIS * HOUR_MILLIS)
    }

    /// This time and `span` more.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This time less `span`, the epoch at the earliest.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// As a date and time in UTC.
    #[must_use]
    pub fn to_datetime(self) -> OffsetDateTime {
        // Never out of range: `LATEST` bounds every constructor.
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// `2026-11-22T14:05:06.789Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let at = self.to_datetime();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
    }
}

impl From<SystemTime> for Timestamp {
    fn from(at: SystemTime) -> Self {
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_forms_that_sdks_send_are_read() {
        let expected = Timestamp::from_millis(1_763_820_306_789);
        for text in [
            "2025-11-22T14:05:06.789Z",
            "2025-11-22T14:05:06.789123Z",
            "2025-11-22T14:05:06.789",
            "2025-11-22 14:05:06.789",
            "2025-11-22T15:05:06.789+01:00",
        ] {
            assert_eq!(Timestamp::parse(text), Some(expected), "{text}");
        }
        assert_eq!(Timestamp::from_float_seconds(1_763_820_306.789), Some(expected));
        assert_eq!(expected.to_rfc3339(), "2025-11-22T14:05:06.789Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2025-13-01T00:00:00Z", "1763820306.789", "1969-12-31T23:59:59Z"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        for seconds in [-1.0, f64::NAN, f64::INFINITY, 1e15] {
            assert_eq!(Timestamp::from_float_seconds(seconds), None, "{seconds}");
        }
    }
}
