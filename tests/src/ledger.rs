//! What the relays were given and what they answered: the oracle of the fault tests.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use picket_common::ids::EventId;

/// How a post ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered 200: must be stored exactly once.
    Accepted,
    /// Answered otherwise, or not at all: may be stored, once.
    Unknown,
}

/// All events posted so far. Shared by the threads that post.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    accepted: HashSet<EventId>,
    unknown: HashSet<EventId>,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how the post of an event ended.
    pub fn note(&self, id: EventId, outcome: Outcome) {
        let mut entries = self.entries();
        match outcome {
            Outcome::Accepted => entries.accepted.insert(id),
            Outcome::Unknown => entries.unknown.insert(id),
        };
    }

    /// How many were answered 200.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.entries().accepted.len()
    }

    /// How many were not answered, or not with 200.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.entries().unknown.len()
    }

    /// The ids that were answered 200.
    #[must_use]
    pub fn accepted_ids(&self) -> Vec<EventId> {
        self.entries().accepted.iter().copied().collect()
    }

    /// Holds what is stored, by id and how often, against what was answered.
    ///
    /// # Panics
    /// If an accepted event is missing, any event is there twice, or one is there that nobody posted.
    #[track_caller]
    pub fn check(&self, stored: &HashMap<EventId, u64>) {
        let entries = self.entries();
        let lost: Vec<_> = entries.accepted.iter().filter(|id| !stored.contains_key(id)).collect();
        let repeated: Vec<_> = stored.iter().filter(|(_, count)| **count != 1).collect();
        let is_known = |id: &EventId| entries.accepted.contains(id) || entries.unknown.contains(id);
        let foreign: Vec<_> = stored.keys().filter(|id| !is_known(id)).collect();
        let (accepted, unknown, rows) = (entries.accepted.len(), entries.unknown.len(), stored.len());
        eprintln!("ledger: {accepted} accepted, {unknown} unanswered, {rows} stored");
        assert!(
            lost.is_empty() && repeated.is_empty() && foreign.is_empty(),
            "of {accepted} events answered 200, {} are lost: {:?}; {} of {rows} are stored more than once: {:?}; \
             {} were never posted: {:?}",
            lost.len(),
            first(&lost),
            repeated.len(),
            first(&repeated),
            foreign.len(),
            first(&foreign),
        );
    }
}

fn first<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(5)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TestEvent;

    fn ledger() -> (Ledger, EventId, EventId) {
        let (ledger, accepted, unknown) = (Ledger::default(), TestEvent::message("").id, TestEvent::message("").id);
        ledger.note(accepted, Outcome::Accepted);
        ledger.note(unknown, Outcome::Unknown);
        (ledger, accepted, unknown)
    }

    #[test]
    fn what_was_not_answered_may_be_stored_or_not() {
        let (ledger, accepted, unknown) = ledger();
        ledger.check(&HashMap::from([(accepted, 1)]));
        ledger.check(&HashMap::from([(accepted, 1), (unknown, 1)]));
    }

    #[test]
    #[should_panic(expected = "1 are lost")]
    fn a_lost_event_is_found() {
        ledger().0.check(&HashMap::new());
    }

    #[test]
    #[should_panic(expected = "1 of 2 are stored more than once")]
    fn an_event_stored_twice_is_found_even_where_another_is_not_stored_at_all() {
        let (ledger, accepted, unknown) = ledger();
        ledger.check(&HashMap::from([(accepted, 1), (unknown, 2)]));
    }

    #[test]
    #[should_panic(expected = "1 were never posted")]
    fn a_stored_event_that_nobody_posted_is_found() {
        let (ledger, accepted, _) = ledger();
        ledger.check(&HashMap::from([(accepted, 1), (TestEvent::message("").id, 1)]));
    }
}
