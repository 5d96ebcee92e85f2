//! A project's inbound filters, compiled once per version of its configuration.
//!
//! They are asked in a fixed order and the first that hits decides, so that an event has one reason however many would hit.
//! An event costs each filter that is switched on one look; texts are lowered once for all patterns.

use std::net::IpAddr;

use ipnet::IpNet;
use picket_common::glob::Glob;
use picket_common::outcome::Reason;
use picket_common::project_config::filter_entry::network;
use picket_common::project_config::filters::{FilterSettings, GENERIC_VERSION, LegacyBrowser};
use picket_common::tree::Value;

use super::condition::{Subject, Test};
use super::csp::{self, Source};
use super::{browser_extensions, event, legacy_browsers, localhost, web_crawlers};

/// Filters ready for use.
#[derive(Debug, Default)]
pub struct Filters {
    generic: Vec<(Box<str>, Test)>,
    csp_sources: Vec<Source>,
    client_networks: Vec<IpNet>,
    releases: Vec<Glob>,
    error_messages: Vec<Glob>,
    drops_local: bool,
    drops_extensions: bool,
    /// Empty if the filter is off.
    legacy_browsers: Vec<LegacyBrowser>,
    drops_crawlers: bool,
    transactions: Vec<Glob>,
}

/// An event and who sent it.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'v, 'a> {
    /// The event, normalised.
    pub event: &'v Value<'a>,
    /// The connection's client, not the event's user.
    pub client_address: Option<IpAddr>,
    /// The request's own user agent; the event's counts where it has one.
    pub user_agent: Option<&'v str>,
}

// === impl Filters ===

impl Filters {
    /// Compiles settings. What can't be compiled was refused when it was set; if a newer aggregator knows more, it matches
    /// nothing.
    #[must_use]
    pub fn new(settings: &FilterSettings) -> Self {
        let browsers = &settings.legacy_browsers;
        let legacy_browsers = match (browsers.is_enabled, browsers.options.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => vec![LegacyBrowser::Default],
            (true, false) => browsers.options.clone(),
        };
        let when = |is_enabled: bool, patterns: &[String]| if is_enabled { globs(patterns) } else { Vec::new() };
        Self {
            generic: generic(settings),
            csp_sources: settings.csp.disallowed_sources.iter().map(|source| Source::read(source)).collect(),
            client_networks: settings.client_ips.blacklisted_ips.iter().filter_map(|text| network(text)).collect(),
            releases: globs(&settings.releases.releases),
            error_messages: when(settings.error_messages.is_enabled, &settings.error_messages.patterns),
            drops_local: settings.localhost.is_enabled,
            drops_extensions: settings.browser_extensions.is_enabled,
            legacy_browsers,
            drops_crawlers: settings.web_crawlers.is_enabled,
            transactions: when(settings.ignore_transactions.is_enabled, &settings.ignore_transactions.patterns),
        }
    }

    /// Why an event is not wanted; `None` if it is.
    #[must_use]
    pub fn verdict(&self, sent: Sent<'_, '_>) -> Option<Reason> {
        let subject = Subject { event: sent.event, client_address: sent.client_address };
        if let Some((id, _)) = self.generic.iter().find(|(_, test)| test.holds(subject)) {
            return Some(Reason::Owned(id.to_string()));
        }
        let user_agent = || event::request_header(sent.event, "User-Agent").or(sent.user_agent);
        let reason = if csp::is_disallowed(&self.csp_sources, sent.event) {
            "invalid-csp"
        } else if self.blocks(sent.client_address) {
            "ip-address"
        } else if self.is_unwanted_release(sent.event) {
            "release-version"
        } else if self.is_unwanted_error(sent.event) {
            "error-message"
        } else if self.drops_local && localhost::is_local(sent.event) {
            "localhost"
        } else if self.drops_extensions && browser_extensions::is_extension(sent.event) {
            "browser-extensions"
        } else if !self.legacy_browsers.is_empty()
            && user_agent().is_some_and(|text| legacy_browsers::is_legacy(&self.legacy_browsers, text))
        {
            "legacy-browsers"
        } else if self.drops_crawlers && user_agent().is_some_and(web_crawlers::is_crawler) {
            "web-crawlers"
        } else if self.is_ignored_transaction(sent.event) {
            "filtered-transaction"
        } else {
            return None;
        };
        Some(Reason::Borrowed(reason))
    }

