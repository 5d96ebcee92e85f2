//! The aggregator's configuration: one struct per section, defaults in one place, checked as a whole.
//!
//! `packaging/aggregator.toml` documents every key; a test keeps the two equal.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use picket_common::config::{InvalidValue, Span, Validate};
use picket_common::telemetry::LogConfig;
use serde::{Deserialize, Serialize};

use crate::database::DatabaseLocation;
use crate::events::config::ClickHouseConfig;
use crate::intake::config::LinkConfig;
use crate::journal::config::JournalConfig;
use crate::process::config::ProcessConfig;

/// The file that is read when no `--config` is given.
pub const STANDARD_FILE: &str = "/etc/picket/aggregator.toml";
/// Prefix of the environment variables that set keys.
pub const ENV_PREFIX: &str = "PICKET_AGGREGATOR";

/// All of `aggregator.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AggregatorConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Pages and API.
    pub listen: SocketAddr,
    /// The address that people and `sentry-cli` reach the pages under.
    pub public_url: String,
    /// The address new DSNs name: that of a relay.
    pub relay_url: String,
    /// The organisation's slug.
    pub organisation: String,
    /// Where relays connect (UDP).
    pub link_listen: SocketAddr,
    /// `host:port` that join tokens and relays are told; empty for `link_listen` with the host's name or loopback.
    pub link_advertise: Vec<String>,
    /// Metrics and health.
    pub admin_listen: SocketAddr,
    /// How long stopping may take as a whole.
    pub shutdown_timeout: Span,
    /// Logs.
    pub log: LogConfig,
    /// The link to relays.
    pub link: LinkConfig,
    /// The journal.
    pub journal: JournalConfig,
    /// From journal to ClickHouse.
    pub process: ProcessConfig,
    /// The events store.
    pub clickhouse: ClickHouseConfig,
    /// The SQL database.
    pub database: DatabaseConfig,
}

/// The `[database]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite`: a file in the data directory. Or `postgres://user:password@host:port/database`, which several aggregators may
    /// share.
    pub url: String,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { url: "sqlite".to_owned() }
    }
}

impl Default for AggregatorConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/picket-aggregator"),
            listen: SocketAddr::from(([0, 0, 0, 0], 8000)),
            public_url: "http://127.0.0.1:8000".to_owned(),
            relay_url: "http://127.0.0.1:3000".to_owned(),
            organisation: "picket".to_owned(),
            link_listen: SocketAddr::from(([0, 0, 0, 0], 7443)),
            link_advertise: Vec::new(),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8001)),
            shutdown_timeout: Span::secs(45),
            log: LogConfig::default(),
            link: LinkConfig::default(),
            journal: JournalConfig::default(),
            process: ProcessConfig::default(),
            clickhouse: ClickHouseConfig::default(),
            database: DatabaseConfig::default(),
        }
    }
}

impl AggregatorConfig {
    /// What join tokens and relays are told to connect to. Without `link_advertise` that is the listening address, with
    /// loopback in place of "every address": right for a relay on the same host, and the only thing that can be known.
    #[must_use]
    pub fn advertised(&self) -> Vec<String> {
        if !self.link_advertise.is_empty() {
            return self.link_advertise.clone();
        }
        let mut address = self.link_listen;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        vec![address.to_string()]
    }
}

impl Validate for AggregatorConfig {
    fn validate(&self) -> Result<(), InvalidValue> {
        for (key, url) in [("public_url", &self.public_url), ("relay_url", &self.relay_url)] {
            let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            if host.is_none_or(str::is_empty) {
                return Err(InvalidValue::new(key, format!("expected an http(s) address, found {url:?}")));
            }
        }
        let is_slug = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.organisation.is_empty() || !self.organisation.bytes().all(is_slug) {
            return Err(InvalidValue::new("organisation", "expected lower-case letters, digits and dashes"));
        }
        for address in &self.link_advertise {
            if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                return Err(InvalidValue::new("link_advertise", format!("expected host:port, found {address:?}")));
            }
        }
        DatabaseLocation::parse(&self.database.url, Path::new(""))
            .map_err(|problem| InvalidValue::new("database.url", problem))?;
        if self.shutdown_timeout.get() < Span::secs(1).get() {
            return Err(InvalidValue::new("shutdown_timeout", "must be at least 1s"));
        }
        self.log.filter().map_err(|error| InvalidValue::new("log.level", error.to_string()))?;
        self.link.validate()?;
        self.journal.validate()?;
        self.process.validate()?;
        self.clickhouse.validate()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DEFAULT_FILE: &str = include_str!("../../packaging/aggregator.toml");

    #[test]
    fn the_packaged_file_sets_nothing() {
        assert_eq!(toml::from_str::<AggregatorConfig>(DEFAULT_FILE).unwrap(), AggregatorConfig::default());
    }

    #[test]
    fn every_key_is_documented_in_the_packaged_file_at_its_default() {
        let uncommented: String = DEFAULT_FILE
            .lines()
            .map(|line| match line.strip_prefix("#") {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        assert_eq!(toml::from_str::<AggregatorConfig>(&uncommented).unwrap(), AggregatorConfig::default());
        let documented: toml::Table = uncommented.parse().unwrap();
        let all = toml::Table::try_from(AggregatorConfig::default()).unwrap();
        assert_eq!(keys(&documented, ""), keys(&all, ""));
    }

    fn keys(table: &toml::Table, prefix: &str) -> std::collections::BTreeSet<String> {
        table
            .iter()
            .flat_map(|(name, value)| match value {
                toml::Value::Table(inner) => keys(inner, &format!("{prefix}{name}.")),
                _ => [format!("{prefix}{name}")].into(),
            })
            .collect()
    }

    #[test]
    fn a_relay_on_the_same_host_is_told_loopback() {
        assert_eq!(AggregatorConfig::default().advertised(), ["127.0.0.1:7443"]);
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_key() {
        let refused = |config: AggregatorConfig| config.validate().unwrap_err().key;
        let config = AggregatorConfig::default();
        assert_eq!(refused(AggregatorConfig { public_url: "picket".into(), ..config.clone() }), "public_url");
        let log = LogConfig { level: "loud".into(), ..LogConfig::default() };
        assert_eq!(refused(AggregatorConfig { log, ..config.clone() }), "log.level");
        assert_eq!(refused(AggregatorConfig { organisation: "No Spaces".into(), ..config.clone() }), "organisation");
        assert_eq!(
            refused(AggregatorConfig { link_advertise: vec!["host".into()], ..config.clone() }),
            "link_advertise"
        );
        assert_eq!(
            refused(AggregatorConfig { database: DatabaseConfig { url: "x".into() }, ..config }),
            "database.url"
        );
    }
}
