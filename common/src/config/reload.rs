//! The configuration, read again while the program runs.
//!
//! ```text
//! SIGHUP ─▶ read all of it, as at the start ─▶ is it valid? ─ no ──▶ nothing changes
//!                                                  └ yes ─▶ apply ─▶ publish: stages see the new values, as one
//!                                       then, in any case: log line, metrics, status say how it went
//! ```
//!
//! Invariants:
//! - A configuration that is not valid as a whole changes nothing; what is wrong is told with its place and key.
//! - Keys that take effect only at the start are compared with those that the program was *started* with, and named as long as
//!   they differ: a reload never claims to have done what it has not.
//! - Signals that come while a reload is under way, or right after one, lead to one more reload, which begins after the last of them.
//!
//! What it does not do: know any key ([`Reloader::new`] is told which take effect), or wait for signals ([`Reloader::run`] is
//! given them).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::error_text::reason;
use crate::timestamp::Timestamp;

/// Least time from one reload to the next; signals in between are one. Far below what people notice, far above what a reload takes.
const LEAST_BETWEEN: Duration = Duration::from_millis(100);

/// Anything that kept a configuration from being read or applied.
pub type ReloadError = Box<dyn std::error::Error + Send + Sync>;

/// How the configuration fares, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// When the configuration in force was read.
    pub loaded_at: Timestamp,
    /// How the last reload went; absent before the first.
    pub last_reload: Option<LastReload>,
}

/// How a reload went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// When.
    pub at: Timestamp,
    /// Whether what was read is in force now.
    pub ok: bool,
    /// What was wrong with it, if it is not.
    pub error: Option<String>,
    /// Keys whose new values take effect at the next start.
    pub needs_restart: Vec<String>,
}

impl std::fmt::Display for LastReload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.at.to_rfc3339();
        match &self.error {
            Some(error) => return write!(f, "reload at {at} FAILED, the former one is in force: {error}"),
            None => write!(f, "reloaded at {at}")?,
        }
        if self.needs_restart.is_empty() {
            Ok(())
        } else {
            write!(f, "; needs a restart: {}", self.needs_restart.join(", "))
        }
    }
}

/// Reads the configuration anew on demand.
pub struct Reloader<C> {
    read: Arc<dyn Fn() -> Result<C, ReloadError> + Send + Sync>,
    takes_effect: fn(&str, &C, &C) -> bool,
    clock: fn() -> Timestamp,
    started: Arc<C>,
    current: watch::Sender<Arc<C>>,
    status: watch::Sender<ConfigStatus>,
    success: Gauge,
    last: Gauge,
}

// === impl Reloader ===