    /// Whether any filter looks into events.
    pub(crate) fn look_into_events(&self) -> bool {
        let patterns = [self.releases.len(), self.error_messages.len(), self.transactions.len()];
        let lists = [self.generic.len(), self.csp_sources.len(), self.legacy_browsers.len()];
        let is_any_on = self.drops_local || self.drops_extensions || self.drops_crawlers;
        is_any_on || patterns.into_iter().chain(lists).any(|length| length > 0)
    }

    /// Whether nothing is taken from an address.
    pub(super) fn blocks(&self, client_address: Option<IpAddr>) -> bool {
        let Some(address) = client_address.filter(|_| !self.client_networks.is_empty()) else { return false };
        // A socket of version 6 shows addresses of version 4 mapped.
        let address = address.to_canonical();
        self.client_networks.iter().any(|network| network.contains(&address))
    }

    fn is_unwanted_release(&self, event: &Value<'_>) -> bool {
        let release = event.get("release").and_then(Value::as_str).filter(|_| !self.releases.is_empty());
        release.is_some_and(|release| matches_any(&self.releases, release))
    }

    fn is_unwanted_error(&self, event: &Value<'_>) -> bool {
        if self.error_messages.is_empty() {
            return false;
        }
        if event::message(event).is_some_and(|message| matches_any(&self.error_messages, message)) {
            return true;
        }
        event::exceptions(event).any(|exception| {
            let text = |key: &str| exception.get(key).and_then(Value::as_str).unwrap_or_default();
            match (text("type"), text("value")) {
                ("", "") => false,
                ("", text) | (text, "") => matches_any(&self.error_messages, text),
                (kind, value) => matches_any(&self.error_messages, &format!("{kind}: {value}")),
            }
        })
    }

    fn is_ignored_transaction(&self, event: &Value<'_>) -> bool {
        if self.transactions.is_empty() || event.get("type").and_then(Value::as_str) != Some("transaction") {
            return false;
        }
        let name = event.get("transaction").and_then(Value::as_str);
        name.is_some_and(|name| matches_any(&self.transactions, name))
    }
}

fn generic(settings: &FilterSettings) -> Vec<(Box<str>, Test)> {
    if settings.generic.version > GENERIC_VERSION {
        return Vec::new();
    }
    let enabled = settings.generic.filters.iter().filter(|filter| filter.is_enabled);
    enabled.filter_map(|filter| Some((filter.id.as_str().into(), Test::compile(filter.condition.as_ref()?)?))).collect()
}

fn globs(patterns: &[String]) -> Vec<Glob> {
    patterns.iter().filter_map(|pattern| Glob::new(pattern).ok()).collect()
}

