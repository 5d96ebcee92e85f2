//! A key pair that waits for its certificate: made here, on this host, and asked for in a signing request.

use rcgen::{CertificateParams, DistinguishedName, KeyPair};

/// A new key pair (ECDSA P-256) and what an authority is asked to sign.
pub(crate) struct KeyRequest {
    key: KeyPair,
    csr_pem: String,
}

// === impl KeyRequest ===

impl KeyRequest {
    /// Makes a key pair. Reads the random source of the system.
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        // The name in a certificate is the authority's to give.
        params.distinguished_name = DistinguishedName::new();
        let csr_pem = params.serialize_request(&key)?.pem()?;
        Ok(Self { key, csr_pem })
    }

    /// The signing request: the public key, and proof of having the private one.
    pub(crate) fn csr_pem(&self) -> &str {
        &self.csr_pem
    }

    /// The private key; it goes into the identity's directory and nowhere else.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

impl std::fmt::Debug for KeyRequest {
    /// Leaves the key out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRequest").finish_non_exhaustive()
    }
}