impl<C: Serialize + Send + Sync + 'static> Reloader<C> {
    /// Begins with what the program was started with. `read` reads and checks a configuration, blocking; `takes_effect` tells
    /// whether a key does at once, between the configuration of the start and a new one.
    pub fn new(
        started: C,
        read: Arc<dyn Fn() -> Result<C, ReloadError> + Send + Sync>,
        takes_effect: fn(&str, &C, &C) -> bool,
        clock: fn() -> Timestamp,
        registry: &mut Registry,
    ) -> Self {
        let started = Arc::new(started);
        let status = ConfigStatus { loaded_at: clock(), last_reload: None };
        let (success, last) = (Gauge::default(), Gauge::default());
        registry.register(
            "config_reload_success",
            "Whether the last attempt to read the configuration, at the start or on SIGHUP, succeeded (1) or not (0)",
            success.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_timestamp",
            "When the configuration in force was read, as Unix time",
            Unit::Seconds,
            last.clone(),
        );
        success.set(1);
        last.set(i64::try_from(status.loaded_at.as_seconds()).unwrap_or(i64::MAX));
        Self {
            read,
            takes_effect,
            clock,
            current: watch::Sender::new(Arc::clone(&started)),
            started,
            status: watch::Sender::new(status),
            success,
            last,
        }
    }

    /// The configuration in force. Of keys that need a restart it has the new values; who reads those reads them at the start only.
    #[must_use]
    pub fn config(&self) -> watch::Receiver<Arc<C>> {
        self.current.subscribe()
    }

    /// How it fares.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ConfigStatus> {
        self.status.subscribe()
    }

    /// Reloads at each signal until `stop`. `apply` puts into force what is not read from [`Self::config`]; where it fails, it has
    /// changed nothing.
    pub async fn run(
        self,
        mut hangup: Signal,
        apply: impl FnMut(&Arc<C>) -> Result<(), ReloadError> + Send,
        stop: CancellationToken,
    ) {
        let mut apply = apply;
        // Signals that come while this waits are one, as those that come while it reloads are.
        while stop.run_until_cancelled(hangup.recv()).await.is_some() {
            self.reload(&mut apply).await;
            if stop.run_until_cancelled(tokio::time::sleep(LEAST_BETWEEN)).await.is_none() {
                return;
            }
        }
    }

    async fn reload(&self, apply: &mut (impl FnMut(&Arc<C>) -> Result<(), ReloadError> + Send)) {
        let read = Arc::clone(&self.read);
        // It reads files.
        let next = tokio::task::spawn_blocking(move || read()).await.unwrap_or_else(|failure| Err(failure.into()));
        let taken = next.and_then(|next| {
            let next = Arc::new(next);
            apply(&next).map(|()| next)
        });
        let at = (self.clock)();
        let outcome = match taken {
            Ok(next) => self.taken(&next, at),
            Err(failure) => {
                let error = reason(failure.as_ref());
                error!(reason = error, "the configuration can't be reloaded, the former one stays in force");
                LastReload { at, ok: false, error: Some(error), needs_restart: Vec::new() }
            }
        };
        self.success.set(i64::from(outcome.ok));
        self.status.send_modify(|status| {
            if outcome.ok {
                status.loaded_at = at;
            }
            status.last_reload = Some(outcome);
        });
    }

    fn taken(&self, next: &Arc<C>, at: Timestamp) -> LastReload {
        let takes_effect = |key: &String| (self.takes_effect)(key, &self.started, next);
        let changed = changed_keys(&**self.current.borrow(), &**next).into_iter().filter(takes_effect);
        let changed: Vec<_> = changed.collect();
        let mut needs_restart = changed_keys(&*self.started, &**next);
        needs_restart.retain(|key| !takes_effect(key));
        self.current.send_replace(Arc::clone(next));
        self.last.set(i64::try_from(at.as_seconds()).unwrap_or(i64::MAX));
        info!(changed = changed.join(", "), "configuration reloaded");
        if !needs_restart.is_empty() {
            warn!(keys = needs_restart.join(", "), "these keys take effect at the next start, it needs a restart");
        }
        LastReload { at, ok: true, error: None, needs_restart }
    }
}

