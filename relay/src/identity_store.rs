//! The relay's identity on disk: what joining left behind, and what connecting needs.
//!
//! ```text
//! data_dir/identity/        0700
//! ├─ key.pem                0600, made here, never leaves the host
//! ├─ certificate.pem        signed by the authority for that key; names the relay
//! ├─ authority.pem          whom the relay trusts
//! └─ relay.json             id, name, addresses of the aggregators; written last: an identity is whole if it is there
//! ```
//! Each file is written beside its place, synced and renamed, so that a power cut leaves the old one or the new one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use picket_common::identity::{IdentityError, certificate_from_pem, key_from_pem, link_client_config};
use picket_common::ids::RelayId;
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
    /// TLS of the link, made of key, certificate and authority.
    pub tls: rustls::ClientConfig,
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
    let (key, certificate, authority) = (read(KEY_FILE)?, read(CERTIFICATE_FILE)?, read(AUTHORITY_FILE)?);
    let tls = tls_of(&key, &certificate, &authority)
        .map_err(|source| LoadIdentityError::Tls { directory: directory.clone(), source })?;
    Ok(RelayIdentity { relay, tls })
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

/// The link's TLS configuration; fails where key and certificate don't belong together.
pub(crate) fn tls_of(key: &str, certificate: &str, authority: &str) -> Result<rustls::ClientConfig, IdentityError> {
    link_client_config(certificate_from_pem(authority)?, certificate_from_pem(certificate)?, key_from_pem(key)?)
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
    write_whole(&directory, KEY_FILE, identity.key_pem.as_bytes(), 0o600)?;
    write_whole(&directory, CERTIFICATE_FILE, identity.certificate_pem.as_bytes(), 0o644)?;
    write_whole(&directory, AUTHORITY_FILE, identity.authority_pem.as_bytes(), 0o644)?;
    let description = serde_json::to_vec_pretty(identity.relay)?;
    write_whole(&directory, RELAY_FILE, &description, 0o644)?;
    File::open(data_dir)?.sync_all()
}

fn write_whole(directory: &Path, name: &str, content: &[u8], mode: u32) -> std::io::Result<()> {
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
        f.debug_struct("RelayIdentity").field("relay", &self.relay).finish_non_exhaustive()
    }
}
