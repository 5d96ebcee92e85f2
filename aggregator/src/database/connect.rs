//! Where the database is, and how it is opened.

use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AnyConnection, Executor as _};

use super::{Database, DatabaseError, Kind};

/// One writer at a time is all SQLite has; the rest read beside it. Of PostgreSQL a node takes no more either.
const CONNECTIONS: u32 = 8;
/// How long a statement waits for a free connection, and so for PostgreSQL to come back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// What each connection to SQLite begins with. The time-out is how long a statement waits for another writer: writes are short,
/// so it is only reached when something is broken.
const SQLITE_SETUP: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                            PRAGMA foreign_keys = ON";

/// What each connection to PostgreSQL begins with: its notices say nothing that an operator could act on. Commits are on disk when
/// they return, and what is read after a lock was waited for is what its last holder left, whatever the server's defaults are. The
/// locks of a node whose host is gone without a word are free after half a minute, also if its kernel still answers: nobody waits for
/// a lock longer than SQLite's writers do.
const POSTGRES_SETUP: &str = "SET client_min_messages = warning; SET synchronous_commit = on; \
                              SET default_transaction_isolation = 'read committed'; \
                              SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'; \
                              SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseLocation {
    /// A file, made where it is missing.
    Sqlite(PathBuf),
    /// `postgres://user:password@host:port/database?…`
    Postgres(String),
}

impl DatabaseLocation {
    /// Reads `database.url`: `sqlite` stands for `file`, else it must be a URL of PostgreSQL. The problem as text.
    ///
    /// # Errors
    /// What is wrong with it; the text never holds the URL, because a password may be in it.
    pub fn parse(url: &str, file: &Path) -> Result<Self, String> {
        if url == "sqlite" {
            return Ok(Self::Sqlite(file.to_owned()));
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("expected \"sqlite\" or postgres://user:password@host:port/database".to_owned());
        }
        PgConnectOptions::from_str(url).map_err(|_| "the address of PostgreSQL can't be read".to_owned())?;
        Ok(Self::Postgres(url.to_owned()))
    }
}

impl fmt::Debug for DatabaseLocation {
    /// Leaves user and password out, so that no log can hold them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
            Self::Postgres(url) => f.write_str(&address(url)),
        }
    }
}

impl Database {
    /// Opens the file, makes it where it is missing, and applies the migrations that it lacks.
    ///
    /// # Errors
    /// [`DatabaseError`] where the file is no database, is of a newer version, or can't be written.
    pub async fn open(file: &Path) -> Result<Self, DatabaseError> {
        Self::connect(&DatabaseLocation::Sqlite(file.to_owned())).await
    }

    /// Opens the database and applies the migrations that it lacks. Several processes may do so at once.
    ///
    /// # Errors
    /// [`DatabaseError`] where it can't be reached, is of a newer version, or can't be written.
    pub async fn connect(location: &DatabaseLocation) -> Result<Self, DatabaseError> {
        sqlx::any::install_default_drivers();
        let pool = AnyPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
        let (kind, pool) = match location {
            DatabaseLocation::Sqlite(file) => {
                let pool = pool.after_connect(|connection: &mut AnyConnection, _| {
                    Box::pin(async move { connection.execute(SQLITE_SETUP).await.map(|_| ()) })
                });
                (Kind::Sqlite, pool.connect_with(sqlite_options(file)?).await?)
            }
            DatabaseLocation::Postgres(url) => {
                let pool = pool.after_connect(|connection: &mut AnyConnection, _| {
                    Box::pin(async move { connection.execute(POSTGRES_SETUP).await.map(|_| ()) })
                });
                let connected = pool.connect_with(AnyConnectOptions::from_str(url)?).await;
                let pool = connected.map_err(|source| DatabaseError::Connect { address: address(url), source })?;
                (Kind::Postgres, pool)
            }
        };
        sqlx::migrate!("migrations/sql").run(&pool).await?;
        Ok(Self { pool, kind })
    }
}

/// The driver is chosen by a URL, so the path becomes one; what a URL would read otherwise is escaped.
fn sqlite_options(file: &Path) -> Result<AnyConnectOptions, sqlx::Error> {
    let file = std::path::absolute(file).map_err(sqlx::Error::Io)?;
    let mut url = "sqlite://".to_owned();
    for &byte in file.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => url.push(char::from(byte)),
            // Writing to a string can't fail.
            _ => drop(write!(url, "%{byte:02X}")),
        }
    }
    url.push_str("?mode=rwc");
    AnyConnectOptions::from_str(&url)
}

/// Host, port and database of a PostgreSQL URL: what may be shown.
fn address(url: &str) -> String {
    let Ok(options) = PgConnectOptions::from_str(url) else { return "unreadable".to_owned() };
    let database = options.get_database().unwrap_or_default();
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_location_is_sqlite_or_a_url_of_postgresql_and_never_shows_a_password() {
        let file = Path::new("/data/picket.db");
        assert_eq!(DatabaseLocation::parse("sqlite", file).unwrap(), DatabaseLocation::Sqlite(file.to_owned()));
        let remote = DatabaseLocation::parse("postgres://picket:s3cr3t@db.example:5433/picket", file).unwrap();
        assert_eq!(format!("{remote:?}"), "db.example:5433/picket");
        for wrong in ["", "mysql://x", "postgres://[", "sqlite:///x"] {
            let problem = DatabaseLocation::parse(wrong, file).unwrap_err();
            assert!(!problem.contains("mysql"), "{problem}");
        }
    }

    #[tokio::test]
    async fn a_path_may_hold_what_a_url_reads_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a b?c#d%20e.db");
        let database = Database::open(&file).await.unwrap();
        assert!(file.exists());
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(database.pool()).await.unwrap();
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(database.pool()).await.unwrap();
        let foreign_keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(database.pool()).await.unwrap();
        assert_eq!((mode.as_str(), synchronous, foreign_keys), ("wal", 2, 1));
    }
}
