//! Data categories: the kinds of data that quotas, outcomes and statistics count apart.
//!
//! Names and numbers are the Sentry protocol's, so that quotas, rate-limit headers and client reports mean the same here.
//! Two are ours: client reports have a category of their own, because every item received is accounted for, and there is
//! no other it could be counted in.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a category is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Items, or what a container item holds.
    Items,
    /// Bytes of payload.
    Bytes,
    /// Milliseconds of what a profile covers.
    Milliseconds,
}

macro_rules! categories {
    ($($(#[$doc:meta])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// The kind of data an item is counted as.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DataCategory {
            $($(#[$doc])+ $variant,)+
        }

        impl DataCategory {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$variant),+];

            /// The protocol's name, as in quotas, rate-limit headers, client reports and outcome rows.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The protocol's number; negative where the protocol has none for it.
            #[must_use]
            pub const fn number(self) -> i8 {
                match self {
                    $(Self::$variant => $number,)+
                }
            }
        }
    };
}

categories! {
    /// Client reports: never counted against anyone, but each is accounted for. Not in the protocol.
    ClientReport = -2, "client_report";
    /// A category that this version does not know.
    Unknown = -1, "unknown";
    /// What no other category names: unknown item types, form data, requests that were refused unread.
    Default = 0, "default";
    /// Events that are neither transactions nor security reports.
    Error = 1, "error";
    /// Transactions.
    Transaction = 2, "transaction";
    /// Content-security-policy and other browser security reports.
    Security = 3, "security";
    /// Attachments and crash dumps, in bytes. [`Self::AttachmentItem`] counts how many.
    Attachment = 4, "attachment";
    /// Release-health sessions and their aggregates.
    Session = 5, "session";
    /// Profiles of transactions.
    Profile = 6, "profile";
    /// Session replays: both halves and videos.
    Replay = 7, "replay";
    /// Transactions whose metrics were extracted.
    TransactionProcessed = 8, "transaction_processed";
    /// Transactions that are stored.
    TransactionIndexed = 9, "transaction_indexed";
    /// Cron check-ins.
    Monitor = 10, "monitor";
    /// Profiles that are stored.
    ProfileIndexed = 11, "profile_indexed";
    /// Spans, alone or in containers.
    Span = 12, "span";
    /// Cron monitors that are watched.
    MonitorSeat = 13, "monitor_seat";
    /// User feedback, old and new form.
    Feedback = 14, "feedback";
    /// Buckets of aggregated metrics.
    MetricBucket = 15, "metric_bucket";
    /// Spans that are stored.
    SpanIndexed = 16, "span_indexed";
    /// What continuous profiles cover, in milliseconds.
    ProfileDuration = 17, "profile_duration";
    /// Chunks of continuous profiles.
    ProfileChunk = 18, "profile_chunk";
    /// Seconds in which metrics were sent.
    MetricSecond = 19, "metric_second";
    /// Uptime checks.
    Uptime = 21, "uptime";
    /// Attachments and crash dumps, how many. [`Self::Attachment`] counts their bytes.
    AttachmentItem = 22, "attachment_item";
    /// Log entries, how many. [`Self::LogByte`] counts their bytes.
    LogItem = 23, "log_item";
    /// Log entries, in bytes.
    LogByte = 24, "log_byte";
    /// As [`Self::ProfileDuration`], of user interfaces.
    ProfileDurationUi = 25, "profile_duration_ui";
    /// As [`Self::ProfileChunk`], of user interfaces.
    ProfileChunkUi = 26, "profile_chunk_ui";
    /// Metrics, each on its own, how many. [`Self::TraceMetricByte`] counts their bytes.
    TraceMetric = 33, "trace_metric";
    /// Profiles of back ends.
    ProfileBackend = 35, "profile_backend";
    /// Profiles of user interfaces.
    ProfileUi = 36, "profile_ui";
    /// Metrics, each on its own, in bytes.
    TraceMetricByte = 37, "trace_metric_byte";
}

impl DataCategory {
    /// The category of a name in a quota or client report, aliases included; `None` for a name that is not known.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            // What SDKs call feedback beside its own name.
            "user_report_v2" => Some(Self::Feedback),
            _ => Self::ALL.into_iter().find(|category| category.as_str() == name),
        }
    }

    /// What it is counted in.
    #[must_use]
    pub const fn unit(self) -> Unit {
        match self {
            Self::Attachment | Self::LogByte | Self::TraceMetricByte => Unit::Bytes,
            Self::ProfileDuration | Self::ProfileDurationUi => Unit::Milliseconds,
            _ => Unit::Items,
        }
    }
}

impl std::fmt::Display for DataCategory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for DataCategory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for DataCategory {
    /// Lenient: relay and aggregator may be of different versions, and a count of a category that one side does not know
    /// is still a count.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::from_name(&name).unwrap_or(Self::Unknown))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_category_reads_back_from_its_name_and_has_a_number_of_its_own() {
        let mut numbers: Vec<_> = DataCategory::ALL.iter().map(|category| category.number()).collect();
        assert!(numbers.is_sorted());
        numbers.dedup();
        assert_eq!(numbers.len(), DataCategory::ALL.len());
        for category in DataCategory::ALL {
            let text = serde_json::to_string(&category).unwrap();
            assert_eq!(serde_json::from_str::<DataCategory>(&text).unwrap(), category);
            assert_eq!(DataCategory::from_name(category.as_str()), Some(category));
        }
    }

    #[test]
    fn a_name_that_is_not_known_is_none_and_between_versions_unknown() {
        assert_eq!(DataCategory::from_name("user_report_v2"), Some(DataCategory::Feedback));
        assert_eq!(DataCategory::from_name("of tomorrow"), None);
        assert_eq!(serde_json::from_str::<DataCategory>("\"of tomorrow\"").unwrap(), DataCategory::Unknown);
    }

    #[test]
    fn bytes_and_milliseconds_are_told_from_items() {
        assert_eq!(DataCategory::Attachment.unit(), Unit::Bytes);
        assert_eq!(DataCategory::AttachmentItem.unit(), Unit::Items);
        assert_eq!(DataCategory::ProfileDuration.unit(), Unit::Milliseconds);
    }
}
