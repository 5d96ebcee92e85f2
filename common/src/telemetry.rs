//! Logs and metrics: how both programs set up `tracing` and how a metrics registry becomes text.
//!
//! Logs go to stderr (stdout is for answers) or to the journal. What never goes into them: payloads, secrets.

use std::io::IsTerminal;

use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

/// Content type of [`encode_metrics`].
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// The journal where stderr is connected to it, else the console form.
    #[default]
    Auto,
    /// One readable line an event on stderr.
    Console,
    /// One JSON object a line on stderr.
    Json,
    /// systemd's journal, with fields.
    Journald,
}

/// The `[log]` section of both configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,picket_relay::spool=debug`.
    pub level: String,
    /// The form of the lines.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is no level and no list of directives.
    #[error("{0:?} is neither a level (error, warn, info, debug, trace) nor a list of directives")]
    Level(String),
    /// The journal was asked for by name and is not there.
    #[error("log.format is journald, but the journal can't be reached: {0}")]
    Journal(std::io::Error),
    /// The process's logging has ended.
    #[error("logging has ended")]
    Gone,
    /// A second call in one process.
    #[error("logging is set up already")]
    Twice,
}

impl LogConfig {
    /// Reads the level.
    ///
    /// # Errors
    /// [`TelemetryError::Level`] if it is none.
    pub fn filter(&self) -> Result<EnvFilter, TelemetryError> {
        let refused = || TelemetryError::Level(self.level.clone());
        // The parser takes any word that is no level for a target, and a misspelt level then silences all else. So a target needs
        // its level here: `target=trace`.
        let is_level = |directive: &str| !directive.is_empty() && directive.parse::<LevelFilter>().is_ok();
        let says_for_what = |directive: &str| directive.contains(['=', '[', ']']);
        if self.level.split(',').map(str::trim).any(|directive| !says_for_what(directive) && !is_level(directive)) {
            return Err(refused());
        }
        EnvFilter::builder().parse(&self.level).map_err(|_| refused())
    }
}

/// Sets the process's logging up. To be called once, from `main`.
///
/// # Errors
/// [`TelemetryError`], see its variants.
pub fn init_logs(config: &LogConfig) -> Result<LogHandle, TelemetryError> {
    let (filter, handle) = reload::Layer::new(config.filter()?);
    let stderr_is_journal = std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::stderr().is_terminal();
    let layer = match config.format {
        LogFormat::Journald => tracing_journald::layer().map_err(TelemetryError::Journal)?.boxed(),
        LogFormat::Auto if stderr_is_journal => match tracing_journald::layer() {
            Ok(journal) => journal.boxed(),
            Err(_) => console(),
        },
        LogFormat::Auto | LogFormat::Console => console(),
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
    };
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    subscriber.try_init().map_err(|_| TelemetryError::Twice)?;
    Ok(LogHandle { filter: handle })
}

/// The process's logging, for changing its level while it runs.
#[derive(Debug, Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
}

// === impl LogHandle ===

impl LogHandle {
    /// Takes over the level; the form of the lines stays as it was set up.
    ///
    /// # Errors
    /// [`TelemetryError::Level`] if it is none.
    pub fn set_level(&self, config: &LogConfig) -> Result<(), TelemetryError> {
        let filter = config.filter()?;
        self.filter.reload(filter).map_err(|_| TelemetryError::Gone)
    }
}

fn console<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt::layer().with_ansi(colours).with_target(false).with_writer(std::io::stderr).boxed()
}

/// The registry's state in the text form that Prometheus reads.
#[must_use]
pub fn encode_metrics(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string fails only if a metric refuses to encode itself; then what was written so far is served.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_word_or_a_list_of_directives() {
        let read = |level: &str| LogConfig { level: level.to_owned(), ..LogConfig::default() }.filter();
        for level in ["info", "WARN", "off", "debug,picket_relay::spool=trace", "info,[batch]=debug"] {
            assert!(read(level).is_ok(), "{level}");
        }
        for level in ["", "loud", "info,loud", "info,", "picket_relay=loud", "picket=loud=er", "picket_relay::spool"] {
            assert!(read(level).is_err(), "{level}");
        }
    }
}
