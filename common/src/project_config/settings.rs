//! The settings of a project: the JSON document that operators read and write, Sentry-shaped.
//!
//! ```text
//! { "allowedDomains": ["*"], "retentionDays": 90, "filterSettings": {…}, "quotas": […],
//!   "datascrubbingSettings": {…}, "piiConfig": {…} | null, "scrubProfile": "strict" | "compat", "spikeProtection": {…} }
//! ```
//!
//! - A change ([`ProjectSettings::changed`]) replaces whole top-level keys: a key that is given takes the place of the former
//!   value, `null` brings the default back, a key that is not given stays. So what was read can be edited and written back.
//! - What is stored is valid: a change is checked as a whole before it is taken, and its error names the place
//!   (`quotas[2].window: …`).
//! - Reading what is stored, or what an aggregator sends, is lenient: unknown keys are ignored, missing ones have their
//!   defaults. An operator's spelling mistake must not be, so a change with an unknown key at any depth is refused.
//!
//! What it does not do: apply the settings. What a filter, quota or rule means is in the module that owns its type.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::filter_entry::InvalidFilter;
use super::filters::FilterSettings;
use super::spike::SpikeProtection;
use crate::pii::compile;
use crate::pii::ruleset::PiiError;
use crate::pii::settings::{DataScrubbingSettings, PiiConfig, ScrubProfile, ScrubSettings};
use crate::quota::{self, MAX_QUOTAS, Quota};

/// Longest document, as JSON. All projects together must fit one control frame
/// ([`MAX_CONTROL_FRAME`](crate::wire::MAX_CONTROL_FRAME)), and a relay keeps all of them in memory.
pub const MAX_SETTINGS_BYTES: usize = 256 * 1024;
/// Most entries in `allowedDomains`: each request from a page is compared with all of them.
const MAX_ALLOWED_DOMAINS: usize = 500;
/// Longest entry in `allowedDomains`: a host name has at most 253 characters, and scheme and port come on top.
const MAX_DOMAIN_CHARS: usize = 300;
/// Longest time that events are kept: ten years.
const MAX_RETENTION_DAYS: u16 = 3660;

/// The settings that are lists.
const LISTS: [&str; 2] = ["allowedDomains", "quotas"];

/// What a project's owner may set. The default is what a new project has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProjectSettings {
    /// Origins that browsers may post from: `*`, `*.example.org`, `https://example.org:8443`. Empty refuses every origin.
    #[serde(alias = "allowed_domains")]
    pub allowed_domains: Vec<String>,
    /// How long events are kept, in days.
    #[serde(alias = "retention_days")]
    pub retention_days: u16,
    /// Inbound filters.
    pub filter_settings: FilterSettings,
    /// Quotas beside the relay's own abuse limits.
    pub quotas: Vec<Quota>,
    /// The switches of the data-scrubbing settings.
    pub datascrubbing_settings: DataScrubbingSettings,
    /// Advanced scrubbing rules; absent where there are none.
    pub pii_config: Option<PiiConfig>,
    /// How the switches are read.
    pub scrub_profile: ScrubProfile,
    /// Protection against sudden floods.
    pub spike_protection: SpikeProtection,
}

/// A document that can't be taken, and where it is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct InvalidSettings {
    /// The key, down to the rule or quota: `quotas[2].window`.
    pub at: String,
    /// What is wrong with its value, and what would be right.
    pub problem: String,
}

impl InvalidSettings {
    /// An error at a place.
    #[must_use]
    pub fn new(at: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { at: at.into(), problem: problem.into() }
    }
}

// === impl ProjectSettings ===

impl Default for ProjectSettings {
    fn default() -> Self {
        Self {
            allowed_domains: vec!["*".to_owned()],
            retention_days: 90,
            filter_settings: FilterSettings::default(),
            quotas: Vec::new(),
            datascrubbing_settings: DataScrubbingSettings::of_new_project(),
            pii_config: None,
            scrub_profile: ScrubProfile::default(),
            spike_protection: SpikeProtection::default(),
        }
    }
}

