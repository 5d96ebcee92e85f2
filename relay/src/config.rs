//! The relay's configuration: one struct per section, defaults in one place, values that check themselves.
//!
//! The packaged default file (`packaging/relay.toml`) documents every key; tests below hold the two together.
//! What it does not do: read files or variables (`picket_common::config`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use picket_common::config::{ByteSize, InvalidValue, Span, Validate};
use picket_common::telemetry::LogConfig;
use serde::{Deserialize, Serialize};

use crate::http::client_address::Network;
use crate::limit::rates::RatesConfig;
use crate::spool::SpoolConfig;
use crate::uplink::UplinkConfig;

/// Where the configuration is looked for without `--config`.
pub const STANDARD_FILE: &str = "/etc/picket/relay.toml";
/// What the relay's environment variables start with.
pub const ENV_PREFIX: &str = "PICKET_RELAY";

/// Everything a relay can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayConfig {
    /// Identity and spool live under this directory.
    pub data_dir: PathBuf,
    /// Where SDKs reach the relay.
    pub listen: SocketAddr,
    /// Metrics and status. Not authenticated, so keep it on loopback.
    pub admin_listen: SocketAddr,
    /// Logging.
    pub log: LogConfig,
    /// How large requests and their parts may be.
    pub limits: LimitsConfig,
    /// The HTTP server.
    pub http: HttpConfig,
    /// TLS on the port that SDKs reach.
    pub tls: TlsConfig,
    /// The spool.
    pub spool: SpoolConfig,
    /// The link to the aggregator.
    pub uplink: UplinkConfig,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/picket-relay"),
            listen: SocketAddr::from(([0, 0, 0, 0], 3000)),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 3001)),
            log: LogConfig::default(),
            limits: LimitsConfig::default(),
            http: HttpConfig::default(),
            tls: TlsConfig::default(),
            spool: SpoolConfig::default(),
            uplink: UplinkConfig::default(),
        }
    }
}

impl Validate for RelayConfig {
    fn validate(&self) -> Result<(), InvalidValue> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(InvalidValue::new("data_dir", "expected the path of a directory"));
        }
        self.log.filter().map_err(|error| InvalidValue::new("log.level", error.to_string()))?;
        self.limits.validate()?;
        self.http.validate()?;
        self.tls.validate()?;
        self.spool.validate()?;
        self.uplink.validate()
    }
}

/// `[limits]`: sizes count decompressed bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Longest body of the envelope endpoint.
    pub max_envelope_bytes: ByteSize,
    /// Longest body of the store endpoint.
    pub max_store_bytes: ByteSize,
    /// Longest payload of an item that is an event.
    pub max_event_bytes: ByteSize,
    /// Longest payload of an attachment.
    pub max_attachment_bytes: ByteSize,
    /// Longest sum of an envelope's attachments.
    pub max_attachments_bytes: ByteSize,
    /// Longest body of the minidump endpoint, which may bring attachments beside the dump.
    pub max_minidump_bytes: ByteSize,
    /// Longest body, or part of one, that is held in memory; longer ones are staged, sealed, in `data_dir/staging`.
    pub max_body_in_memory: ByteSize,
    /// Most bytes that are staged at once. When they are used up, large bodies are answered 503.
    pub max_staged_bytes: ByteSize,
    /// Most items in an envelope.
    pub max_items: usize,
    /// Memory for all requests together: their bodies, decompressed and once more as records, until they are answered.
    pub max_in_flight_bytes: ByteSize,
    /// How many requests and items a second.
    pub rates: RatesConfig,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_envelope_bytes: ByteSize::mib(200),
            max_store_bytes: ByteSize::mib(1),
            max_event_bytes: ByteSize::mib(1),
            max_attachment_bytes: ByteSize::mib(200),
            max_attachments_bytes: ByteSize::mib(200),
            max_minidump_bytes: ByteSize::gib(1),
            max_body_in_memory: ByteSize::mib(1),
            max_staged_bytes: ByteSize::gib(4),
            max_items: picket_common::envelope::MAX_ITEMS,
            // Some forty bodies of the longest kind that is held in memory, or thousands of usual ones. With all else that the relay
            // holds at most it comes to 200 MiB (docs/relay.md).
            max_in_flight_bytes: ByteSize::mib(96),
            rates: RatesConfig::default(),
        }
    }
}

