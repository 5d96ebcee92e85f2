//! The projects' configuration: the last snapshot an aggregator sent, in memory for every request and in the spool's
//! state for the next start, so that a relay works while no aggregator can be reached.
//!
//! Invariant: what is in memory is on disk; a snapshot that can't be written is not used.

mod table;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use picket_common::project_config::ConfigSnapshot;

pub use table::{KeyLookup, Project, ProjectTable};

use crate::spool::{Spool, SpoolError};

/// The current configuration; clones share it.
#[derive(Debug, Clone)]
pub struct Projects {
    current: Arc<ArcSwapOption<ProjectTable>>,
    spool: Spool,
}

impl Projects {
    /// Starts with what the spool has. Blocking.
    ///
    /// A stored snapshot that can't be read (of a later version, say) counts as none: the aggregator then sends a new
    /// one.
    ///
    /// # Errors
    /// [`SpoolError::Storage`] if the spool can't be read.
    pub fn open(spool: Spool) -> Result<Self, SpoolError> {
        let stored = spool.project_configuration()?;
        let snapshot = stored.and_then(|encoded| match serde_json::from_slice::<ConfigSnapshot>(&encoded) {
            Ok(snapshot) => Some(snapshot),
            Err(problem) => {
                tracing::warn!(%problem, "the stored project configuration can't be read, waiting for a new one");
                None
            }
        });
        let table = snapshot.map(|snapshot| Arc::new(ProjectTable::new(snapshot, None)));
        Ok(Self { current: Arc::new(ArcSwapOption::new(table)), spool })
    }

    /// The current configuration; `None` until an aggregator sent one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<ProjectTable>> {
        self.current.load_full()
    }

    /// The revision of the current configuration; 0 if there is none.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |table| table.revision())
    }

    /// Writes a snapshot to disk, then uses it. Blocking.
    ///
    /// # Errors
    /// [`SpoolError`] if it can't be written; the former one stays in use.
    pub fn replace(&self, snapshot: ConfigSnapshot) -> Result<(), SpoolError> {
        // A snapshot came in as JSON and has string keys only, so it always serialises; an empty text would read as
        // none.
        let encoded = serde_json::to_vec(&snapshot).unwrap_or_default();
        self.spool.put_project_configuration(&encoded)?;
        let table = ProjectTable::new(snapshot, self.current.load().as_deref());
        self.current.store(Some(Arc::new(table)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spool::SpoolConfig;

    #[tokio::test]
    async fn a_snapshot_is_there_again_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Spool::open(&directory.path().join("spool"), &SpoolConfig::default(), [1; 16]).unwrap();
        let (spool, committer) = open();
        let projects = Projects::open(spool).unwrap();
        assert!(projects.current().is_none());
        projects.replace(ConfigSnapshot { revision: 7, projects: Vec::new() }).unwrap();
        assert_eq!(projects.revision(), 7);
        drop(projects);
        committer.close().await;
        let (spool, _committer) = open();
        assert_eq!(Projects::open(spool).unwrap().revision(), 7);
    }
}
