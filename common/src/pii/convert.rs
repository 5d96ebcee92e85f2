//! From the data-scrubbing switches to rules and selectors.
//!
//! Under `compat` these are what the reference makes of the same switches, holes included: the values of exceptions are left
//! alone, a formatted message loses mail addresses and card numbers but no passwords, tags are never looked at. Under `strict`
//! the rules look at everything, and take the secret's own span of a text.

use std::borrow::Cow;
use std::sync::Arc;

use super::detect::{Detector, NameProfile, SensitiveNames};
use super::rule::Redaction;
use super::ruleset::{FILTERED, RuleSpec, Ruleset, SpecKind};
use super::selector::{Selector, SelectorPath, one_or};
use super::settings::{DataScrubbingSettings, ScrubProfile};

/// Id of the rule that a project's sensitive names become.
pub(super) const STRIP_FIELDS: &str = "strip-fields";
/// Under `strict`: the same names, where they stand in a text with a value.
const STRIP_PAIRS: &str = "strip-fields:pairs";
/// Under `strict`: the same names, where they stand beside a value, as on a command line.
const STRIP_PHRASES: &str = "strip-fields:phrases";
/// Under `strict`: the same names in source text.
const STRIP_LITERALS: &str = "strip-fields:literals";
/// Under `strict`: the same names in the query of a URL.
const STRIP_PARAMETERS: &str = "strip-fields:parameters";

/// What generic rules are for.
const VALUES: &str = "$string || $number || $array || $object";

/// What the generic rules leave alone in `compat`, exclusions of the project apart.
const COMPAT_IGNORED: &str = "debug_meta.** || $frame.filename || $frame.abs_path || $logentry.formatted || $error.value \
                              || $http.headers.user-agent";

/// Fields that hold an IP address and nothing else.
const IP_FIELDS: &str = "$http.env.REMOTE_ADDR || $user.ip_address || $sdk.client_ip || $span.sentry_tags.'user.ip' \
                         || attributes.'client.address' || attrs.ip_address";

/// Texts that `compat` scrubs by span instead of as a whole.
const COMPAT_REPLACED: &str = "$logentry.formatted || $log.body";
const COMPAT_REPLACING: &[&str] =
    &["@email:replace", "@creditcard:replace", "@iban:replace", "@usssn:replace", "@bearer:replace"];

/// Cookies, one by one and as a header.
const COOKIES: &str = "*.cookies.* || 'http.request.header.cookie'.* || 'http.response.header.set-cookie'.*";
const COOKIE_HEADERS: &str = "$http.headers.cookie || $http.headers.set-cookie || $http.cookies \
                              || 'http.request.header.cookie' || 'http.response.header.set-cookie'";
/// Under `strict` wherever cookies are: which of them are secret follows from their own names.
const STRICT_COOKIE_HEADERS: &str = "cookie || cookies || set-cookie || set_cookie || 'http.request.header.cookie' \
                                     || 'http.response.header.set-cookie'";

/// Where a mail address is what the field is for: who the user is, as the application said.
/// File names stay as they are: `app@2.0.beta/main.js` looks like an address.
const IDENTITY: &str = "$user.id || $user.email || $user.username || $user.name || feedback.contact_email || did \
                        || $frame.filename || $frame.abs_path || $frame.module";

/// Version numbers, which look like IP addresses, and files, which are found by their URL.
const STRICT_NO_IP: &str = "$http.headers.user-agent || user_agent || contexts.*.version || contexts.*.build \
                            || contexts.*.kernel_version || contexts.*.raw_description || contexts.*.app_version \
                            || contexts.*.os_version || $frame.filename || $frame.abs_path || debug_meta.**";

/// Lines of source text.
const SOURCE: &str = "$frame.context_line || $frame.pre_context.* || $frame.post_context.* || template.context_line \
                      || template.pre_context.* || template.post_context.*";

/// Makes rules of the switches.
#[must_use]
pub fn convert(settings: &DataScrubbingSettings, profile: ScrubProfile) -> Ruleset {
    let on = |switch| profile.is_on(switch);
    let switches = Switches {
        data: on(settings.scrub_data),
        defaults: on(settings.scrub_data) && on(settings.scrub_defaults),
        addresses: on(settings.scrub_ip_addresses),
        names: settings.sensitive_fields.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect(),
        excluded: settings
            .exclude_fields
            .iter()
            .filter(|field| !field.trim().is_empty())
            .map(|field| excluded(field))
            .collect(),
    };
    let mut ruleset = Ruleset::default();
    match profile {
        ScrubProfile::Compat => switches.compat(&mut ruleset),
        ScrubProfile::Strict => switches.strict(&mut ruleset),
    }
    if switches.addresses {
        ruleset.apply(parsed(IP_FIELDS), &["@anything:remove"]);
    }
    if switches.defaults {
        ruleset.apply(switches.but_excluded(parsed(COOKIES)), &["@sessioncookie:filter"]);
        let headers = match profile {
            ScrubProfile::Compat => COOKIE_HEADERS,
            ScrubProfile::Strict => STRICT_COOKIE_HEADERS,
        };
        ruleset.apply(switches.but_excluded(parsed(headers)), &["@cookies:filter"]);
    }
    ruleset
}

