//! What a session talks of identity: the relay's next certificate, and which authorities it is to trust.
//!
//! ```text
//! relay ─▶ Renew ─────────────────────▶ Renewed or RenewRefused
//! relay ─▶ Trusts ──(others are held)─▶ Authorities ─▶ relay stores them ─▶ Trusts
//! rotation or retirement ─────────────▶ Authorities ─▶ …
//! ```
//!
//! Invariants:
//! - A session ends when the authority is retired that signed the certificate it began with, and gets no certificate from then on.
//! - A relay that has never said whom it trusts, one of an earlier version, is told nothing of authorities.

use std::sync::Arc;
use std::time::Duration;

use picket_common::identity::Fingerprint;
use picket_common::timestamp::Timestamp;
use picket_common::wire::control::MAX_AUTHORITIES;
use picket_common::wire::{CloseCode, FromAggregator};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::close::Close;
use super::session::Session;
use crate::fleet::{Held, RenewError};

/// How often a relay may ask within a connection: each request costs a signature and a write to the database. A relay asks at two
/// thirds of a certificate's life, and connects anew with what it got.
const LEAST_BETWEEN: Duration = Duration::from_secs(1);

/// What a relay is told whose certificate is of an authority that was retired while it was connected.
const RETIRED: &str = "the authority that signed the relay's certificate was retired; the relay must join anew";

/// What a relay asks or says.
#[derive(Debug)]
pub(super) enum Question {
    /// A certificate for the key of this signing request.
    Renew(String),
    /// Whom it trusts.
    Trusts(Vec<Fingerprint>),
}

/// The talk of one session.
#[derive(Debug)]
pub(super) struct IdentityTalk<'a> {
    session: &'a Session,
    held: watch::Receiver<Arc<Held>>,
    /// What the relay last said.
    trusted: Option<Vec<Fingerprint>>,
    limiter: Limiter,
}

// === impl IdentityTalk ===

impl<'a> IdentityTalk<'a> {
    pub(super) fn new(session: &'a Session) -> Self {
        let held = session.shared.intake.fleet.authorities().subscribe();
        Self { session, held, trusted: None, limiter: Limiter::default() }
    }

    /// Acts on what the relay said; returns what it is told.
    pub(super) async fn answer(&mut self, question: Question) -> Option<FromAggregator> {
        match question {
            Question::Renew(csr_pem) => Some(self.renew(&csr_pem).await),
            Question::Trusts(trusted) => self.trusts(trusted).await,
        }
    }

    /// Waits until the authorities are others than those that the relay trusts; returns what it is told.
    pub(super) async fn changed(&mut self) -> FromAggregator {
        loop {
            if self.held.changed().await.is_err() {
                // The fleet outlives its sessions.
                std::future::pending::<()>().await;
            }
            if self.is_retired() {
                warn!(relay = %self.session.relay_id, "closing the session: {RETIRED}");
                Close::new(CloseCode::NotAllowed, RETIRED).apply(&self.session.connection);
            }
            if let Some(message) = self.news() {
                return message;
            }
        }
    }

    async fn renew(&mut self, csr_pem: &str) -> FromAggregator {
        if !self.limiter.permits(Instant::now()) {
            return FromAggregator::RenewRefused { detail: "asked too often, try again in a minute".to_owned() };
        }
        let intake = &self.session.shared.intake;
        if self.is_retired() {
            return FromAggregator::RenewRefused { detail: RETIRED.to_owned() };
        }
        let lifetime = intake.settings.borrow().relay_certificate_lifetime.get();
        match intake.fleet.renew(self.session.relay_id, csr_pem, lifetime, Timestamp::now()).await {
            Ok(signed) => FromAggregator::Renewed { certificate_pem: signed.certificate_pem },
            Err(error) => {
                let source = match &error {
                    RenewError::Internal(source) => Some(source.to_string()),
                    RenewError::NotAllowed | RenewError::Request(_) => None,
                };
                warn!(%error, source, relay = %self.session.relay_id, "a relay's certificate was not renewed");
                FromAggregator::RenewRefused { detail: error.to_string() }
            }
        }
    }

    async fn trusts(&mut self, mut trusted: Vec<Fingerprint>) -> Option<FromAggregator> {
        trusted.truncate(MAX_AUTHORITIES);
        if self.trusted.as_ref() == Some(&trusted) {
            // It was noted and answered; a peer that repeats itself costs no write and starts no talk without end.
            return None;
        }
        let Session { relay_id, shown_authority, .. } = self.session;
        let noted = self.session.shared.intake.fleet.note_trust(*relay_id, &trusted, *shown_authority).await;
        if let Err(error) = noted {
            // It says so again when it connects again; until then a retirement waits for it.
            warn!(%error, relay = %relay_id, "can't note which authorities the relay trusts");
        }
        self.trusted = Some(trusted);
        self.held.mark_unchanged();
        self.news()
    }

    /// Whether the authority that vouched for the relay when it connected is none any more.
    fn is_retired(&self) -> bool {
        let held = self.session.shared.intake.fleet.authorities().held();
        !self.session.shown_authority.is_some_and(|shown| held.fingerprints().contains(&shown))
    }

    fn news(&self) -> Option<FromAggregator> {
        let held = self.session.shared.intake.fleet.authorities().held();
        let trusted = self.trusted.as_ref()?;
        if *trusted == held.fingerprints() {
            return None;
        }
        info!(relay = %self.session.relay_id, "telling the relay which authorities to trust");
        Some(FromAggregator::Authorities { certificates_pem: held.certificates_pem() })
    }
}

/// When a connection last asked for a certificate.
#[derive(Debug, Default)]
struct Limiter {
    last: Option<Instant>,
}

// === impl Limiter ===

impl Limiter {
    /// Whether a request at `now` is looked at.
    fn permits(&mut self, now: Instant) -> bool {
        let is_soon = self.last.is_some_and(|last| now.saturating_duration_since(last) < LEAST_BETWEEN);
        if !is_soon {
            self.last = Some(now);
        }
        !is_soon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_asks_in_a_loop_is_put_off() {
        let start = Instant::now();
        let mut limiter = Limiter::default();
        assert!(limiter.permits(start));
        assert!(!limiter.permits(start + LEAST_BETWEEN / 2));
        assert!(limiter.permits(start + LEAST_BETWEEN));
    }
}
