//! The identity that a running relay uses, and how it is replaced while it does.
//!
//! Invariants:
//! - What is in use is on disk: a certificate is stored, with its key, before a connection shows it.
//! - Whom to trust is taken from an aggregator that is trusted already, over a connection that proved it.
//! - A certificate is taken only for a key that was made here, in this relay's name, from an authority that the relay trusts.
//!
//! What it does not do: decide when to ask for a certificate (`uplink::renewal`).

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use picket_common::identity::{
    IdentityError, certificate_from_pem, certificates_from_pem, check_issuer, key_from_pem, relay_id_of,
};
use picket_common::ids::RelayId;
use picket_common::wire::control::MAX_AUTHORITIES;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::identity_store::{
    RelayDescription, RelayIdentity, identity_directory, load_description, store_authorities, store_credential,
};
use crate::key_request::KeyRequest;

/// Why a certificate that the aggregator sent was not taken; the former identity stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdoptError {
    /// It is none, not of a trusted authority, or for another key.
    #[error("the certificate can't be used: {0}")]
    Unusable(#[from] IdentityError),
    /// It is another relay's.
    #[error("the certificate names relay {0}, which is another one")]
    OtherRelay(RelayId),
    /// The directory holds another relay's identity, which must not be mixed with this one's.
    #[error("{directory} holds the identity of another relay, {found}, by now: restart this one to be that")]
    Replaced {
        /// The directory.
        directory: PathBuf,
        /// Whose identity it holds.
        found: RelayId,
    },
    /// More authorities than an installation has.
    #[error("{0} authorities are more than {MAX_AUTHORITIES}")]
    ManyAuthorities(usize),
    /// It can't be written.
    #[error("it can't be written to {directory}: {source}; see to the directory")]
    Store {
        /// Where it should go.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The identity in use. Clones share it.
#[derive(Debug, Clone)]
pub struct LiveIdentity {
    data_dir: PathBuf,
    current: Arc<ArcSwap<RelayIdentity>>,
    not_after: Gauge,
}

// === impl LiveIdentity ===

impl LiveIdentity {
    /// Begins with what was loaded from `data_dir`, which is where replacements go.
    #[must_use]
    pub fn new(identity: RelayIdentity, data_dir: PathBuf) -> Self {
        let this = Self { data_dir, current: Arc::new(ArcSwap::from_pointee(identity)), not_after: Gauge::default() };
        this.show();
        this
    }

    /// What the next connection uses.
    #[must_use]
    pub fn current(&self) -> Arc<RelayIdentity> {
        self.current.load_full()
    }

    /// Shows until when the certificate is good.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "certificate_not_after",
            "When the certificate by which the aggregator knows this relay expires, as Unix time",
            Unit::Seconds,
            self.not_after.clone(),
        );
    }

    /// Trusts these authorities from the next connection on, once they are stored. The aggregator that says so was verified.
    ///
    /// # Errors
    /// [`AdoptError`]; then nothing has changed.
    pub(crate) async fn trust(&self, certificates_pem: String) -> Result<(), AdoptError> {
        let this = self.clone();
        let trusting = tokio::task::spawn_blocking(move || {
            let authorities = certificates_from_pem(&certificates_pem)?;
            if authorities.len() > MAX_AUTHORITIES {
                return Err(AdoptError::ManyAuthorities(authorities.len()));
            }
            let next = this.current().trusting(authorities)?;
            this.check_directory()?;
            store_authorities(&this.data_dir, &certificates_pem).map_err(|source| this.store_error(source))?;
            this.current.store(Arc::new(next));
            Ok(())
        });
        trusting.await.unwrap_or_else(|failure| Err(self.store_error(failure.into())))
    }

    /// Stores a certificate with its key, and uses both from the next connection on.
    ///
    /// # Errors
    /// [`AdoptError`]; then nothing has changed.
    pub(crate) async fn adopt(&self, request: KeyRequest, certificate_pem: String) -> Result<(), AdoptError> {
        let this = self.clone();
        // It waits for the disk. A task that ends early was aborted with the runtime, and then nobody hears this.
        let adopting = tokio::task::spawn_blocking(move || this.adopt_blocking(&request, &certificate_pem)).await;
        adopting.unwrap_or_else(|failure| Err(self.store_error(failure.into())))
    }

    fn adopt_blocking(&self, request: &KeyRequest, certificate_pem: &str) -> Result<(), AdoptError> {
        let former = self.current();
        let certificate = certificate_from_pem(certificate_pem)?;
        let named = relay_id_of(&certificate)?;
        if named != former.relay.relay_id {
            return Err(AdoptError::OtherRelay(named));
        }
        check_issuer(former.authorities.iter().cloned(), &certificate)?;
        let key_pem = request.key_pem();
        let authorities = former.authorities.clone();
        // Also fails where the certificate is for another key.
        let next = RelayIdentity::new(former.relay.clone(), authorities, certificate, key_from_pem(&key_pem)?)?;
        self.check_directory()?;
        store_credential(&self.data_dir, &key_pem, certificate_pem).map_err(|source| self.store_error(source))?;
        self.current.store(Arc::new(next));
        self.show();
        Ok(())
    }

    /// Fails where `picket-relay join` has put another identity into the directory while this relay runs.
    fn check_directory(&self) -> Result<(), AdoptError> {
        // Without a description there is no identity that could be mixed.
        let Ok(RelayDescription { relay_id: found, .. }) = load_description(&self.data_dir) else { return Ok(()) };
        if found == self.current().relay.relay_id {
            return Ok(());
        }
        Err(AdoptError::Replaced { directory: identity_directory(&self.data_dir), found })
    }

    fn store_error(&self, source: std::io::Error) -> AdoptError {
        AdoptError::Store { directory: identity_directory(&self.data_dir), source }
    }

    fn show(&self) {
        let not_after = self.current.load().validity.not_after.as_seconds();
        self.not_after.set(i64::try_from(not_after).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::uplink::fake_aggregator::Authority;

    #[tokio::test]
    async fn a_certificate_is_taken_only_for_the_new_key_in_this_relays_name_and_of_a_trusted_authority() {
        let (authority, data_dir) = (Authority::new(), tempfile::tempdir().unwrap());
        let identity = authority.relay(&[]);
        let (relay_id, before) = (identity.relay.relay_id, identity.validity);
        let live = LiveIdentity::new(identity, data_dir.path().to_owned());
        let request = || KeyRequest::generate().unwrap();
        let (key, stranger) = (request(), RelayId::from_random([8; 16]));
        let certificate_pem = authority.certify(key.csr_pem(), stranger);
        assert!(matches!(live.adopt(key, certificate_pem).await, Err(AdoptError::OtherRelay(id)) if id == stranger));
        let other_key = authority.certify(request().csr_pem(), relay_id);
        assert!(matches!(live.adopt(request(), other_key).await, Err(AdoptError::Unusable(_))));
        let key = request();
        let other_authority = Authority::new().certify(key.csr_pem(), relay_id);
        assert!(matches!(live.adopt(key, other_authority).await, Err(AdoptError::Unusable(_))));
        assert!(matches!(live.adopt(request(), "none".to_owned()).await, Err(AdoptError::Unusable(_))));
        // `picket-relay join --force` was called meanwhile.
        let other = RelayDescription { relay_id: stranger, name: "other".to_owned(), aggregators: Vec::new() };
        let directory = identity_directory(data_dir.path());
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("relay.json"), serde_json::to_vec(&other).unwrap()).unwrap();
        let key = request();
        let certificate_pem = authority.certify(key.csr_pem(), relay_id);
        assert!(
            matches!(live.adopt(key, certificate_pem).await, Err(AdoptError::Replaced { found, .. }) if found == stranger)
        );
        let trusting = live.trust(Authority::new().pem().to_owned()).await;
        assert!(matches!(trusting, Err(AdoptError::Replaced { .. })), "{trusting:?}");
        std::fs::remove_dir_all(&directory).unwrap();
        // Nothing to write to: what is in use must be on disk.
        let key = request();
        let certificate_pem = authority.certify(key.csr_pem(), relay_id);
        assert!(matches!(live.adopt(key, certificate_pem).await, Err(AdoptError::Store { .. })));
        assert_eq!(live.current().validity, before);
    }
}
