//! A relay's half of distributed counting: what it may still admit in one window of one bucket.
//!
//! Invariants:
//! - `used <= base + granted - released`, except where an operator took the limit down;
//! - all four only grow while the window lasts, but for what of `used` is given back. The aggregator goes by the most that it was
//!   told: of what was given back it lends nothing to others, which is too careful and never too generous;
//! - nothing here waits: where the share is used up the answer is no, and the next report asks for more.

use serde::{Deserialize, Serialize};

use super::window::{QuotaBucket, WindowNumber, WindowShare, WindowUse};

/// A part of the base: below it a relay asks for more before it has to refuse.
const LOW_WATER_PART: u64 = 8;
/// What a recalled relay keeps of what it has not used: one part in this many.
const KEPT_PART: u64 = 4;

/// A share of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    number: WindowNumber,
    base: u64,
    granted: u64,
    released: u64,
    used: u64,
    /// Used when it was last reported.
    #[serde(default)]
    reported: u64,
    /// Refused since it was last reported.
    #[serde(skip)]
    refused: u64,
    #[serde(default)]
    is_exhausted: bool,
}

/// Whether something is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It fits the share.
    Fits,
    /// The share is used up, though other relays may have some left.
    ShareUsedUp,
    /// Nothing is left for anyone in this window.
    Exhausted,
}

// === impl Lease ===

impl Lease {
    /// The share of a window that has just begun.
    #[must_use]
    pub const fn new(number: WindowNumber, base: u64) -> Self {
        Self { number, base, granted: 0, released: 0, used: 0, reported: 0, refused: 0, is_exhausted: false }
    }

    /// Which window.
    #[must_use]
    pub const fn number(&self) -> WindowNumber {
        self.number
    }

    /// What was admitted.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    const fn unspent(&self) -> u64 {
        self.base.saturating_add(self.granted).saturating_sub(self.released).saturating_sub(self.used)
    }

    /// Whether `quantity` more fits the share. `limit` is the quota's own: it may have been lowered since the window began.
    #[must_use]
    pub const fn check(&self, quantity: u64, limit: u64) -> Verdict {
        if quantity <= self.unspent() && self.used.saturating_add(quantity) <= limit {
            return Verdict::Fits;
        }
        if self.is_exhausted { Verdict::Exhausted } else { Verdict::ShareUsedUp }
    }

    /// Admits `quantity`, for which [`Lease::check`] said yes.
    pub const fn charge(&mut self, quantity: u64) {
        self.used = self.used.saturating_add(quantity);
    }

    /// Takes back a charge of `quantity`: what it was for was not stored.
    pub const fn give_back(&mut self, quantity: u64) {
        self.used = self.used.saturating_sub(quantity);
    }

    /// Notes that `quantity` was refused, so that the next report asks for it. Not for more than `limit`: nobody could ever give
    /// that.
    pub fn refuse(&mut self, quantity: u64, limit: u64) {
        if quantity <= limit {
            self.refused = self.refused.saturating_add(quantity).min(limit);
        }
    }

    /// Whether the aggregator should hear of this window soon: something was refused, or soon will be.
    #[must_use]
    pub fn is_running_low(&self) -> bool {
        !self.is_exhausted && (self.refused > 0 || self.unspent() < self.low_water())
    }

    /// Enough for as much again as since the last report, and for some part of the base. A relay that is not sent anything
    /// has use for nothing: what it gave back would only be taken from those that need it.
    fn low_water(&self) -> u64 {
        let recent = self.used.saturating_sub(self.reported);
        if recent == 0 { 0 } else { recent.max(self.base / LOW_WATER_PART) }
    }

    /// How much more this relay would like.
    fn wants(&self) -> u64 {
        let (unspent, low_water) = (self.unspent(), self.low_water());
        let ahead = if unspent < low_water { low_water.saturating_mul(2).saturating_sub(unspent) } else { 0 };
        // What was refused may have been one item that is larger than what is left.
        ahead.max(self.refused)
    }

    /// What is told to the aggregator. Whoever takes it must send it: it begins a new reporting period.
    #[must_use]
    pub fn report(&mut self, bucket: &QuotaBucket) -> WindowUse {
        let wants = self.wants();
        self.reported = self.used;
        self.refused = 0;
        WindowUse {
            bucket: bucket.clone(),
            number: self.number,
            base: self.base,
            granted: self.granted,
            released: self.released,
            used: self.used,
            wants,
        }
    }

    /// Takes in what the aggregator says. Says whether it must hear of the result.
    pub fn apply(&mut self, share: &WindowShare) -> Reply {
        if share.number != self.number {
            return Reply::Unneeded;
        }
        self.granted = self.granted.max(share.granted);
        self.is_exhausted = share.is_exhausted;
        if !share.is_recalled {
            return Reply::Unneeded;
        }
        let unspent = self.unspent();
        self.released = self.released.saturating_add(unspent - unspent / KEPT_PART);
        Reply::Needed
    }

    /// The same share as it is best taken up after a process was killed that last wrote this down: what it may have admitted
    /// since then, `margin`, counts as used.
    #[must_use]
    pub fn with_margin(mut self, margin: u64) -> Self {
        self.used = self.used.saturating_add(margin.min(self.unspent()));
        self
    }
}

