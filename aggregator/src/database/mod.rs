//! The SQL database: what an installation is (projects, keys, users, relays, issues), not what happened.
//!
//! SQLite in a file of the data directory, or PostgreSQL, which several aggregators may share. There is one SQL text for
//! both: `$1` placeholders, standard upserts, the column types BIGINT and TEXT. It goes through sqlx's run-time choice of driver,
//! because two sets of statements would drift apart. What it does not hold: events and counts; ClickHouse has those.
//!
//! Invariants:
//! - the schema is changed by migrations only, each in a transaction;
//! - a commit is on disk when it returns (SQLite: `synchronous = FULL`; PostgreSQL: its default), because issue ids that a plan
//!   refers to must not vanish in a power cut;
//! - transactions that read before they write are begun by [`Database::begin_write`] and run one after the other, on either
//!   database, whichever process or host they come from.

mod connect;
mod insert_turn;

use std::fmt::Write as _;

use sqlx::Transaction;
use sqlx::any::AnyRow;

pub use connect::DatabaseLocation;
pub use insert_turn::{InsertTurn, TurnKind};

/// Connections to either database.
pub type Pool = sqlx::AnyPool;
/// One of them.
pub type Connection = sqlx::AnyConnection;
/// What it answers.
pub type DatabaseRow = AnyRow;

/// Writers of an installation take turns by this lock; the number is arbitrary and ours.
const WRITE_LOCK: i64 = 0x7069_636b_6574;

/// The database could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A statement failed.
    #[error("the database failed: {0}")]
    Statement(#[from] sqlx::Error),
    /// PostgreSQL can't be reached or refuses.
    #[error("can't connect to the PostgreSQL database of database.url ({address}): {source}")]
    Connect {
        /// Host and database, without user and password.
        address: String,
        /// Why.
        source: sqlx::Error,
    },
    /// `database.url` can't be read; a valid configuration does not get here.
    #[error("database.url: {0}")]
    Location(String),
    /// The schema could not be brought up to date.
    #[error("bringing the database schema up to date failed: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// Which of the two it is, where their ways part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

/// An open database with the current schema. Clones share it.
#[derive(Debug, Clone)]
pub struct Database {
    pool: Pool,
    kind: Kind,
}

impl Database {
    /// The connections.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Begins a transaction that no other writing one runs beside: what it reads stays so until it commits.
    ///
    /// # Errors
    /// What the database returns, among it that another writer takes too long.
    pub async fn begin_write(&self) -> Result<Transaction<'static, sqlx::Any>, sqlx::Error> {
        match self.kind {
            Kind::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Kind::Postgres => {
                let mut transaction = self.pool.begin().await?;
                sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITE_LOCK).execute(&mut *transaction).await?;
                Ok(transaction)
            }
        }
    }

    /// Begins a transaction that locks the rows it reads with [`Self::for_update`], and only waits for others that lock the same.
    ///
    /// # Errors
    /// What the database returns, among it that another writer takes too long.
    pub async fn begin_rows(&self) -> Result<Transaction<'static, sqlx::Any>, sqlx::Error> {
        match self.kind {
            // It locks the whole file, and knows no finer lock.
            Kind::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Kind::Postgres => self.pool.begin().await,
        }
    }

    /// What ends a query whose rows are to be locked.
    #[must_use]
    pub const fn for_update(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "",
            Kind::Postgres => " FOR UPDATE",
        }
    }

    /// Whether other nodes may use it too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.kind == Kind::Postgres
    }

    /// Begins a transaction whose statements all see one state.
    ///
    /// # Errors
    /// What the database returns.
    pub async fn begin_read(&self) -> Result<Transaction<'static, sqlx::Any>, sqlx::Error> {
        match self.kind {
            Kind::Sqlite => self.pool.begin().await,
            Kind::Postgres => self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await,
        }
    }

    /// Raises a counter by one and returns its new value, within the caller's transaction.
    ///
    /// # Errors
    /// What the statement returns.
    pub async fn next(connection: &mut Connection, counter: &str) -> Result<i64, sqlx::Error> {
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

/// `$1, $2, …` for a list of so many values, and how many to bind: the next power of two, so that there are few texts for the
/// database to prepare. The caller binds its last value for the rest.
#[must_use]
pub fn placeholders(values: usize) -> (String, usize) {
    let count = values.max(1).next_power_of_two();
    let mut text = String::with_capacity(count * 5);
    for number in 1..=count {
        let separator = if number == 1 { "" } else { ", " };
        // Writing to a string can't fail.
        let _ = write!(text, "{separator}${number}");
    }
    (text, count)
}

#[cfg(test)]
mod tests {
    use super::placeholders;

    #[test]
    fn lists_have_few_lengths() {
        assert_eq!(placeholders(0), ("$1".to_owned(), 1));
        assert_eq!(placeholders(3), ("$1, $2, $3, $4".to_owned(), 4));
        assert_eq!(placeholders(1000).1, 1024);
    }
}
