//! The registry: every relay that ever joined, and whether it may still connect.

use std::collections::HashSet;
use std::time::Duration;

use picket_common::identity::Fingerprint;
use picket_common::ids::RelayId;
use picket_common::timestamp::Timestamp;
use serde::Serialize;
use sqlx::pool::PoolConnection;
use sqlx::{Executor, Row};

use super::authority::SignedRelay;
use super::tokens::millis;
use super::{FleetError, Revocation};
use crate::database::{Connection, DatabaseRow, Pool};

/// Longest name, host name or version that is kept; longer ones are cut.
const MAX_TEXT_CHARS: usize = 100;
/// Same names get a number up to this; beyond, the same name is listed twice. Names are no identities.
const MAX_SAME_NAMES: u32 = 1000;

/// A relay as the database has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayRow {
    /// Who it is.
    pub id: RelayId,
    /// What it is listed as.
    pub name: String,
    /// What its host calls itself.
    pub hostname: String,
    /// The version it last said it runs.
    pub version: String,
    /// When it joined.
    pub created_at: Timestamp,
    /// When its certificate expires.
    pub certificate_not_after: Timestamp,
    /// When it was last connected, to about a minute.
    pub last_seen_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A relay that joins.
pub(super) struct Newcomer<'a> {
    pub(super) relay_id: RelayId,
    pub(super) name: Option<&'a str>,
    pub(super) hostname: &'a str,
    pub(super) version: &'a str,
    pub(super) certificate_not_after: Timestamp,
}

/// Most certificates of one relay that are remembered; what is older was replaced many times over.
const MAX_CERTIFICATES: i64 = 10;

/// Notes a certificate that was signed for a relay within the caller's transaction; forgets those that have expired.
pub(super) async fn note_certificate(
    connection: &mut Connection,
    relay_id: RelayId,
    signed: &SignedRelay,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO relay_certificates (serial, relay_id, authority, issued_at, not_after) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(&signed.serial)
    .bind(relay_id.to_string())
    .bind(signed.authority.to_string())
    .bind(millis(now))
    .bind(millis(signed.not_after))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM relay_certificates WHERE relay_id = $1 AND (not_after < $2 OR serial NOT IN \
         (SELECT serial FROM relay_certificates WHERE relay_id = $1 ORDER BY issued_at DESC, not_after DESC LIMIT $3))",
    )
    .bind(relay_id.to_string())
    .bind(millis(now))
    .bind(MAX_CERTIFICATES)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes until when a relay's newest certificate is good; returns whether there is such a relay and it is not revoked.
pub(super) async fn renewed(
    connection: &mut Connection,
    relay_id: RelayId,
    not_after: Timestamp,
) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query("UPDATE relays SET certificate_not_after = $1 WHERE id = $2 AND revoked_at IS NULL")
        .bind(millis(not_after))
        .bind(relay_id.to_string())
        .execute(connection)
        .await?;
    Ok(updated.rows_affected() > 0)
}

