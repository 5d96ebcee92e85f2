//! Join tokens in the database: the hash of the secret, when it expires, when it was used.

use std::fmt::Write as _;
use std::time::Duration;

use picket_common::timestamp::Timestamp;
use sha2::{Digest, Sha256};

use super::{FleetError, JoinError};
use crate::database::{Connection, Pool};

/// Longest life of a token. It is meant to be used in the same hour; a month is for machines that are being shipped.
pub(super) const MAX_TTL: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// How long an expired or used token is remembered, to tell who tries it again why it is refused.
const KEEP_FOR: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// A new token's secret and end.
pub(super) struct Created {
    pub(super) secret: String,
    pub(super) expires_at: Timestamp,
}

/// Stores a token whose secret is `random`.
pub(super) async fn create(
    pool: &Pool,
    name: Option<&str>,
    ttl: Duration,
    now: Timestamp,
    random: [u8; 16],
) -> Result<Created, FleetError> {
    if ttl < Duration::from_secs(1) || ttl > MAX_TTL {
        return Err(FleetError::TimeToLive);
    }
    let secret = hexadecimal(&random);
    let expires_at = now.plus(ttl);
    sqlx::query("DELETE FROM join_tokens WHERE expires_at < $1")
        .bind(millis(now.minus(KEEP_FOR)))
        .execute(pool)
        .await?;
    sqlx::query("INSERT INTO join_tokens (secret_hash, name, created_at, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(hash(&secret))
        .bind(name)
        .bind(millis(now))
        .bind(millis(expires_at))
        .execute(pool)
        .await?;
    Ok(Created { secret, expires_at })
}

/// Uses a token up within the caller's transaction; returns the name that was given to it. One statement decides, so that
/// of two that come at once only one wins. Looking up by hash gives timing nothing to tell: an attacker can't choose hashes.
pub(super) async fn redeem(
    connection: &mut Connection,
    secret: &str,
    now: Timestamp,
) -> Result<Option<String>, JoinError> {
    let hash = hash(secret);
    let redeemed: Option<Option<String>> = sqlx::query_scalar(
        "UPDATE join_tokens SET used_at = $1 \
         WHERE secret_hash = $2 AND used_at IS NULL AND expires_at > $1 RETURNING name",
    )
    .bind(millis(now))
    .bind(&hash)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(name) = redeemed {
        return Ok(name);
    }
    let used_at: Option<Option<i64>> = sqlx::query_scalar("SELECT used_at FROM join_tokens WHERE secret_hash = $1")
        .bind(&hash)
        .fetch_optional(connection)
        .await?;
    Err(match used_at {
        None => JoinError::UnknownToken,
        Some(Some(_)) => JoinError::UsedToken,
        Some(None) => JoinError::ExpiredToken,
    })
}

fn hash(secret: &str) -> String {
    hexadecimal(&Sha256::digest(secret))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Times in the database are milliseconds; [`Timestamp::LATEST`] is far below `i64::MAX`.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}