fn matches_any(globs: &[Glob], text: &str) -> bool {
    let text = text.to_lowercase();
    globs.iter().any(|glob| glob.matches_lowercase(&text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::tree::read;
    use serde_json::{Value as Json, json};

    fn verdict(settings: Json, event: &Json) -> Option<String> {
        let settings: FilterSettings = serde_json::from_value(settings).unwrap();
        settings.validate().unwrap();
        let text = event.to_string();
        let event = read(text.as_bytes()).unwrap();
        let client_address = Some("203.0.113.9".parse().unwrap());
        let sent = Sent { event: &event, client_address, user_agent: Some("Googlebot/2.1") };
        Filters::new(&settings).verdict(sent).map(Reason::into_owned)
    }

    fn everything() -> Json {
        json!({
            "generic": {"filters": [{"id": "no-debug", "isEnabled": true,
                "condition": {"op": "eq", "name": "event.level", "value": "debug"}}]},
            "csp": {"disallowedSources": ["ads.test"]},
            "clientIps": {"blacklistedIps": ["203.0.113.0/24"]},
            "releases": {"releases": ["1.*"]},
            "errorMessages": {"patterns": ["*resizeobserver*", "ValueError: bad*"]},
            "localhost": {"isEnabled": true},
            "browserExtensions": {"isEnabled": true},
            "legacyBrowsers": {"isEnabled": true, "options": []},
            "webCrawlers": {"isEnabled": true},
            "ignoreTransactions": {"patterns": ["*/health*"]},
        })
    }

    fn only(key: &str) -> Json {
        json!({ key: everything()[key] })
    }

    #[test]
    fn each_filter_takes_out_what_it_is_for_under_its_own_reason() {
        let ie = "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)";
        let browser = "Mozilla/5.0 (X11; rv:120.0) Gecko/20100101 Firefox/120.0";
        let by = |user_agent: &str| json!({"request": {"headers": [["User-Agent", user_agent]]}});
        let table = [
            ("generic", json!({"level": "debug"}), Some("no-debug")),
            ("generic", json!({"level": "error"}), None),
            ("csp", json!({"csp": {"blocked_uri": "https://ads.test/x.js"}}), Some("invalid-csp")),
            ("clientIps", json!({}), Some("ip-address")),
            ("releases", json!({"release": "1.0"}), Some("release-version")),
            ("releases", json!({"release": "2.1.0"}), None),
            ("errorMessages", json!({"logentry": {"formatted": "ResizeObserver loop"}}), Some("error-message")),
            (
                "errorMessages",
                json!({"exception": {"values": [{"type": "ValueError", "value": "bad cart"}]}}),
                Some("error-message"),
            ),
            ("errorMessages", json!({"exception": {"values": [{"type": "KeyError", "value": "bad cart"}]}}), None),
            ("localhost", json!({"request": {"url": "http://localhost/"}}), Some("localhost")),
            (
                "browserExtensions",
                json!({"exception": {"values": [{"value": "conduitPage"}]}}),
                Some("browser-extensions"),
            ),
            ("legacyBrowsers", by(ie), Some("legacy-browsers")),
            ("webCrawlers", json!({}), Some("web-crawlers")),
            ("webCrawlers", by(browser), None),
            (
                "ignoreTransactions",
                json!({"type": "transaction", "transaction": "GET /healthz"}),
                Some("filtered-transaction"),
            ),
            ("ignoreTransactions", json!({"transaction": "GET /healthz"}), None),
        ];
        for (key, event, expected) in table {
            assert_eq!(verdict(only(key), &event).as_deref(), expected, "{key} {event}");
        }
    }

    #[test]
    fn the_first_filter_in_the_order_decides() {
        // One event that every filter would take out, and the settings without what has hit before.
        let event = json!({
            "level": "debug", "release": "1.0", "message": "ResizeObserver", "type": "transaction", "transaction": "/health",
            "csp": {"blocked_uri": "https://ads.test/"},
            "request": {"url": "http://localhost/", "headers": {"User-Agent": "MSIE 8.0; Googlebot"}},
            "exception": {"values": [{"value": "conduitPage"}]},
        });
        let order = [
            ("generic", "no-debug"),
            ("csp", "invalid-csp"),
            ("clientIps", "ip-address"),
            ("releases", "release-version"),
            ("errorMessages", "error-message"),
            ("localhost", "localhost"),
            ("browserExtensions", "browser-extensions"),
            ("legacyBrowsers", "legacy-browsers"),
            ("webCrawlers", "web-crawlers"),
            ("ignoreTransactions", "filtered-transaction"),
        ];
        let mut settings = everything();
        for (key, reason) in order {
            assert_eq!(verdict(settings.clone(), &event).as_deref(), Some(reason));
            settings.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(verdict(settings, &event), None);
    }

    #[test]
    fn generic_filters_of_a_later_version_are_not_applied() {
        let mut settings: FilterSettings = serde_json::from_value(only("generic")).unwrap();
        settings.generic.version = 2;
        assert!(Filters::new(&settings).generic.is_empty());
    }

    #[test]
    fn patterns_that_are_switched_off_match_nothing() {
        let settings = json!({"errorMessages": {"isEnabled": false, "patterns": ["*"]}});
        assert_eq!(verdict(settings, &json!({"message": "x"})), None);
    }
}
