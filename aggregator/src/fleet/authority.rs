//! The certificate authority of one installation, and what it signs.
//!
//! ```text
//! data_dir/authority/
//! ├─ key.pem          ECDSA P-256, mode 0600; whoever has it can make relays
//! └─ certificate.pem  self-signed, 10 years; relays get it when they join
//! ```
//!
//! Invariants:
//! - The key is written, durably, before the certificate: a crash in between leaves a key whose certificate is made again,
//!   with the same public key and so the same fingerprint.
//! - Of a signing request only the public key is used. What names it carries, and what it wants to be allowed, is ignored.
//! - Relays are known by the URI `picket-relay:ID` alone, servers by [`SERVER_NAME`] alone; neither can act as the other.
//!
//! The server's own certificate is made at each start and now and then while it runs, and kept in memory: relays trust the
//! authority, not a certificate.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use picket_common::identity::{self, Fingerprint, IdentityError, Validity};
use picket_common::ids::RelayId;
use picket_common::timestamp::Timestamp;
use picket_common::wire::SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tracing::info;

use crate::durable_file;

const KEY_FILE: &str = "key.pem";
const CERTIFICATE_FILE: &str = "certificate.pem";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long a server certificate is good. A serving aggregator makes a new one long before.
pub const SERVER_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// Certificates begin this much in the past, for relays whose clock is behind; short-lived ones a third of their life, so that
/// two thirds of the whole, when relays renew, are not past from the start.
const BACKDATE: Duration = Duration::from_secs(60 * 60);
/// Longest signing request that is parsed. One for a P-256 key has about 500 bytes, for a 4096-bit RSA key 1 700.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// Why the authority can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file can't be read or written.
    #[error("can't {action} {path}: {source}")]
    File {
        /// `read`, `write`, `make` or `remove`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the key.
    #[error("{path} can be read by other users (mode {mode:o}): anyone of them could make relays; run chmod 600 on it")]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate is there and the key is not.
    #[error("{path} is missing, but the authority's certificate is there; restore the key from a backup")]
    KeyMissing {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key don't belong together.
    #[error("key and certificate in {directory} don't belong together; restore both from one backup")]
    Mismatch {
        /// The directory.
        directory: PathBuf,
    },
    /// A stored key or certificate, or a signing request, is malformed, or signing failed.
    #[error("{what}: {source}")]
    Certificate {
        /// What was being read or made.
        what: &'static str,
        /// Why it can't be.
        source: rcgen::Error,
    },
    /// The stored certificate can't be used.
    #[error("the authority's certificate: {0}")]
    Identity(#[from] IdentityError),
    /// The nodes of the installation hold others.
    #[error(
        "this node lacks certificate authorities of the installation ({expected}): copy the directory {directory} from a node that \
         is up to date, with its permissions (cp -a), and start again"
    )]
    NotOfInstallation {
        /// The fingerprints that are missing.
        expected: String,
        /// Where authorities are kept.
        directory: PathBuf,
    },
    /// There is a directory without an authority in it.
    #[error("there is no authority in {directory}; restore it from a backup")]
    NotThere {
        /// The directory.
        directory: PathBuf,
    },
    /// More than two: a rotation failed and could not be undone.
    #[error(
        "{directory} holds {found} authorities, of which two at most can be in force: a rotation that failed left one; remove the \
         numbered directory that is the newest if no `picket-aggregator authority show` ever named it, or restore all from a backup"
    )]
    TooMany {
        /// The directory.
        directory: PathBuf,
        /// How many.
        found: usize,
    },
    /// Two are held already.
    #[error(
        "a rotation is under way: authority {former} is still in force; end it with `picket-aggregator authority retire` first"
    )]
    RotationUnderWay {
        /// The one before the one that signs.
        former: Fingerprint,
    },
    /// The work was not finished; what is on disk decides at the next start.
    #[error("the change of authorities was interrupted: {0}; see `picket-aggregator authority show` after a restart")]
    Interrupted(String),
    /// One is held.
    #[error("there is one authority only; `picket-aggregator authority rotate` makes the next")]
    NothingToRetire,
    /// A signing request of absurd size.
    #[error("the certificate signing request is longer than {MAX_REQUEST_BYTES} bytes")]
    RequestTooLong,
}

