//! The projects of one revision, by public key.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use picket_common::ids::PublicKey;
use picket_common::pii::PiiError;
use picket_common::project_config::{ConfigSnapshot, ProjectConfig};

use crate::filter::compiled::Filters;
use crate::quota::compiled::ProjectQuotas;
use crate::scrub::Scrubber;

/// A project with what is made of its configuration, once per version of it, when it is first needed.
#[derive(Debug)]
pub struct Project {
    /// As the aggregator pushed it.
    pub config: ProjectConfig,
    filters: OnceLock<Filters>,
    scrubber: OnceLock<Result<Scrubber, PiiError>>,
    quotas: OnceLock<ProjectQuotas>,
}

/// What a public key stands for at the moment.
#[derive(Debug)]
pub enum KeyLookup<'a> {
    /// An enabled key and its project.
    Enabled(&'a Arc<Project>),
    /// The key is known but switched off.
    Disabled(&'a Arc<Project>),
    /// No project has this key.
    Unknown,
}

/// All projects of a snapshot.
#[derive(Debug, Default)]
pub struct ProjectTable {
    revision: u64,
    projects: Vec<Arc<Project>>,
    by_key: HashMap<PublicKey, (usize, bool)>,
}

// === impl Project ===

impl Project {
    /// A project with nothing made yet.
    #[must_use]
    pub const fn new(config: ProjectConfig) -> Self {
        Self { config, filters: OnceLock::new(), quotas: OnceLock::new(), scrubber: OnceLock::new() }
    }

    /// Its quotas.
    pub fn quotas(&self) -> &ProjectQuotas {
        self.quotas.get_or_init(|| ProjectQuotas::new(&self.config))
    }

    /// Its inbound filters.
    pub fn filters(&self) -> &Filters {
        self.filters.get_or_init(|| Filters::new(&self.config.settings.filter_settings))
    }

    /// Its scrubbing.
    ///
    /// # Errors
    /// [`PiiError`] if the settings can't be compiled; they never can then.
    pub fn scrubber(&self) -> Result<&Scrubber, &PiiError> {
        self.scrubber.get_or_init(|| Scrubber::compile(&self.config.settings.scrubbing())).as_ref()
    }
}

// === impl ProjectTable ===

impl ProjectTable {
    /// The projects of a snapshot. A project that did not change since `former` keeps what was made of it.
    #[must_use]
    pub fn new(snapshot: ConfigSnapshot, former: Option<&Self>) -> Self {
        let known: HashMap<_, _> = former
            .into_iter()
            .flat_map(|former| &former.projects)
            .map(|project| (project.config.id, project))
            .collect();
        let mut by_key = HashMap::new();
        let mut projects = Vec::with_capacity(snapshot.projects.len());
        for (position, config) in snapshot.projects.into_iter().enumerate() {
            by_key.extend(config.keys.iter().map(|key| (key.public_key, (position, key.enabled))));
            projects.push(match known.get(&config.id) {
                Some(project) if project.config == config => Arc::clone(project),
                _ => Arc::new(Project::new(config)),
            });
        }
        Self { revision: snapshot.revision, projects, by_key }
    }

    /// The revision of the snapshot.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Every project.
    #[must_use]
    pub fn projects(&self) -> &[Arc<Project>] {
        &self.projects
    }

    /// Looks a public key up.
    #[must_use]
    pub fn lookup(&self, key: &PublicKey) -> KeyLookup<'_> {
        let found =
            self.by_key.get(key).and_then(|(position, enabled)| Some((self.projects.get(*position)?, *enabled)));
        match found {
            Some((project, true)) => KeyLookup::Enabled(project),
            Some((project, false)) => KeyLookup::Disabled(project),
            None => KeyLookup::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn snapshot(revision: u64, slug: &str) -> ConfigSnapshot {
        let project = |id: u64, slug: &str, letter: &str, enabled: bool| {
            let key = letter.repeat(32);
            format!(r#"{{"id":"{id}","slug":"{slug}","keys":[{{"public_key":"{key}","enabled":{enabled}}}]}}"#)
        };
        let projects = [project(7, slug, "a", true), project(8, "still", "b", false)].join(",");
        serde_json::from_str(&format!(r#"{{"revision":{revision},"projects":[{projects}]}}"#)).unwrap()
    }

    fn key(letter: &str) -> PublicKey {
        letter.repeat(32).parse().unwrap()
    }

    #[test]
    fn a_key_is_found_in_its_project_with_its_state() {
        let table = ProjectTable::new(snapshot(1, "shop"), None);
        assert!(matches!(table.lookup(&key("a")), KeyLookup::Enabled(project) if project.config.id.get() == 7));
        assert!(matches!(table.lookup(&key("b")), KeyLookup::Disabled(project) if project.config.id.get() == 8));
        assert!(matches!(table.lookup(&key("c")), KeyLookup::Unknown));
    }

    #[test]
    fn what_did_not_change_is_not_made_again() {
        let first = ProjectTable::new(snapshot(1, "shop"), None);
        let second = ProjectTable::new(snapshot(2, "renamed"), Some(&first));
        assert_eq!(second.revision(), 2);
        assert!(!Arc::ptr_eq(&first.projects()[0], &second.projects()[0]));
        assert!(Arc::ptr_eq(&first.projects()[1], &second.projects()[1]));
    }
}
