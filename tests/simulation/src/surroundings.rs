//! What the real worker works with here: the simulated ClickHouse, issues in memory that stay, virtual time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use picket_aggregator::database::DatabaseError;
use picket_aggregator::issues::{Claim, IssueId};
use picket_aggregator::process::surroundings::Surroundings;
use picket_common::timestamp::Timestamp;
use tokio::task::JoinError;
use uuid::Uuid;

use crate::click_house::Client;
use crate::environment::Environment;
use crate::pause::Waiting;
use crate::power::Fuse;

/// Which hash leads to which issue. In SQL; each answer is committed.
pub type IssueBook = Arc<Mutex<BTreeMap<(u64, String), i64>>>;

/// See the module.
#[derive(Debug)]
pub struct Simulated {
    /// Where events go.
    pub client: Client,
    /// Shared by all processes.
    pub issues: IssueBook,
    /// Time and chance.
    pub environment: Environment,
    /// What the process waits by.
    pub waiting: Waiting,
    /// The process's power.
    pub fuse: Fuse,
}

impl Surroundings for Simulated {
    type Tables = Client;

    fn tables(&self) -> &Client {
        &self.client
    }

    fn now(&self) -> Timestamp {
        self.environment.time_of_day()
    }

    fn new_plan_id(&self) -> Uuid {
        Uuid::from_bytes(self.environment.bytes())
    }

    async fn assign(&mut self, claims: &[&Claim]) -> Result<Vec<IssueId>, DatabaseError> {
        self.waiting.pause(0, 5).await;
        self.fuse.burn();
        let issues = {
            let mut book = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
            let issue_of = |claim: &&Claim| {
                let next = i64::try_from(book.len()).unwrap_or(i64::MAX).saturating_add(1);
                let keys = claim.hashes.iter().map(|hash| (claim.project_id.get(), format!("{hash:?}")));
                let keys: Vec<_> = keys.collect();
                let known = keys.iter().find_map(|key| book.get(key).copied()).unwrap_or(next);
                for key in keys {
                    book.entry(key).or_insert(known);
                }
                IssueId::new(known)
            };
            claims.iter().map(issue_of).collect()
        };
        self.fuse.burn();
        Ok(issues)
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        self.waiting.pause(0, 2).await;
        Ok(work())
    }
}
