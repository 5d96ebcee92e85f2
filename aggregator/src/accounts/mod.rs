//! People and their tokens: passwords, page sessions, API tokens.
//!
//! Invariants: passwords are stored as Argon2id hashes, tokens as SHA-256 of 256 random bits; neither is ever logged, and a
//! token is shown once, when it is made. Sessions end after [`SESSION_LIFETIME`].

mod password;

use std::time::Duration;

use picket_common::timestamp::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::Row;
use uuid::Uuid;

use crate::database::{Database, DatabaseError, Pool};

/// How long a page session lasts after the login.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// Longest name to log in with, in characters: that of an email address (RFC 5321 §4.5.3.1.3, less the brackets).
const MAX_LOGIN_NAME_CHARS: usize = 254;

/// Why an account operation failed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The system's random source failed, or a stored hash can't be read.
    #[error("the password hash failed: {0}")]
    Hash(String),
    /// The name is taken.
    #[error("there is a user {0} already")]
    Exists(String),
    /// The name can't be one to log in with.
    #[error(
        "{0:?} can't be a name to log in with: give an email address, or 1 to {MAX_LOGIN_NAME_CHARS} characters without blanks"
    )]
    LoginName(String),
    /// A scope that Picket does not know.
    #[error("unknown scope {0:?}; known are {known}", known = SCOPES.join(", "))]
    UnknownScope(String),
}

impl From<sqlx::Error> for AccountError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// The scopes a token may have: those of the Sentry API.
pub const SCOPES: [&str; 14] = [
    "org:read",
    "org:write",
    "org:admin",
    "org:ci",
    "project:read",
    "project:write",
    "project:admin",
    "project:releases",
    "event:read",
    "event:write",
    "event:admin",
    "team:read",
    "member:read",
    "alerts:read",
];

/// Whether people can log in with a name. It need not be an email address: nothing is sent to it.
///
/// # Errors
/// [`AccountError::LoginName`] where it is empty or long, or has blanks or control characters, which nobody would see.
pub fn check_login_name(name: &str) -> Result<(), AccountError> {
    let is_visible = |character: char| !character.is_whitespace() && !character.is_control();
    if name.is_empty() || name.chars().count() > MAX_LOGIN_NAME_CHARS || !name.chars().all(is_visible) {
        return Err(AccountError::LoginName(name.to_owned()));
    }
    Ok(())
}

/// Who a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserId(Uuid);

/// A user who may log in.
#[derive(Debug, Clone)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The name to log in with.
    pub email: String,
}

/// A token as the API sees it.
#[derive(Debug, Clone)]
pub struct ApiToken {
    /// The id.
    pub id: String,
    /// What the operator called it.
    pub label: String,
    /// What it may do.
    pub scopes: Vec<String>,
}

/// Users, sessions and tokens.
#[derive(Debug, Clone)]
pub struct Accounts {
    pool: Pool,
}

impl Accounts {
    /// Works on a database.
    #[must_use]
    pub fn new(database: &Database) -> Self {
        Self { pool: database.pool().clone() }
    }

