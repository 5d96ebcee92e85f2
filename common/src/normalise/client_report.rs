//! Client reports: what SDKs threw away themselves, and why.
//!
//! ```text
//! {"timestamp": 1763820306.789, "discarded_events": [{"reason": "queue_overflow", "category": "error", "quantity": 3}],
//!  "rate_limited_events": […], "filtered_events": […], "filtered_sampling_events": […]}
//! ```
//! The last three lists are those of relays in front of ours. Nobody can check any of it: it is counted as told, and told apart from
//! what this relay has refused itself. What SDKs discarded has an outcome of its own; what others limited or filtered has the
//! outcome that the protocol gives it, under a reason that begins with `client_report:`.

use super::Rejected;
use super::time_value::Time;
use crate::category::DataCategory;
use crate::outcome::{MAX_REASON_CHARS, Outcome};
use crate::timestamp::Timestamp;
use crate::tree::{Number, Value, read};

/// The lists, and how what they tell ended.
const LISTS: [(&str, Outcome); 4] = [
    ("discarded_events", Outcome::ClientDiscard),
    ("rate_limited_events", Outcome::RateLimited),
    ("filtered_events", Outcome::Filtered),
    ("filtered_sampling_events", Outcome::Filtered),
];
/// How the reason of an outcome begins that somebody else came to.
pub const TOLD: &str = "client_report:";
/// Most entries that are read. SDKs have about ten reasons and twenty categories.
const MAX_ENTRIES: usize = 500;

/// A client report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientReport {
    /// When the client made it, or when it was received.
    pub timestamp: Timestamp,
    /// What was thrown away. Entries that can't be read are left out.
    pub discarded: Vec<Discarded>,
}

/// So many of a category, thrown away for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// How it ended.
    pub outcome: Outcome,
    /// The SDK's word: letters, digits and `_ - . : ,`; `other` for anything else. Another relay's word begins with `client_report:`.
    pub reason: Box<str>,
    /// What was thrown away; what Picket does not know is [`DataCategory::Unknown`].
    pub category: DataCategory,
    /// How many; at least one.
    pub quantity: u32,
}

impl ClientReport {
    /// Reads a report.
    ///
    /// # Errors
    /// [`Rejected`] if it is no JSON object, or has more entries than any SDK makes.
    pub fn read(payload: &[u8], received_at: Timestamp) -> Result<Self, Rejected> {
        let report = read(payload).map_err(|_| Rejected::new("invalid_json", "a client report must be JSON"))?;
        if report.as_object().is_none() {
            return Err(Rejected::new("invalid_json", "a client report must be a JSON object"));
        }
        let list = |name| report.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if LISTS.into_iter().map(|(name, _)| list(name).len()).sum::<usize>() > MAX_ENTRIES {
            return Err(Rejected::new("too_many_entries", "a client report may have 500 entries"));
        }
        let timestamp = report.get("timestamp").and_then(|value| Time::read(value).ok());
        Ok(Self {
            timestamp: timestamp.map_or(received_at, Time::to_timestamp),
            discarded: LISTS
                .into_iter()
                .flat_map(|(name, outcome)| list(name).iter().filter_map(move |entry| Discarded::read(entry, outcome)))
                .collect(),
        })
    }
}

impl Discarded {
    fn read(entry: &Value<'_>, outcome: Outcome) -> Option<Self> {
        let quantity = entry.get("quantity").and_then(Value::as_number).and_then(Number::as_u64)?;
        let quantity = u32::try_from(quantity).ok().filter(|quantity| *quantity > 0)?;
        let category = entry.get("category").and_then(Value::as_str)?;
        let reason = entry.get("reason").and_then(Value::as_str)?;
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:,".contains(&byte);
        // What a client says becomes a word in a statistic, not a place to leave data.
        let prefix = if outcome == Outcome::ClientDiscard { "" } else { TOLD };
        let is_word = (1..=MAX_REASON_CHARS - prefix.len()).contains(&reason.len()) && reason.bytes().all(is_letter);
        let reason = format!("{prefix}{}", if is_word { reason } else { "other" });
        let category = DataCategory::from_name(category).unwrap_or(DataCategory::Unknown);
        Some(Self { outcome, reason: reason.into(), category, quantity })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RECEIVED: Timestamp = Timestamp::from_millis(1_763_820_306_789);

    fn discarded(reason: &str, category: DataCategory, quantity: u32) -> Discarded {
        Discarded { outcome: Outcome::ClientDiscard, reason: reason.into(), category, quantity }
    }

    #[test]
    fn reports_are_read_as_far_as_they_make_sense() {
        let json = br#"{"timestamp":"2025-11-22T14:05:00Z","discarded_events":[
            {"reason":"queue_overflow","category":"error","quantity":3},
            {"reason":"sample_rate","category":"something_new","quantity":1},
            {"reason":"Free text, by an attacker","category":"session","quantity":2},
            {"reason":"zero","category":"error","quantity":0},
            {"reason":"negative","category":"error","quantity":-1},
            {"reason":"huge","category":"error","quantity":99999999999},
            {"category":"error","quantity":1}, 5],
            "rate_limited_events":[{"reason":"key_quota","category":"error","quantity":2}],
            "filtered_sampling_events":[{"reason":"Sampled:1,2","category":"user_report_v2","quantity":4}]}"#;
        let report = ClientReport::read(json, RECEIVED).unwrap();
        assert_eq!(report.timestamp, Timestamp::parse("2025-11-22T14:05:00Z").unwrap());
        let expected = [
            discarded("queue_overflow", DataCategory::Error, 3),
            discarded("sample_rate", DataCategory::Unknown, 1),
            discarded("other", DataCategory::Session, 2),
            Discarded { outcome: Outcome::RateLimited, ..discarded("client_report:key_quota", DataCategory::Error, 2) },
            Discarded {
                outcome: Outcome::Filtered,
                ..discarded("client_report:Sampled:1,2", DataCategory::Feedback, 4)
            },
        ];
        assert_eq!(report.discarded, expected);
    }

    #[test]
    fn no_reason_of_another_relay_is_longer_than_reasons_may_be_or_looks_like_ours() {
        for (length, expected) in
            [(50, format!("client_report:{}", "x".repeat(50))), (51, "client_report:other".to_owned())]
        {
            let reason = "x".repeat(length);
            let json = format!(r#"{{"filtered_events":[{{"reason":"{reason}","category":"error","quantity":1}}]}}"#);
            assert_eq!(&*ClientReport::read(json.as_bytes(), RECEIVED).unwrap().discarded[0].reason, expected);
        }
    }

    #[test]
    fn what_is_no_report_is_rejected_with_a_word() {
        let many = format!(r#"{{"discarded_events":[{}1]}}"#, "1,".repeat(500));
        for (json, reason) in [("", "invalid_json"), ("[]", "invalid_json"), (&many, "too_many_entries")] {
            assert_eq!(ClientReport::read(json.as_bytes(), RECEIVED).unwrap_err().reason, reason);
        }
        assert_eq!(ClientReport::read(b"{}", RECEIVED).unwrap().timestamp, RECEIVED);
    }
}
