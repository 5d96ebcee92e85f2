//! Times for people: how long ago, with the exact time beside it.

use picket_common::timestamp::Timestamp;

/// A time as a page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct When {
    /// `3 minutes ago`.
    pub(crate) relative: String,
    /// `2026-11-22 14:05:06 UTC`, for the title.
    pub(crate) absolute: String,
    /// RFC 3339, for the `datetime` attribute.
    pub(crate) datetime: String,
}

impl When {
    /// A time seen from `now`.
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        let datetime = at.to_rfc3339();
        let absolute = match (datetime.get(..10), datetime.get(11..19)) {
            (Some(date), Some(time)) => format!("{date} {time} UTC"),
            _ => datetime.clone(),
        };
        Self { relative: relative(at, now), absolute, datetime }
    }
}

fn relative(at: Timestamp, now: Timestamp) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    // Clocks of hosts differ a little; more than a minute ahead is worth knowing.
    if at.since(now).as_secs() >= MINUTE {
        return "in the future".to_owned();
    }
    let seconds = now.since(at).as_secs();
    let (count, unit) = match seconds {
        0..MINUTE => return "just now".to_owned(),
        MINUTE..HOUR => (seconds / MINUTE, "minute"),
        HOUR..DAY => (seconds / HOUR, "hour"),
        DAY..YEAR => (seconds / DAY, "day"),
        _ => (seconds / YEAR, "year"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        for (seconds, expected) in [
            (0, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (3_599, "59 minutes ago"),
            (7_200, "2 hours ago"),
            (90_000, "1 day ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            assert_eq!(relative(NOW.minus(Duration::from_secs(seconds)), NOW), expected);
        }
        assert_eq!(relative(NOW.plus(Duration::from_secs(5)), NOW), "just now");
        assert_eq!(relative(NOW.plus(Duration::from_secs(500)), NOW), "in the future");
    }

    #[test]
    fn the_exact_time_is_beside_it() {
        let when = When::new(NOW, NOW);
        assert_eq!(when.absolute, "2025-11-22 14:05:06 UTC");
        assert_eq!(when.datetime, "2025-11-22T14:05:06.789Z");
    }
}
