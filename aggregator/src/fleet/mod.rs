//! The fleet: who may be a relay of this installation.
//!
//! ```text
//! invite ──▶ join token (address, fingerprint of the authority, secret; here only the secret's hash)
//!              │ at the relay: `picket-relay join TOKEN`
//!              ▼
//! join   ──▶ token used, relay registered, certificate signed: one transaction, all or nothing
//!              ▼
//! link   ──▶ certificate verified by the authority AND relay in the registry and not revoked
//!              │ at two thirds of the certificate's life, over the link
//! renew  ──▶ another certificate for a new key of the same relay; the old one stays good to its end
//!              ▼
//! revoke ──▶ marked in the registry; live connections are closed by intake
//! ```
//!
//! Invariants:
//! - A token's secret is stored as its hash, is good once and until it expires; a join that fails leaves it unused.
//! - A relay's identity is the id in its certificate. Names and versions are what it said of itself, for lists only.
//! - Revocation needs no certificate revocation list: the registry is asked at each connection and every few seconds.
//!
//! What it does not do: speak the network (see `intake`), keep project configuration.

pub mod authority;
mod durable_file;
mod registry;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use picket_common::ids::RelayId;
use picket_common::timestamp::Timestamp;
use picket_common::wire::join::{JoinRequest, JoinToken};
use tokio::sync::watch;
use tracing::info;

pub use authority::{Authority, AuthorityError, SignedRelay};
pub use registry::RelayRow;

use crate::database::Pool;

/// Why the fleet can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The database failed.
    #[error("the database of relays failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The database holds something that this program never wrote.
    #[error("the database holds an unreadable {what} for relay {relay}")]
    Unreadable {
        /// Which column.
        what: &'static str,
        /// The row.
        relay: String,
    },
    /// There is no such relay.
    #[error("there is no relay {0}; `picket-aggregator relay list` shows all")]
    UnknownRelay(RelayId),
    /// A time to live that makes no sense.
    #[error("a join token can live from one second to {} days", tokens::MAX_TTL.as_secs() / 86_400)]
    TimeToLive,
}

