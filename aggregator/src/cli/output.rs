//! Answers on stdout: a table or a few lines for people, JSON for programs (indented; a list of issues, which can be long,
//! has one a line).

use std::io::{self, StdoutLock, Write};
use std::path::Path;

use anyhow::bail;
use picket_common::config::reload::{ConfigStatus, LastReload};
use picket_common::timestamp::Timestamp;
use serde_json::json;

use crate::admin::{IssueWithEvent, RelayEntry, Reply};
use crate::config::AggregatorConfig;
use crate::fleet::{AuthorityFacts, AuthorityReport, AuthorityRole};
use crate::projects::Project;
use crate::query::IssueSummary;
use crate::status::Status;

use super::dead_letter;
use super::issue_text::{issue_text, one_line};
use super::project;

/// Says that a configuration is valid.
pub(super) fn config_is_valid(config: &AggregatorConfig, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return print_json(&mut out, &json!({ "valid": true, "config": config_without_secrets(config) }));
    }
    Ok(writeln!(out, "the configuration is valid; data directory {}", config.data_dir.display())?)
}

/// Says who serves from a directory.
pub(super) fn already_serves(status: &Status, data_dir: &Path) -> String {
    let since = status.started_at.map_or_else(String::new, |at| format!(" since {}", at.to_rfc3339()));
    format!("picket-aggregator {} already serves from {}{since}", status.version, data_dir.display())
}

fn config_without_secrets(config: &AggregatorConfig) -> AggregatorConfig {
    let mut shown = config.clone();
    if !shown.clickhouse.password.is_empty() {
        shown.clickhouse.password = "***".to_owned();
    }
    shown
}

/// Prints what a request came to.
pub(super) fn reply(reply: Reply, json: bool, now: Timestamp) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match reply {
        Reply::Project(project) if json => print_json(&mut out, &project_json(&project)),
        Reply::Project(project) => {
            writeln!(
                out,
                "project  {} ({})\nid       {}\ndsn      {}",
                project.name, project.slug, project.id, project.dsn
            )?;
            Ok(())
        }
        Reply::Projects(projects) if json => {
            print_json(&mut out, &projects.iter().map(project_json).collect::<Vec<_>>())
        }
        Reply::Projects(projects) => print_projects(&mut out, &projects),
        // The document is JSON for people too: what is printed can be edited and set.
        Reply::Settings(settings) => print_json(&mut out, &settings.effective_document()),
        Reply::Keys(keys) if json => print_json(&mut out, &keys.iter().map(project::key_json).collect::<Vec<_>>()),
        Reply::Keys(keys) => project::print_keys(&mut out, &keys),
        Reply::Key(key) if json => print_json(&mut out, &project::key_json(&key)),
        Reply::Key(key) => project::print_key(&mut out, &key),
        Reply::Invitation { token, expires_at } if json => {
            print_json(&mut out, &json!({ "token": token, "expires_at": expires_at.to_rfc3339() }))
        }
        Reply::Invitation { token, expires_at } => {
            writeln!(out, "{token}")?;
            eprint(&format!("good once, until {}; use it with: picket-relay join TOKEN", expires_at.to_rfc3339()));
            Ok(())
        }
        Reply::Relays(relays) if json => print_json(&mut out, &relays.iter().map(relay_json).collect::<Vec<_>>()),
        Reply::Relays(relays) => print_relays(&mut out, &relays, now),
        Reply::Authority(report) if json => print_json(&mut out, &report_json(&report)),
        Reply::Authority(report) => print_authorities(&mut out, &report),
        Reply::Revoked { id, already } if json => {
            print_json(&mut out, &json!({ "id": id, "already_revoked": already }))
        }
        Reply::Revoked { id, already: true } => Ok(writeln!(out, "relay {id} was revoked before")?),
        Reply::Revoked { id, already: false } => {
            Ok(writeln!(out, "relay {id} is revoked; its connections are closed")?)
        }
        Reply::DeadLetters { letters, totals } if json => {
            print_json(&mut out, &dead_letter::list_json(&letters, totals))
        }
        Reply::DeadLetters { letters, totals } => Ok(dead_letter::print_list(&mut out, &letters, totals)?),
        Reply::DeadLetter(shown) if json => print_json(&mut out, &dead_letter::shown_json(&shown)),
        Reply::DeadLetter(shown) => Ok(dead_letter::print(&mut out, &shown)?),
        Reply::Replayed(count) if json => print_json(&mut out, &json!({ "replayed": count })),
        Reply::Replayed(count) => Ok(writeln!(out, "{count} dead letters are processed again")?),
        Reply::Dropped(count) if json => print_json(&mut out, &json!({ "dropped": count })),
        Reply::Dropped(count) => Ok(writeln!(out, "{count} dead letters are forgotten")?),
        Reply::User { email, password } if json => {
            print_json(&mut out, &json!({ "email": email, "password": password }))
        }
        Reply::User { email, password: Some(password) } => {
            Ok(writeln!(out, "user      {email}\npassword  {password}")?)
        }
        Reply::User { email, password: None } => Ok(writeln!(out, "user {email} may log in")?),
        Reply::Token { token } if json => print_json(&mut out, &json!({ "token": token })),
        Reply::Token { token } => Ok(writeln!(out, "{token}")?),
        Reply::Status(status) if json => print_json(&mut out, &status_json(&status)),
        Reply::Status(status) => print_status(&mut out, &status, now),
        Reply::Failed { detail } => bail!(detail),
        Reply::Issues(_) | Reply::Issue(_) => bail!("the aggregator answered something that was not asked"),
    }
}

