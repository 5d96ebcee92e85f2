//! Asks for an administrative command: the serving aggregator if there is one, else the stores themselves.

use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use picket_common::ids::ProjectId;
use picket_common::timestamp::Timestamp;
use tokio::time::timeout;

use crate::admin::{AdminContext, Reply, Request, execute, socket};
use crate::config::AggregatorConfig;
use crate::data_dir::DataDir;
use crate::journal::Journal;
use crate::query::{IssueFilter, MAX_PAGE, Query};
use crate::status::Status;
use crate::stores::{Registry, open_events};

use super::output;

/// Longest password that is read.
const MAX_PASSWORD_BYTES: u64 = 1024;
/// Shortest password that is taken.
const MIN_PASSWORD_CHARS: usize = 8;
/// How long a serving aggregator may take to say that it does.
const SERVING_PATIENCE: Duration = Duration::from_secs(5);

/// Asks, and turns a refusal into an error.
pub(super) async fn ask(config: &AggregatorConfig, request: Request) -> anyhow::Result<Reply> {
    let directory = DataDir::new(&config.data_dir);
    let served = socket::ask(&directory.socket(), &request).await;
    let served =
        served.with_context(|| format!("asking the aggregator behind {} failed", directory.socket().display()))?;
    let reply = match served {
        Some(reply) => reply,
        None => ask_stores(config, &directory, request).await?,
    };
    match reply {
        Reply::Failed { detail } => bail!(detail),
        reply => Ok(reply),
    }
}

/// Who serves from a directory, if anybody does and says so.
pub(super) async fn serving(directory: &DataDir) -> Option<Status> {
    // What starts, stops or is of another version may not answer in our words; then the directory's lock decides.
    let asked = timeout(SERVING_PATIENCE, socket::ask(&directory.socket(), &Request::Status)).await;
    match asked {
        Ok(Ok(Some(Reply::Status(status)))) if status.is_serving => Some(status),
        _ => None,
    }
}

/// Fails if somebody serves from the directory already.
pub(super) async fn refuse_second_server(config: &AggregatorConfig) -> anyhow::Result<()> {
    match serving(&DataDir::new(&config.data_dir)).await {
        Some(status) => bail!("{}; stop it first", output::already_serves(&status, &config.data_dir)),
        None => Ok(()),
    }
}

/// Nobody serves: this process holds the data directory for the time of the command.
async fn ask_stores(config: &AggregatorConfig, directory: &DataDir, request: Request) -> anyhow::Result<Reply> {
    let now = Timestamp::now();
    let locked = directory.lock_initialised()?;
    let registry = Registry::open(&locked, config, now).await?;
    let events = if request.needs_events() { Some(open_events(&locked, config).await?) } else { None };
    let opened = if request.needs_journal() { Some(Journal::open(&locked.journal(), &config.journal)?) } else { None };
    let (journal, committer) = opened.unzip();
    let context = AdminContext {
        config: Arc::new(config.clone()),
        query: events.as_ref().map(|events| Query::new(events, &registry.database, registry.projects.clone())),
        registry,
        journal,
        live: None,
        started_at: None,
        config_status: None,
    };
    let reply = execute(&context, request, now).await;
    context.registry.database.close().await;
    drop(context);
    if let Some(committer) = committer {
        tokio::task::spawn_blocking(move || committer.shutdown()).await?;
    }
    if let Some(events) = events {
        events.close().await?;
    }
    Ok(reply)
}

/// Lists issues page by page, so that neither side holds more than a page. `project` is a slug or an id.
pub(super) async fn list_issues(
    config: &AggregatorConfig,
    project: Option<&str>,
    filter: IssueFilter,
    json: bool,
) -> anyhow::Result<()> {
    let filter = match project {
        Some(project) => IssueFilter { project: Some(find_project(config, project).await?), ..filter },
        None => filter,
    };
    let is_limited = filter.project.is_some() || filter.text.is_some();
    let wanted = filter.limit;
    let mut list = output::IssueList::begin(json)?;
    let mut offset = Some(0);
    let mut shown = 0;
    while let Some(from) = offset.filter(|_| shown < wanted) {
        let page = IssueFilter { limit: MAX_PAGE.min(wanted - shown), offset: from, ..filter.clone() };
        let Reply::Issues(page) = ask(config, Request::ListIssues(page)).await? else {
            bail!("the aggregator answered something else than issues: it may be of another version");
        };
        shown = shown.saturating_add(u32::try_from(page.issues.len()).unwrap_or(u32::MAX));
        offset = page.next_offset;
        list.add(&page.issues, Timestamp::now())?;
    }
    list.end(is_limited)
}

async fn find_project(config: &AggregatorConfig, wanted: &str) -> anyhow::Result<ProjectId> {
    let Reply::Projects(projects) = ask(config, Request::ListProjects).await? else {
        bail!("the aggregator answered something else than projects: it may be of another version");
    };
    let by_id = projects.iter().find(|project| project.id.to_string() == wanted);
    match by_id.or_else(|| projects.iter().find(|project| project.slug == wanted)) {
        Some(project) => Ok(project.id),
        None => bail!("there is no project {wanted}; `picket-aggregator project list` shows ids and names"),
    }
}

/// A password, asked for twice on a terminal, else one line from stdin. Not an argument: arguments are seen by every user
/// of the host.
pub(super) fn read_password() -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        return password_from_stdin();
    }
    let ask = |prompt: &str| rpassword::prompt_password(prompt).context("reading the password failed");
    let password = ask("Password (it is not shown): ")?;
    check_password(&password, "expected a password")?;
    if ask("The same again: ")? != password {
        bail!("the two passwords differ; nothing was changed");
    }
    Ok(password)
}

fn password_from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_PASSWORD_BYTES)
        .read_to_string(&mut text)
        .context("reading the password failed")?;
    let password = text.lines().next().unwrap_or_default();
    check_password(password, "expected a password on stdin")?;
    Ok(password.to_owned())
}

fn check_password(password: &str, expected: &str) -> anyhow::Result<()> {
    if password.chars().count() < MIN_PASSWORD_CHARS {
        bail!("{expected} of at least {MIN_PASSWORD_CHARS} characters; or let one be made with --generate");
    }
    Ok(())
}
