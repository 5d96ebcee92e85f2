//! The certificate and its key: read from two PEM files, checked against each other, replaced as one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use picket_common::identity::crypto;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsConfig;

/// The configuration key that names the certificate's file.
const CERTIFICATE: &str = "tls.certificate";
/// The configuration key that names the private key's file.
const KEY: &str = "tls.key";

/// Why there is no certificate to use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The configuration key that names it.
        key: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} is not usable: expected {expected} in PEM: {source}")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// The configuration key that names it.
        key: &'static str,
        /// What should be in it.
        expected: &'static str,
        /// What the reader says.
        source: pem::Error,
    },
    /// The two don't make a pair.
    #[error("the certificate in {certificate} and the key in {key} can't be used together: {source}")]
    NoPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsError {
    /// The configuration key that names the file at fault; that of the certificate where the two don't fit.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Unreadable { key, .. } | Self::NotPem { key, .. } => key,
            Self::NoPair { .. } => CERTIFICATE,
        }
    }
}

/// When to read the files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Now.
    Always,
    /// If one of them is another, or was written to, since they were last read.
    IfChanged,
}

/// The pair in use.
#[derive(Debug)]
pub struct Certificates {
    files: Mutex<Files>,
    current: ArcSwap<ServerConfig>,
}

#[derive(Debug, Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// How the files looked when they were last read, whether that led to a pair or not: so a bad pair is told once.
    seen: [Stamp; 2],
}

impl Files {
    fn stamped(certificate: &Path, key: &Path) -> Self {
        let seen = [stamp(certificate), stamp(key)];
        Self { certificate: certificate.to_owned(), key: key.to_owned(), seen }
    }
}

/// What tells one version of a file from another: seconds and nanoseconds of its last change, length, inode. `None` where there
/// is no file.
type Stamp = Option<(i64, i64, u64, u64)>;

// === impl Certificates ===

impl Certificates {
    /// Reads the pair. Blocking.
    ///
    /// # Errors
    /// [`TlsError`] if a file can't be read or the two don't make a pair.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let files = Files::stamped(certificate, key);
        let current = ArcSwap::from_pointee(load(certificate, key)?);
        Ok(Self { files: Mutex::new(files), current })
    }

    /// Reads the pair that is configured, if one is. Blocking.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of_config(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        config.files().map(|(certificate, key)| Self::open(certificate, key)).transpose()
    }

    /// Reads the pair again; new connections then use it. Returns whether it was read. Blocking.
    ///
    /// # Errors
    /// [`TlsError`] as [`Self::open`]; the former pair stays in use.
    pub fn reload(&self, when: Reload) -> Result<bool, TlsError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Files::stamped(&files.certificate, &files.key);
        if when == Reload::IfChanged && files.seen == found.seen {
            return Ok(false);
        }
        *files = found.clone();
        drop(files);
        self.current.store(Arc::new(load(&found.certificate, &found.key)?));
        Ok(true)
    }

    /// Reads a pair, of these files or others, and uses it for new connections from now on; its files are looked at from then on.
    /// Blocking.
    ///
    /// # Errors
    /// [`TlsError`] as [`Self::open`]; the former pair stays in use.
    pub fn follow(&self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        let found = Files::stamped(certificate, key);
        let next = load(certificate, key)?;
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = found;
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// What the next connection uses.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()))
}

fn load(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let not_pem = |path: &Path, key, expected| {
        let path = path.to_owned();
        move |source| TlsError::NotPem { path, key, expected, source }
    };
    let text = read(certificate, CERTIFICATE)?;
    let mut chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    if chain.as_ref().is_ok_and(Vec::is_empty) {
        chain = Err(pem::Error::NoItemsFound);
    }
    let chain = chain.map_err(not_pem(certificate, CERTIFICATE, "a certificate"))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key, KEY)?).map_err(not_pem(key, KEY, "a private key"))?;
    let no_pair = |source| TlsError::NoPair { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let mut config = ServerConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(no_pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read(path: &Path, key: &'static str) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), key, source })
}