/// Prints one issue. `public_url` is where its page is.
pub(super) fn issue(reply: Reply, public_url: &str, explain: bool, json: bool) -> anyhow::Result<()> {
    let Reply::Issue(found) = reply else {
        bail!("the aggregator answered something that was not asked");
    };
    let mut out = io::stdout().lock();
    if json {
        return print_json(&mut out, &issue_with_event_json(&found));
    }
    write!(out, "{}", issue_text(&found, public_url))?;
    if let (true, Some(grouping)) = (explain, &found.grouping) {
        writeln!(out, "\ngrouping {grouping:#}")?;
    }
    Ok(())
}

/// A list of issues that is printed as its pages arrive.
pub(super) struct IssueList {
    out: StdoutLock<'static>,
    json: bool,
    is_first: bool,
    /// Columns of the terminal; lines that go to a file are not cut.
    width: Option<usize>,
}

impl IssueList {
    pub(super) fn begin(json: bool) -> anyhow::Result<Self> {
        let mut out = io::stdout().lock();
        // Fails where stdout is no terminal.
        let size = rustix::termios::tcgetwinsize(&out).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        if json {
            write!(out, "[")?;
        }
        Ok(Self { out, json, is_first: true, width })
    }

    pub(super) fn add(&mut self, issues: &[IssueSummary], now: Timestamp) -> anyhow::Result<()> {
        for issue in issues {
            match (self.json, self.is_first) {
                (true, true) => write!(self.out, "\n{}", issue_json(issue))?,
                (true, false) => write!(self.out, ",\n{}", issue_json(issue))?,
                (false, true) => writeln!(self.out, "{ISSUE_LIST_HEAD}\n{}", issue_line(issue, now, self.width))?,
                (false, false) => writeln!(self.out, "{}", issue_line(issue, now, self.width))?,
            }
            self.is_first = false;
        }
        Ok(())
    }

    /// `is_limited`: whether there may be other issues than those asked for.
    pub(super) fn end(mut self, is_limited: bool) -> anyhow::Result<()> {
        match (self.json, self.is_first) {
            (true, true) => writeln!(self.out, "]")?,
            (true, false) => writeln!(self.out, "\n]")?,
            (false, true) if is_limited => eprint("no such issues"),
            (false, true) => eprint("no issues yet"),
            (false, false) => {}
        }
        Ok(())
    }
}

/// Widths as in [`issue_line`].
const ISSUE_LIST_HEAD: &str = "SHORT ID         EVENTS   USERS  LAST SEEN  TITLE";

