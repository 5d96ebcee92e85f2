//! The relay's identity on disk: what joining left behind, and what connecting needs.
//!
//! ```text
//! data_dir/identity/        0700
//! ├─ key.pem                0600: the key, made here, which never leaves the host; then the certificate that an authority
//! │                         signed for it, which names the relay. One file, so that no crash leaves one without the other
//! ├─ authority.pem          whom the relay trusts: one certificate or more
//! └─ relay.json             id, name, addresses of the aggregators; written last: an identity is whole if it is there
//! ```
//! Each file is written beside its place, synced and renamed, so that a power cut leaves the old one or the new one.
//! Relays that joined with an earlier version have the certificate in `certificate.pem`, until it is renewed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use picket_common::identity::{
    Fingerprint, IdentityError, Validity, certificate_from_pem, certificates_from_pem, check_issuer, key_from_pem,
    link_client_config, relay_id_of,
};
use picket_common::ids::RelayId;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

const DIRECTORY: &str = "identity";
const KEY_FILE: &str = "key.pem";
const CERTIFICATE_FILE: &str = "certificate.pem";
const AUTHORITY_FILE: &str = "authority.pem";
const RELAY_FILE: &str = "relay.json";

/// What `relay.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayDescription {
    /// Who the relay is.
    pub relay_id: RelayId,
    /// The name it is listed under.
    pub name: String,
    /// `host:port` of the aggregators, in order of preference.
    pub aggregators: Vec<String>,
}

/// A joined relay's identity.
#[derive(Clone)]
pub struct RelayIdentity {
    /// Who it is and whom it talks to.
    pub relay: RelayDescription,
    /// TLS of the link, made of key, certificate and authorities.
    pub tls: rustls::ClientConfig,
    /// Whom it trusts; the first signs.
    pub authorities: Vec<CertificateDer<'static>>,
    /// From when to when its certificate is good.
    pub validity: Validity,
    /// Whether the first of the authorities signed its certificate. If not, that authority has taken over, and the certificate
    /// is to be renewed.
    pub is_of_first_authority: bool,
    credential: Arc<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
}

// === impl RelayIdentity ===

impl RelayIdentity {
    /// Puts an identity together.
    ///
    /// # Errors
    /// [`IdentityError`] where key and certificate don't belong together, or an authority is none.
    pub fn new(
        relay: RelayDescription,
        authorities: Vec<CertificateDer<'static>>,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let validity = Validity::of_certificate(&certificate)?;
        let tls = link_client_config(authorities.iter().cloned(), certificate.clone(), key.clone_key())?;
        let is_of_first_authority = check_issuer(authorities.first().cloned(), &certificate).is_ok();
        let credential = Arc::new((certificate, key));
        Ok(Self { relay, tls, authorities, validity, is_of_first_authority, credential })
    }

    /// The same relay that trusts others.
    ///
    /// # Errors
    /// [`IdentityError`] where one of them is no authority.
    pub fn trusting(&self, authorities: Vec<CertificateDer<'static>>) -> Result<Self, IdentityError> {
        let (certificate, key) = &*self.credential;
        Self::new(self.relay.clone(), authorities, certificate.clone(), key.clone_key())
    }

    /// Fingerprints of those whom it trusts.
    ///
    /// # Errors
    /// [`IdentityError`] where one of them is none; then it could not have been loaded.
    pub fn trusted(&self) -> Result<Vec<Fingerprint>, IdentityError> {
        self.authorities.iter().map(Fingerprint::of_certificate).collect()
    }
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum LoadIdentityError {
    /// The relay has not joined yet.
    #[error(
        "this relay has not joined an aggregator: {directory} holds no identity; run `picket-relay join TOKEN` with a token \
         from `picket-aggregator relay invite`"
    )]
    NotJoined {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A file can't be read.
    #[error("can't read {path}: {source}; the relay's user must own it, or join again")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `relay.json` is not what joining writes.
    #[error("{path} is not valid: {source}; join again")]
    Description {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Key, certificate and authority don't make a TLS configuration.
    #[error("the identity in {directory} can't be used: {source}; join again")]
    Tls {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: IdentityError,
    },
}

/// What joining writes.
pub(crate) struct NewIdentity<'a> {
    pub(crate) key_pem: &'a str,
    pub(crate) certificate_pem: &'a str,
    pub(crate) authority_pem: &'a str,
    pub(crate) relay: &'a RelayDescription,
}

/// Where the identity of a data directory is.
#[must_use]
pub fn identity_directory(data_dir: &Path) -> PathBuf {
    data_dir.join(DIRECTORY)
}

/// Whether a data directory holds an identity, usable or not.
#[must_use]
pub fn has_identity(data_dir: &Path) -> bool {
    identity_directory(data_dir).join(RELAY_FILE).exists()
}

