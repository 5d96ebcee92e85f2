//! The nodes of an installation: aggregators that share one PostgreSQL and one ClickHouse server.
//!
//! ```text
//!  relay   relay   relay        any relay at any node; each has one live session
//!    │ ╲   ╱ │ ╲   ╱
//!   node A   node B             each with a data directory of its own: journal, dead letters, identity
//!    │   ╲   ╱   │
//!  PostgreSQL  ClickHouse       who and what the installation is, who holds what (`ledger`); events
//! ```
//!
//! Invariants:
//! - a node's identity is made with its data directory and goes where its journal goes: its claims are about that journal;
//! - one process at a time goes by it: a later one takes the node over, and the earlier claims nothing more;
//! - a node whose events go to an engine of its own is alone: it does not start beside others, nor others beside it;
//! - all nodes hold the same certificate authorities: one that lacks any does not start (`fleet::agreement`).
//!
//! What it does not do: with SQLite, anything: such a node is alone. Balance load: relays choose their aggregator.

mod following;
mod ledger;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use picket_common::timestamp::Timestamp;
use tracing::info;
use uuid::Uuid;

pub use following::{Following, follow};
pub use ledger::SqlLedger;

use crate::database::{Database, DatabaseError};
use crate::durable_file;

/// How long a node that is not seen counts as one that may come back, where that keeps another from starting.
const RECENT: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// Why a node can't take part.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The file with its identity can't be read or written.
    #[error("can't {action} this node's identity in {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} does not hold this node's identity; restore it, or remove it where the journal is empty")]
    Identity {
        /// The file.
        path: PathBuf,
    },
    /// Its events or another's go where the others can't see them.
    #[error(
        "several aggregators share this PostgreSQL database, and {whose} ClickHouse is embedded, which only one process can use: \
         set clickhouse.url to one server for all of them (another node is {other}, last seen {last_seen})"
    )]
    EmbeddedEngine {
        /// "this one's" or "the other's".
        whose: &'static str,
        /// Where the other is.
        other: String,
        /// When.
        last_seen: String,
    },
}

impl From<sqlx::Error> for NodeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// Names a node: random, made with its data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(Uuid);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl NodeId {
    /// Reads the identity from `file`, or makes it.
    ///
    /// # Errors
    /// [`NodeError::File`] or [`NodeError::Identity`].
    pub fn open_or_create(file: &Path) -> Result<Self, NodeError> {
        let failed = |action| move |source| NodeError::File { action, path: file.to_owned(), source };
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let id = Uuid::try_parse(text.trim()).map_err(|_| NodeError::Identity { path: file.to_owned() })?;
                Ok(Self(id))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = Self(Uuid::new_v4());
                durable_file::write(file, format!("{id}\n").as_bytes(), 0o600).map_err(failed("write"))?;
                Ok(id)
            }
            Err(source) => Err(failed("read")(source)),
        }
    }

    #[cfg(test)]
    const fn from_number(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }
}

/// Where a node's events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// To a server that other nodes may use too.
    Server,
    /// To an engine in its own process.
    Embedded,
}

/// A node that is registered in the database: what only this process may do under its identity.
#[derive(Debug, Clone)]
pub struct Node {
    database: Database,
    id: NodeId,
    incarnation: String,
}

// === impl Node ===

impl Node {
    /// Registers the node, or says that it is back; a former process under the same identity claims nothing from then on.
    ///
    /// # Errors
    /// [`NodeError::EmbeddedEngine`] where it and others can't see each other's events.
    pub async fn register(
        database: &Database,
        id: NodeId,
        address: &str,
        engine: Engine,
        now: Timestamp,
    ) -> Result<Self, NodeError> {
        let mut transaction = database.begin_write().await?;
        // With an embedded engine no other may be there; else none with one.
        let other: Option<(String, i64)> = sqlx::query_as(
            "SELECT address, last_seen_at FROM nodes WHERE id <> $1 AND last_seen_at > $2 AND is_alone >= $3
             ORDER BY last_seen_at DESC LIMIT 1",
        )
        .bind(id.to_string())
        .bind(now.minus(RECENT).as_i64())
        .bind(i64::from(engine == Engine::Server))
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some((other, last_seen)) = other {
            let whose = if engine == Engine::Embedded { "this one's" } else { "the other's" };
            let last_seen = Timestamp::from_i64(last_seen).to_rfc3339();
            return Err(NodeError::EmbeddedEngine { whose, other, last_seen });
        }
        let incarnation = Uuid::new_v4().to_string();
        sqlx::query(
            "INSERT INTO nodes (id, address, incarnation, is_alone, first_seen_at, last_seen_at) VALUES ($1, $2, $3, $4, $5, $5)
             ON CONFLICT (id) DO UPDATE SET address = excluded.address, incarnation = excluded.incarnation,
             is_alone = excluded.is_alone, last_seen_at = excluded.last_seen_at",
        )
        .bind(id.to_string())
        .bind(address)
        .bind(&incarnation)
        .bind(i64::from(engine == Engine::Embedded))
        .bind(now.as_i64())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        info!(node = %id, address, "this node is registered");
        Ok(Self { database: database.clone(), id, incarnation })
    }

    /// What decides which sequences this node holds. Its methods block on `runtime`.
    #[must_use]
    pub fn ledger(&self, runtime: tokio::runtime::Handle) -> SqlLedger {
        SqlLedger::new(&self.database, self.id, &self.incarnation, runtime)
    }

    /// Notes that the node is there; returns how many nodes there are.
    ///
    /// # Errors
    /// [`NodeError::Database`].
    pub async fn touch(&self, now: Timestamp) -> Result<u32, NodeError> {
        sqlx::query("UPDATE nodes SET last_seen_at = $1 WHERE id = $2 AND incarnation = $3")
            .bind(now.as_i64())
            .bind(self.id.to_string())
            .bind(&self.incarnation)
            .execute(self.database.pool())
            .await?;
        let nodes: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM nodes").fetch_one(self.database.pool()).await?;
        Ok(u32::try_from(nodes).unwrap_or(u32::MAX))
    }
}
