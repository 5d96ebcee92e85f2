//! Quotas: how much of which kind of data an organisation, a project or a key may send in a window of time.
//!
//! | module | what |
//! | --- | --- |
//! | here | a quota as projects are configured with it, and whether it makes sense |
//! | [`category`] | the protocol's names of what can be counted, and their units |
//! | [`window`] | buckets, numbered windows of time, and what is said of them on the control stream |
//! | [`lease`] | a relay's half of the counting: what it may still admit |
//! | [`ledger`] | the aggregator's half: who holds how much of a window |
//!
//! Invariants, where N relays count one quota:
//! - what all of them admit in a window is at most `limit + N - 1`, whatever is lost, late or away (docs/decisions/0008 tells
//!   the few exceptions);
//! - a relay decides from memory, at once, whether or not an aggregator can be reached.
//!
//! What it does not do: look at requests (the relay's `quota` stage), or send anything.

pub mod category;
pub mod lease;
pub mod ledger;
#[cfg(test)]
mod model_tests;
pub mod window;

use serde::{Deserialize, Serialize};

use crate::category::DataCategory;
use category::{Counted, Unit};

/// Most quotas of one project: each request is compared with all of them.
pub const MAX_QUOTAS: usize = 100;
/// Longest `id` and `reasonCode`, in characters: both go into messages and headers.
pub const MAX_NAME_CHARS: usize = 64;
/// Longest window: a leap year.
pub const MAX_WINDOW_SECONDS: u64 = 366 * 24 * 60 * 60;

/// A quota, as the project's settings hold it.
///
/// Reading is lenient, so that a newer aggregator can push what an older relay does not know: such a quota never applies.
/// [`Quota::validate`] is strict, for what an operator sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Quota {
    /// What it is called; what its counter is kept under. Needed unless `limit` is 0 or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it counts, together, by the protocol's names; empty: everything that is counted in items.
    pub categories: Vec<String>,
    /// Whose data is counted together.
    pub scope: QuotaScope,
    /// Counts this one project (by number) or key (by public key) only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_id: Option<String>,
    /// How much a window admits, in the unit of the categories; 0 admits nothing, absent admits all.
    pub limit: Option<u64>,
    /// Length of the windows, in seconds. They begin at whole multiples of it since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// What clients and outcomes are told; `quota_exceeded` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<String>,
    /// Metrics of this namespace only. Nothing here tells metrics apart by it: refused when it is set, and a quota that was pushed
    /// with one never applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Counts each value of a dimension apart, which nothing here does: as `namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<GroupBy>,
}

/// Whose data a quota counts together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaScope {
    /// All projects that are configured with the quota.
    #[default]
    Organization,
    /// Each project by itself.
    Project,
    /// Each key by itself.
    Key,
    /// Of a newer version; such a quota never applies.
    #[serde(other)]
    Unknown,
}

/// The dimensions of a grouped quota.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupBy {
    /// Most values that are counted apart.
    pub max_cardinality: u64,
    /// `check_in.slug`, `check_in.environment`.
    pub dimensions: Vec<String>,
}

/// Why a quota can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("quota {quota}: {key}: {problem}")]
pub struct InvalidQuota {
    /// Its id, or that it has none.
    pub quota: String,
    /// The key of the quota.
    pub key: &'static str,
    /// What is wrong with its value, and what would be right.
    pub problem: String,
}

// === impl QuotaScope ===

impl QuotaScope {
    /// The protocol's name, as in rate-limit headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Project => "project",
            Self::Key => "key",
            Self::Unknown => "unknown",
        }
    }
}

// === impl Quota ===

