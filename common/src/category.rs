//! Data categories: the kinds of data that quotas, outcomes and statistics count apart.

use serde::{Deserialize, Serialize};

/// The kind of data an item is counted as. The names are those of the Sentry protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataCategory {
    /// Events that are neither transactions nor security reports.
    Error,
    /// Transactions.
    Transaction,
    /// Content-security-policy and other browser security reports.
    Security,
    /// Attachments and crash dumps; counted in bytes.
    Attachment,
    /// Attachments and crash dumps, counted one by one. Only quotas speak of it: outcomes count an attachment's bytes.
    AttachmentItem,
    /// Release-health sessions and their aggregates.
    Session,
    /// Profiles and profile chunks.
    Profile,
    /// Session replays, both halves and videos.
    Replay,
    /// Cron check-ins.
    Monitor,
    /// Spans, alone or in containers.
    Span,
    /// User feedback, old and new form.
    Feedback,
    /// Log entries.
    LogItem,
    /// Metrics of every form.
    TraceMetric,
    /// Client reports: never counted against anyone, but each is accounted for.
    ClientReport,
    /// What no other category names.
    Default,
}

impl DataCategory {
    /// Every category.
    pub const ALL: [Self; 15] = [
        Self::Error,
        Self::Transaction,
        Self::Security,
        Self::Attachment,
        Self::AttachmentItem,
        Self::Session,
        Self::Profile,
        Self::Replay,
        Self::Monitor,
        Self::Span,
        Self::Feedback,
        Self::LogItem,
        Self::TraceMetric,
        Self::ClientReport,
        Self::Default,
    ];

    /// The category of a name; `None` for one that nothing is counted as here.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == name)
    }

    /// The protocol's name, as in rate-limit headers and outcome rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Transaction => "transaction",
            Self::Security => "security",
            Self::Attachment => "attachment",
            Self::AttachmentItem => "attachment_item",
            Self::Session => "session",
            Self::Profile => "profile",
            Self::Replay => "replay",
            Self::Monitor => "monitor",
            Self::Span => "span",
            Self::Feedback => "feedback",
            Self::LogItem => "log_item",
            Self::TraceMetric => "trace_metric",
            Self::ClientReport => "client_report",
            Self::Default => "default",
        }
    }
}

impl std::fmt::Display for DataCategory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