struct Switches<'s> {
    data: bool,
    defaults: bool,
    addresses: bool,
    names: Vec<&'s str>,
    excluded: Vec<Selector>,
}

impl Switches<'_> {
    fn compat(&self, ruleset: &mut Ruleset) {
        let mut rules = Vec::new();
        if self.defaults {
            rules.push("@common:filter");
        }
        if self.addresses {
            rules.push("@ip:replace");
        }
        if self.data && !self.names.is_empty() {
            let kind = SpecKind::RedactPair { key_pattern: self.names_pattern() };
            ruleset.rules.insert(STRIP_FIELDS.to_owned(), filtering(kind));
            rules.push(STRIP_FIELDS);
        }
        ruleset.apply(self.but_excluded(but_not(parsed(VALUES), parsed(COMPAT_IGNORED))), &rules);
        if self.defaults {
            ruleset.apply(self.but_excluded(parsed(COMPAT_REPLACED)), COMPAT_REPLACING);
        }
    }

    fn strict(&self, ruleset: &mut Ruleset) {
        let (mut rules, mut of_source) = (Vec::new(), Vec::new());
        if self.defaults {
            rules.push("@strict");
            of_source.push("@strictsource");
            ruleset.apply(self.anywhere_but(parsed(IDENTITY)), &["@email:replace", "@encodedemail:replace"]);
        }
        if self.data && !self.names.is_empty() {
            self.add_names(ruleset);
            rules.extend([STRIP_FIELDS, STRIP_PAIRS, STRIP_PHRASES, STRIP_PARAMETERS]);
            of_source.extend([STRIP_FIELDS, STRIP_LITERALS, STRIP_PARAMETERS]);
        }
        ruleset.apply(self.but_excluded(but_not(parsed(VALUES), parsed(SOURCE))), &rules);
        ruleset.apply(self.but_excluded(parsed(SOURCE)), &of_source);
        if self.addresses {
            ruleset.apply(self.anywhere_but(parsed(STRICT_NO_IP)), &["@checkedip:replace"]);
        }
    }

    /// The project's names: whole values under such keys, and the values that such names have in a text.
    fn add_names(&self, ruleset: &mut Ruleset) {
        let names = Arc::new(SensitiveNames::new(NameProfile::Strict).and_containing(&self.names));
        for (id, kind) in [
            (STRIP_FIELDS, SpecKind::Names(Arc::clone(&names))),
            (STRIP_PAIRS, SpecKind::Detector(Detector::NamedValue(Arc::clone(&names)))),
            (STRIP_PHRASES, SpecKind::Detector(Detector::NamedPhrase(Arc::clone(&names)))),
            (STRIP_LITERALS, SpecKind::Detector(Detector::NamedLiteral(Arc::clone(&names)))),
            (STRIP_PARAMETERS, SpecKind::Detector(Detector::QueryParameter(names))),
        ] {
            ruleset.rules.insert(id.to_owned(), filtering(kind));
        }
    }

    /// One pattern that matches where any of the names does.
    fn names_pattern(&self) -> String {
        self.names.iter().map(|name| regex::escape(name)).collect::<Vec<_>>().join("|")
    }

    /// Negations run last: the credentials in a URL are gone when mail addresses are looked for, and do not look like one.
    fn anywhere_but(&self, ignored: Selector) -> Selector {
        let mut all = vec![ignored];
        all.extend(self.excluded.iter().cloned());
        Selector::Not(Box::new(one_or(all, Selector::Or)))
    }

    fn but_excluded(&self, selector: Selector) -> Selector {
        let exclusions = self.excluded.iter().map(|excluded| Selector::Not(Box::new(excluded.clone())));
        let mut all = match selector {
            Selector::And(all) => all,
            other => vec![other],
        };
        all.extend(exclusions);
        one_or(all, Selector::And)
    }
}

impl Ruleset {
    fn apply(&mut self, selector: Selector, ids: &[&str]) {
        if !ids.is_empty() {
            let rules = self.applications.entry(selector).or_default();
            rules.extend(ids.iter().map(|id| (*id).to_owned()));
        }
    }
}

fn filtering(kind: SpecKind) -> RuleSpec {
    RuleSpec { kind, redaction: Redaction::Replace(Cow::Borrowed(FILTERED)) }
}

/// An excluded field: a selector, or a plain name that is none.
fn excluded(field: &str) -> Selector {
    field.parse().unwrap_or_else(|_| Selector::key(field.trim()))
}

fn but_not(selector: Selector, ignored: Selector) -> Selector {
    Selector::And(vec![selector, Selector::Not(Box::new(ignored))])
}