fn certificate_error(what: &'static str) -> impl FnOnce(rcgen::Error) -> AuthorityError {
    move |source| AuthorityError::Certificate { what, source }
}

/// A checked signing request: proof that the relay has the private key. Nothing else of it is kept.
pub struct SigningRequest {
    public_key: rcgen::PublicKey,
}

// === impl SigningRequest ===

impl SigningRequest {
    /// Reads a request and verifies its signature.
    ///
    /// # Errors
    /// [`AuthorityError::RequestTooLong`], or [`AuthorityError::Certificate`] if it is malformed or its signature wrong.
    pub fn parse(pem: &str) -> Result<Self, AuthorityError> {
        if pem.len() > MAX_REQUEST_BYTES {
            return Err(AuthorityError::RequestTooLong);
        }
        let request = CertificateSigningRequestParams::from_pem(pem)
            .map_err(certificate_error("reading the certificate signing request"))?;
        Ok(Self { public_key: request.public_key })
    }
}

impl std::fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningRequest").finish_non_exhaustive()
    }
}

/// A relay's certificate.
#[derive(Debug, Clone)]
pub struct SignedRelay {
    /// The certificate.
    pub certificate_pem: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Who signed it.
    pub authority: Fingerprint,
    /// When it expires.
    pub not_after: Timestamp,
}

/// What a server shows.
#[derive(Debug)]
pub struct ServerIdentity {
    /// Its certificate, then the authority's: a joining relay finds there the key whose fingerprint its token has.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// The certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    fingerprint: Fingerprint,
    validity: Validity,
}

impl std::fmt::Debug for Authority {
    /// Leaves the key out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

// === impl Authority ===

impl Authority {
    /// Opens the authority in `directory`, or makes it where there is none. Calls the random source of the system.
    ///
    /// # Errors
    /// [`AuthorityError`], each with what to do.
    pub fn open_or_create(directory: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        make_directory(directory)?;
        let key_path = directory.join(KEY_FILE);
        let certificate_path = directory.join(CERTIFICATE_FILE);
        let stored_certificate = read_if_there(&certificate_path)?;
        let key = match read_if_there(&key_path)? {
            Some(pem) => {
                check_mode(&key_path)?;
                KeyPair::from_pem(&pem).map_err(certificate_error("reading the authority's key"))?
            }
            None if stored_certificate.is_some() => return Err(AuthorityError::KeyMissing { path: key_path }),
            None => create_key(&key_path)?,
        };
        let certificate_pem = match stored_certificate {
            Some(pem) => pem,
            None => create_certificate(&certificate_path, &key, now)?,
        };
        Self::from_parts(key, certificate_pem, directory)
    }

