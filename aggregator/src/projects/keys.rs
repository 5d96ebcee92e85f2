//! The keys of a project: what its DSNs name, and what can be switched off one by one.
//!
//! A key is never deleted: what came under it stays explainable, and no later key can be the same.

use picket_common::dsn::Dsn;
use picket_common::ids::{ProjectId, PublicKey};
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::{ProjectError, Projects, find, project_id};
use crate::database::{Connection, Database, DatabaseRow};

/// The label of the key that a project is made with.
pub(super) const FIRST_LABEL: &str = "default";
/// Longest label of a key, in characters.
pub(super) const MAX_LABEL_CHARS: usize = 64;
/// Most keys of a project: every relay holds all of them in memory.
pub(super) const MAX_KEYS: i64 = 1000;

/// Whether data under a key is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It is.
    Enabled,
    /// It is refused (403).
    Disabled,
}

/// A key as commands show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectKey {
    /// The key.
    pub public_key: PublicKey,
    /// The project.
    pub project_id: ProjectId,
    /// What it is for, in the words of whoever made it.
    pub label: String,
    /// Whether data under it is taken.
    pub state: KeyState,
    /// The DSN with this key.
    pub dsn: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Projects {
    /// The keys of a project, by its id or slug; oldest first.
    ///
    /// # Errors
    /// [`ProjectError::Unknown`] if there is none.
    pub async fn keys(&self, wanted: &str) -> Result<Vec<ProjectKey>, ProjectError> {
        let mut connection = self.database.pool().acquire().await?;
        let id = find(&mut connection, wanted).await?;
        let rows = sqlx::query(
            "SELECT public_key, project_id, label, is_enabled, created_at FROM project_keys
             WHERE project_id = $1 ORDER BY created_at, public_key",
        )
        .bind(id)
        .fetch_all(&mut *connection)
        .await?;
        rows.iter().map(|row| self.key_of(row)).collect()
    }

    /// Makes another key for a project and tells the relays.
    ///
    /// # Errors
    /// [`ProjectError::Unknown`], [`ProjectError::Label`], [`ProjectError::TooManyKeys`].
    pub async fn create_key(&self, wanted: &str, label: &str, now: Timestamp) -> Result<ProjectKey, ProjectError> {
        let label = label.trim();
        if label.chars().count() > MAX_LABEL_CHARS {
            return Err(ProjectError::Label);
        }
        let public_key = random_key()?;
        let mut transaction = self.database.begin_write().await?;
        let id = find(&mut transaction, wanted).await?;
        let there: i64 = sqlx::query_scalar("SELECT count(*) FROM project_keys WHERE project_id = $1")
            .bind(id)
            .fetch_one(&mut *transaction)
            .await?;
        if there >= MAX_KEYS {
            return Err(ProjectError::TooManyKeys);
        }
        insert(&mut transaction, id, public_key, label, now).await?;
        Database::next(&mut transaction, "config_revision").await?;
        transaction.commit().await?;
        self.publish().await?;
        let project_id = project_id(id);
        Ok(ProjectKey {
            public_key,
            project_id,
            label: label.to_owned(),
            state: KeyState::Enabled,
            dsn: Dsn::new(&self.relay_url, public_key, project_id)?.to_string(),
            created_at: now,
        })
    }

    /// Switches a key on or off and tells the relays; to the state it is in already is fine.
    ///
    /// # Errors
    /// [`ProjectError::UnknownKey`] if no project has it.
    pub async fn set_key_state(&self, public_key: PublicKey, state: KeyState) -> Result<ProjectKey, ProjectError> {
        let mut transaction = self.database.begin_write().await?;
        let row = sqlx::query(
            "UPDATE project_keys SET is_enabled = $1 WHERE public_key = $2
             RETURNING public_key, project_id, label, is_enabled, created_at",
        )
        .bind(i64::from(state == KeyState::Enabled))
        .bind(public_key.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        let key = row.map(|row| self.key_of(&row)).transpose()?.ok_or(ProjectError::UnknownKey(public_key))?;
        Database::next(&mut transaction, "config_revision").await?;
        transaction.commit().await?;
        self.publish().await?;
        Ok(key)
    }

    fn key_of(&self, row: &DatabaseRow) -> Result<ProjectKey, ProjectError> {
        let project: i64 = row.try_get("project_id")?;
        let text: String = row.try_get("public_key")?;
        let public_key = text.parse().map_err(|_| ProjectError::Stored { project, what: "key" })?;
        let project_id = project_id(project);
        Ok(ProjectKey {
            public_key,
            project_id,
            label: row.try_get("label")?,
            state: if row.try_get::<i64, _>("is_enabled")? != 0 { KeyState::Enabled } else { KeyState::Disabled },
            dsn: Dsn::new(&self.relay_url, public_key, project_id)?.to_string(),
            created_at: Timestamp::from_i64(row.try_get("created_at")?),
        })
    }
}

/// A new key.
pub(super) fn random_key() -> Result<PublicKey, ProjectError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(ProjectError::Random)?;
    Ok(PublicKey::from_random(random))
}

/// Writes a new, enabled key, within the caller's transaction.
pub(super) async fn insert(
    connection: &mut Connection,
    project: i64,
    key: PublicKey,
    label: &str,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO project_keys (public_key, project_id, label, is_enabled, created_at) VALUES ($1, $2, $3, 1, $4)",
    )
    .bind(key.as_str())
    .bind(project)
    .bind(label)
    .bind(now.as_i64())
    .execute(connection)
    .await
    .map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{NOW, projects};
    use super::*;
    use picket_common::project_config::{KeyLookup, ProjectIndex};

    #[tokio::test]
    async fn a_key_is_made_switched_off_and_on_again_and_each_is_in_the_next_snapshot() {
        let (_directory, projects) = projects().await;
        projects.create("Shop", None, NOW).await.unwrap();
        let key = projects.create_key("shop", " worker ", NOW.plus(std::time::Duration::from_secs(1))).await.unwrap();
        assert_eq!((key.label.as_str(), key.state), ("worker", KeyState::Enabled));
        assert!(key.dsn.contains(key.public_key.as_str()));
        assert_eq!(projects.keys("1").await.unwrap()[1], key);

        let index = || ProjectIndex::new(projects.current().as_ref().clone());
        assert!(matches!(index().lookup(&key.public_key), KeyLookup::Enabled(_)));
        let off = projects.set_key_state(key.public_key, KeyState::Disabled).await.unwrap();
        assert_eq!(off.state, KeyState::Disabled);
        assert!(matches!(index().lookup(&key.public_key), KeyLookup::Disabled(_)));
        projects.set_key_state(key.public_key, KeyState::Enabled).await.unwrap();
        assert!(matches!(index().lookup(&key.public_key), KeyLookup::Enabled(_)));
    }

    #[tokio::test]
    async fn what_is_not_there_is_named() {
        let (_directory, projects) = projects().await;
        let key = PublicKey::from_random([3; 16]);
        let refused = projects.set_key_state(key, KeyState::Disabled).await;
        assert!(matches!(refused, Err(ProjectError::UnknownKey(named)) if named == key), "{refused:?}");
        let refused = projects.create_key("nowhere", "", NOW).await.unwrap_err().to_string();
        assert!(refused.contains("no project nowhere"), "{refused}");
    }
}