impl Quota {
    /// What clients and outcomes are told when it is used up.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.reason_code.as_deref().unwrap_or("quota_exceeded")
    }

    /// The categories it counts here; those that Picket does not count apart are left out.
    #[must_use]
    pub fn counted(&self) -> Counted {
        Counted::of(&self.categories, self.limit)
    }

    /// Whether the quota can ever refuse anything on a relay of this version.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        let is_counted = self.limit == Some(0) || (self.id.is_some() && self.window.is_some_and(|window| window > 0));
        let is_known = self.namespace.is_none() && self.group_by.is_none() && self.scope != QuotaScope::Unknown;
        self.limit.is_some() && is_counted && is_known && !self.counted().is_empty()
    }

    /// Checks what an operator sets.
    ///
    /// # Errors
    /// [`InvalidQuota`] for the first key that makes no sense.
    pub fn validate(&self) -> Result<(), InvalidQuota> {
        self.check_names()?;
        self.check_categories()?;
        self.check_window()?;
        self.check_grouping()
    }

    fn invalid(&self, key: &'static str, problem: impl Into<String>) -> InvalidQuota {
        let quota = self.id.as_ref().map_or_else(|| "without an id".to_owned(), |id| format!("{id:?}"));
        InvalidQuota { quota, key, problem: problem.into() }
    }

    fn check_names(&self) -> Result<(), InvalidQuota> {
        let is_name = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            (1..=MAX_NAME_CHARS).contains(&text.len()) && text.bytes().all(plain)
        };
        // They are part of a header in which commas, colons and semicolons have a meaning.
        let expected = format!("expected 1 to {MAX_NAME_CHARS} ASCII letters, digits, '_', '-' and '.'");
        if self.id.as_ref().is_some_and(|id| !is_name(id)) {
            return Err(self.invalid("id", expected));
        }
        if self.reason_code.as_ref().is_some_and(|code| !is_name(code)) {
            return Err(self.invalid("reasonCode", expected));
        }
        if self.scope == QuotaScope::Unknown {
            return Err(self.invalid("scope", "expected organization, project or key"));
        }
        if self.scope_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_NAME_CHARS) {
            return Err(self.invalid("scopeId", "expected a project's number or a public key"));
        }
        Ok(())
    }

    fn check_categories(&self) -> Result<(), InvalidQuota> {
        let mut known: Vec<Unit> = Vec::with_capacity(self.categories.len());
        for name in &self.categories {
            let Some(unit) = category::unit_of(name) else {
                let problem = format!("there is no category {name:?}; there are {}", category::names().join(", "));
                return Err(self.invalid("categories", problem));
            };
            known.push(unit);
        }
        let is_counted = self.limit.is_some_and(|limit| limit > 0);
        if is_counted && known.windows(2).any(|pair| pair[0] != pair[1]) {
            let problem = "items, bytes and milliseconds can't be counted together; make one quota for each";
            return Err(self.invalid("categories", problem));
        }
        Ok(())
    }

    fn check_window(&self) -> Result<(), InvalidQuota> {
        if matches!(self.limit, None | Some(0)) {
            return Ok(());
        }
        if self.id.is_none() {
            return Err(self.invalid("id", "needed, because the counter is kept under it"));
        }
        match self.window {
            None => Err(self.invalid("window", "needed with a limit above 0, in seconds")),
            Some(window) if !(1..=MAX_WINDOW_SECONDS).contains(&window) => {
                Err(self.invalid("window", format!("{window}, expected 1 to {MAX_WINDOW_SECONDS} seconds")))
            }
            Some(_) => Ok(()),
        }
    }

    /// What can't be enforced is not accepted: an operator who has set a limit relies on it.
    fn check_grouping(&self) -> Result<(), InvalidQuota> {
        if self.namespace.is_some() {
            let problem = "quotas by the namespace of metrics are not supported; leave it out to limit all metrics";
            return Err(self.invalid("namespace", problem));
        }
        if self.group_by.is_some() {
            let problem =
                "quotas by monitor or environment are not supported; leave it out to limit all check-ins together";
            return Err(self.invalid("groupBy", problem));
        }
        Ok(())
    }
}

/// Checks the quotas of a project.
///
/// # Errors
/// The position of the first that can't be used, and why.
pub fn validate_all(quotas: &[Quota]) -> Result<(), (usize, InvalidQuota)> {
    for (position, quota) in quotas.iter().enumerate() {
        quota.validate().map_err(|error| (position, error))?;
        let is_twin = |other: &Quota| {
            quota.id.is_some()
                && (other.id.as_ref(), other.scope, &other.scope_id)
                    == (quota.id.as_ref(), quota.scope, &quota.scope_id)
        };
        if quotas[..position].iter().any(is_twin) {
            return Err((position, quota.invalid("id", "another quota has the same id and scope")));
        }
    }
    Ok(())
}

