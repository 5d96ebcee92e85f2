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
//! The authority itself is replaced with overlap (`authorities`): relays are told both, renew with the new one, and then the old
//! one is retired. What they trust and show is noted in the registry, so that nobody is shut out by mistake.
//!
//! What it does not do: speak the network (see `intake`), keep project configuration.

mod agreement;
mod authorities;
pub mod authority;

mod link_tls;
mod registry;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use picket_common::identity::Fingerprint;
use picket_common::ids::RelayId;
use picket_common::timestamp::Timestamp;
use picket_common::wire::join::{JoinRequest, JoinToken};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::info;

pub use agreement::open_authorities;
pub use authorities::{Authorities, Held};
pub use authority::{Authority, AuthorityError, SignedRelay};
pub use link_tls::{CertificateGauges, LinkTls};
pub use registry::{Allowed, RelayRow};

use crate::database::{Database, Pool};

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
    /// The authority can't be rotated or retired.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Relays would be shut out.
    #[error(
        "these relays have not moved to the new authority yet: {}; wait until they have connected, revoke those that are gone, \
         or retire the old one all the same with --force: they must join anew then", .0.join(", ")
    )]
    StillNeeded(Vec<String>),
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

/// Whether relays that would be shut out are in the way of retiring an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retirement {
    /// Refuse while there are any.
    IfNotNeeded,
    /// Shut them out.
    Forced,
}

/// What an authority is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityRole {
    /// It signs.
    Current,
    /// What it signed is good until it is retired.
    Former,
}

/// An authority, for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityFacts {
    /// SHA-256 of its public key, as in join tokens.
    pub fingerprint: String,
    /// What it is for.
    pub role: AuthorityRole,
    /// From when its certificate is good.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Relays that said that they trust it.
    pub relays_trusting: u64,
    /// Relays that last connected with a certificate of it.
    pub relays_certified: u64,
}

/// The authorities, and who is not where a rotation should bring them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityReport {
    /// The one that signs first.
    pub authorities: Vec<AuthorityFacts>,
    /// Names of the relays that could not connect if the former were retired now.
    pub waiting_for: Vec<String>,
}

/// The authorities, the tokens and the registry of one installation. Clones share everything.
#[derive(Debug, Clone)]
pub struct Fleet {
    database: Database,
    pool: Pool,
    authorities: Authorities,
    /// Who was revoked in this process, so that intake need not wait for its next look at the registry, nor depend on it.
    revocations: watch::Sender<HashSet<RelayId>>,
}

// === impl Fleet ===

impl Fleet {
    /// Joins the database and the authorities. Works the same in a serving process and in a command on a stopped one.
    #[must_use]
    pub fn new(database: &Database, authorities: Authorities) -> Self {
        let (database, pool) = (database.clone(), database.pool().clone());
        Self { database, pool, authorities, revocations: watch::Sender::new(HashSet::new()) }
    }

