//! What the worker works on and with beside the journal: the tables, the issues, the time, random ids, and other threads.
//!
//! In the program that is [`Installed`]. `tests/simulation` has surroundings of its own, in which everything may fail at any time and
//! nothing is left to chance.

use std::sync::Arc;

use picket_common::timestamp::Timestamp;
use tokio::task::JoinError;
use uuid::Uuid;

use crate::database::{DatabaseError, InsertTurn, TurnKind};
use crate::events::EventsStore;
use crate::events::tables::Tables;
use crate::issues::{Claim, IssueId, Issues};

/// See the module.
pub trait Surroundings: Send + Sync {
    /// Where events go.
    type Tables: Tables;

    /// Where events go.
    fn tables(&self) -> &Self::Tables;

    /// The time of day.
    fn now(&self) -> Timestamp;

    /// An id that no plan had.
    fn new_plan_id(&self) -> Uuid;

    /// Finds or makes the issue of each claim, in order. What was answered once is answered for ever.
    fn assign(&mut self, claims: &[&Claim]) -> impl Future<Output = Result<Vec<IssueId>, DatabaseError>> + Send;

    /// Waits for this node's turn at inserting; without other nodes there is nothing to wait for.
    fn insert_turn(&self, _kind: TurnKind) -> impl Future<Output = Result<InsertTurn, DatabaseError>> + Send {
        std::future::ready(Ok(InsertTurn::uncontended()))
    }

    /// Does work that waits for the disk or takes long, without holding up others.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, JoinError>> + Send;
}

/// An installation: ClickHouse, SQL, the system's clock and random source, tokio's threads.
#[derive(Debug)]
pub struct Installed {
    /// Where events go.
    pub events: Arc<EventsStore>,
    /// Which issue a hash leads to.
    pub issues: Issues,
}

impl Surroundings for Installed {
    type Tables = EventsStore;

    fn tables(&self) -> &EventsStore {
        &self.events
    }

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn new_plan_id(&self) -> Uuid {
        Uuid::new_v4()
    }

    async fn assign(&mut self, claims: &[&Claim]) -> Result<Vec<IssueId>, DatabaseError> {
        self.issues.assign(claims).await
    }

    async fn insert_turn(&self, kind: TurnKind) -> Result<InsertTurn, DatabaseError> {
        Ok(self.issues.database().insert_turn(kind).await?)
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        tokio::task::spawn_blocking(work).await
    }
}