/// Whether a key is one of `keys`, or within one that is a section.
#[must_use]
pub fn is_within(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|section| key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The dotted paths of the keys in which two configurations differ.
fn changed_keys<C: Serialize>(one: &C, other: &C) -> Vec<String> {
    let (one, other) = (flat(one), flat(other));
    let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    keys.into_iter().filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
}

fn flat<C: Serialize>(config: &C) -> BTreeMap<String, Value> {
    fn collect(path: &str, value: Value, keys: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(section) => {
                for (name, value) in section {
                    let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                    collect(&path, value, keys);
                }
            }
            Value::Null => {}
            value => {
                keys.insert(path.to_owned(), value);
            }
        }
    }
    let mut keys = BTreeMap::new();
    // A configuration came from text and can become text; were it not so, it would have no keys to differ in.
    collect("", serde_json::to_value(config).unwrap_or_default(), &mut keys);
    keys
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use tokio::signal::unix::{SignalKind, signal};

    use super::*;

    #[derive(Debug, Clone, Default, PartialEq, Serialize)]
    struct Config {
        listen: String,
        limits: Limits,
    }

    #[derive(Debug, Clone, Default, PartialEq, Serialize)]
    struct Limits {
        items: u32,
        rates: BTreeMap<String, u32>,
    }

    fn config(listen: &str, items: u32) -> Config {
        Config { listen: listen.to_owned(), limits: Limits { items, ..Limits::default() } }
    }

    fn takes_effect(key: &str, _: &Config, _: &Config) -> bool {
        is_within(key, &["limits"])
    }

    /// A reloader that reads what `next` holds.
    fn reloader(next: &Arc<Mutex<Result<Config, String>>>) -> Reloader<Config> {
        let next = Arc::clone(next);
        let read = move || next.lock().unwrap().clone().map_err(ReloadError::from);
        let clock = || Timestamp::from_millis(1_790_000_000_000);
        Reloader::new(config("here", 1), Arc::new(read), takes_effect, clock, &mut Registry::default())
    }

    #[test]
    fn keys_that_differ_are_named_by_their_paths() {
        let mut other = config("there", 1);
        other.limits.rates.insert("error".to_owned(), 5);
        assert_eq!(changed_keys(&config("here", 1), &other), ["limits.rates.error", "listen"]);
        assert!(is_within("limits.rates.error", &["limits.rates"]) && is_within("listen", &["listen"]));
        assert!(!is_within("listener", &["listen"]) && !is_within("limits", &["limits.rates"]));
    }

    #[tokio::test]
    async fn what_is_not_valid_or_can_not_be_applied_changes_nothing_and_is_told() {
        let next = Arc::new(Mutex::new(Err("relay.toml:3: limits.items: expected at least 1".to_owned())));
        let reloader = reloader(&next);
        let mut applied = 0;
        reloader
            .reload(&mut |_: &_| {
                applied += 1;
                Ok(())
            })
            .await;
        let status = reloader.status().borrow().clone().last_reload.unwrap();
        assert!(!status.ok && status.error.unwrap().contains("relay.toml:3"));
        assert_eq!((reloader.success.get(), applied), (0, 0));
        *next.lock().unwrap() = Ok(config("here", 2));
        reloader.reload(&mut |_: &_| Err("no such file".into())).await;
        assert_eq!(**reloader.config().borrow(), config("here", 1));
        reloader.reload(&mut |_: &_| Ok(())).await;
        assert_eq!(**reloader.config().borrow(), config("here", 2));
        assert_eq!(reloader.success.get(), 1);
    }

    #[tokio::test]
    async fn a_key_that_needs_a_restart_is_named_until_it_is_what_it_was_at_the_start() {
        let next = Arc::new(Mutex::new(Ok(config("there", 2))));
        let reloader = reloader(&next);
        let needs_restart = || reloader.status().borrow().last_reload.clone().unwrap().needs_restart;
        for _ in 0..2 {
            reloader.reload(&mut |_: &_| Ok(())).await;
            assert_eq!(needs_restart(), ["listen"]);
        }
        *next.lock().unwrap() = Ok(config("here", 3));
        reloader.reload(&mut |_: &_| Ok(())).await;
        assert!(needs_restart().is_empty());
    }

    #[tokio::test]
    async fn a_storm_of_signals_is_few_reloads_and_the_last_one_sees_what_came_last() {
        let next = Arc::new(Mutex::new(Ok(config("here", 0))));
        let reloader = reloader(&next);
        let (mut current, stop) = (reloader.config(), CancellationToken::new());
        let hangup = signal(SignalKind::hangup()).unwrap();
        let reloads = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&reloads);
        let apply = move |_: &_| {
            *counted.lock().unwrap() += 1;
            Ok(())
        };
        let running = tokio::spawn(reloader.run(hangup, apply, stop.clone()));
        let pid = rustix::process::getpid();
        for number in 1..=200 {
            *next.lock().unwrap() = Ok(config("here", number));
            rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        }
        tokio::time::timeout(Duration::from_secs(20), current.wait_for(|config| config.limits.items == 200))
            .await
            .unwrap()
            .unwrap();
        stop.cancel();
        running.await.unwrap();
        let reloads = *reloads.lock().unwrap();
        assert!((1..100).contains(&reloads), "{reloads}");
    }
}
