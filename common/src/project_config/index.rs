//! A snapshot indexed by public key.

use std::collections::HashMap;

use super::{ConfigSnapshot, ProjectConfig};
use crate::ids::PublicKey;

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
    use crate::ids::ProjectId;
    use crate::project_config::{KeyConfig, ProjectSettings};

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
                settings: ProjectSettings::default(),
            }],
        });
        assert!(matches!(index.lookup(&key("a")), KeyLookup::Enabled(project) if project.id.get() == 7));
        assert!(matches!(index.lookup(&key("b")), KeyLookup::Disabled(project) if project.id.get() == 7));
        assert!(matches!(index.lookup(&key("c")), KeyLookup::Unknown));
    }
}