    fn from_parts(key: KeyPair, certificate_pem: String, directory: &Path) -> Result<Self, AuthorityError> {
        let certificate = identity::certificate_from_pem(&certificate_pem)?;
        let fingerprint = Fingerprint::of_certificate(&certificate)?;
        let of_key = Fingerprint::from_bytes(Sha256::digest(key.subject_public_key_info()).into());
        if fingerprint != of_key {
            return Err(AuthorityError::Mismatch { directory: directory.to_owned() });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(certificate_error("reading the authority's certificate"))?;
        let validity = Validity::of_certificate(&certificate)?;
        Ok(Self { issuer, certificate, certificate_pem, fingerprint, validity })
    }

    /// A secret for one purpose, the same at every start of this installation; it tells nothing of the key.
    #[must_use]
    pub fn derived_secret(&self, purpose: &str) -> [u8; 32] {
        let digest = Sha256::new().chain_update(purpose).chain_update([0]);
        digest.chain_update(self.issuer.key().serialize_der()).finalize().into()
    }

    /// The certificate as relays keep it.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the authority's public key, as in join tokens.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// From when to when its certificate is good.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Signs a relay's certificate: for its public key, with its id as the only name, good for `lifetime`, but never longer
    /// than the authority itself.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`] if signing fails.
    pub fn sign_relay(
        &self,
        request: &SigningRequest,
        relay_id: RelayId,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<SignedRelay, AuthorityError> {
        let what = "signing a relay's certificate";
        let uri = identity::relay_uri(relay_id);
        let lifetime = lifetime.min(self.validity.not_after.since(now));
        let mut params = leaf(&relay_id.to_string(), now, lifetime);
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().map_err(certificate_error(what))?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(certificate_error(what))?;
        Ok(SignedRelay {
            certificate_pem: certificate.pem(),
            serial: identity::serial_of(certificate.der())?,
            authority: self.fingerprint,
            not_after: Validity::of_certificate(certificate.der())?.not_after,
        })
    }

    /// Makes a key and a certificate for a server.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`] if the key can't be made or signing fails.
    pub fn issue_server(&self, now: Timestamp) -> Result<ServerIdentity, AuthorityError> {
        let what = "making the server's certificate";
        let key = KeyPair::generate().map_err(certificate_error(what))?;
        let mut params = leaf(SERVER_NAME, now, SERVER_LIFETIME);
        params.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into().map_err(certificate_error(what))?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(certificate_error(what))?;
        let chain = vec![certificate.into(), self.certificate.clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|_| AuthorityError::Certificate { what, source: rcgen::Error::CouldNotParseKeyPair })?;
        Ok(ServerIdentity { chain, key })
    }
}

/// What relay and server certificates share.
fn leaf(common_name: &str, now: Timestamp, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now.minus(BACKDATE.min(lifetime / 3)).to_datetime();
    params.not_after = now.plus(lifetime).to_datetime();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial_number(common_name, now));
    params
}

/// Unique for an authority (RFC 5280 §4.1.2.2): positive, at most 20 bytes. A relay's id is random already, and a server
/// makes at most one certificate a millisecond.
fn serial_number(common_name: &str, now: Timestamp) -> SerialNumber {
    let digest = Sha256::new().chain_update(common_name).chain_update(now.as_millis().to_be_bytes()).finalize();
    let mut serial = digest[..16].to_vec();
    serial[0] &= 0x7f;
    SerialNumber::from_slice(&serial)
}

pub(super) fn make_directory(directory: &Path) -> Result<(), AuthorityError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|source| AuthorityError::File {
        action: "make",
        path: directory.to_owned(),
        source,
    })
}

/// Whether there is an authority whose making was finished.
pub(super) fn has_certificate(directory: &Path) -> bool {
    directory.join(CERTIFICATE_FILE).exists()
}

/// Removes an authority. The certificate goes first: a key alone is one that has been retired.
pub(super) fn remove(directory: &Path) -> Result<(), AuthorityError> {
    remove_file(&directory.join(CERTIFICATE_FILE))?;
    remove_key(directory)
}

pub(super) fn remove_key(directory: &Path) -> Result<(), AuthorityError> {
    remove_file(&directory.join(KEY_FILE))
}

fn remove_file(path: &Path) -> Result<(), AuthorityError> {
    match durable_file::remove(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(AuthorityError::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn read_if_there(path: &Path) -> Result<Option<String>, AuthorityError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuthorityError::File { action: "read", path: path.to_owned(), source }),
    }
}

fn check_mode(path: &Path) -> Result<(), AuthorityError> {
    let metadata = std::fs::metadata(path).map_err(|source| AuthorityError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AuthorityError::KeyExposed { path: path.to_owned(), mode });
    }
    Ok(())
}

fn create_key(path: &Path) -> Result<KeyPair, AuthorityError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(certificate_error("making the authority's key"))?;
    durable_file::write(path, key.serialize_pem().as_bytes(), 0o600).map_err(|source| AuthorityError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })?;
    Ok(key)
}

fn create_certificate(path: &Path, key: &KeyPair, now: Timestamp) -> Result<String, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let fingerprint = Fingerprint::from_bytes(Sha256::digest(key.subject_public_key_info()).into());
    params.distinguished_name.push(DnType::CommonName, identity::authority_name(fingerprint));
    params.not_before = now.minus(DAY).to_datetime();
    params.not_after = now.plus(AUTHORITY_LIFETIME).to_datetime();
    // Signs leaves only: a chain through another authority would not be ours.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(serial_number("authority", now));
    let certificate = params.self_signed(key).map_err(certificate_error("making the authority's certificate"))?;
    let pem = certificate.pem();
    durable_file::write(path, pem.as_bytes(), 0o644).map_err(|source| AuthorityError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })?;
    info!(path = %path.display(), "certificate authority made");
    Ok(pem)
}
