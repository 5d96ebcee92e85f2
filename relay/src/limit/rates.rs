//! Rates: how many requests a second a client address, a key, a project and all of them together may make on this relay, and how
//! many items of a category a project may send.
//!
//! Invariants:
//! - a request is looked at as soon as it is known who makes it: by address before anything is read of it, by key before its
//!   body is;
//! - memory is bounded. Keys and projects are those of the configuration; addresses are forgotten when their limit is whole
//!   again, and while more than `max_addresses` are remembered at once, further requests are counted by groups of addresses;
//! - nothing is counted across relays: that is what quotas are for.
//!
//! Each limiter is a leaky bucket ([`governor`]) that holds one second's worth.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use picket_common::category::DataCategory;
use picket_common::config::InvalidValue;
use picket_common::ids::{ProjectId, PublicKey};
use picket_common::outcome::Reason;
use serde::{Deserialize, Serialize};

use crate::rate_limit::{LimitScope, RateLimit};
use crate::refusal::Refusal;

/// Addresses are tidied up after this many requests, if there are more of them than this.
const TIDY_EVERY: u64 = 4096;
/// Groups that addresses are counted in while there are too many.
const CROWD_GROUPS: u64 = 4096;
/// Highest rate that can be set: a bucket's arithmetic is in nanoseconds.
const MAX_PER_SECOND: u32 = 10_000_000;

/// `[limits.rates]`: requests a second on this relay; 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RatesConfig {
    /// Of one client address (of version 6: one network of 64 bits).
    pub address_per_second: u32,
    /// Under one key.
    pub key_per_second: u32,
    /// To one project.
    pub project_per_second: u32,
    /// To all projects together.
    pub organization_per_second: u32,
    /// Most addresses that are counted apart.
    pub max_addresses: usize,
    /// Items a second of a category to one project, such as `error = 1000`.
    pub categories: BTreeMap<String, u32>,
}

impl Default for RatesConfig {
    fn default() -> Self {
        Self {
            address_per_second: 50_000,
            key_per_second: 0,
            project_per_second: 0,
            organization_per_second: 0,
            max_addresses: 100_000,
            categories: BTreeMap::new(),
        }
    }
}

impl RatesConfig {
    pub(crate) fn validate(&self) -> Result<(), InvalidValue> {
        for (key, value) in [
            ("limits.rates.address_per_second", self.address_per_second),
            ("limits.rates.key_per_second", self.key_per_second),
            ("limits.rates.project_per_second", self.project_per_second),
            ("limits.rates.organization_per_second", self.organization_per_second),
        ] {
            if value > MAX_PER_SECOND {
                return Err(InvalidValue::new(key, format!("expected at most {MAX_PER_SECOND}")));
            }
        }
        if self.max_addresses == 0 {
            return Err(InvalidValue::new("limits.rates.max_addresses", "expected at least 1"));
        }
        let unknown =
            |(name, rate): &(&String, &u32)| DataCategory::from_name(name).is_none() || **rate > MAX_PER_SECOND;
        match self.categories.iter().find(unknown) {
            Some((name, _)) => {
                let problem = format!("{name:?}: expected a category such as error and at most {MAX_PER_SECOND}");
                Err(InvalidValue::new("limits.rates.categories", problem))
            }
            None => Ok(()),
        }
    }
}

/// The limiters. Clones share them.
#[derive(Debug, Clone)]
pub struct Rates {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    addresses: Option<Addresses<DefaultClock>>,
    keys: Option<Limiter<PublicKey, DefaultClock>>,
    projects: Option<Limiter<ProjectId, DefaultClock>>,
    organization: Option<Limiter<(), DefaultClock>>,
    categories: Vec<(DataCategory, Limiter<ProjectId, DefaultClock>)>,
}

// === impl Rates ===

