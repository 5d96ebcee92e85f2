//! When a session asks for the relay's next certificate, and what it does with the answer.
//!
//! ```text
//! two thirds of the certificate's life are past, or
//! another authority signs now                   ──▶ new key, Renew ──▶ Renewed: stored, the session connects anew
//!                 ▲                                      │
//!                 └── wait, longer each time ◀── RenewRefused, no answer, or what came is of no use
//! ```
//!
//! Invariants: one request at a time; a clock that runs far ahead, by which every certificate is due at once, makes no loop
//! ([`LEAST_BETWEEN_RENEWALS`]).

use std::time::Duration;

use picket_common::timestamp::Timestamp;
use picket_common::wire::FromRelay;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::Backoff;
use crate::key_request::KeyRequest;
use crate::live_identity::{AdoptError, LiveIdentity};

/// How long the clock is trusted to go on as it does: hosts are suspended, and clocks are set.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// How long an answer may take before the request counts as lost.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// Bounds of the wait after an attempt that failed.
const RETRY_LEAST: Duration = Duration::from_secs(2);
const RETRY_MOST: Duration = Duration::from_secs(3600);
/// A relay whose clock is ahead by months finds each new certificate due; it then renews this often and no more. Shorter lives
/// than three times this are for tests, and renewed when they are due.
const LEAST_BETWEEN_RENEWALS: Duration = Duration::from_secs(600);
/// A rotation is an operator's doing and may follow the last one closely; this is against aggregators that disagree about which
/// authority signs.
const LEAST_BETWEEN_ROTATIONS: Duration = Duration::from_secs(5);

/// The renewal of one session.
pub(super) struct Renewal {
    identity: LiveIdentity,
    clock: fn() -> Timestamp,
    asked: Option<KeyRequest>,
    not_before: Instant,
    /// Until then the clock alone is no reason.
    not_by_clock_before: Instant,
    backoff: Backoff,
}

// === impl Renewal ===

impl Renewal {
    /// Begins with a session; `renewed_at` is when this process last renewed.
    pub(super) fn new(identity: LiveIdentity, renewed_at: Option<Instant>, clock: fn() -> Timestamp) -> Self {
        let third = identity.current().validity.lifetime() / 3;
        let after = |spacing: Duration| renewed_at.map_or_else(Instant::now, |at| at + spacing.min(third));
        let (not_before, not_by_clock_before) = (after(LEAST_BETWEEN_ROTATIONS), after(LEAST_BETWEEN_RENEWALS));
        let backoff = Backoff::new(RETRY_LEAST, RETRY_MOST);
        Self { identity, clock, asked: None, not_before, not_by_clock_before, backoff }
    }

    /// Waits until there is something to ask. May be dropped and called again.
    pub(super) async fn due(&self) {
        sleep_until(self.not_before).await;
        loop {
            let identity = self.identity.current();
            let validity = identity.validity;
            if !identity.is_of_first_authority {
                return;
            }
            let wait = wait_until_due(validity.not_before, validity.not_after, (self.clock)());
            let wait = wait.max(self.not_by_clock_before.saturating_duration_since(Instant::now()));
            if wait.is_zero() {
                return;
            }
            sleep(wait.min(LOOK_EVERY)).await;
        }
    }

    /// Makes a key and asks for its certificate; a request that is still without an answer is given up.
    pub(super) fn ask(&mut self) -> Option<FromRelay> {
        self.not_before = Instant::now() + ANSWER_PATIENCE;
        match KeyRequest::generate() {
            Ok(request) => {
                tracing::info!("asking the aggregator for the next certificate");
                let csr_pem = request.csr_pem().to_owned();
                self.asked = Some(request);
                Some(FromRelay::Renew { csr_pem })
            }
            Err(error) => {
                tracing::error!(%error, "can't make a key for the next certificate");
                None
            }
        }
    }

    /// Takes the answer; whether there is a new identity to connect with.
    pub(super) async fn answered(&mut self, certificate_pem: String, random: u64) -> bool {
        let Some(request) = self.asked.take() else {
            tracing::debug!("a certificate came that was not asked for");
            return false;
        };
        match self.identity.adopt(request, certificate_pem).await {
            Ok(()) => {
                let until = self.identity.current().validity.not_after;
                tracing::info!(until = %until.to_rfc3339(), "certificate renewed");
                true
            }
            Err(error) => {
                self.failed(&error, random);
                false
            }
        }
    }

    /// Takes a refusal.
    pub(super) fn refused(&mut self, detail: &str, random: u64) {
        self.asked = None;
        self.put_off(random);
        let until = self.identity.current().validity.not_after.to_rfc3339();
        tracing::warn!(reason = detail, %until, "the aggregator did not renew the certificate, asking again later");
    }

    fn failed(&mut self, error: &AdoptError, random: u64) {
        self.put_off(random);
        let until = self.identity.current().validity.not_after.to_rfc3339();
        tracing::error!(%error, %until, "the next certificate was not taken, asking again later");
    }

    /// The next attempt comes after a while that grows, but in time before the certificate expires.
    fn put_off(&mut self, random: u64) {
        let left = self.identity.current().validity.not_after.since((self.clock)());
        let wait = self.backoff.next(random).min((left / 10).max(RETRY_LEAST));
        self.not_before = Instant::now() + wait;
    }
}

/// How long until two thirds of a certificate's life are past.
fn wait_until_due(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Duration {
    let lifetime = not_after.since(not_before);
    not_before.plus(lifetime / 3 * 2).since(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_at_two_thirds_of_its_life() {
        let day = Duration::from_secs(24 * 3600);
        let issued = Timestamp::from_millis(1_790_000_000_000);
        let wait = |now| wait_until_due(issued, issued.plus(day * 90), now);
        assert_eq!(wait(issued), day * 60);
        assert_eq!(wait(issued.plus(day * 59)), day);
        assert_eq!(wait(issued.plus(day * 60)), Duration::ZERO);
        assert_eq!(wait(issued.plus(day * 1000)), Duration::ZERO);
        // A clock that is behind: the certificate is not even good yet.
        assert_eq!(wait(issued.minus(day)), day * 61);
    }
}
