//! What a relay must know of the projects it serves. Made by the aggregator, pushed over the control stream, kept on the
//! relay's disk so that it works offline.
//!
//! Fields are added freely: each has a default, and a side that does not know a field ignores it. A snapshot is always whole.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ProjectId, PublicKey};

/// All projects at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSnapshot {
    /// Grows with every change; a relay that has it needs no new snapshot.
    pub revision: u64,
    /// Every project that takes events.
    pub projects: Vec<ProjectConfig>,
}

/// One project as relays see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectConfig {
    /// The project's number.
    pub id: ProjectId,
    /// The project's slug, for logs and metrics.
    pub slug: String,
    /// Its keys, enabled or not.
    pub keys: Vec<KeyConfig>,
    /// Origins that browsers may post from: `*`, `*.example.org`, `https://example.org:8443`. Empty refuses every origin.
    #[serde(default = "every_origin")]
    pub allowed_domains: Vec<String>,
    /// How long events are kept, in days.
    #[serde(default = "default_retention_days")]
    pub retention_days: u16,
}

/// A key of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyConfig {
    /// The public key.
    pub public_key: PublicKey,
    /// Whether events under this key are taken.
    pub enabled: bool,
}

fn every_origin() -> Vec<String> {
    vec!["*".to_owned()]
}

const fn default_retention_days() -> u16 {
    90
}

/// What a public key stands for at the moment.
#[derive(Debug, Clone, Copy)]
pub enum KeyLookup<'a> {
    /// An enabled key and its project.
    Enabled(&'a ProjectConfig),
    /// The key is known but switched off.
    Disabled(&'a ProjectConfig),
    /// No project has this key.
    Unknown,
}

/// A snapshot indexed by public key. Built once per revision.
#[derive(Debug, Default)]
pub struct ProjectIndex {
    snapshot: ConfigSnapshot,
    by_key: HashMap<PublicKey, (usize, bool)>,
}

impl ProjectIndex {
    /// Indexes a snapshot.
    #[must_use]
    pub fn new(snapshot: ConfigSnapshot) -> Self {
        let by_key = snapshot
            .projects
            .iter()
            .enumerate()
            .flat_map(|(position, project)| {
                project.keys.iter().map(move |key| (key.public_key, (position, key.enabled)))
            })
            .collect();
        Self { snapshot, by_key }
    }

    /// The revision of the snapshot.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.snapshot.revision
    }

    /// The snapshot it was made of.
    #[must_use]
    pub const fn snapshot(&self) -> &ConfigSnapshot {
        &self.snapshot
    }

    /// Looks a public key up.
    #[must_use]
    pub fn lookup(&self, key: &PublicKey) -> KeyLookup<'_> {
        let Some(&(position, enabled)) = self.by_key.get(key) else {
            return KeyLookup::Unknown;
        };
        match self.snapshot.projects.get(position) {
            Some(project) if enabled => KeyLookup::Enabled(project),
            Some(project) => KeyLookup::Disabled(project),
            None => KeyLookup::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(letter: &str) -> PublicKey {
        letter.repeat(32).parse().unwrap()
    }

    #[test]
    fn a_key_is_found_in_its_project_with_its_state() {
        let index = ProjectIndex::new(ConfigSnapshot {
            revision: 3,
            projects: vec![ProjectConfig {
                id: ProjectId::new(7),
                slug: "shop".to_owned(),
                keys: vec![
                    KeyConfig { public_key: key("a"), enabled: true },
                    KeyConfig { public_key: key("b"), enabled: false },
                ],
                allowed_domains: every_origin(),
                retention_days: 90,
            }],
        });
        assert!(matches!(index.lookup(&key("a")), KeyLookup::Enabled(project) if project.id.get() == 7));
        assert!(matches!(index.lookup(&key("b")), KeyLookup::Disabled(project) if project.id.get() == 7));
        assert!(matches!(index.lookup(&key("c")), KeyLookup::Unknown));
    }

    #[test]
    fn a_snapshot_with_fields_of_a_newer_version_is_read() {
        let text = format!(
            r#"{{"revision":1,"novelty":true,"projects":[{{"id":"7","slug":"shop","keys":[{{"public_key":"{}","enabled":true}}],"quotas":[]}}]}}"#,
            key("a")
        );
        let snapshot: ConfigSnapshot = serde_json::from_str(&text).unwrap();
        assert_eq!(snapshot.projects[0].allowed_domains, ["*"]);
        assert_eq!(snapshot.projects[0].retention_days, 90);
    }
}
