//! Projects, their keys (`keys`) and settings (`settings`), and the configuration snapshot that relays get of them.
//!
//! Every change raises the revision in the same transaction and then publishes a new snapshot to whoever watches.

mod keys;
mod settings;

use picket_common::dsn::Dsn;
use picket_common::ids::{ProjectId, PublicKey};
use picket_common::project_config::{ConfigSnapshot, InvalidSettings, KeyConfig, ProjectConfig, ProjectSettings};
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use std::sync::Arc;
use tokio::sync::watch;

pub use keys::{KeyState, ProjectKey};

use crate::database::{Connection, Database, DatabaseError};

/// Longest project name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Why a project operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is no such project.
    #[error("there is no project {wanted}; `picket-aggregator project list` shows ids and names")]
    Unknown {
        /// What was asked for: an id or a slug.
        wanted: String,
    },
    /// There is no such key.
    #[error("there is no key {0}; `picket-aggregator key list PROJECT` shows the keys of a project")]
    UnknownKey(PublicKey),
    /// The label of a key is too long.
    #[error("a key's label has at most {} characters", keys::MAX_LABEL_CHARS)]
    Label,
    /// The project has as many keys as it may.
    #[error("the project has {} keys already, which is the most a project may have", keys::MAX_KEYS)]
    TooManyKeys,
    /// The settings can't be used.
    #[error("the settings were not changed: {0}")]
    Settings(#[from] InvalidSettings),
    /// The name can't be used.
    #[error("a project's name must have 1 to {MAX_NAME_CHARS} characters, with at least one ASCII letter or digit")]
    Name,
    /// Something stored can't be read back.
    #[error("project {project} is stored with an invalid {what}; restore the database from a backup")]
    Stored {
        /// The project.
        project: i64,
        /// Which field.
        what: &'static str,
    },
    /// `relay_url` makes no DSN.
    #[error("relay_url: {0}")]
    Dsn(#[from] picket_common::dsn::InvalidDsn),
    /// The system has no random bytes.
    #[error("no random bytes for a key: {0}")]
    Random(getrandom::Error),
}

impl From<sqlx::Error> for ProjectError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// A project as commands, pages and API show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// The number in DSNs.
    pub id: ProjectId,
    /// The name people gave it.
    pub name: String,
    /// The name in addresses and short ids.
    pub slug: String,
    /// The platform it was made for, such as `python`.
    pub platform: Option<String>,
    /// Its first enabled DSN; empty if every key is disabled.
    pub dsn: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// All projects.
#[derive(Debug, Clone)]
pub struct Projects {
    database: Database,
    relay_url: Arc<str>,
    snapshot: Arc<watch::Sender<Arc<ConfigSnapshot>>>,
}

impl Projects {
    /// Reads the projects of a database.
    ///
    /// # Errors
    /// [`ProjectError`].
    pub async fn open(database: &Database, relay_url: &str) -> Result<Self, ProjectError> {
        let first = read_snapshot(database).await?;
        Ok(Self {
            database: database.clone(),
            relay_url: relay_url.into(),
            snapshot: Arc::new(watch::Sender::new(Arc::new(first))),
        })
    }

    /// The snapshot for relays, now and whenever it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<ConfigSnapshot>> {
        self.snapshot.subscribe()
    }

    /// The snapshot for relays, now.
    #[must_use]
    pub fn current(&self) -> Arc<ConfigSnapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Makes a project with one key.
    ///
    /// # Errors
    /// [`ProjectError::Name`] for a name without a letter or digit, or a long one.
    pub async fn create(&self, name: &str, platform: Option<&str>, now: Timestamp) -> Result<Project, ProjectError> {
        let name = name.trim();
        let base = slug_of(name);
        if base.is_empty() || name.chars().count() > MAX_NAME_CHARS {
            return Err(ProjectError::Name);
        }
        let key = keys::random_key()?;

        // The lock is taken before anything is read, so that two commands can't choose one slug.
        let mut transaction = self.database.begin_write().await?;
        let id = Database::next(&mut transaction, "project").await?;
        let slug = free_slug(&mut transaction, &base).await?;
        let created_at = now.as_i64();
        sqlx::query(
            "INSERT INTO projects (id, slug, name, platform, settings, next_short_number, created_at)
             VALUES ($1, $2, $3, $4, $5, 1, $6)",
        )
        .bind(id)
        .bind(&slug)
        .bind(name)
        .bind(platform)
        .bind(ProjectSettings::default().to_document().to_string())
        .bind(created_at)
        .execute(&mut *transaction)
        .await?;
        keys::insert(&mut transaction, id, key, keys::FIRST_LABEL, now).await?;
        Database::next(&mut transaction, "config_revision").await?;
        transaction.commit().await?;
        self.publish().await?;

        let id = project_id(id);
        Ok(Project {
            id,
            name: name.to_owned(),
            slug,
            platform: platform.map(str::to_owned),
            dsn: Dsn::new(&self.relay_url, key, id)?.to_string(),
            created_at: now,
        })
    }

    /// Every project, oldest first.
    ///
    /// # Errors
    /// [`ProjectError`].
    pub async fn list(&self) -> Result<Vec<Project>, ProjectError> {
        let rows = sqlx::query(
            "SELECT id, name, slug, platform, created_at,
                    (SELECT public_key FROM project_keys
                     WHERE project_id = projects.id AND is_enabled = 1 ORDER BY created_at, public_key LIMIT 1)
             FROM projects ORDER BY id",
        )
        .fetch_all(self.database.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let number: i64 = row.try_get(0)?;
                let id = project_id(number);
                let dsn = match row.try_get::<Option<String>, _>(5)? {
                    Some(key) => {
                        let key = key.parse().map_err(|_| ProjectError::Stored { project: number, what: "key" })?;
                        Dsn::new(&self.relay_url, key, id)?.to_string()
                    }
                    None => String::new(),
                };
                Ok(Project {
                    id,
                    name: row.try_get(1)?,
                    slug: row.try_get(2)?,
                    platform: row.try_get(3)?,
                    dsn,
                    created_at: Timestamp::from_i64(row.try_get(4)?),
                })
            })
            .collect()
    }

    /// Publishes what was changed by another node or a command, if anything was.
    ///
    /// # Errors
    /// [`ProjectError`].
    pub async fn refresh(&self) -> Result<(), ProjectError> {
        let revision: i64 = sqlx::query_scalar("SELECT value FROM counters WHERE name = 'config_revision'")
            .fetch_one(self.database.pool())
            .await?;
        match revision.unsigned_abs() > self.current().revision {
            true => self.publish().await,
            false => Ok(()),
        }
    }

    async fn publish(&self) -> Result<(), ProjectError> {
        let snapshot = Arc::new(read_snapshot(&self.database).await?);
        // Two changes may publish in the other order than they committed; the higher revision stays.
        self.snapshot.send_if_modified(|current| {
            let newer = snapshot.revision > current.revision;
            if newer {
                *current = snapshot;
            }
            newer
        });
        Ok(())
    }
}