    /// The certificate authority that signs.
    #[must_use]
    pub fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.authorities.held().current)
    }

    /// All authorities in force.
    #[must_use]
    pub const fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// The database, for tests that look behind the functions here.
    #[cfg(test)]
    pub(crate) const fn database(&self) -> &Database {
        &self.database
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
        let token = JoinToken { addresses, authority: self.authority().fingerprint(), secret: invitation.secret };
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
        let mut transaction = self.database.begin_write().await?;
        let name = tokens::redeem(&mut transaction, &request.secret, now).await?;
        let relay_id = RelayId::from_random(random);
        let signed =
            self.authority().sign_relay(&request_to_sign, relay_id, lifetime, now).map_err(JoinError::Request)?;
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
        let signed = self.authority().sign_relay(&request, relay_id, lifetime, now).map_err(RenewError::Request)?;
        let mut transaction = self.database.begin_write().await?;
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
        self.revocations.send_modify(|revoked| {
            revoked.insert(relay_id);
        });
        Ok(revocation)
    }

    /// The relays that may connect.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn allowed(&self) -> Result<HashSet<RelayId>, FleetError> {
        registry::allowed(&self.pool).await
    }

    /// The relays that may connect, for whoever asks again and again.
    #[must_use]
    pub fn watch_allowed(&self) -> Allowed {
        Allowed::new(self.pool.clone())
    }

    /// Who was revoked in this process.
    #[must_use]
    pub fn subscribe_revocations(&self) -> watch::Receiver<HashSet<RelayId>> {
        self.revocations.subscribe()
    }

    /// Notes that a relay is there, and its version where it said one.
    ///
    /// # Errors
    /// [`FleetError::Database`].
    pub async fn touch(&self, relay_id: RelayId, version: Option<&str>, now: Timestamp) -> Result<(), FleetError> {
        registry::touch(&self.pool, relay_id, version, now).await
    }

    /// Notes whom a relay trusts, and whose certificate it has shown.
    ///
    /// # Errors
    /// [`FleetError::Database`].
    pub async fn note_trust(
        &self,
        relay_id: RelayId,
        trusted: &[Fingerprint],
        shown: Option<Fingerprint>,
    ) -> Result<(), FleetError> {
        registry::note_trust(&self.pool, relay_id, trusted, shown).await
    }

    /// Makes another authority, which signs from now on; relays are told, and renew their certificates with it.
    ///
    /// # Errors
    /// [`FleetError::Authority`], among it that a rotation is under way.
    pub async fn rotate_authority(&self, now: Timestamp) -> Result<AuthorityReport, FleetError> {
        let authorities = self.authorities.clone();
        let held = blocking(move || authorities.rotate(now)).await?;
        agreement::write_down(&self.database, &held, now).await?;
        self.authority_report().await
    }

    /// Ends the former authority.
    ///
    /// # Errors
    /// [`FleetError::StillNeeded`] unless it is forced; [`FleetError::Authority`], among it that there is none.
    pub async fn retire_authority(&self, retirement: Retirement) -> Result<AuthorityReport, FleetError> {
        if self.authorities.held().former.is_none() {
            return Err(AuthorityError::NothingToRetire.into());
        }
        let report = self.authority_report().await?;
        if retirement == Retirement::IfNotNeeded && !report.waiting_for.is_empty() {
            return Err(FleetError::StillNeeded(report.waiting_for));
        }
        let authorities = self.authorities.clone();
        blocking(move || authorities.retire()).await?;
        agreement::write_down(&self.database, &self.authorities.held(), Timestamp::now()).await?;
        self.authority_report().await
    }

    /// The authorities, and how far the relays are with them.
    ///
    /// # Errors
    /// [`FleetError::Database`].
    pub async fn authority_report(&self) -> Result<AuthorityReport, FleetError> {
        let held = self.authorities.held();
        let oldest = held.oldest().fingerprint();
        let relays = registry::trust(&self.pool, oldest).await?;
        let facts = held.all().map(|authority| {
            let fingerprint = authority.fingerprint();
            let is_current = fingerprint == held.current.fingerprint();
            AuthorityFacts {
                fingerprint: fingerprint.to_string(),
                role: if is_current { AuthorityRole::Current } else { AuthorityRole::Former },
                not_before: authority.validity().not_before,
                not_after: authority.validity().not_after,
                relays_trusting: relays.iter().filter(|relay| relay.trusts(fingerprint)).count() as u64,
                relays_certified: relays.iter().filter(|relay| relay.shows(fingerprint)).count() as u64,
            }
        });
        let current = held.current.fingerprint();
        let behind = relays.iter().filter(|relay| !(relay.trusts(current) && relay.shows(current)));
        Ok(AuthorityReport {
            authorities: facts.collect(),
            waiting_for: behind.map(|relay| relay.name.clone()).collect(),
        })
    }
}

/// Writing keys waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AuthorityError> + Send + 'static,
) -> Result<T, FleetError> {
    let worked = tokio::task::spawn_blocking(work).await;
    let ended = |failure: tokio::task::JoinError| AuthorityError::Interrupted(failure.to_string());
    Ok(worked.map_err(ended)??)
}