/// Why a relay may not join. Told to the relay: only who has the secret learns anything from it.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No token has this secret.
    #[error("the token is not known here; was it made by this aggregator?")]
    UnknownToken,
    /// The token is past its time.
    #[error("the token has expired; make a new one with `picket-aggregator relay invite`")]
    ExpiredToken,
    /// The token has been used.
    #[error("the token has been used; make a new one with `picket-aggregator relay invite`")]
    UsedToken,
    /// The signing request is unusable.
    #[error("the certificate signing request can't be used: {0}")]
    Request(#[source] AuthorityError),
    /// Not the relay's fault.
    #[error("the aggregator could not register the relay; try again")]
    Internal(#[source] FleetError),
}

impl From<sqlx::Error> for JoinError {
    fn from(error: sqlx::Error) -> Self {
        Self::Internal(FleetError::Database(error))
    }
}

/// Why no certificate was signed for a relay that asked for another. Told to the relay.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The registry does not list it, or lists it as revoked.
    #[error("the relay is not registered with this aggregator, or it was revoked")]
    NotAllowed,
    /// The signing request is unusable.
    #[error("the certificate signing request can't be used: {0}")]
    Request(#[source] AuthorityError),
    /// Not the relay's fault.
    #[error("the aggregator could not note the new certificate; ask again later")]
    Internal(#[from] sqlx::Error),
}

/// A join token and until when it is good.
#[derive(Debug)]
pub struct Invitation {
    /// What the operator hands to the relay; shown once, not stored.
    pub token: JoinToken,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// A relay that has just joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedRelay {
    /// Who it is from now on.
    pub relay_id: RelayId,
    /// The name it is listed under.
    pub name: String,
    /// Its certificate.
    pub certificate_pem: String,
}

/// What revoking changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// The relay is revoked from now on.
    Revoked,
    /// It was already.
    AlreadyRevoked,
}

/// The authority, the tokens and the registry of one installation. Clones share everything.
#[derive(Debug, Clone)]
pub struct Fleet {
    pool: Pool,
    authority: Arc<Authority>,
    /// Raised with each revocation in this process, so that intake need not wait for its next look at the registry.
    revocations: Arc<watch::Sender<u64>>,
}

// === impl Fleet ===

impl Fleet {
    /// Joins the database and the authority. Works the same in a serving process and in a command on a stopped one.
    #[must_use]
    pub fn new(pool: Pool, authority: Arc<Authority>) -> Self {
        Self { pool, authority, revocations: Arc::new(watch::Sender::new(0)) }
    }

    /// The certificate authority.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The database, for tests that look behind the functions here.
    #[cfg(test)]
    pub(crate) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Makes a join token. `random` becomes its secret; `name` is what the relay will be called, else its host's name.
    ///
    /// # Errors
    /// [`FleetError::TimeToLive`] or [`FleetError::Database`].
    pub async fn invite(
        &self,
        addresses: Vec<String>,
        name: Option<&str>,
        ttl: Duration,
        now: Timestamp,
        random: [u8; 16],
    ) -> Result<Invitation, FleetError> {
        let invitation = tokens::create(&self.pool, name, ttl, now, random).await?;
        let token = JoinToken { addresses, authority: self.authority.fingerprint(), secret: invitation.secret };
        Ok(Invitation { token, expires_at: invitation.expires_at })
    }

    /// Uses a token up, registers the relay and signs its certificate, good for `lifetime`; or none of it. `random` becomes the
    /// relay's id.
    ///
    /// # Errors
    /// [`JoinError`], by what the operator can do.
    pub async fn join(
        &self,
        request: &JoinRequest,
        lifetime: Duration,
        now: Timestamp,
        random: [u8; 16],
    ) -> Result<JoinedRelay, JoinError> {
        // Parsed before the transaction, which blocks other writers; it is the one part that a stranger's bytes decide.
        let request_to_sign = authority::SigningRequest::parse(&request.csr_pem).map_err(JoinError::Request)?;
        let mut transaction = self.pool.begin().await?;
        let name = tokens::redeem(&mut transaction, &request.secret, now).await?;
        let relay_id = RelayId::from_random(random);
        let signed =
            self.authority.sign_relay(&request_to_sign, relay_id, lifetime, now).map_err(JoinError::Request)?;
        let newcomer = registry::Newcomer {
            relay_id,
            name: name.as_deref(),
            hostname: &request.hostname,
            version: &request.version,
            certificate_not_after: signed.not_after,
        };
        let name = registry::register(&mut transaction, &newcomer, now).await?;
        registry::note_certificate(&mut transaction, relay_id, &signed, now).await?;
        transaction.commit().await?;
        info!(relay = %relay_id, name, "relay joined");
        Ok(JoinedRelay { relay_id, name, certificate_pem: signed.certificate_pem })
    }

    /// Signs another certificate, good for `lifetime`, for a relay that has proved who it is. What it had stays good until it
    /// expires: the answer may get lost.
    ///
    /// # Errors
    /// [`RenewError`], see its variants.
    pub async fn renew(
        &self,
        relay_id: RelayId,
        csr_pem: &str,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<SignedRelay, RenewError> {
        let request = authority::SigningRequest::parse(csr_pem).map_err(RenewError::Request)?;
        let signed = self.authority.sign_relay(&request, relay_id, lifetime, now).map_err(RenewError::Request)?;
        let mut transaction = self.pool.begin().await?;
        if !registry::renewed(&mut transaction, relay_id, signed.not_after).await? {
            return Err(RenewError::NotAllowed);
        }
        registry::note_certificate(&mut transaction, relay_id, &signed, now).await?;
        transaction.commit().await?;
        info!(relay = %relay_id, serial = signed.serial, until = %signed.not_after.to_rfc3339(), "relay certificate renewed");
        Ok(signed)
    }

    /// All relays, revoked ones too, oldest first.
    ///
    /// # Errors
    /// [`FleetError::Database`] or [`FleetError::Unreadable`].
    pub async fn list(&self) -> Result<Vec<RelayRow>, FleetError> {
        registry::list(&self.pool).await
    }

    /// One relay.
    ///
    /// # Errors
    /// [`FleetError::UnknownRelay`], or as [`Self::list`].
    pub async fn relay(&self, relay_id: RelayId) -> Result<RelayRow, FleetError> {
        registry::find(&self.pool, relay_id).await?.ok_or(FleetError::UnknownRelay(relay_id))
    }

    /// Revokes a relay for good: it is refused from now on, and a serving aggregator closes its connections.
    ///
    /// # Errors
    /// [`FleetError::UnknownRelay`] or [`FleetError::Database`].
    pub async fn revoke(&self, relay_id: RelayId, now: Timestamp) -> Result<Revocation, FleetError> {
        let revocation = registry::revoke(&self.pool, relay_id, now).await?;
        self.revocations.send_modify(|count| *count += 1);
        Ok(revocation)
    }

    /// The relays that may connect.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn allowed(&self) -> Result<HashSet<RelayId>, FleetError> {
        registry::allowed(&self.pool).await
    }

    /// Changes whenever a relay was revoked in this process.
    #[must_use]
    pub fn subscribe_revocations(&self) -> watch::Receiver<u64> {
        self.revocations.subscribe()
    }

    /// Notes that a relay is there, and its version where it said one.
    ///
    /// # Errors
    /// [`FleetError::Database`].
    pub async fn touch(&self, relay_id: RelayId, version: Option<&str>, now: Timestamp) -> Result<(), FleetError> {
        registry::touch(&self.pool, relay_id, version, now).await
    }
}
