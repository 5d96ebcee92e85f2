//! What a relay must know of the projects it serves. Made by the aggregator, pushed over the control stream, kept on the
//! relay's disk so that it works offline.
//!
//! ```text
//! ConfigSnapshot { revision, projects: [ProjectConfig { id, slug, keys, …settings }] }
//!                                                                    └ ProjectSettings: the document that
//!                                                                      `picket-aggregator project config` shows and sets
//! ```
//!
//! Fields are added freely: each has a default, and a side that does not know a field ignores it. A snapshot is always whole.
//! What is checked before it is stored is in [`settings`]; a relay trusts what its aggregator sends.

pub mod condition;
pub mod filter_entry;
pub mod filters;
mod index;
pub mod settings;
pub mod spike;
pub mod version;

use serde::{Deserialize, Serialize};

pub use index::{KeyLookup, ProjectIndex};
pub use settings::{InvalidSettings, ProjectSettings};

use crate::ids::{ProjectId, PublicKey};

/// All projects at one revision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigSnapshot {
    /// Grows with every change; a relay that has it needs no new snapshot.
    pub revision: u64,
    /// Every project that takes events.
    pub projects: Vec<ProjectConfig>,
}

/// One project as relays see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectConfig {
    /// The project's number.
    pub id: ProjectId,
    /// The project's slug, for logs and metrics.
    pub slug: String,
    /// Its keys, enabled or not.
    pub keys: Vec<KeyConfig>,
    /// What its owner may set.
    #[serde(flatten)]
    pub settings: ProjectSettings,
}

/// A key of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyConfig {
    /// The public key.
    pub public_key: PublicKey,
    /// Whether events under this key are taken.
    pub enabled: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_snapshot_with_fields_of_a_newer_version_is_read() {
        let text = format!(
            r#"{{"revision":1,"novelty":true,"projects":[{{"id":"7","slug":"shop","keys":[{{"public_key":"{}","enabled":true}}],"noveltySettings":[]}}]}}"#,
            "a".repeat(32)
        );
        let snapshot: ConfigSnapshot = serde_json::from_str(&text).unwrap();
        assert_eq!(snapshot.projects[0].settings, ProjectSettings::default());
    }

    #[test]
    fn a_snapshot_that_an_older_version_stored_is_read() {
        let text = r#"{"revision":1,"projects":[{"id":"7","slug":"shop","keys":[],"allowed_domains":["a.test"],"retention_days":30}]}"#;
        let snapshot: ConfigSnapshot = serde_json::from_str(text).unwrap();
        let settings = &snapshot.projects[0].settings;
        assert_eq!(
            (settings.allowed_domains.as_slice(), settings.retention_days),
            (["a.test".to_owned()].as_slice(), 30)
        );
    }

    #[test]
    fn a_snapshot_reads_back_as_it_was_written() {
        let settings = ProjectSettings { retention_days: 7, ..ProjectSettings::default() };
        let project = ProjectConfig { id: ProjectId::new(1), slug: "shop".to_owned(), keys: Vec::new(), settings };
        let snapshot = ConfigSnapshot { revision: 3, projects: vec![project] };
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<ConfigSnapshot>(&text).unwrap(), snapshot);
    }
}