    /// Whether anyone may log in.
    ///
    /// # Errors
    /// [`AccountError::Database`].
    pub async fn any_user(&self) -> Result<bool, AccountError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM users LIMIT 1").fetch_optional(&self.pool).await?;
        Ok(found.is_some())
    }

    /// Adds a user, who is called by an email address or by any name that [`check_login_name`] takes.
    ///
    /// # Errors
    /// [`AccountError::LoginName`], and [`AccountError::Exists`] where the name is taken.
    pub async fn create_user(&self, email: &str, password: &str, now: Timestamp) -> Result<UserId, AccountError> {
        check_login_name(email)?;
        let id = Uuid::new_v4();
        let hash = password::hash(password.to_owned()).await?;
        let added = sqlx::query(
            "INSERT INTO users (id, email, password_hash, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (email) DO NOTHING",
        )
        .bind(id.to_string())
        .bind(email)
        .bind(hash)
        .bind(now.as_i64())
        .execute(&self.pool)
        .await?;
        if added.rows_affected() == 0 {
            return Err(AccountError::Exists(email.to_owned()));
        }
        Ok(UserId(id))
    }

    /// Who has this address and password; nobody for either reason alike, after the same work.
    ///
    /// # Errors
    /// [`AccountError`] if the database or the hash fails.
    pub async fn verify_password(&self, email: &str, password: &str) -> Result<Option<UserId>, AccountError> {
        let row = sqlx::query("SELECT id, password_hash FROM users WHERE email = $1")
            .bind(email)
            .fetch_optional(&self.pool)
            .await?;
        let known = match &row {
            Some(row) => Some((row.try_get::<String, _>(0)?, row.try_get::<String, _>(1)?)),
            None => None,
        };
        let (id, hash) = known.unzip();
        if !password::verify(password.to_owned(), hash).await? {
            return Ok(None);
        }
        Ok(id.and_then(|id| Uuid::try_parse(&id).ok()).map(UserId))
    }

    /// Starts a page session and returns the cookie's token.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn open_session(&self, user: UserId, now: Timestamp) -> Result<String, AccountError> {
        let token = random_token()?;
        // Logging in is rare, so it is the moment to clear what has expired.
        sqlx::query("DELETE FROM web_sessions WHERE expires_at <= $1").bind(now.as_i64()).execute(&self.pool).await?;
        sqlx::query("INSERT INTO web_sessions (token_hash, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(token_hash(&token))
            .bind(user.0.to_string())
            .bind(now.as_i64())
            .bind(now.plus(SESSION_LIFETIME).as_i64())
            .execute(&self.pool)
            .await?;
        Ok(token)
    }

    /// Whose session a cookie's token is.
    ///
    /// # Errors
    /// [`AccountError::Database`].
    pub async fn session_user(&self, token: &str, now: Timestamp) -> Result<Option<User>, AccountError> {
        let row = sqlx::query(
            "SELECT users.id, users.email FROM web_sessions JOIN users ON users.id = web_sessions.user_id
             WHERE web_sessions.token_hash = $1 AND web_sessions.expires_at > $2",
        )
        .bind(token_hash(token))
        .bind(now.as_i64())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let id: String = row.try_get(0)?;
        Ok(Uuid::try_parse(&id).ok().map(UserId).zip(row.try_get(1).ok()).map(|(id, email)| User { id, email }))
    }

    /// Ends a page session.
    ///
    /// # Errors
    /// [`AccountError::Database`].
    pub async fn close_session(&self, token: &str) -> Result<(), AccountError> {
        sqlx::query("DELETE FROM web_sessions WHERE token_hash = $1")
            .bind(token_hash(token))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Makes an API token and returns its text, which is not stored.
    ///
    /// # Errors
    /// [`AccountError::UnknownScope`] for a scope that is not in [`SCOPES`].
    pub async fn create_token(
        &self,
        label: &str,
        scopes: &[String],
        organisation: &str,
        url: &str,
        now: Timestamp,
    ) -> Result<String, AccountError> {
        if let Some(unknown) = scopes.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
            return Err(AccountError::UnknownScope(unknown.clone()));
        }
        let token = organisation_token(organisation, url, now)?;
        sqlx::query("INSERT INTO api_tokens (id, token_hash, label, scopes, created_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(Uuid::new_v4().to_string())
            .bind(token_hash(&token))
            .bind(label)
            .bind(scopes.join(" "))
            .bind(now.as_i64())
            .execute(&self.pool)
            .await?;
        Ok(token)
    }

    /// What a bearer token may do; `None` for a token that is none or has expired.
    ///
    /// # Errors
    /// [`AccountError::Database`].
    pub async fn token_scopes(&self, token: &str, now: Timestamp) -> Result<Option<ApiToken>, AccountError> {
        let row = sqlx::query(
            "SELECT id, label, scopes FROM api_tokens WHERE token_hash = $1 AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind(token_hash(token))
        .bind(now.as_i64())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let scopes: String = row.try_get(2)?;
        let scopes = scopes.split(' ').map(str::to_owned).collect();
        Ok(Some(ApiToken { id: row.try_get(0)?, label: row.try_get(1)?, scopes }))
    }
}

/// The form of organisation tokens that `sentry-cli` reads: `sntrys_`, base64 of a JSON with the server's address and the
/// organisation, `_`, and the secret.
fn organisation_token(organisation: &str, url: &str, now: Timestamp) -> Result<String, AccountError> {
    use base64::Engine as _;
    let facts = serde_json::json!({ "iat": now.as_seconds(), "url": url, "region_url": url, "org": organisation });
    let facts = base64::engine::general_purpose::STANDARD.encode(facts.to_string());
    Ok(format!("sntrys_{facts}_{}", random_token()?))
}

/// 256 random bits, base64url.
fn random_token() -> Result<String, AccountError> {
    use base64::Engine as _;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| AccountError::Hash(error.to_string()))?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

/// A password for the first admin: 128 random bits in letters and digits that can be read aloud.
///
/// # Errors
/// [`AccountError::Hash`] if the system has no random bytes.
pub fn random_password() -> Result<String, AccountError> {
    const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz123456789";
    let mut bytes = [0; 26];
    getrandom::fill(&mut bytes).map_err(|error| AccountError::Hash(error.to_string()))?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

/// Tokens are random and long, so one round of SHA-256 is enough to make the stored form useless.
fn token_hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn accounts() -> (tempfile::TempDir, Accounts) {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("picket.db")).await.unwrap();
        (directory, Accounts::new(&database))
    }

    const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

    #[test]
    fn a_login_name_is_any_text_without_blanks() {
        for name in ["admin", "a@example.org", "jörg"] {
            assert!(check_login_name(name).is_ok(), "{name:?}");
        }
        for name in ["", " ", "a b", "a\n", "\u{1b}[31m", "a\u{a0}b", &"a".repeat(255)] {
            assert!(check_login_name(name).is_err(), "{name:?}");
        }
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_verifies() {
        let (_directory, accounts) = accounts().await;
        assert!(!accounts.any_user().await.unwrap());
        let id = accounts.create_user("admin@localhost", "correct horse", NOW).await.unwrap();
        assert!(accounts.any_user().await.unwrap());
        assert_eq!(accounts.verify_password("admin@localhost", "correct horse").await.unwrap(), Some(id));
        assert_eq!(accounts.verify_password("admin@localhost", "wrong").await.unwrap(), None);
        assert_eq!(accounts.verify_password("nobody@localhost", "correct horse").await.unwrap(), None);
        let again = accounts.create_user("admin@localhost", "x", NOW).await;
        assert!(matches!(again, Err(AccountError::Exists(_))));
    }

    #[tokio::test]
    async fn a_session_lasts_until_it_expires_or_is_closed() {
        let (_directory, accounts) = accounts().await;
        let id = accounts.create_user("admin@localhost", "correct horse", NOW).await.unwrap();
        let token = accounts.open_session(id, NOW).await.unwrap();
        assert_eq!(accounts.session_user(&token, NOW).await.unwrap().unwrap().email, "admin@localhost");
        assert!(accounts.session_user(&token, NOW.plus(SESSION_LIFETIME)).await.unwrap().is_none());
        assert!(accounts.session_user("forged", NOW).await.unwrap().is_none());
        accounts.close_session(&token).await.unwrap();
        assert!(accounts.session_user(&token, NOW).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_token_carries_its_scopes_and_the_form_that_sentry_cli_reads() {
        let (_directory, accounts) = accounts().await;
        let scopes = vec!["event:read".to_owned(), "org:read".to_owned()];
        let token = accounts.create_token("ci", &scopes, "picket", "http://127.0.0.1:8000", NOW).await.unwrap();
        assert!(token.starts_with("sntrys_") && token.matches('_').count() >= 2);
        assert_eq!(accounts.token_scopes(&token, NOW).await.unwrap().unwrap().scopes, scopes);
        assert!(accounts.token_scopes("sntrys_forged", NOW).await.unwrap().is_none());
        let unknown = accounts.create_token("ci", &["all:powers".to_owned()], "picket", "http://x", NOW).await;
        assert!(matches!(unknown, Err(AccountError::UnknownScope(_))));
    }
}
