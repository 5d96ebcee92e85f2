//! A relay asks for its next certificate, over a connection that the present one has opened.

use std::time::Duration;

use picket_common::timestamp::Timestamp;
use picket_common::wire::FromAggregator;
use tokio::time::Instant;
use tracing::warn;

use super::session::Session;
use crate::fleet::RenewError;

/// What one relay may ask for within a connection: each request costs a signature and a write to the database. A relay asks at
/// two thirds of a certificate's life, and connects anew with what it got.
const LEAST_BETWEEN: Duration = Duration::from_secs(1);

/// When a connection last asked.
#[derive(Debug, Default)]
pub(super) struct RenewalLimiter {
    last: Option<Instant>,
}

// === impl RenewalLimiter ===

impl RenewalLimiter {
    /// Whether a request at `now` is looked at.
    fn permits(&mut self, now: Instant) -> bool {
        let is_soon = self.last.is_some_and(|last| now.saturating_duration_since(last) < LEAST_BETWEEN);
        if !is_soon {
            self.last = Some(now);
        }
        !is_soon
    }
}

/// Signs, or says why not.
pub(super) async fn answer(session: &Session, limiter: &mut RenewalLimiter, csr_pem: &str) -> FromAggregator {
    if !limiter.permits(Instant::now()) {
        return FromAggregator::RenewRefused { detail: "asked too often, try again in a minute".to_owned() };
    }
    let intake = &session.shared.intake;
    let lifetime = intake.config.relay_certificate_lifetime.get();
    match intake.fleet.renew(session.relay_id, csr_pem, lifetime, Timestamp::now()).await {
        Ok(signed) => FromAggregator::Renewed { certificate_pem: signed.certificate_pem },
        Err(error) => {
            let source = match &error {
                RenewError::Internal(source) => Some(source.to_string()),
                RenewError::NotAllowed | RenewError::Request(_) => None,
            };
            warn!(%error, source, relay = %session.relay_id, "a relay's certificate was not renewed");
            FromAggregator::RenewRefused { detail: error.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_asks_in_a_loop_is_put_off() {
        let start = Instant::now();
        let mut limiter = RenewalLimiter::default();
        assert!(limiter.permits(start));
        assert!(!limiter.permits(start + LEAST_BETWEEN / 2));
        assert!(limiter.permits(start + LEAST_BETWEEN));
    }
}
