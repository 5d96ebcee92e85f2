//! What a quota can count: the protocol's category names with their units, and which of them Picket counts.

pub use crate::category::Unit;

use crate::category::DataCategory;

/// Names of the protocol for data that never arrives on its own here. A quota that names one is valid and has no effect.
const OTHER_NAMES: [&str; 7] = [
    "replay_video",
    "seer_autofix",
    "seer_scanner",
    "prevent_user",
    "prevent_review",
    "size_analysis",
    "installable_build",
];

/// The unit of a category by its name; `None` for a name that the protocol does not have.
#[must_use]
pub fn unit_of(name: &str) -> Option<Unit> {
    let known = DataCategory::from_name(name).filter(|category| category.number() >= 0);
    known.map(DataCategory::unit).or_else(|| OTHER_NAMES.contains(&name).then_some(Unit::Items))
}

/// Every name that a quota may have, for an error. Names that are Picket's own are not among them: no quota counts those.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let protocol = DataCategory::ALL.into_iter().filter(|category| category.number() >= 0).map(DataCategory::as_str);
    protocol.chain(OTHER_NAMES).collect()
}

/// A set of categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted(u64);

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
            return Self::from_categories(all().filter(|category| takes_bytes || category.unit() == Unit::Items));
        }
        let known = |name: &String| DataCategory::from_name(name);
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

const fn bit(category: DataCategory) -> u64 {
    // Fewer categories than bits: a test counts them.
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
        assert_eq!(counted(&["error", "seer_autofix"], 1), [DataCategory::Error]);
        assert_eq!(counted(&["installable_build"], 1), []);
    }

    #[test]
    fn each_name_that_is_told_has_a_unit_and_our_own_have_none() {
        assert!(names().contains(&"error"));
        assert!(names().into_iter().all(|name| unit_of(name).is_some()));
        assert_eq!([unit_of("client_report"), unit_of("unknown"), unit_of("errors")], [None; 3]);
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
        let all: u64 = DataCategory::ALL.into_iter().map(bit).sum();
        assert_eq!(all, (1 << DataCategory::ALL.len()) - 1);
    }
}