fn issue_line(issue: &IssueSummary, now: Timestamp, width: Option<usize>) -> String {
    let seen = ago(issue.last_seen, now);
    let IssueSummary { short_id, count, users, title, .. } = issue;
    let culprit = if issue.culprit.is_empty() { String::new() } else { format!("  ({})", issue.culprit) };
    let line = one_line(&format!("{short_id:<14} {count:>8} {users:>7} {seen:>10}  {title}{culprit}"));
    match width {
        Some(width) if line.chars().count() > width => {
            line.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
        }
        _ => line,
    }
}

fn issue_json(issue: &IssueSummary) -> serde_json::Value {
    json!({
        "id": issue.id.get().to_string(),
        "short_id": issue.short_id,
        "title": issue.title,
        "culprit": issue.culprit,
        "count": issue.count,
        "users": issue.users,
        "level": issue.level,
        "platform": issue.platform,
        "status": issue.status,
        "substatus": issue.substatus,
        "type": issue.kind,
        "metadata": issue.metadata,
        "project": { "id": issue.project.id, "slug": issue.project.slug, "name": issue.project.name },
        "first_seen": issue.first_seen.to_rfc3339(),
        "last_seen": issue.last_seen.to_rfc3339(),
    })
}

fn issue_with_event_json(found: &IssueWithEvent) -> serde_json::Value {
    let mut json = issue_json(&found.issue);
    json["latest_event_id"] = json!(found.latest_event_id);
    json["latest_event"] = json!(found.latest_event);
    json["grouping"] = json!(found.grouping);
    json
}

fn project_json(project: &Project) -> serde_json::Value {
    json!({
        "id": project.id,
        "name": project.name,
        "slug": project.slug,
        "platform": project.platform,
        "dsn": project.dsn,
        "created_at": project.created_at.to_rfc3339(),
    })
}

fn relay_json(relay: &RelayEntry) -> serde_json::Value {
    json!({
        "id": relay.id,
        "name": relay.name,
        "hostname": relay.hostname,
        "version": relay.version,
        "connected": relay.is_connected,
        "created_at": relay.created_at.to_rfc3339(),
        "certificate_expires_at": relay.certificate_expires_at.map(Timestamp::to_rfc3339),
        "last_seen_at": relay.last_seen_at.map(Timestamp::to_rfc3339),
        "revoked_at": relay.revoked_at.map(Timestamp::to_rfc3339),
    })
}

fn status_json(status: &Status) -> serde_json::Value {
    json!({
        "version": status.version,
        "serving": status.is_serving,
        "started_at": status.started_at.map(Timestamp::to_rfc3339),
        "projects": status.projects,
        "relays": status.relays,
        "relays_connected": status.relays_connected,
        "journal": { "batches": status.journal_batches, "bytes": status.journal_bytes },
        "config": status.config.as_ref().map(config_json),
    })
}

fn config_json(config: &ConfigStatus) -> serde_json::Value {
    let reload = |reload: &LastReload| {
        json!({
            "at": reload.at.to_rfc3339(),
            "ok": reload.ok,
            "error": reload.error,
            "needs_restart": reload.needs_restart,
        })
    };
    json!({ "loaded_at": config.loaded_at.to_rfc3339(), "last_reload": config.last_reload.as_ref().map(reload) })
}

pub(super) fn print_json(out: &mut impl Write, value: &impl serde::Serialize) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    Ok(writeln!(out)?)
}

fn print_projects(out: &mut impl Write, projects: &[Project]) -> anyhow::Result<()> {
    writeln!(out, "{:>4}  {:<24} DSN", "ID", "PROJECT")?;
    for project in projects {
        writeln!(out, "{:>4}  {:<24} {}", project.id.get(), project.slug, project.dsn)?;
    }
    Ok(())
}