/// Reads the identity that joining left in `data_dir`.
///
/// # Errors
/// [`LoadIdentityError`], see its variants.
pub fn load_identity(data_dir: &Path) -> Result<RelayIdentity, LoadIdentityError> {
    let directory = identity_directory(data_dir);
    let relay = load_description(data_dir)?;
    let read = |name| {
        let path = directory.join(name);
        std::fs::read_to_string(&path).map_err(|source| LoadIdentityError::Unreadable { path, source })
    };
    let (key, authorities) = (read(KEY_FILE)?, read(AUTHORITY_FILE)?);
    // Without one it is the form of an earlier version.
    let certificate = if certificate_from_pem(&key).is_ok() { key.clone() } else { read(CERTIFICATE_FILE)? };
    identity_of(relay, &key, &certificate, &authorities)
        .map_err(|source| LoadIdentityError::Tls { directory: directory.clone(), source })
}

/// Reads who the relay is, without the files that prove it.
pub(crate) fn load_description(data_dir: &Path) -> Result<RelayDescription, LoadIdentityError> {
    let directory = identity_directory(data_dir);
    let path = directory.join(RELAY_FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(LoadIdentityError::NotJoined { directory });
        }
        Err(source) => return Err(LoadIdentityError::Unreadable { path, source }),
    };
    serde_json::from_slice(&text).map_err(|source| LoadIdentityError::Description { path, source })
}

/// An identity of PEM texts; fails where key and certificate don't belong together.
pub(crate) fn identity_of(
    relay: RelayDescription,
    key: &str,
    certificate: &str,
    authorities: &str,
) -> Result<RelayIdentity, IdentityError> {
    let (authorities, certificate) = (certificates_from_pem(authorities)?, certificate_from_pem(certificate)?);
    let named = relay_id_of(&certificate)?;
    if named != relay.relay_id {
        return Err(IdentityError::OtherRelay { described: relay.relay_id, named });
    }
    RelayIdentity::new(relay, authorities, certificate, key_from_pem(key)?)
}

