//! The SQL database: what an installation is (projects, keys, users, relays, issues), not what happened.
//!
//! SQLite through `sqlx`. Statements are written with `$1` placeholders and standard upserts so that the same text runs on
//! PostgreSQL. What it does not hold: events and counts; ClickHouse has those.
//!
//! Invariants: the schema is changed by migrations only, each in a transaction; a commit is on disk when it returns
//! (`synchronous = FULL`), because issue ids that a plan refers to must not vanish in a power cut.

use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// One writer at a time is all SQLite has; the rest read beside it.
const CONNECTIONS: u32 = 8;
/// How long a statement waits for another writer. Writes are short, so this is only reached when something is broken.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The database could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A statement failed.
    #[error("the database failed: {0}")]
    Statement(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("bringing the database schema up to date failed: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// An open database with the current schema.
#[derive(Debug, Clone)]
pub struct Database {
    pool: SqlitePool,
}

impl Database {
    /// Opens the file, makes it where it is missing, and applies the migrations that it lacks.
    ///
    /// # Errors
    /// [`DatabaseError`] where the file is no database, is of a newer version, or can't be written.
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        Ok(Self { pool })
    }

    /// The connections.
    #[must_use]
    pub const fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Raises a counter by one and returns its new value, within the caller's transaction.
    ///
    /// # Errors
    /// What the statement returns.
    pub async fn next(connection: &mut sqlx::SqliteConnection, counter: &str) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("UPDATE counters SET value = value + 1 WHERE name = $1 RETURNING value")
            .bind(counter)
            .fetch_one(connection)
            .await
    }

    /// Closes the connections after their statements have ended.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