impl Rates {
    /// Limiters as configured.
    #[must_use]
    pub fn new(config: &RatesConfig) -> Self {
        let clock = DefaultClock::default;
        let category =
            |(name, rate): (&String, &u32)| Some((DataCategory::from_name(name)?, Limiter::new(*rate, clock())?));
        let shared = Shared {
            addresses: Addresses::new(config.address_per_second, config.max_addresses, clock()),
            keys: Limiter::new(config.key_per_second, clock()),
            projects: Limiter::new(config.project_per_second, clock()),
            organization: Limiter::new(config.organization_per_second, clock()),
            categories: config.categories.iter().filter_map(category).collect(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Counts a request of a client; a request without a client address (a test's) is not counted.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] if the address makes too many.
    pub fn check_address(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        let (Some(limiter), Some(address)) = (&self.shared.addresses, address) else { return Ok(()) };
        limiter.check(address).map_err(|wait| refusal("rate_address", LimitScope::Key, wait))
    }

    /// Counts a request under a key.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] if key, project or organisation get too many.
    pub fn check_key(&self, key: &PublicKey, project: ProjectId) -> Result<(), Refusal> {
        let shared = &self.shared;
        check(shared.keys.as_ref(), key).map_err(|wait| refusal("rate_key", LimitScope::Key, wait))?;
        check(shared.projects.as_ref(), &project).map_err(|wait| refusal("rate_project", LimitScope::Project, wait))?;
        let organization = check(shared.organization.as_ref(), &());
        organization.map_err(|wait| refusal("rate_organization", LimitScope::Organization, wait))
    }

    /// Counts an item of a project, in each category that it has.
    ///
    /// # Errors
    /// The limit, if the project sends too many of a category.
    pub fn check_item(&self, project: ProjectId, amounts: &[(DataCategory, u64)]) -> Result<(), RateLimit> {
        for (category, limiter) in &self.shared.categories {
            if !amounts.iter().any(|(counted, _)| counted == category) {
                continue;
            }
            limiter.check(&project).map_err(|wait| RateLimit {
                categories: vec![*category],
                scope: LimitScope::Project,
                reason_code: Some(Reason::Borrowed("rate_category")),
                retry_after: wait,
            })?;
        }
        Ok(())
    }
}

fn check<K: Hash + Eq + Clone>(limiter: Option<&Limiter<K, DefaultClock>>, key: &K) -> Result<(), Duration> {
    limiter.map_or(Ok(()), |limiter| limiter.check(key))
}

fn refusal(reason: &'static str, scope: LimitScope, retry_after: Duration) -> Refusal {
    let limit = RateLimit { categories: Vec::new(), scope, reason_code: Some(Reason::Borrowed(reason)), retry_after };
    Refusal::RateLimited { limits: limit.into(), detail: format!("too many requests a second on this relay: {reason}") }
}

/// A bucket for each key.
#[derive(Debug)]
struct Limiter<K: Hash + Eq + Clone, C: Clock> {
    limiter: RateLimiter<K, DashMapStateStore<K>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Limiter<K, C> {
    /// `None` where there is no limit.
    fn new(per_second: u32, clock: C) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?);
        Some(Self { limiter: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()), clock })
    }

    /// Counts one, or says how long there is to wait.
    fn check(&self, key: &K) -> Result<(), Duration> {
        self.limiter.check_key(key).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

/// Who is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    /// The first 64 bits: what one customer usually has.
    V6(u64),
    /// One of [`CROWD_GROUPS`].
    Crowd(u64),
}

#[derive(Debug)]
struct Addresses<C: Clock> {
    limiter: Limiter<Client, C>,
    max: usize,
    checks: AtomicU64,
    is_crowded: AtomicBool,
    hasher: RandomState,
}

impl<C: Clock + Clone> Addresses<C> {
    fn new(per_second: u32, max: usize, clock: C) -> Option<Self> {
        let limiter = Limiter::new(per_second, clock)?;
        let (checks, is_crowded) = (AtomicU64::new(0), AtomicBool::new(false));
        Some(Self { limiter, max, checks, is_crowded, hasher: RandomState::new() })
    }

    fn check(&self, address: IpAddr) -> Result<(), Duration> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.tidy();
        }
        let client = match address.to_canonical() {
            IpAddr::V4(address) => Client::V4(address.to_bits()),
            IpAddr::V6(address) => Client::V6((address.to_bits() >> 64) as u64),
        };
        let client = match self.is_crowded.load(Ordering::Relaxed) {
            true => Client::Crowd(self.hasher.hash_one(client) % CROWD_GROUPS),
            false => client,
        };
        self.limiter.check(&client)
    }

    /// Forgets addresses whose limit is whole again, and looks whether there are too many of the others.
    fn tidy(&self) {
        let limiter = &self.limiter.limiter;
        if limiter.len() as u64 > TIDY_EVERY {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        let is_crowded = limiter.len() > self.max;
        if self.is_crowded.swap(is_crowded, Ordering::Relaxed) != is_crowded {
            tracing::warn!(
                is_crowded,
                addresses = limiter.len(),
                "the number of client addresses crossed limits.rates.max_addresses"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use governor::clock::FakeRelativeClock;

    const SECOND: Duration = Duration::from_secs(1);

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_limiter_lets_its_rate_through_and_says_how_long_to_wait() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::new(10, clock.clone()).unwrap();
        assert_eq!((0..20).filter(|_| limiter.check(&1).is_ok()).count(), 10);
        assert!(limiter.check(&1).unwrap_err() <= SECOND);
        assert!(limiter.check(&2).is_ok(), "another key has a bucket of its own");
        clock.advance(SECOND);
        assert_eq!((0..20).filter(|_| limiter.check(&1).is_ok()).count(), 10);
        assert!(Limiter::<u32, _>::new(0, clock).is_none(), "0 is no limit");
    }

    #[test]
    fn addresses_of_one_network_of_version_6_are_one_client_and_mapped_ones_are_of_version_4() {
        let addresses = Addresses::new(1, 10, FakeRelativeClock::default()).unwrap();
        assert!(addresses.check("2001:db8::1".parse().unwrap()).is_ok());
        assert!(addresses.check("2001:db8::2".parse().unwrap()).is_err());
        assert!(addresses.check("2001:db8:0:1::1".parse().unwrap()).is_ok());
        assert!(addresses.check("192.0.2.1".parse().unwrap()).is_ok());
        assert!(addresses.check("::ffff:192.0.2.1".parse().unwrap()).is_err());
    }

    #[test]
    fn addresses_are_forgotten_when_their_limit_is_whole_again() {
        let clock = FakeRelativeClock::default();
        let addresses = Addresses::new(10, 1_000_000, clock.clone()).unwrap();
        for number in 0..20_000 {
            let _ = addresses.check(v4(number));
        }
        assert!(addresses.limiter.limiter.len() >= 20_000);
        clock.advance(2 * SECOND);
        for _ in 0..TIDY_EVERY {
            let _ = addresses.check(v4(1));
        }
        assert!(addresses.limiter.limiter.len() < 10, "{}", addresses.limiter.limiter.len());
    }

    #[test]
    fn memory_is_bounded_however_many_addresses_come_at_once() {
        let addresses = Addresses::new(10, 5000, FakeRelativeClock::default()).unwrap();
        for number in 0..100_000 {
            let _ = addresses.check(v4(number));
        }
        let bound = 5000 + TIDY_EVERY as usize + CROWD_GROUPS as usize;
        assert!(addresses.limiter.limiter.len() <= bound, "{}", addresses.limiter.limiter.len());
    }

    #[test]
    fn each_limit_refuses_under_its_own_reason_and_scope() {
        let config = |field: fn(&mut RatesConfig)| {
            let mut config = RatesConfig { address_per_second: 0, ..RatesConfig::default() };
            field(&mut config);
            Rates::new(&config)
        };
        let (key, project) = (PublicKey::from_random([1; 16]), ProjectId::new(7));
        let table = [
            (config(|config| config.key_per_second = 1), "1::key:rate_key"),
            (config(|config| config.project_per_second = 1), "1::project:rate_project"),
            (config(|config| config.organization_per_second = 1), "1::organization:rate_organization"),
        ];
        for (rates, expected) in table {
            rates.check_key(&key, project).unwrap();
            let refusal = rates.check_key(&key, project).unwrap_err();
            assert_eq!(refusal.rate_limits().header_value(), expected);
        }
        let by_address = config(|config| config.address_per_second = 1);
        by_address.check_address(Some(v4(1))).unwrap();
        let refusal = by_address.check_address(Some(v4(1))).unwrap_err();
        assert_eq!(refusal.rate_limits().header_value(), "1::key:rate_address");
        let by_category = config(|config| config.categories = [("session".to_owned(), 1)].into());
        by_category.check_item(project, &[(DataCategory::Session, 1)]).unwrap();
        by_category.check_item(project, &[(DataCategory::Error, 1)]).unwrap();
        let limit = by_category.check_item(project, &[(DataCategory::Session, 1)]).unwrap_err();
        assert_eq!((limit.categories, limit.scope), (vec![DataCategory::Session], LimitScope::Project));
    }

    #[test]
    fn the_defaults_let_five_thousand_requests_a_second_pass_from_one_address() {
        let addresses =
            Addresses::new(RatesConfig::default().address_per_second, 10, FakeRelativeClock::default()).unwrap();
        assert!((0..5000).all(|_| addresses.check(v4(1)).is_ok()));
    }

    #[test]
    fn a_rate_that_can_not_be_used_is_named() {
        let mut config = RatesConfig::default();
        config.categories.insert("novelty".to_owned(), 1);
        assert!(config.validate().unwrap_err().problem.contains("novelty"));
        let config = RatesConfig { key_per_second: u32::MAX, ..RatesConfig::default() };
        assert!(config.validate().is_err());
    }
}
