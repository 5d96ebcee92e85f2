//! Asks for an administrative command: the serving aggregator if there is one, else the stores themselves.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use picket_common::timestamp::Timestamp;

use crate::admin::{AdminContext, Reply, Request, execute, socket};
use crate::config::AggregatorConfig;
use crate::data_dir::DataDir;
use crate::journal::Journal;
use crate::query::{IssueFilter, MAX_PAGE, Query};
use crate::stores::{Registry, open_events};

use super::output;

/// Longest password that is read.
const MAX_PASSWORD_BYTES: u64 = 1024;

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

/// Lists issues page by page, so that neither side holds more than a page.
pub(super) async fn list_issues(config: &AggregatorConfig, filter: IssueFilter, json: bool) -> anyhow::Result<()> {
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
    list.end()
}

/// One line from stdin. Not an argument: arguments are seen by every user of the host.
pub(super) fn password_from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_PASSWORD_BYTES)
        .read_to_string(&mut text)
        .context("reading the password failed")?;
    let password = text.lines().next().unwrap_or_default();
    if password.chars().count() < 8 {
        bail!("expected a password of at least 8 characters on stdin; or let one be made with --generate");
    }
    Ok(password.to_owned())
}
