//! What a quota can count: the protocol's category names with their units, and which of them Picket counts.

use crate::category::DataCategory;

/// The namespaces of metrics that the protocol has.
pub(super) const NAMESPACES: [&str; 5] = ["sessions", "transactions", "spans", "custom", "metric_stats"];

/// What a category is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Items.
    Items,
    /// Bytes of payload.
    Bytes,
    /// Milliseconds.
    Milliseconds,
}

/// Names of the protocol that stand for one of ours, or for data that never arrives on its own here. A quota that names one
/// of the latter is valid and has no effect.
const OTHER_NAMES: [(&str, Unit, Option<DataCategory>); 24] = [
    ("user_report_v2", Unit::Items, Some(DataCategory::Feedback)),
    ("profile_chunk", Unit::Items, Some(DataCategory::Profile)),
    ("profile_chunk_ui", Unit::Items, Some(DataCategory::Profile)),
    ("profile_backend", Unit::Items, Some(DataCategory::Profile)),
    ("profile_ui", Unit::Items, Some(DataCategory::Profile)),
    ("metric_bucket", Unit::Items, Some(DataCategory::TraceMetric)),
    ("transaction_processed", Unit::Items, None),
    ("transaction_indexed", Unit::Items, None),
    ("profile_indexed", Unit::Items, None),
    ("span_indexed", Unit::Items, None),
    ("monitor_seat", Unit::Items, None),
    ("uptime", Unit::Items, None),
    ("metric_second", Unit::Items, None),
    ("replay_video", Unit::Items, None),
    ("seer_autofix", Unit::Items, None),
    ("seer_scanner", Unit::Items, None),
    ("prevent_user", Unit::Items, None),
    ("prevent_review", Unit::Items, None),
    ("size_analysis", Unit::Items, None),
    ("installable_build", Unit::Items, None),
    ("profile_duration", Unit::Milliseconds, None),
    ("profile_duration_ui", Unit::Milliseconds, None),
    ("log_byte", Unit::Bytes, None),
    ("trace_metric_byte", Unit::Bytes, None),
];

/// The unit of a category by its name; `None` for a name that the protocol does not have.
#[must_use]
pub fn unit_of(name: &str) -> Option<Unit> {
    if let Some(category) = DataCategory::from_name(name) {
        return Some(unit_of_category(category));
    }
    OTHER_NAMES.iter().find(|(known, ..)| *known == name).map(|(_, unit, _)| *unit)
}

const fn unit_of_category(category: DataCategory) -> Unit {
    match category {
        DataCategory::Attachment => Unit::Bytes,
        _ => Unit::Items,
    }
}

/// A set of categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted(u32);

// === impl Counted ===

impl Counted {
    /// What a quota with these names and this limit counts.
    ///
    /// Without names that is everything in one unit: items where something is counted, so that bytes of attachments are not
    /// added to numbers of events; all of it where nothing is admitted anyway. Client reports are never refused.
    pub(super) fn of(names: &[String], limit: Option<u64>) -> Self {
        let all = || DataCategory::ALL.into_iter().filter(|category| *category != DataCategory::ClientReport);
        if names.is_empty() {
            let takes_bytes = limit == Some(0);
            return Self::from_categories(
                all().filter(|category| takes_bytes || unit_of_category(*category) == Unit::Items),
            );
        }
        let known = |name: &String| {
            let other = || OTHER_NAMES.iter().find(|(known, ..)| known == name).and_then(|(.., category)| *category);
            DataCategory::from_name(name).or_else(other)
        };
        Self::from_categories(names.iter().filter_map(known).filter(|category| *category != DataCategory::ClientReport))
    }

    fn from_categories(categories: impl Iterator<Item = DataCategory>) -> Self {
        Self(categories.fold(0, |bits, category| bits | bit(category)))
    }

    /// Whether a category is among them.
    #[must_use]
    pub const fn contains(self, category: DataCategory) -> bool {
        self.0 & bit(category) != 0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = DataCategory> {
        DataCategory::ALL.into_iter().filter(move |category| self.contains(*category))
    }
}

const fn bit(category: DataCategory) -> u32 {
    // Fewer categories than bits: `DataCategory::ALL` has 15.
    1 << category as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(names: &[&str], limit: u64) -> Vec<DataCategory> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        Counted::of(&names, Some(limit)).iter().collect()
    }

    #[test]
    fn names_of_the_protocol_stand_for_the_categories_that_are_counted_here() {
        assert_eq!(counted(&["user_report_v2"], 1), [DataCategory::Feedback]);
        assert_eq!(counted(&["error", "transaction_indexed"], 1), [DataCategory::Error]);
        assert_eq!(counted(&["profile_duration"], 1), []);
    }

    #[test]
    fn without_names_a_counted_quota_leaves_bytes_out() {
        assert!(!counted(&[], 5).contains(&DataCategory::Attachment));
        assert!(counted(&[], 5).contains(&DataCategory::AttachmentItem));
        assert!(counted(&[], 0).contains(&DataCategory::Attachment));
        assert!(!counted(&[], 0).contains(&DataCategory::ClientReport));
    }

    #[test]
    fn every_category_has_a_bit_of_its_own() {
        let all: u32 = DataCategory::ALL.into_iter().map(bit).sum();
        assert_eq!(all, (1 << DataCategory::ALL.len()) - 1);
    }
}
