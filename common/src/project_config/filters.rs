//! Inbound filters as a project is configured with them: what it does not want to have stored.
//!
//! The shape is Sentry's `filterSettings`. Reading is lenient (what is not known matches nothing), [`FilterSettings::validate`]
//! is strict and names the key. What a filter does is in the relay (`filter`).

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::filter_entry::{InvalidFilter, MAX_ENTRIES, network};
use crate::glob::Glob;

/// The version of generic filters that is understood here; a configuration of a later one is not applied at all.
pub const GENERIC_VERSION: u16 = 1;
/// Longest id of a generic filter, which is also its outcome's reason, in bytes.
const MAX_ID_BYTES: usize = 64;

/// All inbound filters of a project.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterSettings {
    /// Conditions over the event.
    pub generic: GenericFilters,
    /// Reports of content security policies.
    pub csp: CspFilter,
    /// Addresses that nothing is taken from.
    pub client_ips: ClientIpFilter,
    /// Releases that nothing is taken of.
    pub releases: ReleaseFilter,
    /// Errors by their messages.
    pub error_messages: PatternFilter,
    /// What happens on developers' machines.
    pub localhost: Switch,
    /// What browser extensions raise.
    pub browser_extensions: Switch,
    /// Browsers that are too old.
    pub legacy_browsers: LegacyBrowserFilter,
    /// Robots.
    pub web_crawlers: Switch,
    /// Transactions by name, such as health checks.
    pub ignore_transactions: PatternFilter,
}

/// A filter that is on or off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Switch {
    /// On.
    pub is_enabled: bool,
}

/// Conditions over the event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GenericFilters {
    /// The language they are written in ([`GENERIC_VERSION`]).
    pub version: u16,
    /// The filters, in order.
    pub filters: Vec<GenericFilter>,
}

/// One condition with a name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GenericFilter {
    /// The outcome's reason.
    pub id: String,
    /// On.
    pub is_enabled: bool,
    /// What is dropped; without one nothing is.
    pub condition: Option<Condition>,
}

/// Reports of content security policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CspFilter {
    /// `[scheme://]host[:port]` with `*` for any part and `*.host` for its subdomains.
    pub disallowed_sources: Vec<String>,
}

/// Addresses that nothing is taken from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpFilter {
    /// Addresses and networks (`10.0.0.0/8`).
    pub blacklisted_ips: Vec<String>,
}

/// Releases that nothing is taken of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseFilter {
    /// Globs.
    pub releases: Vec<String>,
}

/// A list of globs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PatternFilter {
    /// Off keeps the patterns without applying them.
    pub is_enabled: bool,
    /// The globs.
    pub patterns: Vec<String>,
}

/// Browsers that are too old.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LegacyBrowserFilter {
    /// On. Without options, `default` is meant.
    pub is_enabled: bool,
    /// Which.
    pub options: Vec<LegacyBrowser>,
}

/// A class of old browsers. Numbers are major versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegacyBrowser {
    /// `ie_pre_9`, `safari_pre_6`, `opera_pre_15`, `opera_mini_pre_8` and `android_pre_4`.
    Default,
    /// Every Internet Explorer.
    Ie,
    /// Internet Explorer below 9.
    #[serde(rename = "ie_pre_9")]
    IePre9,
    /// Internet Explorer 9.
    Ie9,
    /// Internet Explorer 10.
    Ie10,
    /// Internet Explorer 11.
    Ie11,
    /// Edge below 111.
    Edge,
    /// Edge before it became a Chromium, below 79.
    #[serde(rename = "edge_pre_79")]
    EdgePre79,
    /// Chrome below 111.
    Chrome,
    /// Firefox below 111.
    Firefox,
    /// Safari below 16.
    Safari,
    /// Safari below 6.
    #[serde(rename = "safari_pre_6")]
    SafariPre6,
    /// Opera below 100.
    Opera,
    /// Opera below 15.
    #[serde(rename = "opera_pre_15")]
    OperaPre15,
    /// Opera Mini below 35.
    OperaMini,
    /// Opera Mini below 8.
    #[serde(rename = "opera_mini_pre_8")]
    OperaMiniPre8,
    /// Android's own browser below 4.
    Android,
    /// The same.
    #[serde(rename = "android_pre_4")]
    AndroidPre4,
    /// Of a newer version; matches nothing.
    #[serde(other)]
    Unknown,
}

impl Default for GenericFilters {
    fn default() -> Self {
        Self { version: GENERIC_VERSION, filters: Vec::new() }
    }
}

impl Default for PatternFilter {
    fn default() -> Self {
        Self { is_enabled: true, patterns: Vec::new() }
    }
}

// === impl FilterSettings ===

impl FilterSettings {
    /// Checks what an operator sets.
    ///
    /// # Errors
    /// [`InvalidFilter`] for the first entry that can't be used.
    pub fn validate(&self) -> Result<(), InvalidFilter> {
        self.generic.validate()?;
        check_each("csp.disallowedSources", &self.csp.disallowed_sources, check_source)?;
        check_each("clientIps.blacklistedIps", &self.client_ips.blacklisted_ips, |text| {
            network(text).map(|_| ()).ok_or_else(|| "expected an address or a network such as 10.0.0.0/8".to_owned())
        })?;
        check_each("releases.releases", &self.releases.releases, check_glob)?;
        check_each("errorMessages.patterns", &self.error_messages.patterns, check_glob)?;
        check_each("ignoreTransactions.patterns", &self.ignore_transactions.patterns, check_glob)?;
        match self.legacy_browsers.options.iter().position(|option| *option == LegacyBrowser::Unknown) {
            Some(position) => Err(InvalidFilter::new(
                format!("legacyBrowsers.options[{position}]"),
                "expected default, ie, ie9, ie10, ie11, ie_pre_9, edge, edge_pre_79, chrome, firefox, safari, safari_pre_6, \
                 opera, opera_pre_15, opera_mini, opera_mini_pre_8, android or android_pre_4",
            )),
            None => Ok(()),
        }
    }
}

