//! What the link's server shows, and whose certificates it takes, while authorities come and go.
//!
//! A peer says in its hello which authorities it trusts (RFC 8446 §4.2.4, `certificate_authorities`); it is shown a certificate
//! of the newest of them that is held. So relays that know only the former authority, relays that know both and joining relays
//! whose token names either can all connect at any time of a rotation. A peer that says nothing, or names none that is held, is
//! shown one of the oldest: before rotations, that was the only one.
//!
//! Invariants:
//! - A relay's certificate is taken if an authority signed it that is held now, not when the server was started.
//! - The server's own certificates are made here, kept in memory, and replaced at a third of their life.

use std::sync::{Arc, Mutex, PoisonError};

use picket_common::identity;
use picket_common::timestamp::Timestamp;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tracing::{error, info};

use super::authorities::{Authorities, Held};
use super::authority::{Authority, AuthorityError, SERVER_LIFETIME};

/// Until when certificates are good, by what they are: `server`, `authority`, `former_authority`.
pub type CertificateGauges = Family<[(&'static str, &'static str); 1], Gauge>;

/// The server's side of TLS. Shared by all listeners.
#[derive(Debug)]
pub struct LinkTls {
    authorities: Authorities,
    clock: fn() -> Timestamp,
    not_after: CertificateGauges,
    state: Mutex<Arc<State>>,
}

/// What was made for the authorities that are held.
#[derive(Debug)]
struct State {
    held: Arc<Held>,
    made_at: Timestamp,
    /// The newest authority's first.
    leaves: Vec<Leaf>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// A certificate of one authority.
#[derive(Debug)]
struct Leaf {
    authority: DistinguishedName,
    key: Arc<CertifiedKey>,
}

// === impl LinkTls ===

impl LinkTls {
    /// Makes the server's first certificates.
    ///
    /// # Errors
    /// [`AuthorityError`] if they can't be made.
    pub fn new(
        authorities: Authorities,
        clock: fn() -> Timestamp,
        not_after: CertificateGauges,
    ) -> Result<Self, AuthorityError> {
        let state = State::make(authorities.held(), clock())?;
        state.show(&not_after);
        Ok(Self { authorities, clock, not_after, state: Mutex::new(Arc::new(state)) })
    }

    /// The state for what is held now.
    fn state(&self) -> Arc<State> {
        let (held, now) = (self.authorities.held(), (self.clock)());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was put back leaves a certificate that is not good yet.
        let is_fresh = now >= state.made_at && now.since(state.made_at) < SERVER_LIFETIME / 3;
        if is_fresh && Arc::ptr_eq(&state.held, &held) {
            return Arc::clone(&state);
        }
        match State::make(held, now) {
            Ok(next) => {
                next.show(&self.not_after);
                *state = Arc::new(next);
                info!(authorities = state.leaves.len(), "server certificate made anew");
            }
            // The next handshake tries again.
            Err(failure) => error!(%failure, "can't make the server's certificate, the old one stays"),
        }
        Arc::clone(&state)
    }
}

// === impl State ===

impl State {
    fn make(held: Arc<Held>, now: Timestamp) -> Result<Self, AuthorityError> {
        let leaves = held.all().map(|authority| Leaf::make(authority, now)).collect::<Result<Vec<_>, _>>()?;
        let roots = identity::roots(held.all().map(|authority| authority.certificate().clone()))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, identity::crypto())
            .allow_unauthenticated()
            .build()
            .map_err(|failure| identity::IdentityError::Tls(rustls::Error::General(failure.to_string())))?;
        Ok(Self { held, made_at: now, leaves, verifier })
    }

    fn show(&self, gauges: &CertificateGauges) {
        gauges.clear();
        let set = |name, at: Timestamp| {
            let seconds = i64::try_from(at.as_seconds()).unwrap_or(i64::MAX);
            gauges.get_or_create(&[("name", name)]).set(seconds);
        };
        set("server", self.made_at.plus(SERVER_LIFETIME));
        set("authority", self.held.current.validity().not_after);
        if let Some(former) = &self.held.former {
            set("former_authority", former.validity().not_after);
        }
    }

    fn leaf_for(&self, trusted: Option<&[DistinguishedName]>) -> Option<&Leaf> {
        let trusted = trusted.unwrap_or_default();
        let is_trusted = |leaf: &&Leaf| trusted.iter().any(|name| name.as_ref() == leaf.authority.as_ref());
        self.leaves.iter().find(is_trusted).or_else(|| self.leaves.last())
    }
}

