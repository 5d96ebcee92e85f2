//! What SIGHUP changes in a serving aggregator.
//!
//! | takes effect | keys |
//! | --- | --- |
//! | lowered within a second, raised for the next connection | `link.window_batches`, `link.window_bytes` |
//! | for the next connection, certificate | `link.max_connections`, `link.relay_certificate_lifetime` |
//! | at once | `log.level` |
//! | at the next start | all others |

use std::sync::Arc;

use picket_common::config::reload::{ReloadError, is_within};
use picket_common::telemetry::LogHandle;

use crate::config::AggregatorConfig;

const AT_ONCE: &[&str] = &[
    "log.level",
    "link.window_batches",
    "link.window_bytes",
    "link.max_connections",
    "link.relay_certificate_lifetime",
];

/// Where an aggregator's configuration comes from, so that it can be read again.
pub struct ConfigSource {
    /// What was read for the start.
    pub config: AggregatorConfig,
    /// Reads and checks it as for the start. Blocking.
    pub read: Arc<dyn Fn() -> Result<AggregatorConfig, ReloadError> + Send + Sync>,
    /// The process's logging.
    pub logs: LogHandle,
}

/// Whether a key takes effect without a restart.
pub(super) fn takes_effect(key: &str, _started: &AggregatorConfig, _next: &AggregatorConfig) -> bool {
    is_within(key, AT_ONCE)
}
