//! The aggregator's half of distributed counting: who holds how much of a window, and who gets more.
//!
//! Invariants, for one window of one bucket with a limit:
//! - the shares of all relays together are at most `max(limit, their bases)`: a grant is made from what nobody holds. A relay
//!   that was not heard of in the window is taken to hold its base, whether it is connected or not, because it admits that
//!   much without asking;
//! - what a relay is thought to hold is never less than what it holds: grants count when they are made, releases when they
//!   are heard of;
//! - nothing but the numbers here decides: no clock, no randomness, no message order.
//!
//! Where nothing is left, connected relays that have not used their shares are asked to give back ([`lease`](super::lease)
//! says how much), and what they give goes to those that asked, in equal parts.

use std::collections::{BTreeMap, BTreeSet};

use super::window::{QuotaBucket, WindowNumber, WindowShare, WindowUse, base_share};

/// The relays of an installation.
#[derive(Debug, Clone)]
pub struct Relays<R> {
    /// Every relay that may connect.
    pub allowed: BTreeSet<R>,
    /// Those of them that are connected.
    pub connected: BTreeSet<R>,
    /// Those of them that have reported all of their open windows since this aggregator started; where there are other aggregators,
    /// since they connected to this one.
    pub heard: BTreeSet<R>,
}

/// Whether this aggregator has seen the window from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// It knows all that was granted.
    Whole,
    /// It was started while the window was open, or other aggregators grant of it too. What was granted before is known when every relay has reported.
    Partial,
}

/// One window of one bucket.
#[derive(Debug, Clone)]
pub struct WindowLedger<R> {
    bucket: QuotaBucket,
    number: WindowNumber,
    memory: Memory,
    holdings: BTreeMap<R, Holding>,
    is_exhausted: bool,
}

/// What one relay holds.
#[derive(Debug, Clone, Copy, Default)]
struct Holding {
    base: u64,
    granted: u64,
    released: u64,
    used: u64,
    wants: u64,
    /// It was asked to give back and has not answered yet.
    is_recalled: bool,
}

impl Holding {
    const fn share(&self) -> u64 {
        self.base.saturating_add(self.granted).saturating_sub(self.released)
    }

    const fn unspent(&self) -> u64 {
        self.share().saturating_sub(self.used)
    }
}

// === impl Relays ===

impl<R> Default for Relays<R> {
    fn default() -> Self {
        Self { allowed: BTreeSet::new(), connected: BTreeSet::new(), heard: BTreeSet::new() }
    }
}

impl<R: Copy + Ord> Relays<R> {
    /// How many relays divide a limit.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.allowed.len()).unwrap_or(u32::MAX)
    }
}

// === impl WindowLedger ===

impl<R: Copy + Ord> WindowLedger<R> {
    /// A window of which nothing was heard yet.
    #[must_use]
    pub const fn new(bucket: QuotaBucket, number: WindowNumber, memory: Memory) -> Self {
        Self { bucket, number, memory, holdings: BTreeMap::new(), is_exhausted: false }
    }

    /// Which window.
    #[must_use]
    pub const fn number(&self) -> WindowNumber {
        self.number
    }

    /// Others may have granted of it too: from now on nothing is granted unless every relay has reported.
    pub const fn is_shared_now(&mut self) {
        self.memory = Memory::Partial;
    }

