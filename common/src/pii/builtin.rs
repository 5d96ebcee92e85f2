//! The built-in rules, whose ids begin with `@`.
//!
//! A plain id (`@email`) stands for one of its family (`@email:replace`). The families are those that existing Sentry
//! configurations use; those under `OWN` are Picket's, and what the strict profile is made of.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::detect::{
    BearerCheck, CardCheck, Detector, HomePath, IbanCheck, IpCheck, NameProfile, SensitiveNames, UrlAuthPart,
};
use super::rule::Redaction;
use super::ruleset::{FILTERED, Inner, RuleSpec, SpecKind};

/// What a family looks for.
#[derive(Debug, Clone, Copy)]
enum Looks {
    Anything,
    Imei,
    Mac,
    Uuid,
    Email,
    EncodedEmail,
    Ip,
    CheckedIp,
    CreditCard,
    CheckedCard,
    Iban,
    CheckedIban,
    UserPath,
    HomePath,
    PemKey,
    UrlAuth,
    UrlPassword,
    UsSsn,
    Bearer,
    CheckedBearer,
    KnownToken,
    Password,
    Cookies,
    SessionCookie,
    SecretName,
    SecretPair,
    SecretLiteral,
    SecretPhrase,
    QueryParameter,
}

/// A family: its plain id, what it looks for, the text of `:replace`, the method of the plain id, and the methods there are.
struct Family(&'static str, Looks, &'static str, &'static str, &'static [&'static str]);

const COMMON_METHODS: &[&str] = &["replace", "hash", "mask", "remove"];
const WITH_FILTER: &[&str] = &["replace", "filter", "hash", "mask", "remove"];

/// The families that the reference has.
const COMPATIBLE: &[Family] = &[
    Family("@anything", Looks::Anything, FILTERED, "replace", WITH_FILTER),
    Family("@bearer", Looks::Bearer, "Bearer [token]", "replace", WITH_FILTER),
    Family("@creditcard", Looks::CreditCard, "[creditcard]", "replace", WITH_FILTER),
    Family("@email", Looks::Email, "[email]", "replace", COMMON_METHODS),
    Family("@iban", Looks::Iban, "[iban]", "replace", WITH_FILTER),
    Family("@imei", Looks::Imei, "[imei]", "replace", COMMON_METHODS),
    Family("@ip", Looks::Ip, "[ip]", "replace", COMMON_METHODS),
    Family("@mac", Looks::Mac, "[mac]", "mask", COMMON_METHODS),
    Family("@password", Looks::Password, "[password]", "remove", WITH_FILTER),
    Family("@pemkey", Looks::PemKey, "[pemkey]", "replace", WITH_FILTER),
    Family("@urlauth", Looks::UrlAuth, "[auth]", "replace", COMMON_METHODS),
    Family("@userpath", Looks::UserPath, "[user]", "replace", COMMON_METHODS),
    Family("@usssn", Looks::UsSsn, "[us-ssn]", "mask", WITH_FILTER),
    Family("@uuid", Looks::Uuid, "[uuid]", "mask", COMMON_METHODS),
];

/// Picket's own families.
const OWN: &[Family] = &[
    Family("@checkedbearer", Looks::CheckedBearer, "Bearer [token]", "replace", WITH_FILTER),
    Family("@checkedcard", Looks::CheckedCard, "[creditcard]", "replace", WITH_FILTER),
    Family("@checkediban", Looks::CheckedIban, "[iban]", "replace", WITH_FILTER),
    Family("@checkedip", Looks::CheckedIp, "[ip]", "replace", COMMON_METHODS),
    Family("@encodedemail", Looks::EncodedEmail, "[email]", "replace", COMMON_METHODS),
    Family("@homepath", Looks::HomePath, "[user]", "replace", COMMON_METHODS),
    Family("@knowntoken", Looks::KnownToken, "[token]", "replace", WITH_FILTER),
    Family("@queryparameter", Looks::QueryParameter, FILTERED, "filter", WITH_FILTER),
    Family("@secretliteral", Looks::SecretLiteral, FILTERED, "filter", WITH_FILTER),
    Family("@secretname", Looks::SecretName, FILTERED, "filter", WITH_FILTER),
    Family("@secretpair", Looks::SecretPair, FILTERED, "filter", WITH_FILTER),
    Family("@secretphrase", Looks::SecretPhrase, FILTERED, "filter", WITH_FILTER),
];

/// Rules that belong to no family: id, what they look for, what becomes of it.
const SINGLE: &[(&str, Looks, Redaction)] = &[
    ("@cookies:filter", Looks::Cookies, Redaction::Replace(Cow::Borrowed(FILTERED))),
    ("@sessioncookie:filter", Looks::SessionCookie, Redaction::Replace(Cow::Borrowed(FILTERED))),
    ("@urlauth:legacy", Looks::UrlPassword, Redaction::Replace(Cow::Borrowed(FILTERED))),
];

/// Rules that stand for others.
const GROUPS: &[(&str, &[&str])] = &[
    ("@common", &["@common:filter"]),
    (
        "@common:filter",
        &[
            "@creditcard:filter",
            "@iban:filter",
            "@pemkey:filter",
            "@urlauth:legacy",
            // The reference names this one too and has none such, so that user paths stay. Kept, so that they do here.
            "@userpath:filter",
            "@bearer:filter",
            "@password:filter",
            "@usssn:filter",
        ],
    ),
    ("@strict", &["@strict:anywhere", "@secretpair:filter", "@secretphrase:filter"]),
    // What @strict does, but for a line of source text, where most of what follows a name is code.
    ("@strictsource", &["@strict:anywhere", "@secretliteral:filter"]),
    (
        "@strict:anywhere",
        &[
            "@checkedbearer:replace",
            "@checkedcard:replace",
            "@checkediban:replace",
            "@homepath:replace",
            "@knowntoken:replace",
            "@pemkey:replace",
            "@queryparameter:filter",
            "@secretname:filter",
            "@urlauth:replace",
            "@usssn:replace",
        ],
    ),
];

/// The built-in rule of this id.
#[must_use]
pub fn find(id: &str) -> Option<RuleSpec> {
    if let Some((_, members)) = GROUPS.iter().find(|(known, _)| *known == id) {
        return Some(including(members));
    }
    if let Some((_, looks, redaction)) = SINGLE.iter().find(|(known, ..)| *known == id) {
        return Some(RuleSpec { kind: looks.kind(), redaction: redaction.clone() });
    }
    let (plain, method) = id.split_once(':').map_or((id, None), |(plain, method)| (plain, Some(method)));
    let family = COMPATIBLE.iter().chain(OWN).find(|family| family.0 == plain)?;
    match method {
        None => Some(RuleSpec {
            kind: SpecKind::Multiple { rules: vec![Cow::Owned(format!("{plain}:{}", family.3))], inner: Inner::Shown },
            redaction: Redaction::Default,
        }),
        Some(method) => {
            family.4.contains(&method).then(|| RuleSpec { kind: family.1.kind(), redaction: family.redaction(method) })
        }
    }
}

/// Every id, for documentation and tests.
pub fn ids() -> impl Iterator<Item = String> {
    let families = COMPATIBLE.iter().chain(OWN).flat_map(|family| {
        let methods = family.4.iter().map(|method| format!("{}:{method}", family.0));
        std::iter::once(family.0.to_owned()).chain(methods)
    });
    let single = SINGLE.iter().map(|(id, ..)| (*id).to_owned());
    let groups = GROUPS.iter().map(|(id, _)| (*id).to_owned());
    families.chain(single).chain(groups)
}

fn including(members: &[&'static str]) -> RuleSpec {
    let rules = members.iter().map(|id| Cow::Borrowed(*id)).collect();
    RuleSpec { kind: SpecKind::Multiple { rules, inner: Inner::Shown }, redaction: Redaction::Default }
}

impl Family {
    fn redaction(&self, method: &str) -> Redaction {
        match method {
            "replace" => Redaction::Replace(Cow::Borrowed(self.2)),
            "filter" => Redaction::Replace(Cow::Borrowed(FILTERED)),
            "hash" => Redaction::Hash,
            // The reference hashes here whatever the name says; a mask would show the length, which is always the same.
            "mask" if self.0 == "@imei" => Redaction::Hash,
            "mask" => Redaction::Mask,
            _ => Redaction::Remove,
        }
    }
}

/// Shared by all rules that go by names.
static STRICT_NAMES: LazyLock<Arc<SensitiveNames>> =
    LazyLock::new(|| Arc::new(SensitiveNames::new(NameProfile::Strict)));

impl Looks {
    fn kind(self) -> SpecKind {
        SpecKind::Detector(match self {
            Self::Anything => return SpecKind::Anything,
            Self::SessionCookie => return SpecKind::SessionCookie,
            Self::SecretName => return SpecKind::Names(Arc::clone(&STRICT_NAMES)),
            Self::Imei => Detector::Imei,
            Self::Mac => Detector::Mac,
            Self::Uuid => Detector::Uuid,
            Self::Email => Detector::Email,
            Self::EncodedEmail => Detector::EncodedEmail,
            Self::Ip => Detector::Ip(IpCheck::Form),
            Self::CheckedIp => Detector::Ip(IpCheck::NoNames),
            Self::CreditCard => Detector::CreditCard(CardCheck::Issuer),
            Self::CheckedCard => Detector::CreditCard(CardCheck::Luhn),
            Self::Iban => Detector::Iban(IbanCheck::Form),
            Self::CheckedIban => Detector::Iban(IbanCheck::Digits),
            Self::UserPath => Detector::UserPath(HomePath::Anywhere),
            Self::HomePath => Detector::UserPath(HomePath::AtRoot),
            Self::PemKey => Detector::PemKey,
            Self::UrlAuth => Detector::UrlAuth(UrlAuthPart::UserAndPassword),
            Self::UrlPassword => Detector::UrlAuth(UrlAuthPart::Password),
            Self::UsSsn => Detector::UsSsn,
            Self::Bearer => Detector::Bearer(BearerCheck::Word),
            Self::CheckedBearer => Detector::Bearer(BearerCheck::Token),
            Self::KnownToken => Detector::KnownToken,
            Self::Password => Detector::Password,
            Self::Cookies => Detector::Cookies,
            Self::SecretPair => Detector::NamedValue(Arc::clone(&STRICT_NAMES)),
            Self::SecretLiteral => Detector::NamedLiteral(Arc::clone(&STRICT_NAMES)),
            Self::SecretPhrase => Detector::NamedPhrase(Arc::clone(&STRICT_NAMES)),
            Self::QueryParameter => Detector::QueryParameter(Arc::clone(&STRICT_NAMES)),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_id_is_found_and_no_other() {
        for id in ids() {
            assert!(find(&id).is_some(), "{id}");
        }
        for id in ["@userpath:filter", "@email:filter", "@emails", "email", "@ip:", "@cookies"] {
            assert!(find(id).is_none(), "{id}");
        }
    }

    #[test]
    fn plain_ids_stand_for_the_method_that_sentry_documents() {
        for (id, target) in [
            ("@ip", "@ip:replace"),
            ("@mac", "@mac:mask"),
            ("@uuid", "@uuid:mask"),
            ("@usssn", "@usssn:mask"),
            ("@password", "@password:remove"),
            ("@common", "@common:filter"),
        ] {
            let SpecKind::Multiple { rules, inner: Inner::Shown } = find(id).unwrap().kind else { panic!("{id}") };
            assert_eq!(rules, [target]);
        }
    }

    #[test]
    fn texts_and_methods_are_those_of_the_table() {
        let replace = |text: &'static str| Redaction::Replace(Cow::Borrowed(text));
        for (id, redaction) in [
            ("@ip:replace", replace("[ip]")),
            ("@bearer:replace", replace("Bearer [token]")),
            ("@usssn:replace", replace("[us-ssn]")),
            ("@password:filter", replace("[Filtered]")),
            ("@urlauth:legacy", replace("[Filtered]")),
            ("@imei:mask", Redaction::Hash),
            ("@mac:mask", Redaction::Mask),
            ("@email:hash", Redaction::Hash),
            ("@email:remove", Redaction::Remove),
        ] {
            assert_eq!(find(id).unwrap().redaction, redaction, "{id}");
        }
    }
}