impl GenericFilters {
    fn validate(&self) -> Result<(), InvalidFilter> {
        if self.version != GENERIC_VERSION {
            let problem = format!("{}, expected {GENERIC_VERSION}", self.version);
            return Err(InvalidFilter::new("generic.version", problem));
        }
        if self.filters.len() > MAX_ENTRIES {
            let problem = format!("{} filters, at most {MAX_ENTRIES} are taken", self.filters.len());
            return Err(InvalidFilter::new("generic.filters", problem));
        }
        for (position, filter) in self.filters.iter().enumerate() {
            let at = format!("generic.filters[{position}]");
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
            if !(1..=MAX_ID_BYTES).contains(&filter.id.len()) || !filter.id.bytes().all(is_plain) {
                let problem = format!("expected 1 to {MAX_ID_BYTES} ASCII letters, digits, '_', '-', '.' and ':'");
                return Err(InvalidFilter::new(format!("{at}.id"), problem));
            }
            match &filter.condition {
                Some(condition) => condition.validate(&format!("{at}.condition"))?,
                None => return Err(InvalidFilter::new(format!("{at}.condition"), "needed")),
            }
        }
        Ok(())
    }
}

fn check_each(key: &str, entries: &[String], check: impl Fn(&str) -> Result<(), String>) -> Result<(), InvalidFilter> {
    if entries.len() > MAX_ENTRIES {
        let problem = format!("{} entries, at most {MAX_ENTRIES} are taken", entries.len());
        return Err(InvalidFilter::new(key, problem));
    }
    for (position, entry) in entries.iter().enumerate() {
        check(entry).map_err(|problem| InvalidFilter::new(format!("{key}[{position}]"), problem))?;
    }
    Ok(())
}

fn check_glob(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("expected a pattern; an empty one matches nothing".to_owned());
    }
    Glob::new(pattern).map(|_| ()).map_err(|error| error.to_string())
}

fn check_source(source: &str) -> Result<(), String> {
    let is_plain = !source.is_empty() && source.len() <= 300 && !source.contains(char::is_whitespace);
    is_plain.then_some(()).ok_or_else(|| "expected a scheme, a host, *.host, or scheme://host:port".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn settings(json: serde_json::Value) -> FilterSettings {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_sentry_writes_is_read_and_written_back() {
        let document = json!({
            "browserExtensions": {"isEnabled": true},
            "clientIps": {"blacklistedIps": ["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"]},
            "csp": {"disallowedSources": ["*.example.com", "chrome-extension"]},
            "errorMessages": {"isEnabled": true, "patterns": ["*ResizeObserver*", "{TypeError: a,b}"]},
            "generic": {"version": 1, "filters": [
                {"id": "hydration", "isEnabled": true, "condition": {"op": "glob", "name": "event.exceptions", "value": ["*"]}}
            ]},
            "ignoreTransactions": {"isEnabled": false, "patterns": ["*/health*"]},
            "legacyBrowsers": {"isEnabled": true, "options": ["ie_pre_9", "edge_pre_79", "opera_mini"]},
            "localhost": {"isEnabled": true},
            "releases": {"releases": ["1.*"]},
            "webCrawlers": {"isEnabled": false},
        });
        let read = settings(document.clone());
        read.validate().unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), document);
        assert_eq!(settings(json!({})), FilterSettings::default());
    }

    #[test]
    fn an_entry_that_can_not_be_used_is_refused_with_its_place() {
        let long: Vec<String> = (0..501).map(|number| number.to_string()).collect();
        let table = [
            (
                json!({"clientIps": {"blacklistedIps": ["1.1.1.1", "1.1.1"]}}),
                "clientIps.blacklistedIps[1]: expected an address",
            ),
            (json!({"releases": {"releases": ["[a"]}}), "releases.releases[0]: the pattern has an unfinished"),
            (json!({"errorMessages": {"patterns": [""]}}), "errorMessages.patterns[0]: expected a pattern"),
            (json!({"ignoreTransactions": {"patterns": long}}), "ignoreTransactions.patterns: 501 entries"),
            (json!({"csp": {"disallowedSources": ["a b"]}}), "csp.disallowedSources[0]: expected a scheme"),
            (
                json!({"legacyBrowsers": {"options": ["ie", "netscape"]}}),
                "legacyBrowsers.options[1]: expected default, ie",
            ),
            (json!({"generic": {"version": 2}}), "generic.version: 2, expected 1"),
            (json!({"generic": {"filters": [{"id": "a b"}]}}), "generic.filters[0].id: expected"),
            (json!({"generic": {"filters": [{"id": "a"}]}}), "generic.filters[0].condition: needed"),
            (
                json!({"generic": {"filters": [{"id": "a", "condition": {"op": "not", "inner": {"op": "guess"}}}]}}),
                "generic.filters[0].condition.inner.op: expected",
            ),
        ];
        for (document, expected) in table {
            let message = settings(document).validate().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
