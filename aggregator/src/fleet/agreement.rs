//! That all nodes that share a database hold the same authorities.
//!
//! The database has the fingerprints of those in force; the keys stay on the nodes' disks. The first node writes its own down; one
//! that lacks any of them does not start, because relays with its certificates would be strangers to it.

use std::path::Path;

use picket_common::timestamp::Timestamp;

use super::authorities::{Authorities, Held};
use super::authority::{self, AuthorityError};
use super::{FleetError, authorities};
use crate::database::Database;

/// Opens the authorities in `directory`; makes one only where the installation has none.
///
/// # Errors
/// [`AuthorityError::NotOfInstallation`] where other nodes hold others; else as [`Authorities::open_or_create`].
pub async fn open_authorities(
    database: &Database,
    directory: &Path,
    now: Timestamp,
) -> Result<Authorities, FleetError> {
    if !database.is_shared() {
        return Ok(Authorities::open_or_create(directory, now)?);
    }
    let mut expected: Vec<String> = expected(database).await?;
    let differ = |expected: Vec<String>| {
        let expected = expected.join(", ");
        FleetError::from(AuthorityError::NotOfInstallation { expected, directory: directory.to_owned() })
    };
    // Asked before one is made.
    if !expected.is_empty() && !authority::has_certificate(directory) && !authorities::has_any(directory)? {
        return Err(differ(expected));
    }
    let opened = Authorities::open_or_create(directory, now)?;
    let held = opened.held();
    if expected.is_empty() {
        write_down(database, &held, now).await?;
    }
    expected.retain(|fingerprint| !held.fingerprints().iter().any(|held| held.to_string() == *fingerprint));
    match expected.is_empty() {
        true => Ok(opened),
        false => Err(differ(expected)),
    }
}

async fn expected(database: &Database) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT fingerprint FROM authorities ORDER BY made_at").fetch_all(database.pool()).await
}

/// Notes what is in force now.
pub(super) async fn write_down(database: &Database, held: &Held, now: Timestamp) -> Result<(), sqlx::Error> {
    if !database.is_shared() {
        return Ok(());
    }
    let mut transaction = database.begin_write().await?;
    sqlx::query("DELETE FROM authorities").execute(&mut *transaction).await?;
    for fingerprint in held.fingerprints() {
        sqlx::query("INSERT INTO authorities (fingerprint, made_at) VALUES ($1, $2)")
            .bind(fingerprint.to_string())
            .bind(now.as_i64())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}
