//! TLS identity: fingerprints of public keys, the names in relay certificates, and the TLS configurations of the link.
//!
//! Invariants: TLS 1.3 only, no early data (0-RTT data can be replayed); a peer is known by the authority's signature,
//! never by its address; a relay's identity is the URI in its certificate, never anything it says.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{DistinguishedName, RootCertStore};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::ids::RelayId;
use crate::timestamp::Timestamp;

mod client_tls;

pub use client_tls::{authority_subject, join_client_config, link_client_config};

/// Scheme of the URI that names a relay in its certificate.
const RELAY_URI: &str = "picket-relay:";

/// Why an identity can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A certificate or key is not valid PEM or DER.
    #[error("the {what} can't be read: {problem}")]
    Unreadable {
        /// Which file or field.
        what: &'static str,
        /// What the parser says.
        problem: String,
    },
    /// rustls refuses the combination.
    #[error("the certificate and its key can't be used: {0}")]
    Tls(#[from] rustls::Error),
    /// A certificate of this authority that names no relay.
    #[error("the certificate names no relay")]
    NoRelayName,
    /// A certificate that belongs to another relay than the description beside it.
    #[error("the certificate names relay {named}, the description beside it {described}")]
    OtherRelay {
        /// Who is described.
        described: RelayId,
        /// Whom the certificate names.
        named: RelayId,
    },
}

/// SHA-256 of a certificate's public key (its DER `SubjectPublicKeyInfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Wraps a digest.
    #[must_use]
    pub const fn from_bytes(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The fingerprint of a certificate.
    ///
    /// # Errors
    /// [`IdentityError::Unreadable`] if it is no certificate.
    pub fn of_certificate(der: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let certificate = parse_certificate(der)?;
        Ok(Self(Sha256::digest(certificate.tbs_certificate.subject_pki.raw).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let unreadable =
            || IdentityError::Unreadable { what: "fingerprint", problem: "expected 64 hexadecimal digits".to_owned() };
        if text.len() != 64 || !text.is_ascii() {
            return Err(unreadable());
        }
        let mut digest = [0; 32];
        for (byte, position) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[position..position + 2], 16).map_err(|_| unreadable())?;
        }
        Ok(Self(digest))
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn parse_certificate<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| IdentityError::Unreadable { what: "certificate", problem: error.to_string() })?;
    Ok(certificate)
}

/// The URI that goes into a relay's certificate.
#[must_use]
pub fn relay_uri(relay_id: RelayId) -> String {
    format!("{RELAY_URI}{relay_id}")
}

/// Who the relay with this certificate is. The certificate must have been verified before.
///
/// # Errors
/// [`IdentityError::NoRelayName`] if it carries no relay URI.
pub fn relay_id_of(der: &CertificateDer<'_>) -> Result<RelayId, IdentityError> {
    let certificate = parse_certificate(der)?;
    certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(RELAY_URI)?.parse().ok(),
            _ => None,
        })
        .ok_or(IdentityError::NoRelayName)
}

/// From when to when a certificate is good; X.509 tells it in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// It is not good before.
    pub not_before: Timestamp,
    /// Nor after.
    pub not_after: Timestamp,
}

// === impl Validity ===

impl Validity {
    /// The validity of a certificate.
    ///
    /// # Errors
    /// [`IdentityError::Unreadable`] if it is no certificate.
    pub fn of_certificate(der: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let certificate = parse_certificate(der)?;
        let at = |time: ASN1Time| {
            // What is before 1970 is long past in any case.
            let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
            Timestamp::from_millis(seconds.saturating_mul(1000))
        };
        let validity = certificate.validity();
        Ok(Self { not_before: at(validity.not_before), not_after: at(validity.not_after) })
    }

    /// How long it is good as a whole.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.not_after.since(self.not_before)
    }
}

/// The serial number of a certificate in hexadecimal: what one authority never gives twice.
///
/// # Errors
/// [`IdentityError::Unreadable`] if it is no certificate.
pub fn serial_of(der: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let certificate = parse_certificate(der)?;
    Ok(certificate.tbs_certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// [`IdentityError::Unreadable`] if there is none.
pub fn certificate_from_pem(pem: &str) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| IdentityError::Unreadable { what: "certificate", problem: error.to_string() })
}

/// Reads the first private key of a PEM text.
///
/// # Errors
/// [`IdentityError::Unreadable`] if there is none.
pub fn key_from_pem(pem: &str) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| IdentityError::Unreadable { what: "private key", problem: error.to_string() })
}

/// The cryptography of the link: ring, on both sides.
#[must_use]
pub fn crypto() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads all certificates of a PEM text.
///
/// # Errors
/// [`IdentityError::Unreadable`] if there is none, or one can't be read.
pub fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let unreadable = |problem: String| IdentityError::Unreadable { what: "certificate", problem };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|error| unreadable(error.to_string()))?;
    if read.is_empty() {
        return Err(unreadable("there is none".to_owned()));
    }
    Ok(read)
}

/// Roots that hold these authorities and no other.
///
/// # Errors
/// [`IdentityError::Tls`] if a certificate is no authority's.
pub fn roots(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Result<Arc<RootCertStore>, IdentityError> {
    let mut roots = RootCertStore::empty();
    authorities.into_iter().try_for_each(|authority| roots.add(authority))?;
    Ok(Arc::new(roots))
}

/// The name of an authority, as peers tell each other whom they trust.
///
/// # Errors
/// [`IdentityError`] if the certificate is no authority's.
pub fn subject_of(authority: CertificateDer<'static>) -> Result<DistinguishedName, IdentityError> {
    let unnamed = || IdentityError::Unreadable { what: "certificate", problem: "it has no name".to_owned() };
    roots([authority])?.subjects().pop().ok_or_else(unnamed)
}

/// The common name of an authority: made of its key, so that who knows the fingerprint knows the name.
#[must_use]
pub fn authority_name(authority: Fingerprint) -> String {
    let digits = authority.to_string();
    format!("Picket authority {}", &digits[..16])
}

/// Checks that one of `authorities` signed a relay's certificate, whatever the clock here says.
///
/// # Errors
/// [`IdentityError`] if none did, or it is no certificate.
pub fn check_issuer(
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    certificate: &CertificateDer<'_>,
) -> Result<(), IdentityError> {
    let within = Validity::of_certificate(certificate)?.not_before;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authorities)?, crypto())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let within = UnixTime::since_unix_epoch(Duration::from_secs(within.as_seconds()));
    verifier.verify_client_cert(certificate, &[], within)?;
    Ok(())
}