    /// What all relays have admitted, as far as they told.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.holdings.values().fold(0, |total, holding| total.saturating_add(holding.used))
    }

    /// Takes in what a relay says, and says what is to be told to whom.
    pub fn report(&mut self, relay: R, told: &WindowUse, limit: u64, relays: &Relays<R>) -> Vec<(R, WindowShare)> {
        let holding = self.holdings.entry(relay).or_default();
        holding.base = holding.base.max(told.base);
        // Larger than ours only where this aggregator was started since.
        holding.granted = holding.granted.max(told.granted);
        holding.released = holding.released.max(told.released);
        holding.used = holding.used.max(told.used);
        holding.wants = told.wants;
        holding.is_recalled = false;
        self.settle(relay, limit, relays)
    }

    /// Divides what nobody holds among those that want more, recalls what others do not use, and tells whose state changed.
    fn settle(&mut self, reporter: R, limit: u64, relays: &Relays<R>) -> Vec<(R, WindowShare)> {
        let mut told = BTreeSet::new();
        let knows_all = self.memory == Memory::Whole || relays.allowed.is_subset(&relays.heard);
        if knows_all {
            self.grant(self.available(limit, relays), relays, &mut told);
        }
        let was_exhausted = self.is_exhausted;
        self.is_exhausted = knows_all && self.available(limit, relays) == 0 && self.recallable(limit, relays) == 0;
        if self.is_exhausted != was_exhausted {
            told.extend(relays.connected.iter().copied());
        }
        if self.holdings.get(&reporter).is_some_and(|holding| holding.wants > 0) {
            told.insert(reporter);
        }
        let recalled = self.recall(limit, relays);
        let named: BTreeSet<R> = told.union(&recalled).copied().collect();
        named.into_iter().map(|relay| (relay, self.share_of(relay, recalled.contains(&relay)))).collect()
    }

    /// What nobody holds.
    fn available(&self, limit: u64, relays: &Relays<R>) -> u64 {
        let silent = relays.allowed.iter().filter(|relay| !self.holdings.contains_key(relay)).count() as u64;
        let reserved = silent.saturating_mul(base_share(limit, relays.count()));
        let held = self.holdings.values().fold(reserved, |total, holding| total.saturating_add(holding.share()));
        limit.saturating_sub(held)
    }

    /// What connected relays hold and have not used.
    fn recallable(&self, limit: u64, relays: &Relays<R>) -> u64 {
        let base = base_share(limit, relays.count());
        let of = |relay: &R| self.holdings.get(relay).map_or(base, |holding| holding.unspent());
        relays.connected.iter().map(of).fold(0, u64::saturating_add)
    }

    fn grant(&mut self, available: u64, relays: &Relays<R>, told: &mut BTreeSet<R>) {
        let mut left = available;
        let wanting: Vec<R> =
            self.holdings.iter().filter(|(_, holding)| holding.wants > 0).map(|(relay, _)| *relay).collect();
        let wanting: Vec<R> = wanting.into_iter().filter(|relay| relays.connected.contains(relay)).collect();
        for (position, relay) in wanting.iter().enumerate() {
            let Some(holding) = self.holdings.get_mut(relay) else { continue };
            let part = left.div_ceil((wanting.len() - position) as u64).min(holding.wants);
            if part == 0 {
                continue;
            }
            holding.granted = holding.granted.saturating_add(part);
            holding.wants -= part;
            left -= part;
            told.insert(*relay);
        }
    }

    /// Asks back what relays hold and do not use. Of those that want more themselves only the ones that hold more than the
    /// neediest are asked: units that all relays are after would only go round.
    fn recall(&mut self, limit: u64, relays: &Relays<R>) -> BTreeSet<R> {
        let mut recalled = BTreeSet::new();
        let needy =
            self.holdings.iter().filter(|(relay, holding)| holding.wants > 0 && relays.connected.contains(relay));
        let Some((neediest, least)) =
            needy.map(|(relay, holding)| (*relay, holding.unspent())).min_by_key(|pair| pair.1)
        else {
            return recalled;
        };
        let silent = Holding { base: base_share(limit, relays.count()), ..Holding::default() };
        for relay in relays.connected.iter().filter(|relay| **relay != neediest) {
            let holding = self.holdings.entry(*relay).or_insert(silent);
            let is_needy = holding.wants > 0 && holding.unspent() <= least;
            if holding.unspent() > 0 && !is_needy && !holding.is_recalled {
                holding.is_recalled = true;
                recalled.insert(*relay);
            }
        }
        recalled
    }

    /// What a relay is to know; also said again when it connects.
    #[must_use]
    pub fn share_of(&self, relay: R, is_recalled: bool) -> WindowShare {
        WindowShare {
            bucket: self.bucket.clone(),
            number: self.number,
            granted: self.holdings.get(&relay).map_or(0, |holding| holding.granted),
            is_exhausted: self.is_exhausted,
            is_recalled,
            base: self.holdings.get(&relay).map(|holding| holding.base).filter(|_| is_recalled),
        }
    }

    /// A connection ended: what was asked over it may not have arrived.
    pub fn disconnected(&mut self, relay: R) {
        if let Some(holding) = self.holdings.get_mut(&relay) {
            holding.is_recalled = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::quota::QuotaScope;

    fn bucket() -> QuotaBucket {
        QuotaBucket { quota: "q".into(), scope: QuotaScope::Organization, of: "".into(), seconds: 60 }
    }

    fn relays(all: u32) -> Relays<u32> {
        let set: BTreeSet<u32> = (0..all).collect();
        Relays { allowed: set.clone(), connected: set, heard: BTreeSet::new() }
    }

    fn told(base: u64, used: u64, wants: u64) -> WindowUse {
        WindowUse { bucket: bucket(), number: WindowNumber(0), base, granted: 0, released: 0, used, wants }
    }

    fn window(memory: Memory) -> WindowLedger<u32> {
        WindowLedger::new(bucket(), WindowNumber(0), memory)
    }

    #[test]
    fn what_idle_relays_hold_is_recalled_for_the_one_that_needs_it() {
        let (mut window, relays) = (window(Memory::Whole), relays(3));
        let answers = window.report(0, &told(10, 10, 5), 30, &relays);
        let recalled: Vec<_> = answers.iter().filter(|(_, share)| share.is_recalled).map(|(relay, _)| *relay).collect();
        assert_eq!(recalled, [1, 2]);
        let answers = window.report(1, &WindowUse { released: 8, ..told(10, 0, 0) }, 30, &relays);
        assert_eq!(answers.iter().find(|(relay, _)| *relay == 0).unwrap().1.granted, 5);
        assert!(!answers.iter().any(|(_, share)| share.is_exhausted));
    }

    #[test]
    fn all_hear_of_it_when_nothing_is_left() {
        let (mut window, relays) = (window(Memory::Whole), relays(2));
        assert!(window.report(0, &told(5, 5, 0), 10, &relays).is_empty());
        let answers = window.report(1, &told(5, 5, 1), 10, &relays);
        assert_eq!(answers.len(), 2);
        assert!(answers.iter().all(|(_, share)| share.is_exhausted && share.granted == 0));
        let answers = window.report(1, &told(5, 5, 1), 20, &relays);
        assert!(answers.iter().all(|(_, share)| !share.is_exhausted), "a raised limit helps at once: {answers:?}");
    }

    #[test]
    fn a_relay_that_is_away_keeps_its_share() {
        let (mut window, mut relays) = (window(Memory::Whole), relays(2));
        relays.connected.remove(&1);
        let answers = window.report(0, &told(5, 5, 100), 10, &relays);
        assert_eq!(answers, [(0, WindowShare { is_exhausted: true, ..window.share_of(0, false) })]);
        assert_eq!(window.share_of(0, false).granted, 0);
    }

    #[test]
    fn an_aggregator_that_was_restarted_grants_nothing_until_it_has_heard_all_relays() {
        let (mut window, mut relays) = (window(Memory::Partial), relays(2));
        let asked = WindowUse { granted: 3, ..told(5, 8, 2) };
        relays.heard.insert(0);
        assert_eq!(window.report(0, &asked, 20, &relays)[0].1.granted, 3);
        relays.heard.insert(1);
        assert_eq!(window.report(0, &asked, 20, &relays)[0].1.granted, 5);
    }

    #[test]
    fn those_that_ask_share_what_is_left() {
        let (mut window, relays) = (window(Memory::Whole), relays(2));
        let _ = window.report(0, &WindowUse { released: 5, ..told(5, 0, 0) }, 10, &relays);
        let _ = window.report(1, &told(5, 5, 3), 10, &relays);
        let _ = window.report(0, &WindowUse { released: 5, ..told(5, 0, 50) }, 10, &relays);
        let granted = [0, 1].map(|relay| window.share_of(relay, false).granted);
        assert_eq!(granted, [2, 3]);
    }
}