impl ProjectSettings {
    /// These settings with the keys of `change` in the place of the former ones (module docs), checked.
    ///
    /// # Errors
    /// [`InvalidSettings`] for the first key, rule or quota that can't be used.
    pub fn changed(&self, change: &Value) -> Result<Self, InvalidSettings> {
        let Value::Object(change) = change else {
            return Err(InvalidSettings::new("the document", "expected a JSON object of settings"));
        };
        let mut settings = self.clone();
        for (key, value) in change {
            settings.replace(key, value)?;
        }
        settings.validate()?;
        Ok(settings)
    }

    /// The whole document as operators see it: as [`Self::to_document`], and scrubbing switches that are left out as the profile
    /// reads them.
    #[must_use]
    pub fn effective_document(&self) -> Value {
        let datascrubbing_settings = self.datascrubbing_settings.effective(self.scrub_profile);
        Self { datascrubbing_settings, ..self.clone() }.to_document()
    }

    /// The whole document, defaults included, as it is stored.
    #[must_use]
    pub fn to_document(&self) -> Value {
        // String keys and plain values only, so it always serialises.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Everything about scrubbing, to be compiled.
    #[must_use]
    pub fn scrubbing(&self) -> ScrubSettings {
        ScrubSettings {
            datascrubbing_settings: self.datascrubbing_settings.clone(),
            pii_config: self.pii_config.clone(),
            scrub_profile: self.scrub_profile,
        }
    }

    fn replace(&mut self, key: &str, value: &Value) -> Result<(), InvalidSettings> {
        let default = Self::default();
        match key {
            "allowedDomains" => self.allowed_domains = read(key, value, default.allowed_domains)?,
            "retentionDays" => self.retention_days = read(key, value, default.retention_days)?,
            "filterSettings" => self.filter_settings = read(key, value, default.filter_settings)?,
            "quotas" => self.quotas = read(key, value, default.quotas)?,
            "datascrubbingSettings" => {
                self.datascrubbing_settings = read(key, value, default.datascrubbing_settings)?;
            }
            "piiConfig" => self.pii_config = read(key, value, default.pii_config)?,
            "scrubProfile" => self.scrub_profile = read(key, value, default.scrub_profile)?,
            "spikeProtection" => self.spike_protection = read(key, value, default.spike_protection)?,
            _ => return Err(InvalidSettings::new(key, format!("unknown setting; there are {}", self.keys()))),
        }
        Ok(())
    }

    /// The names of all settings, for an error.
    fn keys(&self) -> String {
        let document = self.to_document();
        let keys: Vec<_> = document.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        keys.join(", ")
    }

    /// Checks what types can't express.
    fn validate(&self) -> Result<(), InvalidSettings> {
        if self.allowed_domains.len() > MAX_ALLOWED_DOMAINS {
            let problem = format!("{} entries, at most {MAX_ALLOWED_DOMAINS} are taken", self.allowed_domains.len());
            return Err(InvalidSettings::new("allowedDomains", problem));
        }
        for (position, domain) in self.allowed_domains.iter().enumerate() {
            check_domain(domain)
                .map_err(|problem| InvalidSettings::new(format!("allowedDomains[{position}]"), problem))?;
        }
        if !(1..=MAX_RETENTION_DAYS).contains(&self.retention_days) {
            let problem = format!("{} days, expected 1 to {MAX_RETENTION_DAYS}", self.retention_days);
            return Err(InvalidSettings::new("retentionDays", problem));
        }
        self.check_quotas()?;
        compile::validate(&self.scrubbing()).map_err(pii_error)?;
        let below = |key: &str| {
            let key = key.to_owned();
            move |error: InvalidFilter| InvalidSettings::new(format!("{key}.{}", error.at), error.problem)
        };
        self.filter_settings.validate().map_err(below("filterSettings"))?;
        self.spike_protection.validate().map_err(below("spikeProtection"))?;
        let bytes = self.to_document().to_string().len();
        if bytes > MAX_SETTINGS_BYTES {
            let problem = format!("{bytes} bytes, at most {MAX_SETTINGS_BYTES} are taken");
            return Err(InvalidSettings::new("the document", problem));
        }
        Ok(())
    }

    fn check_quotas(&self) -> Result<(), InvalidSettings> {
        if self.quotas.len() > MAX_QUOTAS {
            let problem = format!("{} entries, at most {MAX_QUOTAS} are taken", self.quotas.len());
            return Err(InvalidSettings::new("quotas", problem));
        }
        quota::validate_all(&self.quotas).map_err(|(position, error)| {
            let at = format!("quotas[{position}].{}", error.key);
            InvalidSettings::new(at, format!("quota {}: {}", error.quota, error.problem))
        })
    }
}

/// Reads what is about scrubbing alone, as strictly as a change; what is missing or `null` is left out.
///
/// # Errors
/// [`InvalidSettings`] for the first key that is unknown or can't be read. Rules are not compiled: `pii::validate` does that.
pub fn read_scrubbing(document: &Value) -> Result<ScrubSettings, InvalidSettings> {
    let Value::Object(document) = document else {
        return Err(InvalidSettings::new("the document", "expected a JSON object of settings"));
    };
    let mut settings = ScrubSettings::default();
    for (key, value) in document {
        match key.as_str() {
            "datascrubbingSettings" => settings.datascrubbing_settings = read(key, value, Default::default())?,
            "piiConfig" => settings.pii_config = read(key, value, None)?,
            "scrubProfile" => settings.scrub_profile = read(key, value, ScrubProfile::default())?,
            _ => {
                let problem = "unknown setting; there are datascrubbingSettings, piiConfig, scrubProfile";
                return Err(InvalidSettings::new(key, problem));
            }
        }
    }
    Ok(settings)
}

fn pii_error(error: PiiError) -> InvalidSettings {
    match error {
        PiiError::Rule { rule, problem } => InvalidSettings::new(format!("piiConfig.rules.{rule}"), problem),
        PiiError::Selector { selector, error } => {
            InvalidSettings::new(format!("piiConfig.applications.{selector}"), error.to_string())
        }
        PiiError::Application { selector, problem } => {
            InvalidSettings::new(format!("piiConfig.applications.{selector}"), problem)
        }
        PiiError::SensitiveFields { .. } => {
            InvalidSettings::new("datascrubbingSettings.sensitiveFields", error.to_string())
        }
        PiiError::TooMany { .. } => InvalidSettings::new("piiConfig", error.to_string()),
    }
}

/// Reads one setting; unknown keys in it are an error, `null` is the default.
fn read<T: DeserializeOwned>(key: &str, value: &Value, default: T) -> Result<T, InvalidSettings> {
    if value.is_null() {
        return Ok(default);
    }
    // Else a list would be read as the fields of an object, in the order of their declaration.
    if value.is_array() && !LISTS.contains(&key) {
        return Err(InvalidSettings::new(key, "expected an object or a plain value, not a list"));
    }
    let mut unknown = None;
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.get_or_insert_with(|| path.to_string());
    };
    let read = serde_path_to_error::deserialize(serde_ignored::Deserializer::new(value, &mut note));
    let read =
        read.map_err(|error| InvalidSettings::new(place(key, &error.path().to_string()), error.inner().to_string()))?;
    match unknown {
        Some(path) => Err(InvalidSettings::new(place(key, &path), "unknown setting")),
        None => Ok(read),
    }
}

