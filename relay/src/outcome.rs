//! Outcomes of items that end on the relay: counted in memory, shown as a metric, sent to the aggregator.
//!
//! Invariants:
//! - every count is in the metric for good, and in exactly one drained batch (a batch that could not be sent is put back);
//! - the number of different keys is bounded: beyond [`MAX_KEYS`] new ones are counted without project under the reason `other`.
//!
//! What is not counted here: items that went into the spool. The aggregator counts those.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use picket_common::category::DataCategory;
use picket_common::ids::ProjectId;
use picket_common::outcome::{Outcome, Reason};
use picket_common::wire::control::OutcomeCount;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::dropped::Dropped;
use crate::refusal::Refusal;
use crate::tally::Tally;

/// Most keys that are counted apart. A key takes about 200 bytes with its metric, so this is about 2 MB.
pub const MAX_KEYS: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    project_id: Option<ProjectId>,
    category: DataCategory,
    outcome: Outcome,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    project: String,
    category: &'static str,
    outcome: &'static str,
    reason: String,
}

impl From<&Key> for Labels {
    fn from(key: &Key) -> Self {
        Self {
            project: key.project_id.map_or_else(String::new, |id| id.to_string()),
            category: key.category.as_str(),
            outcome: key.outcome.as_str(),
            reason: key.reason.to_string(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Not yet drained. A drained key stays with a zero, so that the number of metric series is the number of keys.
    pending: HashMap<Key, u64>,
}

/// The counter. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Outcomes {
    state: Arc<Mutex<State>>,
    metric: Family<Labels, Counter>,
}

impl Outcomes {
    /// A counter that shows itself in `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Self {
        let outcomes = Self::default();
        registry.register(
            "outcomes",
            "Items that ended on this relay, by project, category, outcome and reason; attachments count bytes",
            outcomes.metric.clone(),
        );
        outcomes
    }

    /// Counts `quantity` of a category as ended.
    pub fn record(
        &self,
        project_id: Option<ProjectId>,
        category: DataCategory,
        outcome: Outcome,
        reason: Reason,
        quantity: u64,
    ) {
        if quantity == 0 {
            return;
        }
        let mut key = Key { project_id, category, outcome, reason };
        let mut state = self.lock();
        if state.pending.len() >= MAX_KEYS && !state.pending.contains_key(&key) {
            key = Key { project_id: None, reason: Reason::Borrowed("other"), ..key };
        }
        self.metric.get_or_create(&Labels::from(&key)).inc_by(quantity);
        *state.pending.entry(key).or_default() += quantity;
    }

    /// Counts everything in a refused request.
    pub fn refused(&self, project_id: Option<ProjectId>, tally: &Tally, refusal: &Refusal) {
        let (outcome, reason) = refusal.outcome();
        for (category, quantity) in tally.iter() {
            self.record(project_id, category, outcome, reason.clone(), quantity);
        }
    }

    /// Counts what the stages dropped from a request that was taken.
    pub fn dropped(&self, project_id: ProjectId, dropped: &Dropped) {
        for (outcome, reason, tally) in dropped.iter() {
            for (category, quantity) in tally.iter() {
                self.record(Some(project_id), category, outcome, reason.clone(), quantity);
            }
        }
    }

    /// Takes what was counted since the last call.
    #[must_use]
    pub fn drain(&self) -> Vec<OutcomeCount> {
        self.lock()
            .pending
            .iter_mut()
            .filter(|(_, quantity)| **quantity > 0)
            .map(|(key, quantity)| OutcomeCount {
                project_id: key.project_id,
                category: key.category,
                outcome: key.outcome,
                reason: key.reason.clone(),
                quantity: std::mem::take(quantity),
            })
            .collect()
    }

    /// Puts back what was drained and could not be sent.
    pub fn put_back(&self, counts: Vec<OutcomeCount>) {
        let mut state = self.lock();
        for OutcomeCount { project_id, category, outcome, reason, quantity } in counts {
            *state.pending.entry(Key { project_id, category, outcome, reason }).or_default() += quantity;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves at worst one count undone.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn count(outcomes: &Outcomes, project: u64, reason: &'static str, quantity: u64) {
        outcomes.record(
            Some(ProjectId::new(project)),
            DataCategory::Error,
            Outcome::Invalid,
            Reason::Borrowed(reason),
            quantity,
        );
    }

    #[test]
    fn each_count_is_drained_once_and_stays_in_the_metric() {
        let mut registry = Registry::with_prefix("picket_relay");
        let outcomes = Outcomes::registered(&mut registry);
        count(&outcomes, 7, "cors", 1);
        count(&outcomes, 7, "cors", 2);
        let drained = outcomes.drain();
        assert_eq!(drained.len(), 1);
        assert_eq!((drained[0].project_id, drained[0].quantity), (Some(ProjectId::new(7)), 3));
        assert_eq!(outcomes.drain(), []);
        outcomes.put_back(drained);
        count(&outcomes, 7, "cors", 4);
        assert_eq!(outcomes.drain()[0].quantity, 7);
        let text = picket_common::telemetry::encode_metrics(&registry);
        let line = r#"picket_relay_outcomes_total{project="7",category="error",outcome="invalid",reason="cors"} 7"#;
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_nothing_is_lost() {
        let outcomes = Outcomes::default();
        let total = MAX_KEYS as u64 + 500;
        for project in 0..total {
            count(&outcomes, project, "cors", 1);
        }
        let drained = outcomes.drain();
        assert_eq!(drained.len(), MAX_KEYS + 1);
        assert_eq!(drained.iter().map(|count| count.quantity).sum::<u64>(), total);
    }
}
