//! A project's quotas as its requests meet them: those that count a key, with the buckets that they count in.

use std::collections::HashMap;
use std::sync::Arc;

use picket_common::ids::PublicKey;
use picket_common::outcome::Reason;
use picket_common::project_config::ProjectConfig;
use picket_common::quota::category::Counted;
use picket_common::quota::window::{QuotaBucket, applies_to};
use picket_common::quota::{Quota, QuotaScope};

use crate::rate_limit::LimitScope;

/// The quotas of a project, by key. Made once per version of its configuration.
#[derive(Debug, Default)]
pub struct ProjectQuotas {
    by_key: HashMap<PublicKey, Box<[KeyQuota]>>,
}

/// A quota that counts a key.
#[derive(Debug)]
pub struct KeyQuota {
    /// What it counts.
    pub counted: Counted,
    /// Whether it names categories at all; if not, clients are told to stop everything.
    pub names_categories: bool,
    /// Whose data is limited.
    pub scope: LimitScope,
    /// What clients and outcomes are told.
    pub reason: Reason,
    /// How it counts.
    pub counter: Counter,
}

/// How a quota counts.
#[derive(Debug)]
pub enum Counter {
    /// Not at all: nothing is admitted.
    Closed,
    /// Up to a limit in each window.
    Window {
        /// What is counted together.
        bucket: Arc<QuotaBucket>,
        /// What all relays together may admit.
        limit: u64,
    },
}

// === impl ProjectQuotas ===

impl ProjectQuotas {
    /// Compiles the quotas of a project.
    #[must_use]
    pub fn new(project: &ProjectConfig) -> Self {
        let of_key = |key: &PublicKey| -> Box<[KeyQuota]> {
            let quotas = project.settings.quotas.iter();
            quotas.filter_map(|quota| KeyQuota::of(quota, project, key)).collect()
        };
        Self { by_key: project.keys.iter().map(|key| (key.public_key, of_key(&key.public_key))).collect() }
    }

    /// The quotas that count a key.
    #[must_use]
    pub fn of(&self, key: &PublicKey) -> &[KeyQuota] {
        self.by_key.get(key).map_or(&[], |quotas| quotas)
    }

    /// Every bucket that is counted in.
    pub fn buckets(&self) -> impl Iterator<Item = &Arc<QuotaBucket>> {
        self.by_key.values().flatten().filter_map(|quota| match &quota.counter {
            Counter::Window { bucket, .. } => Some(bucket),
            Counter::Closed => None,
        })
    }
}

impl KeyQuota {
    fn of(quota: &Quota, project: &ProjectConfig, key: &PublicKey) -> Option<Self> {
        if !quota.is_enforced() || !applies_to(quota, project.id, key) {
            return None;
        }
        let counter = match quota.limit? {
            0 => Counter::Closed,
            limit => Counter::Window { bucket: Arc::new(QuotaBucket::of(quota, project.id, key)?), limit },
        };
        let scope = match quota.scope {
            QuotaScope::Organization | QuotaScope::Unknown => LimitScope::Organization,
            QuotaScope::Project => LimitScope::Project,
            QuotaScope::Key => LimitScope::Key,
        };
        Some(Self {
            counted: quota.counted(),
            names_categories: !quota.categories.is_empty(),
            scope,
            reason: Reason::Owned(quota.reason().to_owned()),
            counter,
        })
    }
}
