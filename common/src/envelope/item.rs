//! One item of an envelope: its type, header and payload.

use std::io::{self, Write};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::edited;
use crate::category::DataCategory;

/// What an item is. Unknown types are kept with their name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the protocol's own type names")]
pub enum ItemType {
    Event,
    Transaction,
    Security,
    RawSecurity,
    Feedback,
    UserReport,
    FormData,
    Attachment,
    UnrealReport,
    Session,
    Sessions,
    ClientReport,
    CheckIn,
    Profile,
    ProfileChunk,
    ReplayEvent,
    ReplayRecording,
    ReplayVideo,
    Log,
    TraceMetric,
    Span,
    Statsd,
    MetricBuckets,
    Unknown(Box<str>),
}

impl ItemType {
    /// Reads the `type` of an item header. Never fails: what is not known is [`ItemType::Unknown`].
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "event" => Self::Event,
            "transaction" => Self::Transaction,
            "security" => Self::Security,
            "raw_security" => Self::RawSecurity,
            "feedback" => Self::Feedback,
            "user_report" => Self::UserReport,
            "form_data" => Self::FormData,
            "attachment" => Self::Attachment,
            "unreal_report" => Self::UnrealReport,
            "session" => Self::Session,
            "sessions" => Self::Sessions,
            "client_report" => Self::ClientReport,
            "check_in" => Self::CheckIn,
            "profile" => Self::Profile,
            "profile_chunk" | "profile_chunk_ui" => Self::ProfileChunk,
            "replay_event" => Self::ReplayEvent,
            "replay_recording" => Self::ReplayRecording,
            "replay_video" => Self::ReplayVideo,
            "log" | "otel_log" => Self::Log,
            "trace_metric" => Self::TraceMetric,
            "span" | "otel_span" => Self::Span,
            "statsd" => Self::Statsd,
            "metric_buckets" => Self::MetricBuckets,
            unknown => Self::Unknown(unknown.into()),
        }
    }

    /// The protocol's name of the type.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Event => "event",
            Self::Transaction => "transaction",
            Self::Security => "security",
            Self::RawSecurity => "raw_security",
            Self::Feedback => "feedback",
            Self::UserReport => "user_report",
            Self::FormData => "form_data",
            Self::Attachment => "attachment",
            Self::UnrealReport => "unreal_report",
            Self::Session => "session",
            Self::Sessions => "sessions",
            Self::ClientReport => "client_report",
            Self::CheckIn => "check_in",
            Self::Profile => "profile",
            Self::ProfileChunk => "profile_chunk",
            Self::ReplayEvent => "replay_event",
            Self::ReplayRecording => "replay_recording",
            Self::ReplayVideo => "replay_video",
            Self::Log => "log",
            Self::TraceMetric => "trace_metric",
            Self::Span => "span",
            Self::Statsd => "statsd",
            Self::MetricBuckets => "metric_buckets",
            Self::Unknown(name) => name,
        }
    }

    /// What the item is counted as.
    #[must_use]
    pub const fn category(&self) -> DataCategory {
        match self {
            Self::Event => DataCategory::Error,
            Self::Transaction => DataCategory::Transaction,
            Self::Security | Self::RawSecurity => DataCategory::Security,
            Self::Feedback | Self::UserReport => DataCategory::Feedback,
            Self::Attachment | Self::UnrealReport => DataCategory::Attachment,
            Self::Session | Self::Sessions => DataCategory::Session,
            Self::ClientReport => DataCategory::ClientReport,
            Self::CheckIn => DataCategory::Monitor,
            Self::Profile | Self::ProfileChunk => DataCategory::Profile,
            Self::ReplayEvent | Self::ReplayRecording | Self::ReplayVideo => DataCategory::Replay,
            Self::Log => DataCategory::LogItem,
            Self::TraceMetric | Self::Statsd | Self::MetricBuckets => DataCategory::TraceMetric,
            Self::Span => DataCategory::Span,
            Self::FormData | Self::Unknown(_) => DataCategory::Default,
        }
    }
}