impl LimitsConfig {
    fn validate(&self) -> Result<(), InvalidValue> {
        let (least, most) = (ByteSize::kib(1), ByteSize::gib(64));
        for (key, value) in [
            ("limits.max_envelope_bytes", self.max_envelope_bytes),
            ("limits.max_store_bytes", self.max_store_bytes),
            ("limits.max_minidump_bytes", self.max_minidump_bytes),
        ] {
            if value < least || value > most {
                return Err(InvalidValue::new(key, format!("expected a size from {least} to {most}")));
            }
        }
        // What is held in memory must fit a batch several times over.
        let most = ByteSize::mib(16);
        for (key, value) in [
            ("limits.max_body_in_memory", self.max_body_in_memory),
            ("limits.max_store_bytes", self.max_store_bytes),
            ("limits.max_event_bytes", self.max_event_bytes),
        ] {
            if value < least || value > most {
                return Err(InvalidValue::new(key, format!("expected a size from {least} to {most}")));
            }
        }
        if self.max_items == 0 {
            return Err(InvalidValue::new("limits.max_items", "expected at least 1"));
        }
        // A body is held as it came and once more as the record that is spooled.
        let needed = 2 * self.max_body_in_memory.max(self.max_store_bytes).as_u64();
        if self.max_in_flight_bytes.as_u64() < needed {
            let problem =
                format!("expected at least {}, twice the longest body that is held in memory", ByteSize::bytes(needed));
            return Err(InvalidValue::new("limits.max_in_flight_bytes", problem));
        }
        self.rates.validate()
    }
}

/// `[http]`: the server that SDKs talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Connections open at once. When all are in use, the longest idle are closed for new clients.
    pub max_connections: usize,
    /// Networks of the proxies in front of the relay. Headers that name a client's address count only from there.
    pub trusted_proxies: Vec<Network>,
    /// Headers of a request; more are answered 431.
    pub max_headers: usize,
    /// Longest head of a request; more is answered 431. Also what a connection buffers at most.
    pub max_head_bytes: ByteSize,
    /// How long a client may take for the head of a request; also how long an idle connection is kept.
    pub header_timeout: Span,
    /// How long a request may take before its connection may be closed for a new client, when none is idle.
    pub yield_after: Span,
    /// How long a client may pause within a body.
    pub body_idle_timeout: Span,
    /// How long a body may take as a whole.
    pub body_timeout: Span,
    /// How long requests in flight may take to finish once the relay is told to stop.
    pub shutdown_timeout: Span,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            // Ten thousand idle ones keep nobody out; each takes about 3 KB.
            max_connections: 16_384,
            trusted_proxies: Vec::new(),
            max_headers: 100,
            max_head_bytes: ByteSize::kib(32),
            header_timeout: Span::secs(15),
            yield_after: Span::secs(10),
            body_idle_timeout: Span::secs(30),
            body_timeout: Span::secs(300),
            shutdown_timeout: Span::secs(10),
        }
    }
}

impl HttpConfig {
    fn validate(&self) -> Result<(), InvalidValue> {
        if self.max_connections == 0 || self.max_connections > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(InvalidValue::new("http.max_connections", "expected at least 1"));
        }
        if self.max_headers == 0 {
            return Err(InvalidValue::new("http.max_headers", "expected at least 1"));
        }
        if !(ByteSize::kib(8)..=ByteSize::mib(1)).contains(&self.max_head_bytes) {
            return Err(InvalidValue::new("http.max_head_bytes", "expected a size from 8KiB to 1MiB"));
        }
        for (key, value) in [
            ("http.header_timeout", self.header_timeout),
            ("http.yield_after", self.yield_after),
            ("http.body_idle_timeout", self.body_idle_timeout),
            ("http.body_timeout", self.body_timeout),
        ] {
            if value.get().is_zero() {
                return Err(InvalidValue::new(key, "expected a span above zero, such as \"30s\""));
            }
        }
        Ok(())
    }
}