/// `quotas` and `2.window` are `quotas[2].window`; options leave a `?` in the path.
fn place(key: &str, path: &str) -> String {
    let mut place = key.to_owned();
    for segment in path.split(['.', '[', ']', '?']).filter(|segment| !segment.is_empty()) {
        if segment.bytes().all(|byte| byte.is_ascii_digit()) {
            place.push_str(&format!("[{segment}]"));
        } else {
            place.push('.');
            place.push_str(segment);
        }
    }
    place
}

/// `[scheme://]host[:port]` with `*`, `*.name` or a name as host; what relays compare origins with.
fn check_domain(pattern: &str) -> Result<(), String> {
    if pattern.chars().count() > MAX_DOMAIN_CHARS {
        return Err(format!("longer than {MAX_DOMAIN_CHARS} characters"));
    }
    let rest = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of an IPv6 address without a port is inside its brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_name = !name.is_empty() && !name.contains(|character: char| character == '*' || character.is_whitespace());
    let is_port = port.is_none_or(|port| port == "*" || port.parse::<u16>().is_ok());
    if (host == "*" || is_name) && is_port {
        return Ok(());
    }
    Err("expected *, a host, *.host, or scheme://host:port".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn refused(change: Value) -> String {
        ProjectSettings::default().changed(&change).unwrap_err().to_string()
    }

    #[test]
    fn what_is_read_can_be_written_back() {
        let settings = ProjectSettings::default().changed(&json!({ "retentionDays": 30 })).unwrap();
        assert_eq!(settings.changed(&settings.to_document()).unwrap(), settings);
        assert_eq!(settings.to_document()["retentionDays"], 30);
    }

    #[test]
    fn a_key_that_is_given_replaces_the_former_value_and_null_brings_the_default_back() {
        let settings =
            ProjectSettings::default().changed(&json!({ "allowedDomains": ["a.test"], "retentionDays": 30 })).unwrap();
        let changed = settings.changed(&json!({ "allowedDomains": ["b.test", "*.c.test"] })).unwrap();
        assert_eq!((changed.allowed_domains.len(), changed.retention_days), (2, 30));
        let back = changed.changed(&json!({ "allowedDomains": null, "retentionDays": null })).unwrap();
        assert_eq!(back, ProjectSettings::default());
    }

    #[test]
    fn a_document_that_can_not_be_used_is_refused_with_the_place_that_is_wrong() {
        let table = [
            (json!([]), "the document: expected"),
            (json!({ "alowedDomains": [] }), "alowedDomains: unknown setting; there are allowedDomains,"),
            (json!({ "allowed_domains": [] }), "allowed_domains: unknown setting"),
            (json!({ "allowedDomains": "*" }), "allowedDomains: invalid type"),
            (json!({ "allowedDomains": ["*", 3] }), "allowedDomains[1]: invalid type"),
            (json!({ "allowedDomains": ["*", "a b"] }), "allowedDomains[1]: expected *, a host"),
            (json!({ "allowedDomains": ["", "a"] }), "allowedDomains[0]: expected *, a host"),
            (json!({ "allowedDomains": ["a.*.test"] }), "allowedDomains[0]: expected *, a host"),
            (json!({ "allowedDomains": vec!["a"; 501] }), "allowedDomains: 501 entries"),
            (json!({ "retentionDays": 0 }), "retentionDays: 0 days"),
            (json!({ "retentionDays": 70_000 }), "retentionDays: invalid value"),
            (json!({ "scrubProfile": "lax" }), "scrubProfile: unknown variant `lax`"),
            (json!({ "quotas": {} }), "quotas: invalid type"),
            (
                json!({ "datascrubbingSettings": { "scrubdata": true } }),
                "datascrubbingSettings.scrubdata: unknown setting",
            ),
            (json!({ "datascrubbingSettings": { "scrubData": 1 } }), "datascrubbingSettings.scrubData: invalid type"),
            (
                json!({ "piiConfig": { "rules": { "mine": { "type": "pattern", "pattern": "(" } }, "applications": { "$string": ["mine"] } } }),
                "piiConfig.rules.mine: ",
            ),
            (
                json!({ "piiConfig": { "rules": { "mine": { "type": "novelty" } }, "applications": { "$string": ["mine"] } } }),
                "piiConfig.rules.mine: ",
            ),
            (
                json!({ "piiConfig": { "applications": { "$string && ": ["@ip"] } } }),
                "piiConfig.applications.$string && : ",
            ),
            (json!({ "piiConfig": [] }), "piiConfig: expected an object"),
            (json!({ "datascrubbingSettings": [true] }), "datascrubbingSettings: expected an object"),
            (json!({ "piiConfig": { "rule": {} } }), "piiConfig.rule: unknown setting"),
            (json!({ "quotas": [{ "limit": 0, "categories": ["error", "errors"] }] }), "quotas[0].categories: "),
            (json!({ "quotas": [{ "limit": 0 }, { "limit": "x" }] }), "quotas[1].limit: invalid type"),
            (json!({ "quotas": [{ "limit": 0, "reason": "x" }] }), "quotas[0].reason: unknown setting"),
            (json!({ "quotas": [{ "id": "daily", "limit": 5 }] }), "quotas[0].window: quota \"daily\": needed"),
        ];
        for (change, expected) in table {
            let message = refused(change);
            assert!(message.starts_with(expected), "{message} does not start with {expected}");
        }
    }

    #[test]
    fn a_misspelt_key_in_a_rule_or_redaction_is_refused() {
        for (rule, expected) in [
            (json!({ "type": "email", "hideIner": true }), "it has an unknown key `hideIner`"),
            (json!({ "type": "pattern", "pattern": "a", "replaceGroup": [0] }), "it has an unknown key `replaceGroup`"),
            (json!({ "type": "redact_pair", "keyPatern": "a" }), "it has an unknown key `keyPatern`"),
            (json!({ "type": "ip", "redaction": { "metod": "mask" } }), "its redaction has an unknown key `metod`"),
            (
                json!({ "type": "ip", "redaction": { "method": "replace", "txt": "x" } }),
                "its redaction has an unknown key `txt`",
            ),
        ] {
            let message = refused(json!({ "piiConfig": { "rules": { "mine": rule } } }));
            assert!(message.starts_with(&format!("piiConfig.rules.mine: {expected}")), "{message}");
        }
        let right = json!({ "type": "ip", "redaction": { "method": "replace", "text": "x" } });
        ProjectSettings::default().changed(&json!({ "piiConfig": { "rules": { "mine": right } } })).unwrap();
    }

    #[test]
    fn switches_that_are_left_out_are_shown_as_the_profile_reads_them_and_stay_left_out() {
        let change = json!({ "datascrubbingSettings": { "sensitiveFields": ["nickname"], "scrubDefaults": false } });
        let strict = ProjectSettings::default().changed(&change).unwrap();
        let shown = |settings: &ProjectSettings| {
            let switches = settings.effective_document()["datascrubbingSettings"].clone();
            ["scrubData", "scrubDefaults", "scrubIpAddresses"].map(|name| switches[name].as_bool())
        };
        assert_eq!(shown(&strict), [Some(true), Some(false), Some(true)]);
        assert_eq!(strict.effective_document()["datascrubbingSettings"]["sensitiveFields"], json!(["nickname"]));
        let compat = strict.changed(&json!({ "scrubProfile": "compat" })).unwrap();
        assert_eq!(shown(&compat), [Some(false); 3]);
    }

    #[test]
    fn every_form_of_origin_that_relays_know_is_taken() {
        let forms =
            ["*", "example.org", "*.example.org", "https://example.org:8443", "http://*", "*://x.test:*", "[::1]:80"];
        ProjectSettings::default().changed(&json!({ "allowedDomains": forms })).unwrap();
    }

    #[test]
    fn a_place_is_written_as_in_the_document() {
        assert_eq!(place("quotas", "[2].window"), "quotas[2].window");
        assert_eq!(place("quotas", "2.window"), "quotas[2].window");
        assert_eq!(place("piiConfig", "?.rules.a"), "piiConfig.rules.a");
        assert_eq!(place("retentionDays", "."), "retentionDays");
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in ".{0,200}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let _ = ProjectSettings::default().changed(&value);
            }
        }
    }
}
