//! What SIGHUP changes in a running relay.
//!
//! | takes effect | keys |
//! | --- | --- |
//! | at once, for the next request | `[limits]` but the two budgets, `http.trusted_proxies`, `http.body_*_timeout` |
//! | at once, for the next connection | `[tls]`, where HTTPS was on at the start and stays on |
//! | at once | `log.level` |
//! | at the next start | all others |

use std::sync::Arc;

use picket_common::config::ConfigError;
use picket_common::config::reload::{ReloadError, is_within};
use picket_common::telemetry::LogHandle;

use crate::config::RelayConfig;
use crate::http::front::Front;
use crate::http::tls::Certificates;

const AT_ONCE: &[&str] =
    &["limits", "log.level", "http.trusted_proxies", "http.body_idle_timeout", "http.body_timeout"];
/// Memory and places that are divided once.
const SIZED_AT_START: &[&str] = &["limits.max_in_flight_bytes", "limits.max_staged_bytes"];

/// Where a relay's configuration comes from, so that it can be read again.
pub struct ConfigSource {
    /// What was read for the start.
    pub config: RelayConfig,
    /// Reads and checks it as for the start. Blocking.
    pub read: Arc<dyn Fn() -> Result<RelayConfig, ConfigError> + Send + Sync>,
    /// The process's logging, where it is set up.
    pub logs: Option<LogHandle>,
}

/// Whether a key takes effect without a restart.
pub(crate) fn takes_effect(key: &str, started: &RelayConfig, next: &RelayConfig) -> bool {
    if is_within(key, &["tls"]) {
        return started.tls.files().is_some() && next.tls.files().is_some();
    }
    is_within(key, AT_ONCE) && !is_within(key, SIZED_AT_START)
}

/// What a new configuration is put into force by.
pub(crate) struct Applier {
    pub(crate) logs: Option<LogHandle>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) front: Front,
}

// === impl Applier ===

impl Applier {
    /// Puts a configuration into force: first what may fail, and then changes nothing.
    pub(crate) fn apply(&self, next: &RelayConfig) -> Result<(), ReloadError> {
        if let (Some(certificates), Some((certificate, key))) = (&self.certificates, next.tls.files()) {
            certificates.follow(certificate, key)?;
        }
        if let Some(logs) = &self.logs {
            logs.set_level(&next.log)?;
        }
        self.front.reconfigure(next.http.clone(), next.limits.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_effect_is_told_by_key_and_by_whether_https_is_on() {
        let plain = RelayConfig::default();
        let table = [
            ("limits.max_items", true),
            ("limits.rates.categories.error", true),
            ("limits.max_in_flight_bytes", false),
            ("log.level", true),
            ("log.format", false),
            ("data_dir", false),
            ("spool.max_bytes", false),
            ("tls.key", false),
        ];
        for (key, expected) in table {
            assert_eq!(takes_effect(key, &plain, &plain), expected, "{key}");
        }
        let mut secure = plain.clone();
        secure.tls.certificate = Some("one.pem".into());
        secure.tls.key = Some("two.pem".into());
        assert!(takes_effect("tls.key", &secure, &secure));
        assert!(!takes_effect("tls.key", &secure, &plain), "HTTPS can't be switched off while it runs");
    }
}
