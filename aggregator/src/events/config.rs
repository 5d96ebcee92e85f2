//! The `[clickhouse]` section of the configuration.

use std::path::PathBuf;

use picket_common::config::{InvalidValue, Span};
use serde::{Deserialize, Serialize};

/// The value of `url` that means the engine inside this process.
pub const EMBEDDED: &str = "embedded";

/// The events store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouseConfig {
    /// `embedded`, or the HTTP address of a ClickHouse server.
    pub url: String,
    /// User at the server; not used by the embedded engine.
    pub user: String,
    /// Password at the server; not used by the embedded engine.
    pub password: String,
    /// Database at the server; made where it is missing.
    pub database: String,
    /// Path of libchdb for the embedded engine; empty to look in the standard places.
    pub library: PathBuf,
    /// Longest time one insert may take before it counts as in doubt and is repeated.
    pub insert_timeout: Span,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            url: EMBEDDED.to_owned(),
            user: "default".to_owned(),
            password: String::new(),
            database: "picket".to_owned(),
            library: PathBuf::new(),
            insert_timeout: Span::secs(120),
        }
    }
}

impl ClickHouseConfig {
    /// Checks what types can't express.
    ///
    /// # Errors
    /// The first key whose value can't work.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        let is_http = self.url.starts_with("http://");
        if self.url != EMBEDDED && !is_http {
            let problem = format!("expected \"{EMBEDDED}\" or an http:// address, found {:?}", self.url);
            return Err(InvalidValue::new("clickhouse.url", problem));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if self.database.is_empty() || !self.database.bytes().all(is_name) {
            return Err(InvalidValue::new("clickhouse.database", "expected letters, digits and underscores"));
        }
        if self.insert_timeout < Span::secs(1) || self.insert_timeout > Span::secs(3600) {
            return Err(InvalidValue::new("clickhouse.insert_timeout", "must be between 1s and 3600s"));
        }
        Ok(())
    }

    /// Looks for the library where one is named for the built-in engine.
    ///
    /// # Errors
    /// The key, if there is no such file.
    pub fn check_library(&self) -> Result<(), InvalidValue> {
        if self.url != EMBEDDED || self.library.as_os_str().is_empty() || self.library.is_file() {
            return Ok(());
        }
        let problem = format!(
            "there is no file {}; expected the path of libchdb.so, or nothing to look in the standard places",
            self.library.display()
        );
        Err(InvalidValue::new("clickhouse.library", problem))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_library_that_is_named_must_be_there_for_the_built_in_engine() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let missing = PathBuf::from("/nowhere/libchdb.so");
        let with = |library| ClickHouseConfig { library, ..ClickHouseConfig::default() };
        assert_eq!(with(missing.clone()).check_library().unwrap_err().key, "clickhouse.library");
        assert_eq!(with(std::env::temp_dir()).check_library().unwrap_err().key, "clickhouse.library");
        for config in [
            with(PathBuf::new()),
            with(file.path().to_owned()),
            ClickHouseConfig { url: "http://clickhouse:8123".to_owned(), ..with(missing) },
        ] {
            config.check_library().unwrap();
        }
    }
}