/// `[tls]`: HTTPS on the port that SDKs reach. Both files or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate and what links it to an authority that clients trust, in PEM.
    pub certificate: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key: Option<PathBuf>,
}

impl TlsConfig {
    /// The two files, if HTTPS is wanted.
    #[must_use]
    pub fn files(&self) -> Option<(&Path, &Path)> {
        self.certificate.as_deref().zip(self.key.as_deref())
    }

    fn validate(&self) -> Result<(), InvalidValue> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => Err(InvalidValue::new("tls.certificate", "expected tls.key beside it")),
            (None, Some(_)) => Err(InvalidValue::new("tls.key", "expected tls.certificate beside it")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::config::{Sources, load};

    const PACKAGED: &str = include_str!("../../packaging/relay.toml");

    fn loaded(text: &str) -> Result<RelayConfig, picket_common::config::ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(&Sources { file: Some(file.path().to_owned()), env_prefix: ENV_PREFIX, ..Sources::default() })
    }

    /// The packaged file with every commented-out key switched on: a line of the form `#key = value`, no blank after `#`.
    fn uncommented() -> String {
        PACKAGED
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase()) => rest,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_packaged_file_says_nothing_but_the_defaults() {
        assert_eq!(loaded(PACKAGED).unwrap(), RelayConfig::default());
    }

    #[test]
    fn every_key_in_the_packaged_file_exists_and_stands_at_its_default() {
        assert_eq!(loaded(&uncommented()).unwrap(), RelayConfig::default());
    }

    #[test]
    fn every_key_is_in_the_packaged_file() {
        fn paths(prefix: &str, value: &serde_json::Value, out: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(map) => {
                    for (key, value) in map {
                        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                        paths(&path, value, out);
                    }
                }
                // An option that is off by default has no value to write down; the other tests can't hold it either.
                serde_json::Value::Null => {}
                _ => out.push(prefix.to_owned()),
            }
        }
        let documented: toml::Table = uncommented().parse().unwrap();
        let documented = serde_json::to_value(documented).unwrap();
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        paths("", &serde_json::to_value(RelayConfig::default()).unwrap(), &mut expected);
        paths("", &documented, &mut found);
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_defaults_are_valid() {
        RelayConfig::default().validate().unwrap();
    }

    #[test]
    fn a_refused_value_is_named_with_its_line_and_key() {
        for (text, key) in [
            ("[limits]\nmax_envelope_bytes = '1TiB'\n", "limits.max_envelope_bytes"),
            ("[limits]\nmax_body_in_memory = '1GiB'\n", "limits.max_body_in_memory"),
            ("[limits]\nmax_in_flight_bytes = '1MiB'\n", "limits.max_in_flight_bytes"),
            ("[limits]\nmax_items = 0\n", "limits.max_items"),
            ("[limits.rates]\nmax_addresses = 0\n", "limits.rates.max_addresses"),
            ("[http]\nmax_connections = 0\n", "http.max_connections"),
            ("[http]\nbody_timeout = '0s'\n", "http.body_timeout"),
            ("[http]\nmax_head_bytes = '1KiB'\n", "http.max_head_bytes"),
            ("[http]\ntrusted_proxies = ['10.0.0.0/33']\n", "http.trusted_proxies"),
            ("[tls]\nkey = 'key.pem'\n", "tls.key"),
            ("[http]\nnovelty = 1\n", "novelty"),
            ("[log]\nlevel = 'a=b=c'\n", "log.level"),
            ("[log]\nlevel = 'loud'\n", "log.level: \"loud\" is neither"),
        ] {
            let message = loaded(text).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains(":2: "), "{message}");
        }
    }
}
