//! What must come out: every event that was answered, once; and no event in the place of another.

use std::collections::{BTreeMap, HashMap};

use picket_common::ids::SpoolId;
use uuid::Uuid;

use crate::aggregator::Judged;
use crate::click_house::ClickHouse;
use crate::spool::event_id;

/// Whether an event has to come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was answered.
    Must,
    /// It was not, or an operator turned back the disk that it was on.
    May,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Truth {
    fates: BTreeMap<u64, Fate>,
    /// What the journal stored under which name.
    stored: HashMap<(SpoolId, u64), u64>,
}

// === impl Truth ===

impl Truth {
    /// It was answered.
    pub fn answered(&mut self, event: u64) {
        self.fates.insert(event, Fate::Must);
    }

    /// The power was cut before the answer.
    pub fn not_answered(&mut self, event: u64) {
        self.fates.entry(event).or_insert(Fate::May);
    }

    /// The disk that it was on is turned back.
    pub fn given_up(&mut self, event: u64) {
        self.fates.insert(event, Fate::May);
    }

    /// A batch was stored, or is said to be there already; `is_heard` by the relay that sent it.
    ///
    /// # Panics
    /// If other records are stored in its place, or it is stored a second time.
    pub fn judged(&mut self, judged: &Judged, is_new: bool, is_heard: bool) {
        let header = &judged.batch.header;
        for (sequence, event) in (header.first.get()..).zip(&judged.batch.events) {
            match self.stored.get(&(header.spool_id, sequence)) {
                // Known to be there, perhaps, from a commit whose answers a power cut swallowed.
                None => drop(self.stored.insert((header.spool_id, sequence), *event)),
                Some(known) => {
                    assert!(!is_new, "{} {sequence} is stored a second time", header.spool_id);
                    assert!(known == event || !is_heard, "event {event} is taken for event {known}, which was stored");
                }
            }
        }
    }

    /// Everything has come to rest.
    ///
    /// # Panics
    /// If anything is lost, doubled, or counted wrong.
    pub fn check(&self, click_house: &ClickHouse) {
        let names: BTreeMap<Uuid, u64> = self.fates.keys().map(|event| (event_id(*event).as_uuid(), *event)).collect();
        for table in ["events", "event_payloads"] {
            let found = click_house.events(table);
            for (name, count) in &found {
                let event = names.get(name);
                assert!(event.is_some(), "{name} in {table} is nobody's");
                assert_eq!(*count, 1, "event {event:?} is in {table} {count} times");
            }
            for (event, fate) in &self.fates {
                let is_there = found.contains_key(&event_id(*event).as_uuid());
                assert!(is_there || *fate == Fate::May, "event {event} was answered and is not in {table}");
            }
        }
        let events = click_house.events("events");
        assert_eq!(events.len(), click_house.events("event_payloads").len(), "rows and payloads");
        assert!(click_house.counts_agree(), "the counts by hour are not those of the events");
        assert_eq!(click_house.outcomes("accepted"), events.len() as u64, "accepted outcomes and events");
    }
}