/// The number of a project by its id or slug, within the caller's transaction.
async fn find(connection: &mut Connection, wanted: &str) -> Result<i64, ProjectError> {
    let number = wanted.parse::<i64>().ok();
    let found = sqlx::query_scalar("SELECT id FROM projects WHERE id = $1 OR slug = $2 ORDER BY id = $1 DESC LIMIT 1")
        .bind(number)
        .bind(wanted)
        .fetch_optional(connection)
        .await?;
    found.ok_or_else(|| ProjectError::Unknown { wanted: wanted.to_owned() })
}

/// Stored settings; those of an older version lack keys, which then have their defaults.
fn settings_of(project: i64, stored: &str) -> Result<ProjectSettings, ProjectError> {
    serde_json::from_str(stored).map_err(|_| ProjectError::Stored { project, what: "settings" })
}

async fn read_snapshot(database: &Database) -> Result<ConfigSnapshot, ProjectError> {
    // One transaction, so that revision and content belong together.
    let mut transaction = database.begin_read().await?;
    let revision: i64 = sqlx::query_scalar("SELECT value FROM counters WHERE name = 'config_revision'")
        .fetch_one(&mut *transaction)
        .await?;
    let projects =
        sqlx::query("SELECT id, slug, settings FROM projects ORDER BY id").fetch_all(&mut *transaction).await?;
    let keys =
        sqlx::query("SELECT project_id, public_key, is_enabled FROM project_keys ORDER BY created_at, public_key")
            .fetch_all(&mut *transaction)
            .await?;
    transaction.commit().await?;

    let mut keys_by_project: std::collections::HashMap<i64, Vec<KeyConfig>> = std::collections::HashMap::new();
    for row in keys {
        let project: i64 = row.try_get(0)?;
        let text: String = row.try_get(1)?;
        let public_key = text.parse().map_err(|_| ProjectError::Stored { project, what: "key" })?;
        let enabled = row.try_get::<i64, _>(2)? != 0;
        keys_by_project.entry(project).or_default().push(KeyConfig { public_key, enabled });
    }
    let projects = projects
        .into_iter()
        .map(|row| {
            let id: i64 = row.try_get(0)?;
            Ok(ProjectConfig {
                id: project_id(id),
                slug: row.try_get(1)?,
                keys: keys_by_project.remove(&id).unwrap_or_default(),
                settings: settings_of(id, &row.try_get::<String, _>(2)?)?,
            })
        })
        .collect::<Result<_, ProjectError>>()?;
    Ok(ConfigSnapshot { revision: u64::try_from(revision).unwrap_or(0), projects })
}