/// Adds a relay within the caller's transaction; returns the name it got.
pub(super) async fn register(
    connection: &mut Connection,
    newcomer: &Newcomer<'_>,
    now: Timestamp,
) -> Result<String, sqlx::Error> {
    let hostname = presentable(newcomer.hostname);
    let name = free_name(connection, newcomer.name.map(presentable), &hostname).await?;
    sqlx::query(
        "INSERT INTO relays (id, name, hostname, version, created_at, certificate_not_after) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(newcomer.relay_id.to_string())
    .bind(&name)
    .bind(hostname)
    .bind(presentable(newcomer.version))
    .bind(millis(now))
    .bind(millis(newcomer.certificate_not_after))
    .execute(connection)
    .await?;
    Ok(name)
}

/// The wanted name, else the host's, else `relay-N`; with a number behind it where another relay has it.
async fn free_name(connection: &mut Connection, wanted: Option<String>, hostname: &str) -> Result<String, sqlx::Error> {
    let wanted = wanted.filter(|name| !name.is_empty());
    let base = match wanted {
        Some(name) => name,
        None if !hostname.is_empty() => hostname.to_owned(),
        None => {
            let relays: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM relays").fetch_one(&mut *connection).await?;
            format!("relay-{}", relays + 1)
        }
    };
    let mut name = base.clone();
    for number in 2..=MAX_SAME_NAMES {
        let holders: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM relays WHERE name = $1")
            .bind(&name)
            .fetch_one(&mut *connection)
            .await?;
        if holders == 0 {
            break;
        }
        name = format!("{base}-{number}");
    }
    Ok(name)
}

/// What a relay says of itself ends up in terminals and pages: no control characters, and not without end.
fn presentable(text: &str) -> String {
    text.trim().chars().filter(|character| !character.is_control()).take(MAX_TEXT_CHARS).collect()
}

const COLUMNS: &str = "id, name, hostname, version, created_at, certificate_not_after, last_seen_at, revoked_at";

pub(super) async fn list(pool: &Pool) -> Result<Vec<RelayRow>, FleetError> {
    let statement = format!("SELECT {COLUMNS} FROM relays ORDER BY created_at, id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(pool).await?;
    rows.iter().map(read_row).collect()
}

pub(super) async fn find(pool: &Pool, relay_id: RelayId) -> Result<Option<RelayRow>, FleetError> {
    let statement = format!("SELECT {COLUMNS} FROM relays WHERE id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(relay_id.to_string()).fetch_optional(pool).await?;
    row.as_ref().map(read_row).transpose()
}

fn read_row(row: &DatabaseRow) -> Result<RelayRow, FleetError> {
    let id: String = row.try_get("id")?;
    let at = |column: &'static str| -> Result<Option<Timestamp>, FleetError> {
        let millis: Option<i64> = row.try_get(column)?;
        millis
            .map(|millis| u64::try_from(millis).map(Timestamp::from_millis))
            .transpose()
            .map_err(|_| FleetError::Unreadable { what: column, relay: id.clone() })
    };
    Ok(RelayRow {
        id: id.parse().map_err(|_| FleetError::Unreadable { what: "id", relay: id.clone() })?,
        name: row.try_get("name")?,
        hostname: row.try_get("hostname")?,
        version: row.try_get("version")?,
        created_at: at("created_at")?.unwrap_or(Timestamp::EPOCH),
        certificate_not_after: at("certificate_not_after")?.unwrap_or(Timestamp::EPOCH),
        last_seen_at: at("last_seen_at")?,
        revoked_at: at("revoked_at")?,
    })
}

pub(super) async fn revoke(pool: &Pool, relay_id: RelayId, now: Timestamp) -> Result<Revocation, FleetError> {
    let revoked = sqlx::query("UPDATE relays SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
        .bind(millis(now))
        .bind(relay_id.to_string())
        .execute(pool)
        .await?;
    if revoked.rows_affected() > 0 {
        return Ok(Revocation::Revoked);
    }
    match find(pool, relay_id).await? {
        Some(_) => Ok(Revocation::AlreadyRevoked),
        None => Err(FleetError::UnknownRelay(relay_id)),
    }
}

pub(super) async fn allowed(executor: impl Executor<'_, Database = sqlx::Any>) -> Result<HashSet<RelayId>, FleetError> {
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT id FROM relays WHERE revoked_at IS NULL").fetch_all(executor).await?;
    ids.into_iter().map(|id| id.parse().map_err(|_| FleetError::Unreadable { what: "id", relay: id.clone() })).collect()
}

/// How long reading the registry may take before a fresh connection is tried.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// Who may connect, read over a connection that is kept for it: those of the pool may all be waiting for a lock.
#[derive(Debug)]
pub struct Allowed {
    pool: Pool,
    connection: Option<PoolConnection<sqlx::Any>>,
}

impl Allowed {
    pub(super) const fn new(pool: Pool) -> Self {
        Self { pool, connection: None }
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`FleetError::Database`], also where it takes long; [`FleetError::Unreadable`].
    pub async fn read(&mut self) -> Result<HashSet<RelayId>, FleetError> {
        let reading = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.pool.acquire().await?,
            };
            let ids = allowed(&mut *connection).await?;
            self.connection = Some(connection);
            Ok(ids)
        };
        tokio::time::timeout(READ_PATIENCE, reading)
            .await
            .unwrap_or(Err(FleetError::Database(sqlx::Error::PoolTimedOut)))
    }
}

/// What a relay last said and showed of authorities.
pub(super) struct RelayTrust {
    pub(super) name: String,
    trusted: String,
    shown: String,
}

impl RelayTrust {
    pub(super) fn trusts(&self, authority: Fingerprint) -> bool {
        let authority = authority.to_string();
        self.trusted.split(',').any(|trusted| trusted == authority)
    }

    pub(super) fn shows(&self, authority: Fingerprint) -> bool {
        self.shown == authority.to_string()
    }
}

pub(super) async fn note_trust(
    pool: &Pool,
    relay_id: RelayId,
    trusted: &[Fingerprint],
    shown: Option<Fingerprint>,
) -> Result<(), FleetError> {
    let trusted: Vec<_> = trusted.iter().map(ToString::to_string).collect();
    sqlx::query("UPDATE relays SET trusted_authorities = $1, shown_authority = $2 WHERE id = $3")
        .bind(trusted.join(","))
        .bind(shown.map(|shown| shown.to_string()))
        .bind(relay_id.to_string())
        .execute(pool)
        .await?;
    Ok(())
}

/// All relays that are not revoked. One that has said nothing is taken to know `oldest` alone.
pub(super) async fn trust(pool: &Pool, oldest: Fingerprint) -> Result<Vec<RelayTrust>, FleetError> {
    let sql = "SELECT name, trusted_authorities, shown_authority FROM relays WHERE revoked_at IS NULL ORDER BY name";
    let rows: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(sql).fetch_all(pool).await?;
    let or_oldest = |said: Option<String>| said.unwrap_or_else(|| oldest.to_string());
    let trust = |(name, trusted, shown)| RelayTrust { name, trusted: or_oldest(trusted), shown: or_oldest(shown) };
    Ok(rows.into_iter().map(trust).collect())
}

pub(super) async fn touch(
    pool: &Pool,
    relay_id: RelayId,
    version: Option<&str>,
    now: Timestamp,
) -> Result<(), FleetError> {
    sqlx::query("UPDATE relays SET last_seen_at = $1, version = COALESCE($2, version) WHERE id = $3")
        .bind(millis(now))
        .bind(version.map(presentable))
        .bind(relay_id.to_string())
        .execute(pool)
        .await?;
    Ok(())
}
