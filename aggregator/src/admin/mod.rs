//! Administrative commands: the same request works on a serving aggregator, through its local socket, and on a stopped one.
//!
//! ```text
//! picket-aggregator COMMAND ──▶ Request ──▶ socket of a serving aggregator ──▶ execute ──▶ Reply
//!                                     └───▶ nobody serves: stores opened here ──▶ execute ──▶ Reply
//! ```
//!
//! The socket lies in the data directory, which only its owner may enter; whoever reaches it is the operator.

mod dead_letters;
mod execute;
pub mod socket;

use std::time::Duration;

use picket_common::ids::{EventId, PublicKey, RelayId};
use picket_common::project_config::ProjectSettings;
use picket_common::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use execute::{AdminContext, execute};

use crate::fleet::{AuthorityReport, Retirement};
use crate::journal::{DeadLetter, DeadLetterTotals};
use crate::projects::{KeyState, Project, ProjectKey};
use crate::query::{IssueFilter, IssuePage, IssueSummary};
use crate::status::Status;

/// What an operator asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// Makes a project.
    CreateProject {
        /// Its name.
        name: String,
        /// Its platform.
        platform: Option<String>,
    },
    /// All projects.
    ListProjects,
    /// A project's settings.
    ShowSettings {
        /// Its id or slug.
        project: String,
    },
    /// Changes a project's settings; see [`ProjectSettings::changed`].
    ChangeSettings {
        /// Its id or slug.
        project: String,
        /// The keys to replace.
        change: Value,
    },
    /// A project's keys.
    ListKeys {
        /// Its id or slug.
        project: String,
    },
    /// Makes another key.
    CreateKey {
        /// The project's id or slug.
        project: String,
        /// What it is for.
        label: String,
    },
    /// Switches a key on or off.
    SetKeyState {
        /// Which.
        public_key: PublicKey,
        /// To what.
        state: KeyState,
    },
    /// Makes a join token.
    InviteRelay {
        /// What the relay will be called.
        name: Option<String>,
        /// How long the token is good.
        ttl: Duration,
    },
    /// All relays.
    ListRelays,
    /// Shuts a relay out for good.
    RevokeRelay {
        /// Which.
        id: RelayId,
    },
    /// The certificate authorities.
    ShowAuthority,
    /// Makes another authority, which signs from now on.
    RotateAuthority,
    /// Ends the one before.
    RetireAuthority {
        /// Whether that may shut relays out.
        retirement: Retirement,
    },
    /// A page of issues.
    ListIssues(IssueFilter),
    /// One issue with its newest event.
    ShowIssue {
        /// Its number, or its short id.
        id: String,
    },
    /// Adds a user.
    CreateUser {
        /// The name to log in with.
        email: String,
        /// The password; made here where it is absent.
        password: Option<String>,
    },
    /// Makes an API token.
    CreateToken {
        /// What it is for.
        label: String,
        /// What it may do.
        scopes: Vec<String>,
    },
    /// The dead letters.
    ListDeadLetters,
    /// One dead letter with what it holds.
    ShowDeadLetter {
        /// Its id.
        id: u64,
    },
    /// Appends dead letters to the journal again.
    ReplayDeadLetters(Chosen),
    /// Forgets dead letters.
    DropDeadLetters(Chosen),
    /// How things stand.
    Status,
}

/// Which dead letters.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chosen {
    /// This one.
    One(u64),
    /// All that there are.
    All,
}

impl Request {
    /// Whether the answer is in ClickHouse.
    #[must_use]
    pub const fn needs_events(&self) -> bool {
        matches!(self, Self::ListIssues(_) | Self::ShowIssue { .. })
    }

    /// Whether the answer is about the journal.
    #[must_use]
    pub const fn needs_journal(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::ListDeadLetters
                | Self::ShowDeadLetter { .. }
                | Self::ReplayDeadLetters(_)
                | Self::DropDeadLetters(_)
        )
    }
}

/// What the operator gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", content = "value", rename_all = "snake_case")]
pub enum Reply {
    /// The project that was made.
    Project(Project),
    /// All projects.
    Projects(Vec<Project>),
    /// A project's settings.
    Settings(Box<ProjectSettings>),
    /// The keys of a project.
    Keys(Vec<ProjectKey>),
    /// The key that was made or changed.
    Key(ProjectKey),
    /// A join token.
    Invitation {
        /// The token; shown once.
        token: String,
        /// When it expires.
        expires_at: Timestamp,
    },
    /// All relays.
    Relays(Vec<RelayEntry>),
    /// The relay is shut out.
    Revoked {
        /// Which.
        id: RelayId,
        /// Whether it was before.
        already: bool,
    },
    /// The certificate authorities.
    Authority(AuthorityReport),
    /// Issues.
    Issues(IssuePage),
    /// An issue and its newest event.
    Issue(Box<IssueWithEvent>),
    /// The user that was added.
    User {
        /// The name to log in with.
        email: String,
        /// The password, if it was made here; shown once.
        password: Option<String>,
    },
    /// An API token.
    Token {
        /// The token; shown once.
        token: String,
    },
    /// The newest dead letters, and how many there are in all.
    DeadLetters {
        /// In order of their ids; not all where there are very many.
        letters: Vec<DeadLetter>,
        /// All of them.
        totals: DeadLetterTotals,
    },
    /// A dead letter.
    DeadLetter(Box<ShownDeadLetter>),
    /// So many dead letters are in the journal again.
    Replayed(u64),
    /// So many dead letters are forgotten.
    Dropped(u64),
    /// How things stand.
    Status(Status),
    /// It could not be done.
    Failed {
        /// Why, and what to do.
        detail: String,
    },
}

/// A dead letter with what it holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct ShownDeadLetter {
    /// The letter.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// Its bytes as text, cut where they are very many.
    pub text: String,
}

/// A relay in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelayEntry {
    /// Who it is.
    pub id: RelayId,
    /// What it is called.
    pub name: String,
    /// The host it said it runs on.
    pub hostname: String,
    /// The version it said it has.
    pub version: String,
    /// When it joined.
    pub created_at: Timestamp,
    /// Until when its newest certificate is good.
    #[serde(default)]
    pub certificate_expires_at: Option<Timestamp>,
    /// When it was last connected.
    pub last_seen_at: Option<Timestamp>,
    /// When it was shut out.
    pub revoked_at: Option<Timestamp>,
    /// Whether it is connected now.
    pub is_connected: bool,
}

/// An issue and its newest event.
#[derive(Debug, Serialize, Deserialize)]
pub struct IssueWithEvent {
    /// The issue.
    #[serde(flatten)]
    pub issue: IssueSummary,
    /// The newest event's id.
    pub latest_event_id: Option<EventId>,
    /// The newest event.
    pub latest_event: Option<Value>,
    /// How the newest event is grouped.
    pub grouping: Option<Value>,
}