/// Lower-case ASCII letters and digits, everything else a dash, no dash twice or at an end.
fn slug_of(name: &str) -> String {
    let words: Vec<_> = name
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("-")
}

async fn free_slug(connection: &mut Connection, base: &str) -> Result<String, sqlx::Error> {
    let mut candidate = base.to_owned();
    for number in 2_u32.. {
        let taken: Option<i64> = sqlx::query_scalar("SELECT id FROM projects WHERE slug = $1")
            .bind(&candidate)
            .fetch_optional(&mut *connection)
            .await?;
        if taken.is_none() {
            break;
        }
        candidate = format!("{base}-{number}");
    }
    Ok(candidate)
}

fn project_id(number: i64) -> ProjectId {
    // Numbers come from a counter that starts at 1.
    ProjectId::new(number.unsigned_abs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::project_config::{KeyLookup, ProjectIndex};

    pub(super) const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

    pub(super) async fn projects() -> (tempfile::TempDir, Projects) {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("picket.db")).await.unwrap();
        let projects = Projects::open(&database, "http://127.0.0.1:3000").await.unwrap();
        (directory, projects)
    }

    #[tokio::test]
    async fn a_new_project_is_in_the_next_snapshot_under_its_dsn() {
        let (_directory, projects) = projects().await;
        let watch = projects.watch();
        let before = watch.borrow().revision;
        let project = projects.create("Web Shop", Some("python"), NOW).await.unwrap();
        let snapshot = Arc::clone(&watch.borrow());
        assert!(snapshot.revision > before);
        let dsn: Dsn = project.dsn.parse().unwrap();
        let index = ProjectIndex::new(snapshot.as_ref().clone());
        assert!(matches!(index.lookup(&dsn.public_key()), KeyLookup::Enabled(found) if found.id == project.id));
        assert_eq!(project.slug, "web-shop");
        assert_eq!(projects.list().await.unwrap(), [project]);
    }

    #[tokio::test]
    async fn equal_names_get_slugs_of_their_own() {
        let (_directory, projects) = projects().await;
        let slugs = [
            projects.create("shop", None, NOW).await.unwrap().slug,
            projects.create("Shop!", None, NOW).await.unwrap().slug,
            projects.create("shop", None, NOW).await.unwrap().slug,
        ];
        assert_eq!(slugs, ["shop", "shop-2", "shop-3"]);
    }

    #[tokio::test]
    async fn a_name_without_a_letter_or_digit_is_refused() {
        let (_directory, projects) = projects().await;
        for name in ["", "  ", "!!!", &"x".repeat(65)] {
            assert!(matches!(projects.create(name, None, NOW).await, Err(ProjectError::Name)), "{name:?}");
        }
    }
}
