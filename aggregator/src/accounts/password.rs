//! Password hashes: Argon2id with the crate's defaults (19 MiB, two passes), computed off the async threads.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

use super::AccountError;

/// Hashes a password with a random salt.
pub(super) async fn hash(password: String) -> Result<String, AccountError> {
    blocking(move || {
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|hash| hash.to_string())
            .map_err(|error| AccountError::Hash(error.to_string()))
    })
    .await
}

/// Whether the password fits the stored hash. Without a stored hash (an unknown user) the same work is done in vain, so that
/// the time of an answer does not tell which users exist.
pub(super) async fn verify(password: String, stored: Option<String>) -> Result<bool, AccountError> {
    blocking(move || {
        let Some(stored) = stored else {
            let _ = Argon2::default().hash_password(password.as_bytes());
            return Ok(false);
        };
        let parsed = PasswordHash::new(&stored).map_err(|error| AccountError::Hash(error.to_string()))?;
        Ok(Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AccountError> + Send + 'static,
) -> Result<T, AccountError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| AccountError::Hash(error.to_string()))?
}