impl Leaf {
    fn make(authority: &Authority, now: Timestamp) -> Result<Self, AuthorityError> {
        let server = authority.issue_server(now)?;
        let key = rustls::crypto::ring::sign::any_supported_type(&server.key).map_err(identity::IdentityError::Tls)?;
        let authority = identity::subject_of(authority.certificate().clone())?;
        Ok(Self { authority, key: Arc::new(CertifiedKey::new(server.chain, key)) })
    }
}

impl ResolvesServerCert for LinkTls {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.state().leaf_for(hello.certificate_authorities()).map(|leaf| Arc::clone(&leaf.key))
    }
}

impl ClientCertVerifier for LinkTls {
    fn client_auth_mandatory(&self) -> bool {
        // A joining relay has no certificate; the link refuses who shows none.
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A relay has one certificate to show.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.state().verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.state().verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.state().verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.state().verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_knows_the_fingerprint_of_an_authority_knows_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let held = Authorities::open_or_create(directory.path(), Timestamp::now()).unwrap().held();
        let named = identity::subject_of(held.current.certificate().clone()).unwrap();
        assert_eq!(named.as_ref(), identity::authority_subject(held.current.fingerprint()).as_ref());
    }

    fn shown(tls: &LinkTls, trusted: Option<&[DistinguishedName]>) -> CertificateDer<'static> {
        tls.state().leaf_for(trusted).unwrap().key.cert[1].clone()
    }

    #[test]
    fn each_peer_is_shown_a_certificate_of_the_newest_authority_that_it_trusts() {
        let directory = tempfile::tempdir().unwrap();
        let authorities = Authorities::open_or_create(directory.path(), Timestamp::now()).unwrap();
        let tls = LinkTls::new(authorities.clone(), Timestamp::now, CertificateGauges::default()).unwrap();
        let old = authorities.held().current.certificate().clone();
        let subject = |certificate: &CertificateDer<'static>| [identity::subject_of(certificate.clone()).unwrap()];
        assert_eq!(shown(&tls, None), old);
        authorities.rotate(Timestamp::now()).unwrap();
        let new = authorities.held().current.certificate().clone();
        assert_eq!(shown(&tls, None), old);
        assert_eq!(shown(&tls, Some(&subject(&old))), old);
        assert_eq!(shown(&tls, Some(&subject(&new))), new);
        assert_eq!(shown(&tls, Some(&[subject(&old), subject(&new)].concat())), new);
        authorities.retire().unwrap();
        for trusted in [None, Some(subject(&old)), Some(subject(&new))] {
            assert_eq!(shown(&tls, trusted.as_ref().map(<[_; 1]>::as_slice)), new);
        }
    }

    #[test]
    fn the_servers_certificate_is_made_anew_at_a_third_of_its_life() {
        fn later() -> Timestamp {
            Timestamp::now().plus(SERVER_LIFETIME / 3 + Duration::from_secs(1))
        }
        let directory = tempfile::tempdir().unwrap();
        let authorities = Authorities::open_or_create(directory.path(), Timestamp::now()).unwrap();
        let mut tls = LinkTls::new(authorities, Timestamp::now, CertificateGauges::default()).unwrap();
        let first = tls.state().leaf_for(None).unwrap().key.cert[0].clone();
        assert_eq!(tls.state().leaf_for(None).unwrap().key.cert[0], first);
        tls.clock = later;
        assert_ne!(tls.state().leaf_for(None).unwrap().key.cert[0], first);
    }

    #[test]
    fn the_servers_certificate_is_made_anew_when_the_clock_was_put_back() {
        fn earlier() -> Timestamp {
            Timestamp::now().minus(Duration::from_secs(7200))
        }
        let directory = tempfile::tempdir().unwrap();
        let authorities = Authorities::open_or_create(directory.path(), Timestamp::now()).unwrap();
        let mut tls = LinkTls::new(authorities, Timestamp::now, CertificateGauges::default()).unwrap();
        let shown = |tls: &LinkTls| tls.state().leaf_for(None).unwrap().key.cert[0].clone();
        let first = shown(&tls);
        tls.clock = earlier;
        let second = shown(&tls);
        assert_ne!(second, first);
        let validity = identity::Validity::of_certificate(&second).unwrap();
        assert!(validity.not_before <= earlier(), "{validity:?}");
        assert_eq!(shown(&tls), second, "once");
    }
}
