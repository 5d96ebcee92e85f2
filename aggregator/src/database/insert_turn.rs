//! Turns at inserting events, among nodes that share ClickHouse: a lock in PostgreSQL.
//!
//! Ordinary inserts of several nodes go side by side. An insert in doubt may end in counting hours anew from the events
//! (`events::in_doubt`): what another node inserts between the counting and the removal of the old counts would be counted twice or not
//! at all. So an ordinary insert shares the lock, and one in doubt has it alone.
//!
//! Invariant: who ends a turn without an error had it all the while. One whose connection broke did not, and its insert is in doubt.
//!
//! Where a node is killed during a turn, its turn is over at once while ClickHouse may still be at its insert; that plan is in doubt at
//! the next start and corrects what came of it.

use sqlx::Transaction;

use super::{Database, Kind};

/// The lock's number is arbitrary and ours.
const INSERT_LOCK: i64 = 0x7069_636b_6575;

/// A turn lasts as long as an insert, and a wait for one as long as the inserts of all nodes, each bounded by
/// `clickhouse.insert_timeout`. What is longer is a node whose host froze, and PostgreSQL ends its turn.
const TURN_PATIENCE: &str = "SELECT set_config('lock_timeout', '30min', true), set_config('idle_in_transaction_session_timeout', '20min', true)";

/// Beside whom an insert may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnKind {
    /// Beside other ordinary ones.
    Shared,
    /// Beside none.
    Alone,
}

/// A turn; over when it is dropped.
#[derive(Debug)]
pub struct InsertTurn {
    /// Holds the lock; none where no other node can be.
    lock: Option<Transaction<'static, sqlx::Any>>,
}

// === impl InsertTurn ===

impl InsertTurn {
    /// A turn where nobody else has any.
    #[must_use]
    pub const fn uncontended() -> Self {
        Self { lock: None }
    }

    /// Ends the turn.
    ///
    /// # Errors
    /// What the database returns: then it is not sure that it was held to the end.
    pub async fn end(self) -> Result<(), sqlx::Error> {
        match self.lock {
            Some(lock) => lock.commit().await,
            None => Ok(()),
        }
    }
}

impl Database {
    /// Waits for a turn.
    ///
    /// # Errors
    /// What the database returns.
    pub async fn insert_turn(&self, kind: TurnKind) -> Result<InsertTurn, sqlx::Error> {
        if self.kind == Kind::Sqlite {
            return Ok(InsertTurn::uncontended());
        }
        let mut lock = self.pool.begin().await?;
        sqlx::query(TURN_PATIENCE).execute(&mut *lock).await?;
        let take = match kind {
            TurnKind::Shared => "SELECT pg_advisory_xact_lock_shared($1)",
            TurnKind::Alone => "SELECT pg_advisory_xact_lock($1)",
        };
        sqlx::query(take).bind(INSERT_LOCK).execute(&mut *lock).await?;
        Ok(InsertTurn { lock: Some(lock) })
    }
}
