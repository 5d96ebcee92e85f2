//! Carries administrative requests out.

use std::sync::Arc;

use picket_common::config::reload::ConfigStatus;
use picket_common::timestamp::Timestamp;
use tokio::sync::watch;

use super::{IssueWithEvent, RelayEntry, Reply, Request, dead_letters};
use crate::accounts::random_password;
use crate::config::AggregatorConfig;
use crate::fleet::Revocation;
use crate::intake::LiveRelays;
use crate::issues::IssueId;
use crate::journal::{Journal, JournalError};
use crate::process::group::group;
use crate::query::{IssueSummary, Query};
use crate::status::Status;
use crate::stores::{Registry, StoreError};

/// What requests work on. What a stopped aggregator's command did not open is `None`.
#[derive(Debug, Clone)]
pub struct AdminContext {
    /// Addresses and names.
    pub config: Arc<AggregatorConfig>,
    /// Projects, users and relays.
    pub registry: Registry,
    /// Issues and events.
    pub query: Option<Query>,
    /// The journal.
    pub journal: Option<Journal>,
    /// The relays that are connected; only where something serves.
    pub live: Option<LiveRelays>,
    /// Since when it serves.
    pub started_at: Option<Timestamp>,
    /// How the configuration of what serves fares.
    pub config_status: Option<watch::Receiver<ConfigStatus>>,
}

/// Does what is asked; a failure is a reply too.
pub async fn execute(context: &AdminContext, request: Request, now: Timestamp) -> Reply {
    match try_execute(context, request, now).await {
        Ok(reply) => reply,
        Err(error) => Reply::Failed { detail: error.to_string() },
    }
}

async fn try_execute(context: &AdminContext, request: Request, now: Timestamp) -> Result<Reply, StoreError> {
    let registry = &context.registry;
    Ok(match request {
        Request::CreateProject { name, platform } => {
            Reply::Project(registry.projects.create(&name, platform.as_deref(), now).await?)
        }
        Request::ListProjects => Reply::Projects(registry.projects.list().await?),
        Request::ShowSettings { project } => Reply::Settings(Box::new(registry.projects.settings(&project).await?)),
        Request::ChangeSettings { project, change } => {
            Reply::Settings(Box::new(registry.projects.change_settings(&project, &change).await?))
        }
        Request::ListKeys { project } => Reply::Keys(registry.projects.keys(&project).await?),
        Request::CreateKey { project, label } => Reply::Key(registry.projects.create_key(&project, &label, now).await?),
        Request::SetKeyState { public_key, state } => {
            Reply::Key(registry.projects.set_key_state(public_key, state).await?)
        }
        Request::InviteRelay { name, ttl } => {
            let mut random = [0; 16];
            if let Err(error) = getrandom::fill(&mut random) {
                return Ok(Reply::Failed { detail: format!("no random bytes for the token: {error}") });
            }
            let addresses = context.config.advertised();
            let invitation = registry.fleet.invite(addresses, name.as_deref(), ttl, now, random).await?;
            Reply::Invitation { token: invitation.token.to_string(), expires_at: invitation.expires_at }
        }
        Request::ListRelays => Reply::Relays(relays(context).await?),
        Request::RevokeRelay { id } => {
            let already = registry.fleet.revoke(id, now).await? == Revocation::AlreadyRevoked;
            Reply::Revoked { id, already }
        }
        Request::ShowAuthority => Reply::Authority(registry.fleet.authority_report().await?),
        Request::RotateAuthority => Reply::Authority(registry.fleet.rotate_authority(now).await?),
        Request::RetireAuthority { retirement } => Reply::Authority(registry.fleet.retire_authority(retirement).await?),
        Request::ListIssues(filter) => match &context.query {
            Some(query) => Reply::Issues(query.issues(&filter, now).await?),
            None => no_events(),
        },
        Request::ShowIssue { id } => match &context.query {
            Some(query) => show_issue(query, &id, now).await?,
            None => no_events(),
        },
        Request::CreateUser { email, password } => {
            let made = if password.is_none() { Some(random_password()?) } else { None };
            let chosen = password.as_deref().or(made.as_deref()).unwrap_or_default();
            registry.accounts.create_user(&email, chosen, now).await?;
            Reply::User { email, password: made }
        }
        Request::CreateToken { label, scopes } => {
            let config = &context.config;
            let token =
                registry.accounts.create_token(&label, &scopes, &config.organisation, &config.public_url, now).await?;
            Reply::Token { token }
        }
        Request::ListDeadLetters => dead_letters::list(journal(context)?).await?,
        Request::ShowDeadLetter { id } => dead_letters::show(journal(context)?, id).await?,
        Request::ReplayDeadLetters(chosen) => dead_letters::replay(journal(context)?, chosen).await?,
        Request::DropDeadLetters(chosen) => dead_letters::forget(journal(context)?, chosen).await?,
        Request::Status => Reply::Status(status(context).await?),
    })
}

