//! What an operator sets about scrubbing, in the form in which Sentry stores it.
//!
//! ```json
//! { "datascrubbingSettings": { "scrubData": true, "scrubDefaults": true, "scrubIpAddresses": true,
//!                              "sensitiveFields": ["ticket"], "excludeFields": ["session_name"] },
//!   "piiConfig": { "rules": { "order": { "type": "pattern", "pattern": "\\bO-[0-9]+", "redaction": { "method": "mask" } } },
//!                  "applications": { "$string": ["order", "@email"] } },
//!   "scrubProfile": "strict" }
//! ```
//!
//! A switch that is left out is on under `strict` and off under `compat`, where it is what the reference makes of it. Keys that are
//! not known here are ignored: a newer version may have more.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Everything about scrubbing in a project's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScrubSettings {
    /// The switches and field lists; missing means that each is left out.
    #[serde(deserialize_with = "null_as_default")]
    pub datascrubbing_settings: DataScrubbingSettings,
    /// Advanced rules; they run before what the switches add.
    pub pii_config: Option<PiiConfig>,
    /// How the switches are read.
    pub scrub_profile: ScrubProfile,
}

impl ScrubSettings {
    /// What a new project begins with: everything on, strict.
    #[must_use]
    pub fn of_new_project() -> Self {
        Self {
            datascrubbing_settings: DataScrubbingSettings::of_new_project(),
            pii_config: None,
            scrub_profile: ScrubProfile::Strict,
        }
    }
}

/// The switches of Sentry's "Data Scrubbing".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataScrubbingSettings {
    /// Master switch of everything but `scrubIpAddresses`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub_data: Option<bool>,
    /// Look for what is commonly sensitive: passwords, cards, keys and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub_defaults: Option<bool>,
    /// Remove IP addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub_ip_addresses: Option<bool>,
    /// More names of sensitive fields: a key or text that contains one is replaced.
    #[serde(deserialize_with = "null_as_default")]
    pub sensitive_fields: Vec<String>,
    /// Selectors, or plain names, of fields that are left alone.
    #[serde(deserialize_with = "null_as_default")]
    pub exclude_fields: Vec<String>,
}

impl DataScrubbingSettings {
    /// The same with every switch as `profile` reads it, none left out.
    #[must_use]
    pub fn effective(&self, profile: ScrubProfile) -> Self {
        Self {
            scrub_data: Some(profile.is_on(self.scrub_data)),
            scrub_defaults: Some(profile.is_on(self.scrub_defaults)),
            scrub_ip_addresses: Some(profile.is_on(self.scrub_ip_addresses)),
            ..self.clone()
        }
    }

    /// Everything on.
    #[must_use]
    pub fn of_new_project() -> Self {
        Self { scrub_data: Some(true), scrub_defaults: Some(true), scrub_ip_addresses: Some(true), ..Self::default() }
    }
}

/// How the switches are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScrubProfile {
    /// As Sentry reads them, with what it leaves out: `docs/scrubbing.md` lists it.
    Compat,
    /// More thorough and more exact: secrets in messages, tags and URLs too, and only the secret's own span where it is part of a text.
    #[default]
    Strict,
}

impl ScrubProfile {
    /// What a switch says: left out it is on under `strict`, off under `compat`.
    #[must_use]
    pub fn is_on(self, switch: Option<bool>) -> bool {
        switch.unwrap_or(self == Self::Strict)
    }
}

impl std::str::FromStr for ScrubProfile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "compat" => Ok(Self::Compat),
            "strict" => Ok(Self::Strict),
            _ => Err(format!("there is no scrubbing profile `{text}`; it is `compat` or `strict`")),
        }
    }
}

/// Advanced rules and where they apply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PiiConfig {
    /// Rules by id. Read by the compiler, so that its errors can name the rule.
    #[serde(deserialize_with = "null_as_default")]
    pub rules: BTreeMap<String, Value>,
    /// Accepted for configurations that have it (`hashKey`); nothing uses it.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub vars: Value,
    /// Ids of rules by selector. Read by the compiler, so that its errors can name the selector.
    #[serde(deserialize_with = "null_as_default")]
    pub applications: BTreeMap<String, Value>,
}

fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_are_read_as_sentry_writes_them() {
        let settings: ScrubSettings = serde_json::from_str(
            r#"{"datascrubbingSettings":{"excludeFields":[],"scrubData":true,"scrubIpAddresses":false,"sensitiveFields":null,
                "scrubDefaults":true,"novelty":1},
                "piiConfig":{"rules":{"a":{"type":"ip"}},"vars":{"hashKey":null},"applications":{"$string":["a"]}},
                "scrubProfile":"compat"}"#,
        )
        .unwrap();
        assert_eq!(settings.datascrubbing_settings.scrub_ip_addresses, Some(false));
        assert_eq!(settings.scrub_profile, ScrubProfile::Compat);
        let config = settings.pii_config.clone().unwrap();
        assert_eq!(config.applications["$string"], serde_json::json!(["a"]));
        let again: ScrubSettings = serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
    }

    #[test]
    fn what_is_missing_or_null_is_left_out() {
        for text in [r"{}", r#"{"datascrubbingSettings":null,"piiConfig":null}"#] {
            assert_eq!(serde_json::from_str::<ScrubSettings>(text).unwrap(), ScrubSettings::default());
        }
        assert_eq!("strict".parse(), Ok(ScrubProfile::Strict));
        assert!("loose".parse::<ScrubProfile>().unwrap_err().contains("`loose`"));
    }
}
