//! Configuration loading: TOML file, then environment, then flags; each overrides the one before.
//!
//! A configuration is a struct per section with `#[serde(default, deny_unknown_fields)]` and its defaults in one place.
//! The environment names a key by its path: `PICKET_RELAY__LISTEN` is `listen`, `PICKET_AGGREGATOR__CLICKHOUSE__URL` is
//! `clickhouse.url`. Every fault names where the value came from (file and line, variable, or flag), the key and the problem.
//!
//! What it does not do: know any key. The two programs define theirs and pass the struct in.

mod origin;
pub mod reload;
mod units;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use units::{ByteSize, Span};

use origin::Origins;

/// A configuration that can check itself.
pub trait Validate {
    /// Checks what types can't express.
    ///
    /// # Errors
    /// The dotted path of the first offending key and what is wrong with its value.
    fn validate(&self) -> Result<(), InvalidValue>;
}

/// A value that parses but can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    /// Dotted path, such as `spool.max_bytes`.
    pub key: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl InvalidValue {
    /// Names a key and its problem.
    #[must_use]
    pub fn new(key: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), problem: problem.into() }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was asked for can't be read.
    #[error("can't read the configuration file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A syntax error, an unknown key or a value of the wrong type.
    #[error("{origin}: {problem}")]
    Invalid {
        /// `FILE:LINE`, `environment variable NAME`, or `flag NAME`.
        origin: String,
        /// What is wrong, with the key.
        problem: String,
    },
}

/// A value given by a command-line flag.
#[derive(Debug, Clone)]
pub struct Override {
    /// The flag as the user typed it, such as `--data-dir`.
    pub flag: &'static str,
    /// Dotted path of the key it sets.
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

/// Where a configuration comes from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The file; `None` for built-in defaults.
    pub file: Option<PathBuf>,
    /// `PICKET_RELAY` or `PICKET_AGGREGATOR`.
    pub env_prefix: &'static str,
    /// The environment, passed in so that tests can hold it.
    pub env: Vec<(String, String)>,
    /// Flags, in order.
    pub overrides: Vec<Override>,
}

impl Sources {
    /// The sources of a program: `chosen` from `--config`, else `standard` where that file exists; the process
    /// environment; and the flags.
    #[must_use]
    pub fn of_process(
        chosen: Option<PathBuf>,
        standard: &str,
        env_prefix: &'static str,
        overrides: Vec<Override>,
    ) -> Self {
        let standard = Path::new(standard);
        let file = chosen.or_else(|| standard.exists().then(|| standard.to_owned()));
        // A variable that is not Unicode can't be one of ours.
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { file, env_prefix, env, overrides }
    }
}

/// Reads a configuration and checks it.
///
/// # Errors
/// [`ConfigError`] for the first fault found: unreadable file, syntax, unknown key, wrong type, refused value.
pub fn load<T: DeserializeOwned + Validate>(sources: &Sources) -> Result<T, ConfigError> {
    load_with(sources, |_| Ok(()))
}

/// Reads a configuration, checks it, and then asks `surroundings`: what it names, such as files, may not be there.
///
/// # Errors
/// As [`load`]; what `surroundings` refuses is told like a refused value.
pub fn load_with<T: DeserializeOwned + Validate>(
    sources: &Sources,
    surroundings: impl FnOnce(&T) -> Result<(), InvalidValue>,
) -> Result<T, ConfigError> {
    let (mut table, mut origins) = match &sources.file {
        Some(path) => from_file::<T>(path)?,
        None => (Table::new(), Origins::default()),
    };
    for (name, text) in environment(sources) {
        apply_variable::<T>(&mut table, &mut origins, sources.env_prefix, name, text)?;
    }
    for over in &sources.overrides {
        set(&mut table, over.key, over.value.clone());
        origins.set(over.key, format!("flag {}", over.flag));
        check::<T>(&table).map_err(|problem| invalid(&origins, over.key, problem))?;
    }
    let loaded: T = Value::Table(table).try_into().map_err(|error: toml::de::Error| ConfigError::Invalid {
        origin: "configuration".to_owned(),
        problem: error.message().to_owned(),
    })?;
    loaded
        .validate()
        .and_then(|()| surroundings(&loaded))
        .map_err(|fault| invalid(&origins, &fault.key, format!("{}: {}", fault.key, fault.problem)))?;
    Ok(loaded)
}

fn invalid(origins: &Origins, key: &str, problem: String) -> ConfigError {
    ConfigError::Invalid { origin: origins.get(key), problem }
}

fn check<T: DeserializeOwned>(table: &Table) -> Result<(), String> {
    T::deserialize(Value::Table(table.clone())).map(|_| ()).map_err(|error| error.message().to_owned())
}

fn from_file<T: DeserializeOwned>(path: &Path) -> Result<(Table, Origins), ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let origins = Origins::of_file(path, &text);
    // Parsed as `T` first, because only then do errors carry their place in the text.
    if let Err(error) = toml::from_str::<T>(&text) {
        let offset = error.span().map_or(0, |span| span.start);
        let line = origin::line_of(&text, offset);
        let problem = match origins.key_at(line) {
            Some(key) => format!("{key}: {}", error.message()),
            None => error.message().to_owned(),
        };
        return Err(ConfigError::Invalid { origin: format!("{}:{line}", path.display()), problem });
    }
    let table = text.parse().map_err(|error: toml::de::Error| ConfigError::Invalid {
        origin: path.display().to_string(),
        problem: error.message().to_owned(),
    })?;
    Ok((table, origins))
}

/// The variables that carry our prefix, sorted so that the result does not depend on the order of the environment.
fn environment(sources: &Sources) -> Vec<(&str, &str)> {
    let mut ours: Vec<_> = sources
        .env
        .iter()
        .filter(|(name, _)| name.strip_prefix(sources.env_prefix).is_some_and(|rest| rest.starts_with("__")))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    ours.sort_unstable();
    ours
}

/// A variable is text; whether its key wants text, a number, a boolean or a list is not known here, so both are tried.
fn apply_variable<T: DeserializeOwned>(
    table: &mut Table,
    origins: &mut Origins,
    prefix: &str,
    name: &str,
    text: &str,
) -> Result<(), ConfigError> {
    let key = name[prefix.len() + 2..].to_ascii_lowercase().replace("__", ".");
    origins.set(&key, format!("environment variable {name}"));
    let mut candidates = vec![Value::String(text.to_owned())];
    let literal = format!("value = {text}").parse::<Table>().ok().and_then(|mut parsed| parsed.remove("value"));
    candidates.extend(literal.filter(|value| !value.is_str()));
    let mut problem = String::new();
    for candidate in candidates {
        let mut attempt = table.clone();
        set(&mut attempt, &key, candidate);
        match check::<T>(&attempt) {
            Ok(()) => {
                *table = attempt;
                return Ok(());
            }
            Err(message) => problem = message,
        }
    }
    Err(invalid(origins, &key, format!("{key}: {problem}")))
}

/// Sets a dotted key, making tables on the way; what stood in the way is replaced, and the type check then names it.
fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(inner) = entry {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