/// Open wherever [`Request::needs_journal`] says so.
fn journal(context: &AdminContext) -> Result<&Journal, JournalError> {
    context.journal.as_ref().ok_or(JournalError::State("place: it is not open"))
}

fn no_events() -> Reply {
    Reply::Failed { detail: "the events store is not open".to_owned() }
}

async fn relays(context: &AdminContext) -> Result<Vec<RelayEntry>, StoreError> {
    let rows = context.registry.fleet.list().await?;
    let live = context.live.as_ref().map(LiveRelays::snapshot).unwrap_or_default();
    let entry = |row: crate::fleet::RelayRow| RelayEntry {
        is_connected: live.iter().any(|relay| relay.relay_id == row.id),
        id: row.id,
        name: row.name,
        hostname: row.hostname,
        version: row.version,
        created_at: row.created_at,
        certificate_expires_at: Some(row.certificate_not_after),
        last_seen_at: row.last_seen_at,
        revoked_at: row.revoked_at,
    };
    Ok(rows.into_iter().map(entry).collect())
}

async fn show_issue(query: &Query, id: &str, now: Timestamp) -> Result<Reply, StoreError> {
    let found = match id.parse::<i64>() {
        Ok(number) => query.issue(IssueId::new(number), now).await?,
        Err(_) => query.issue_by_short_id(id, now).await?,
    };
    let Some(issue) = found else {
        return Ok(Reply::Failed {
            detail: format!("there is no issue {id}; `picket-aggregator issues list` shows ids and short ids"),
        });
    };
    let event = query.latest_event(issue.project.id, issue.id).await?;
    Ok(Reply::Issue(Box::new(with_event(issue, event))))
}

fn with_event(issue: IssueSummary, event: Option<crate::query::StoredEvent>) -> IssueWithEvent {
    let latest_event_id = event.as_ref().map(|event| event.event_id);
    // Stored as JSON by us; were it none, the command shows the issue without it.
    let latest_event: Option<serde_json::Value> = event.and_then(|event| serde_json::from_slice(&event.json).ok());
    let grouping = latest_event.as_ref().and_then(|event| serde_json::to_value(group(event)).ok());
    IssueWithEvent { issue, latest_event_id, latest_event, grouping }
}

async fn status(context: &AdminContext) -> Result<Status, StoreError> {
    let backlog = context.journal.as_ref().map(Journal::backlog);
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        is_serving: context.started_at.is_some(),
        started_at: context.started_at,
        projects: context.registry.projects.list().await?.len() as u64,
        relays: context.registry.fleet.allowed().await?.len() as u64,
        relays_connected: context.live.as_ref().map_or(0, |live| live.count() as u64),
        journal_batches: backlog.map_or(0, |backlog| backlog.batches),
        journal_bytes: backlog.map_or(0, |backlog| backlog.bytes),
        config: context.config_status.as_ref().map(|status| status.borrow().clone()),
    })
}