/// What of `category` an item of `bytes` payload bytes counts as, under a quota that counts it.
#[must_use]
pub const fn quantity_of(category: DataCategory, bytes: u64) -> u64 {
    match category {
        DataCategory::Attachment => bytes,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn quota(json: &str) -> Quota {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_forms_that_sentry_writes_are_read_and_valid() {
        for text in [
            r#"{"limit":0,"categories":["transaction"],"reasonCode":"disabled"}"#,
            r#"{"id":"q","limit":100,"window":60,"categories":["error","security","default"],"scope":"project","scopeId":"7"}"#,
            r#"{"id":"q","limit":null,"categories":[]}"#,
            r#"{"id":"bytes","limit":1000000,"window":3600,"categories":["attachment"],"scope":"key"}"#,
            r#"{"id":"m","limit":5,"window":60,"categories":["metric_bucket"]}"#,
        ] {
            quota(text).validate().unwrap();
        }
    }

    #[test]
    fn a_quota_that_makes_no_sense_is_refused_with_its_id_and_key() {
        let table = [
            (r#"{"limit":5,"window":60}"#, "quota without an id: id: needed"),
            (r#"{"id":"q","limit":5}"#, r#"quota "q": window: needed"#),
            (r#"{"id":"q","limit":5,"window":0}"#, r#"quota "q": window: 0, expected"#),
            (r#"{"id":"q","limit":5,"window":99999999}"#, r#"quota "q": window: 99999999"#),
            (
                r#"{"id":"q","limit":5,"window":60,"categories":["novelty"]}"#,
                r#"quota "q": categories: there is no category "novelty"; there are default, error, "#,
            ),
            (
                r#"{"id":"q","limit":5,"window":60,"categories":["error","errors"]}"#,
                r#"quota "q": categories: there is no category "errors"; there are default, error, "#,
            ),
            (
                r#"{"limit":0,"categories":["Error"]}"#,
                r#"quota without an id: categories: there is no category "Error""#,
            ),
            (
                r#"{"id":"q","limit":5,"window":60,"categories":["error","attachment"]}"#,
                r#"quota "q": categories: items"#,
            ),
            (r#"{"id":"q","limit":5,"window":60,"scope":"planet"}"#, r#"quota "q": scope"#),
            (r#"{"id":"a,b","limit":5,"window":60}"#, r#"quota "a,b": id"#),
            (r#"{"id":"q","limit":0,"reasonCode":"a:b"}"#, r#"quota "q": reasonCode"#),
            (
                r#"{"id":"q","limit":5,"window":60,"categories":["metric_bucket"],"namespace":"custom"}"#,
                r#"quota "q": namespace: quotas by the namespace of metrics are not supported"#,
            ),
            (
                r#"{"id":"q","limit":5,"window":60,"categories":["monitor"],"groupBy":{"maxCardinality":1,"dimensions":["check_in.slug"]}}"#,
                r#"quota "q": groupBy: quotas by monitor or environment are not supported"#,
            ),
            (r#"{"limit":0,"namespace":"custom"}"#, "quota without an id: namespace"),
        ];
        for (text, expected) in table {
            let message = quota(text).validate().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn units_may_be_mixed_where_nothing_is_counted() {
        quota(r#"{"limit":0,"categories":["error","attachment"]}"#).validate().unwrap();
    }

    #[test]
    fn two_quotas_may_not_share_a_counter() {
        let one = quota(r#"{"id":"q","limit":5,"window":60}"#);
        let (position, error) = validate_all(&[one.clone(), one.clone()]).unwrap_err();
        assert_eq!((position, error.key), (1, "id"));
        let other_scope = Quota { scope: QuotaScope::Key, ..one.clone() };
        validate_all(&[one, other_scope]).unwrap();
    }

    #[test]
    fn what_a_newer_version_pushes_is_read_and_never_applies() {
        let read = quota(r#"{"id":"q","limit":5,"window":60,"scope":"planet","novelty":1}"#);
        assert!(!read.is_enforced());
        assert!(!quota(r#"{"id":"q","limit":5,"window":60,"categories":["novelty"]}"#).is_enforced());
        assert!(quota(r#"{"id":"q","limit":5,"window":60,"categories":["error","novelty"]}"#).is_enforced());
        assert!(!quota(r#"{"id":"q","limit":5,"window":60,"namespace":"custom"}"#).is_enforced());
        assert!(!quota(r#"{"id":"q","limit":null}"#).is_enforced());
        assert!(quota(r#"{"limit":0}"#).is_enforced());
    }
}