/// Whether the aggregator waits for a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It asked for something back and must hear how much it got.
    Needed,
    /// It does not.
    Unneeded,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(granted: u64) -> WindowShare {
        WindowShare {
            bucket: bucket(),
            number: WindowNumber(3),
            granted,
            is_exhausted: false,
            is_recalled: false,
            base: None,
        }
    }

    fn bucket() -> QuotaBucket {
        QuotaBucket { quota: "q".into(), scope: super::super::QuotaScope::Organization, of: "".into(), seconds: 60 }
    }

    #[test]
    fn a_lease_admits_its_share_to_the_last_unit_and_no_more() {
        let mut lease = Lease::new(WindowNumber(3), 10);
        assert_eq!(lease.check(11, 100), Verdict::ShareUsedUp);
        lease.charge(10);
        assert_eq!(lease.check(1, 100), Verdict::ShareUsedUp);
        let _ = lease.apply(&share(5));
        assert_eq!(lease.check(5, 100), Verdict::Fits);
        assert_eq!(lease.check(6, 100), Verdict::ShareUsedUp);
        let _ = lease.apply(&WindowShare { is_exhausted: true, ..share(5) });
        assert_eq!(lease.check(6, 100), Verdict::Exhausted);
    }

    #[test]
    fn a_repeated_or_late_message_changes_nothing() {
        let mut lease = Lease::new(WindowNumber(3), 10);
        for granted in [7, 7, 3] {
            let _ = lease.apply(&share(granted));
        }
        let _ = lease.apply(&WindowShare { number: WindowNumber(2), ..share(50) });
        assert_eq!(lease.unspent(), 17);
    }

    #[test]
    fn a_limit_that_was_lowered_holds_at_once() {
        let mut lease = Lease::new(WindowNumber(3), 10);
        lease.charge(4);
        assert_eq!(lease.check(1, 4), Verdict::ShareUsedUp);
    }

    #[test]
    fn what_is_given_back_can_be_admitted_again_and_no_more_than_that() {
        let mut lease = Lease::new(WindowNumber(3), 10);
        lease.charge(10);
        let _ = lease.report(&bucket());
        lease.give_back(4);
        assert_eq!((lease.check(4, 100), lease.check(5, 100)), (Verdict::Fits, Verdict::ShareUsedUp));
        assert_eq!(lease.report(&bucket()).used, 6);
        lease.give_back(100);
        assert_eq!(lease.check(11, 100), Verdict::ShareUsedUp, "a share does not grow");
    }

    #[test]
    fn a_recall_gives_back_most_of_what_is_not_used_down_to_the_last_unit() {
        let mut lease = Lease::new(WindowNumber(3), 10);
        lease.charge(2);
        let recall = WindowShare { is_recalled: true, ..share(0) };
        assert_eq!(lease.apply(&recall), Reply::Needed);
        assert_eq!(lease.unspent(), 2);
        let _ = lease.apply(&recall);
        assert_eq!(lease.unspent(), 0);
    }

    #[test]
    fn more_is_asked_for_before_anything_is_refused() {
        let mut lease = Lease::new(WindowNumber(3), 80);
        assert!(!lease.is_running_low());
        assert_eq!(lease.report(&bucket()).wants, 0);
        for _ in 0..7 {
            lease.charge(10);
            let _ = lease.report(&bucket());
        }
        lease.charge(1);
        assert!(lease.is_running_low());
        assert_eq!(lease.report(&bucket()).wants, 11);
        lease.refuse(500, 800);
        assert_eq!(lease.report(&bucket()).wants, 500);
        lease.refuse(500, 800);
        lease.refuse(500, 800);
        assert_eq!(lease.report(&bucket()).wants, 800, "no more than there is");
        lease.refuse(801, 800);
        assert_eq!(lease.report(&bucket()).wants, 0, "nothing came since");
    }

    #[test]
    fn what_may_have_been_admitted_before_a_kill_counts_as_used_but_never_more_than_the_share() {
        let mut lease = Lease::new(WindowNumber(3), 10);
        lease.charge(2);
        assert_eq!(lease.with_margin(3).used(), 5);
        assert_eq!(lease.with_margin(300).used(), 10);
    }
}