/// Writes an identity; on disk when it returns.
pub(crate) fn store_identity(data_dir: &Path, identity: &NewIdentity<'_>) -> std::io::Result<()> {
    let directory = identity_directory(data_dir);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    // An old description must not stand beside a new key.
    match std::fs::remove_file(directory.join(RELAY_FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => File::open(&directory)?.sync_all()?,
    }
    store_credential(data_dir, identity.key_pem, identity.certificate_pem)?;
    write_whole(&directory, AUTHORITY_FILE, identity.authority_pem.as_bytes(), 0o644)?;
    let description = serde_json::to_vec_pretty(identity.relay)?;
    write_whole(&directory, RELAY_FILE, &description, 0o644)?;
    File::open(data_dir)?.sync_all()
}

/// Replaces the authorities to trust; on disk when it returns.
pub(crate) fn store_authorities(data_dir: &Path, certificates_pem: &str) -> std::io::Result<()> {
    write_whole(&identity_directory(data_dir), AUTHORITY_FILE, certificates_pem.as_bytes(), 0o644)
}

/// Replaces key and certificate as one; on disk when it returns.
pub(crate) fn store_credential(data_dir: &Path, key_pem: &str, certificate_pem: &str) -> std::io::Result<()> {
    let directory = identity_directory(data_dir);
    write_whole(&directory, KEY_FILE, format!("{key_pem}{certificate_pem}").as_bytes(), 0o600)?;
    // What an earlier version wrote is of no use beside the new key.
    match std::fs::remove_file(directory.join(CERTIFICATE_FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file so that a power cut leaves the old one or the new one; on disk when it returns.
pub(crate) fn write_whole(directory: &Path, name: &str, content: &[u8], mode: u32) -> std::io::Result<()> {
    let beside = directory.join(format!("{name}.new"));
    // A left-over of an interrupted attempt may have another mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, directory.join(name))?;
    File::open(directory)?.sync_all()
}

impl std::fmt::Debug for RelayIdentity {
    /// Leaves TLS out: it holds the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayIdentity")
            .field("relay", &self.relay)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::key_request::KeyRequest;
    use crate::uplink::fake_aggregator::Authority;
    use picket_common::identity::serial_of;

    fn relay_id() -> RelayId {
        RelayId::from_random([4; 16])
    }

    fn store(data_dir: &Path, authority: &Authority) -> (KeyRequest, String) {
        let request = KeyRequest::generate().unwrap();
        let certificate_pem = authority.certify(request.csr_pem(), relay_id());
        let relay = RelayDescription { relay_id: relay_id(), name: "edge".to_owned(), aggregators: Vec::new() };
        let identity = NewIdentity {
            key_pem: &request.key_pem(),
            certificate_pem: &certificate_pem,
            authority_pem: authority.pem(),
            relay: &relay,
        };
        store_identity(data_dir, &identity).unwrap();
        (request, certificate_pem)
    }

    fn serial(pem: &str) -> String {
        serial_of(&certificate_from_pem(pem).unwrap()).unwrap()
    }

    /// All files of an identity, so that a crash can be played by mixing those before and after.
    fn files(data_dir: &Path) -> std::collections::BTreeMap<std::ffi::OsString, Vec<u8>> {
        let entries = std::fs::read_dir(identity_directory(data_dir)).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
    }

    #[test]
    fn the_systemd_unit_waits_for_a_file_that_joining_writes_and_no_renewal_removes() {
        let unit = include_str!("../../systemd/picket-relay.service");
        let condition = unit.lines().find_map(|line| line.strip_prefix("ConditionPathExists=")).unwrap();
        let in_data_dir = condition.strip_prefix("/var/lib/picket-relay/").unwrap();
        let (authority, data_dir) = (Authority::new(), tempfile::tempdir().unwrap());
        store(data_dir.path(), &authority);
        assert!(data_dir.path().join(in_data_dir).exists(), "{condition}");
        let next = KeyRequest::generate().unwrap();
        store_credential(data_dir.path(), &next.key_pem(), &authority.certify(next.csr_pem(), relay_id())).unwrap();
        assert!(data_dir.path().join(in_data_dir).exists(), "{condition}");
    }

    #[test]
    fn a_certificate_beside_another_relays_description_is_no_identity() {
        let (authority, data_dir) = (Authority::new(), tempfile::tempdir().unwrap());
        store(data_dir.path(), &authority);
        let next = KeyRequest::generate().unwrap();
        let stranger = RelayId::from_random([9; 16]);
        store_credential(data_dir.path(), &next.key_pem(), &authority.certify(next.csr_pem(), stranger)).unwrap();
        let loaded = load_identity(data_dir.path());
        assert!(
            matches!(loaded, Err(LoadIdentityError::Tls { source: IdentityError::OtherRelay { named, .. }, .. })
            if named == stranger),
            "{loaded:?}"
        );
    }

    #[test]
    fn a_crash_at_any_instant_of_a_renewal_leaves_a_pair_that_works() {
        let (authority, data_dir) = (Authority::new(), tempfile::tempdir().unwrap());
        let directory = identity_directory(data_dir.path());
        store(data_dir.path(), &authority);
        let before = files(data_dir.path());
        let next = KeyRequest::generate().unwrap();
        let certificate_pem = authority.certify(next.csr_pem(), relay_id());
        store_credential(data_dir.path(), &next.key_pem(), &certificate_pem).unwrap();
        let after = files(data_dir.path());
        let changed: Vec<_> = after.iter().filter(|(name, content)| before.get(*name) != Some(content)).collect();
        assert_eq!(changed.len(), 1, "one rename is all: {changed:?}");
        load_identity(data_dir.path()).unwrap();

        // As the disk is before the rename: the old file, and beside it any part of the new one.
        let content = changed[0].1;
        for length in (0..=content.len()).step_by(50) {
            std::fs::write(directory.join(KEY_FILE), &before[std::ffi::OsStr::new(KEY_FILE)]).unwrap();
            std::fs::write(directory.join("key.pem.new"), &content[..length]).unwrap();
            load_identity(data_dir.path()).unwrap();
            store_credential(data_dir.path(), &next.key_pem(), &certificate_pem).unwrap();
            load_identity(data_dir.path()).unwrap();
        }
        let stored = std::fs::read_to_string(directory.join(KEY_FILE)).unwrap();
        assert_eq!(serial(&stored), serial(&certificate_pem));
    }

    #[test]
    fn an_identity_in_two_files_as_earlier_versions_wrote_it_loads_until_it_is_renewed() {
        let (authority, data_dir) = (Authority::new(), tempfile::tempdir().unwrap());
        let directory = identity_directory(data_dir.path());
        let (request, certificate_pem) = store(data_dir.path(), &authority);
        std::fs::write(directory.join(KEY_FILE), request.key_pem()).unwrap();
        std::fs::write(directory.join(CERTIFICATE_FILE), &certificate_pem).unwrap();
        load_identity(data_dir.path()).unwrap();
        let next = KeyRequest::generate().unwrap();
        store_credential(data_dir.path(), &next.key_pem(), &authority.certify(next.csr_pem(), relay_id())).unwrap();
        load_identity(data_dir.path()).unwrap();
        assert!(!directory.join(CERTIFICATE_FILE).exists());
        // Where the crash was between the rename and the removal.
        std::fs::write(directory.join(CERTIFICATE_FILE), &certificate_pem).unwrap();
        load_identity(data_dir.path()).unwrap();
    }
}