fn report_json(report: &AuthorityReport) -> serde_json::Value {
    let facts = |facts: &AuthorityFacts| {
        serde_json::json!({
            "fingerprint": facts.fingerprint,
            "role": facts.role,
            "not_before": facts.not_before.to_rfc3339(),
            "not_after": facts.not_after.to_rfc3339(),
            "relays_trusting": facts.relays_trusting,
            "relays_certified": facts.relays_certified,
        })
    };
    let authorities: Vec<_> = report.authorities.iter().map(facts).collect();
    serde_json::json!({ "authorities": authorities, "waiting_for": report.waiting_for })
}

fn print_authorities(out: &mut impl Write, report: &AuthorityReport) -> anyhow::Result<()> {
    for authority in &report.authorities {
        let role = match authority.role {
            AuthorityRole::Current => "signs",
            AuthorityRole::Former => "former, still in force",
        };
        writeln!(out, "{}  {role}, good until {}", authority.fingerprint, authority.not_after.to_rfc3339())?;
        let AuthorityFacts { relays_trusting, relays_certified, .. } = authority;
        writeln!(out, "    {relays_trusting} relays trust it, {relays_certified} have a certificate of it")?;
    }
    match report.waiting_for.as_slice() {
        _ if report.authorities.len() < 2 => Ok(()),
        [] => Ok(writeln!(out, "all relays have moved; end the rotation with: picket-aggregator authority retire")?),
        names => Ok(writeln!(out, "not moved yet: {}", names.join(", "))?),
    }
}

fn print_relays(out: &mut impl Write, relays: &[RelayEntry], now: Timestamp) -> anyhow::Result<()> {
    writeln!(out, "{:<36}  {:<20} {:<8} {:<12} SEEN", "ID", "NAME", "VERSION", "STATE")?;
    for relay in relays {
        let state = match (relay.revoked_at, relay.is_connected) {
            (Some(_), _) => "revoked",
            (None, true) => "connected",
            (None, false) => "away",
        };
        let seen = relay.last_seen_at.map_or_else(|| "never".to_owned(), |at| ago(at, now));
        writeln!(out, "{:<36}  {:<20} {:<8} {state:<12} {seen}", relay.id.to_string(), relay.name, relay.version)?;
    }
    Ok(())
}

fn print_status(out: &mut impl Write, status: &Status, now: Timestamp) -> anyhow::Result<()> {
    let state = match status.started_at {
        Some(at) => format!("serving since {} ({})", at.to_rfc3339(), ago(at, now)),
        None => "not serving".to_owned(),
    };
    writeln!(out, "picket-aggregator {}  {state}", status.version)?;
    writeln!(
        out,
        "projects  {}\nrelays    {} of {} connected",
        status.projects, status.relays_connected, status.relays
    )?;
    writeln!(out, "journal   {} batches waiting, {} bytes", status.journal_batches, status.journal_bytes)?;
    Ok(())
}

/// `5m ago`: the largest unit only.
fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "s"),
        60..3600 => (seconds / 60, "m"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count}{unit} ago")
}

/// A remark beside the answer.
pub(super) fn eprint(text: &str) {
    // Nothing can be done if stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_of_the_list_fits_the_terminal_and_has_nothing_for_an_unknown_culprit() {
        let mut issue = crate::web::fixture::issue_summary();
        let head: Vec<_> = ISSUE_LIST_HEAD.match_indices("TITLE").map(|(at, _)| at).collect();
        let whole = issue_line(&issue, issue.last_seen, None);
        assert!(whole.ends_with("ValueError: bad input  (shop.checkout in pay)"), "{whole}");
        assert_eq!(whole.find("ValueError"), head.first().copied());
        let cut = issue_line(&issue, issue.last_seen, Some(60));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (60, true));
        issue.culprit.clear();
        issue.title = "two\nlines \u{1b}[31m".to_owned();
        assert!(issue_line(&issue, issue.last_seen, Some(100)).ends_with("two lines  [31m"));
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        let now = Timestamp::from_millis(1_000_000_000);
        for (seconds, expected) in [(5, "5s ago"), (90, "1m ago"), (7300, "2h ago"), (200_000, "2d ago")] {
            assert_eq!(ago(now.minus(Duration::from_secs(seconds)), now), expected);
        }
    }
}
