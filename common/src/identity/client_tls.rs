//! The relay's side of TLS: whom it trusts, and how it says so.
//!
//! Both kinds of connection name the authorities that they trust in their hello (RFC 8446 §4.2.4), so that an aggregator that
//! holds two of them, while one takes over from the other, shows a certificate that the relay can verify.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, SignatureScheme};

use super::{Fingerprint, IdentityError, authority_name, crypto, roots};
use crate::wire::{ALPN_JOIN, ALPN_LINK};

/// How a joined relay connects: it trusts the authorities and shows its certificate.
///
/// # Errors
/// [`IdentityError`] if key and certificate don't fit each other or an authority is none.
pub fn link_client_config(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, IdentityError> {
    let roots = roots(authorities)?;
    let subjects = roots.subjects();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, crypto())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustedAuthorities { verifier, subjects }))
        .with_client_auth_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![ALPN_LINK.to_vec()];
    Ok(config)
}

/// How a relay without a certificate connects to join: it knows the authority by fingerprint only.
///
/// # Errors
/// [`IdentityError::Tls`] if the crypto provider lacks TLS 1.3; ours does not.
pub fn join_client_config(authority: Fingerprint) -> Result<ClientConfig, IdentityError> {
    let subjects = vec![authority_subject(authority)];
    let verifier = PinnedAuthority { authority, subjects, provider: crypto() };
    let mut config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    Ok(config)
}

/// The name of an authority as its certificate has it, known from its fingerprint alone.
#[must_use]
pub fn authority_subject(authority: Fingerprint) -> DistinguishedName {
    subject_of_name(&authority_name(authority))
}

/// A distinguished name of one common name, in DER (X.501; the text as `UTF8String`).
fn subject_of_name(name: &str) -> DistinguishedName {
    /// `2.5.4.3`, the common name.
    const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
    // Names here are far shorter than the 127 bytes that a one-byte length can tell.
    let wrapped = |tag: u8, content: &[u8]| {
        debug_assert!(content.len() < 128, "a length of one byte");
        let length = u8::try_from(content.len()).unwrap_or(127);
        [&[tag, length], content].concat()
    };
    let text = wrapped(0x0c, name.as_bytes());
    let attribute = wrapped(0x30, &[&COMMON_NAME, text.as_slice()].concat());
    DistinguishedName::in_sequence(&wrapped(0x31, &attribute))
}

/// The usual verification against the authorities that a relay keeps, whose names are told to the server.
#[derive(Debug)]
struct TrustedAuthorities {
    verifier: Arc<WebPkiServerVerifier>,
    subjects: Vec<DistinguishedName>,
}

impl ServerCertVerifier for TrustedAuthorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.subjects)
    }
}

/// Takes the authority's certificate from the server's chain, checks that its key is the pinned one, and then verifies the
/// chain against it as usual. So nothing is trusted that the token did not name.
#[derive(Debug)]
struct PinnedAuthority {
    authority: Fingerprint,
    subjects: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let authority = intermediates
            .iter()
            .find(|certificate| Fingerprint::of_certificate(certificate).is_ok_and(|found| found == self.authority))
            .ok_or_else(unknown)?;
        let roots = roots([authority.clone().into_owned()]).map_err(|_| unknown())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("the link speaks TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.subjects)
    }
}