/// A selector of the constants above.
fn parsed(text: &str) -> Selector {
    // A constant that can't be read would select everything: more is scrubbed then, not less. A test reads each.
    text.parse().unwrap_or_else(|_| Selector::Path(SelectorPath::everything()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Switches: data, defaults, addresses.
    fn settings(data: bool, defaults: bool, addresses: bool) -> DataScrubbingSettings {
        DataScrubbingSettings {
            scrub_data: Some(data),
            scrub_defaults: Some(defaults),
            scrub_ip_addresses: Some(addresses),
            ..DataScrubbingSettings::default()
        }
    }

    fn applications(settings: &DataScrubbingSettings, profile: ScrubProfile) -> Vec<(String, Vec<String>)> {
        let ruleset = convert(settings, profile);
        ruleset.applications.iter().map(|(selector, ids)| (selector.to_string(), ids.clone())).collect()
    }

    fn rules_of<'a>(all: &'a [(String, Vec<String>)], beginning: &str) -> Vec<&'a str> {
        let mut found = all.iter().filter(|(selector, _)| selector.starts_with(beginning));
        found.next().map(|(_, ids)| ids.iter().map(String::as_str).collect()).unwrap_or_default()
    }

    #[test]
    fn every_constant_selector_is_read() {
        for text in [
            VALUES,
            COMPAT_IGNORED,
            IP_FIELDS,
            COMPAT_REPLACED,
            COOKIES,
            COOKIE_HEADERS,
            STRICT_COOKIE_HEADERS,
            IDENTITY,
            STRICT_NO_IP,
            SOURCE,
        ] {
            assert!(text.parse::<Selector>().is_ok(), "{text}: {:?}", text.parse::<Selector>());
        }
    }

    #[test]
    fn in_compat_the_switches_make_the_applications_of_the_reference() {
        let all = applications(&settings(true, true, true), ScrubProfile::Compat);
        assert_eq!(all.len(), 5);
        let main = "(($string || $number || $array || $object) && !(debug_meta.** || $frame.filename";
        assert_eq!(rules_of(&all, main), ["@common:filter", "@ip:replace"]);
        assert_eq!(rules_of(&all, "($http.env.REMOTE_ADDR"), ["@anything:remove"]);
        assert_eq!(rules_of(&all, "($logentry.formatted"), COMPAT_REPLACING);
        assert_eq!(rules_of(&all, "(*.cookies.*"), ["@sessioncookie:filter"]);
        assert_eq!(rules_of(&all, "($http.headers.cookie"), ["@cookies:filter"]);
    }

    #[test]
    fn in_compat_each_switch_adds_its_own() {
        let main = "(($string || $number";
        for (data, defaults, addresses, expected) in [
            (false, false, false, vec![]),
            (false, true, false, vec![]),
            (true, false, false, vec![]),
            (true, true, false, vec!["@common:filter"]),
            (false, false, true, vec!["@ip:replace"]),
            (false, true, true, vec!["@ip:replace"]),
        ] {
            let all = applications(&settings(data, defaults, addresses), ScrubProfile::Compat);
            assert_eq!(rules_of(&all, main), expected, "{data} {defaults} {addresses}");
            assert_eq!(rules_of(&all, "($http.env").len(), usize::from(addresses));
        }
    }

    #[test]
    fn in_compat_sensitive_names_become_one_pattern_of_literals() {
        let mut settings = settings(true, false, false);
        settings.sensitive_fields = vec!["my.field".to_owned(), " ".to_owned(), "other".to_owned()];
        let ruleset = convert(&settings, ScrubProfile::Compat);
        let SpecKind::RedactPair { key_pattern } = &ruleset.rules[STRIP_FIELDS].kind else { panic!("a pair rule") };
        assert_eq!(key_pattern, r"my\.field|other");
        let all = applications(&settings, ScrubProfile::Compat);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].1, [STRIP_FIELDS]);
        settings.scrub_data = Some(false);
        assert!(applications(&settings, ScrubProfile::Compat).is_empty());
    }

    #[test]
    fn excluded_fields_are_selectors_or_else_plain_names() {
        let mut settings = settings(true, true, false);
        settings.exclude_fields = vec!["extra.note".to_owned(), "a field".to_owned(), String::new()];
        let all = applications(&settings, ScrubProfile::Compat);
        let (main, _) = all.iter().find(|(selector, _)| selector.starts_with("(($string")).unwrap();
        assert!(main.ends_with("&& !extra.note && !'a field')"), "{main}");
    }

    #[test]
    fn what_is_left_out_is_on_in_strict_and_off_in_compat() {
        let nothing = DataScrubbingSettings::default();
        assert!(applications(&nothing, ScrubProfile::Compat).is_empty());
        let strict = applications(&nothing, ScrubProfile::Strict);
        assert_eq!(strict, applications(&DataScrubbingSettings::of_new_project(), ScrubProfile::Strict));
        assert!(!strict.is_empty());
    }
}
