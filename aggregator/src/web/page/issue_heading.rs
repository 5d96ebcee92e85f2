//! An issue in a few words and numbers, as the list and the issue's own page show it.

use picket_common::timestamp::Timestamp;

use crate::query::IssueSummary;
use crate::web::sparkline::Sparkline;
use crate::web::when::When;

/// An issue ready to be laid out.
#[derive(Debug)]
pub(crate) struct IssueHeading {
    pub(crate) id: i64,
    pub(crate) short_id: String,
    /// The part of the title that names the kind of error; empty where the title is a message.
    pub(crate) kind: String,
    /// The rest of the title.
    pub(crate) detail: String,
    pub(crate) culprit: String,
    pub(crate) level: &'static str,
    pub(crate) status: String,
    pub(crate) project_name: String,
    pub(crate) project_slug: String,
    pub(crate) count: Count,
    pub(crate) users: Count,
    pub(crate) first_seen: When,
    pub(crate) last_seen: When,
    pub(crate) sparkline: Sparkline,
}

/// A number, short and exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    /// `12.3k`.
    pub(crate) short: String,
    /// `12345`.
    pub(crate) exact: u64,
}

impl IssueHeading {
    /// Lays out a summary as seen at `now`.
    pub(crate) fn new(issue: IssueSummary, now: Timestamp) -> Self {
        let (kind, detail) = split_title(&issue.title);
        Self {
            id: issue.id.get(),
            short_id: issue.short_id,
            kind: kind.to_owned(),
            detail: detail.to_owned(),
            culprit: issue.culprit,
            level: known_level(&issue.level),
            status: issue.status,
            project_name: issue.project.name,
            project_slug: issue.project.slug,
            count: Count::new(issue.count),
            users: Count::new(issue.users),
            first_seen: When::new(issue.first_seen, now),
            last_seen: When::new(issue.last_seen, now),
            sparkline: Sparkline::new(&issue.hourly),
        }
    }

    /// The whole title, for the window.
    pub(crate) fn title(&self) -> String {
        match (self.kind.is_empty(), self.detail.is_empty()) {
            (true, _) => self.detail.clone(),
            (false, true) => self.kind.clone(),
            (false, false) => format!("{}: {}", self.kind, self.detail),
        }
    }
}

impl Count {
    fn new(exact: u64) -> Self {
        Self { short: short(exact), exact }
    }
}

/// `ValueError: bad input` has a kind; `disk is full: 3 of 4` has none, since no type's name has a blank.
fn split_title(title: &str) -> (&str, &str) {
    match title.split_once(": ") {
        Some((kind, detail)) if !kind.is_empty() && !kind.contains(char::is_whitespace) => (kind, detail),
        _ if !title.is_empty() && !title.contains(char::is_whitespace) => (title, ""),
        _ => ("", title),
    }
}

/// A level becomes a class name, so only known ones pass.
fn known_level(level: &str) -> &'static str {
    const LEVELS: [&str; 5] = ["fatal", "error", "warning", "info", "debug"];
    LEVELS.into_iter().find(|known| *known == level).unwrap_or("other")
}

fn short(count: u64) -> String {
    let (unit, suffix) = match count {
        0..1_000 => return count.to_string(),
        1_000..1_000_000 => (1_000, "k"),
        1_000_000..1_000_000_000 => (1_000_000, "m"),
        _ => (1_000_000_000, "b"),
    };
    let (whole, tenth) = (count / unit, count % unit * 10 / unit);
    if whole >= 100 || tenth == 0 { format!("{whole}{suffix}") } else { format!("{whole}.{tenth}{suffix}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_split_where_a_type_ends() {
        for (title, expected) in [
            ("ValueError: bad input", ("ValueError", "bad input")),
            ("app.errors.CheckoutError: a: b", ("app.errors.CheckoutError", "a: b")),
            ("disk is full: 3 of 4", ("", "disk is full: 3 of 4")),
            ("ValueError", ("ValueError", "")),
            ("hello world", ("", "hello world")),
            ("", ("", "")),
            (": x", ("", ": x")),
        ] {
            assert_eq!(split_title(title), expected, "{title:?}");
        }
    }

    #[test]
    fn counts_are_short_and_never_rounded_up() {
        for (count, expected) in
            [(0, "0"), (999, "999"), (1_000, "1k"), (1_999, "1.9k"), (123_456, "123k"), (2_500_000, "2.5m")]
        {
            assert_eq!(short(count), expected);
        }
        assert_eq!(short(u64::MAX), "18446744073b");
    }

    #[test]
    fn a_level_from_outside_never_becomes_a_class_name() {
        assert_eq!(known_level("fatal"), "fatal");
        assert_eq!(known_level("x\" onclick=\"alert(1)"), "other");
    }
}