/// The keys of an item header that Picket acts on.
#[derive(Debug, Deserialize)]
struct ItemHeader<'a> {
    #[serde(rename = "type", borrow)]
    item_type: std::borrow::Cow<'a, str>,
    #[serde(default)]
    length: Option<u64>,
    #[serde(default, borrow)]
    attachment_type: Option<std::borrow::Cow<'a, str>>,
}

/// One item.
#[derive(Debug, Clone)]
pub struct Item {
    raw_header: Bytes,
    item_type: ItemType,
    has_length: bool,
    attachment_type: Option<Box<str>>,
    payload: Bytes,
}

/// Item header as parsed, before the payload is cut off behind it.
pub(super) struct ParsedHeader {
    pub(super) item_type: ItemType,
    pub(super) length: Option<u64>,
    pub(super) attachment_type: Option<Box<str>>,
}

impl ParsedHeader {
    pub(super) fn read(raw: &[u8]) -> Result<Self, serde_json::Error> {
        let header: ItemHeader<'_> = serde_json::from_slice(raw)?;
        Ok(Self {
            item_type: ItemType::from_name(&header.item_type),
            length: header.length,
            attachment_type: header.attachment_type.map(|name| name.as_ref().into()),
        })
    }
}

impl Item {
    /// A new item with a `length` header.
    #[must_use]
    pub fn new(item_type: ItemType, payload: Bytes) -> Self {
        let header = serde_json::json!({ "type": item_type.as_str(), "length": payload.len() });
        Self {
            raw_header: Bytes::from(header.to_string()),
            item_type,
            has_length: true,
            attachment_type: None,
            payload,
        }
    }

    pub(super) fn from_parts(raw_header: Bytes, header: ParsedHeader, payload: Bytes) -> Self {
        Self {
            raw_header,
            item_type: header.item_type,
            has_length: header.length.is_some(),
            attachment_type: header.attachment_type,
            payload,
        }
    }

    /// The item's type.
    #[must_use]
    pub const fn item_type(&self) -> &ItemType {
        &self.item_type
    }

    /// The `attachment_type` of the header.
    #[must_use]
    pub fn attachment_type(&self) -> Option<&str> {
        self.attachment_type.as_deref()
    }

    /// The payload.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Puts another payload in, with the header's `length` set to match.
    pub fn set_payload(&mut self, payload: Bytes) {
        self.raw_header = edited(&self.raw_header, "length", Value::from(payload.len()));
        self.has_length = true;
        self.payload = payload;
    }

    /// Whether the item stands for an event, so that the envelope needs an event id.
    #[must_use]
    pub fn creates_event(&self) -> bool {
        const CRASH_ATTACHMENTS: [&str; 7] = [
            "event.minidump",
            "event.applecrashreport",
            "event.payload",
            "event.breadcrumbs",
            "playstation.prosperodump",
            "nswitch.dying_message",
            "event.nv_gpudmp",
        ];
        match &self.item_type {
            ItemType::Event
            | ItemType::Transaction
            | ItemType::Security
            | ItemType::RawSecurity
            | ItemType::UnrealReport
            | ItemType::Feedback => true,
            ItemType::Attachment => {
                self.attachment_type.as_deref().is_some_and(|name| CRASH_ATTACHMENTS.contains(&name))
            }
            _ => false,
        }
    }

    pub(super) fn serialized_len(&self) -> usize {
        self.raw_header.len() + self.payload.len() + 2
    }

    pub(super) fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        // Without a length the payload ends at its newline; the parser guarantees that it holds none.
        debug_assert!(self.has_length || !self.payload.contains(&b'\n'), "a payload with a newline needs a length");
        out.write_all(&self.raw_header)?;
        out.write_all(b"\n")?;
        out.write_all(&self.payload)?;
        out.write_all(b"\n")
    }
}
