//! One item of an envelope: its type, header and payload.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::detached::DetachedPayload;
use super::edited;
use super::parse::struct_from_slice;
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
            Self::Profile => DataCategory::Profile,
            Self::ProfileChunk => DataCategory::ProfileChunk,
            Self::ReplayEvent | Self::ReplayRecording | Self::ReplayVideo => DataCategory::Replay,
            Self::Log => DataCategory::LogItem,
            Self::TraceMetric => DataCategory::TraceMetric,
            Self::Statsd | Self::MetricBuckets => DataCategory::MetricBucket,
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
    /// Raw: a count that is none must not make the item unreadable.
    #[serde(default, borrow)]
    item_count: Option<&'a serde_json::value::RawValue>,
}

/// One item.
#[derive(Debug, Clone)]
pub struct Item {
    raw_header: Bytes,
    item_type: ItemType,
    has_length: bool,
    attachment_type: Option<Box<str>>,
    item_count: Option<u64>,
    payload: Bytes,
    /// The payload, where it is too large for memory; `payload` is empty then.
    detached: Option<Arc<dyn DetachedPayload>>,
}

/// What the header of an attachment says beside its type and length.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttachmentHeader<'a> {
    /// What kind of attachment it is; the protocol's default is a plain one.
    pub attachment_type: Option<&'a str>,
    /// Its file name.
    pub filename: Option<&'a str>,
    /// Its media type.
    pub content_type: Option<&'a str>,
}

/// Item header as parsed, before the payload is cut off behind it.
pub(super) struct ParsedHeader {
    pub(super) item_type: ItemType,
    pub(super) length: Option<u64>,
    pub(super) attachment_type: Option<Box<str>>,
    pub(super) item_count: Option<u64>,
}

impl ParsedHeader {
    pub(super) fn read(raw: &[u8]) -> Result<Self, serde_json::Error> {
        let header: ItemHeader<'_> = struct_from_slice(raw)?;
        Ok(Self {
            item_type: ItemType::from_name(&header.item_type),
            length: header.length,
            attachment_type: header.attachment_type.map(|name| name.as_ref().into()),
            item_count: header.item_count.and_then(|count| count.get().parse().ok()),
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
            item_count: None,
            payload,
            detached: None,
        }
    }

    /// A new container that holds `entries` entries, with `length` and `item_count` headers.
    #[must_use]
    pub fn container(item_type: ItemType, entries: u64, payload: Bytes) -> Self {
        let header = serde_json::json!({ "type": item_type.as_str(), "length": payload.len(), "item_count": entries });
        Self { raw_header: Bytes::from(header.to_string()), item_count: Some(entries), ..Self::new(item_type, payload) }
    }

    /// A new attachment with a `length` header.
    #[must_use]
    pub fn attachment(header: AttachmentHeader<'_>, payload: Bytes) -> Self {
        let mut object = serde_json::json!({ "type": ItemType::Attachment.as_str(), "length": payload.len() });
        for (key, value) in [
            ("attachment_type", header.attachment_type),
            ("filename", header.filename),
            ("content_type", header.content_type),
        ] {
            if let Some(value) = value {
                object[key] = Value::from(value);
            }
        }
        Self {
            raw_header: Bytes::from(object.to_string()),
            item_type: ItemType::Attachment,
            has_length: true,
            attachment_type: header.attachment_type.map(Into::into),
            item_count: None,
            payload,
            detached: None,
        }
    }

    pub(super) fn from_parts(raw_header: Bytes, header: ParsedHeader, payload: Bytes) -> Self {
        Self {
            raw_header,
            item_type: header.item_type,
            has_length: header.length.is_some(),
            attachment_type: header.attachment_type,
            item_count: header.item_count,
            payload,
            detached: None,
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

    /// The payload; empty if it is [detached](Self::detached).
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload, where it is too large for memory.
    #[must_use]
    pub const fn detached(&self) -> Option<&Arc<dyn DetachedPayload>> {
        self.detached.as_ref()
    }

    /// How many bytes the payload has, wherever it is.
    #[must_use]
    pub fn payload_len(&self) -> u64 {
        self.detached.as_ref().map_or(self.payload.len() as u64, |detached| detached.len())
    }

    /// How many things a container says that it holds. The client says so: [`crate::tally`] has a bound for it.
    #[must_use]
    pub const fn item_count(&self) -> Option<u64> {
        self.item_count
    }

    /// A text of the header that Picket itself does not act on, such as `filename`.
    #[must_use]
    pub fn header_text(&self, key: &str) -> Option<String> {
        let header: serde_json::Map<String, Value> = serde_json::from_slice(&self.raw_header).ok()?;
        Some(header.get(key)?.as_str()?.to_owned())
    }

    /// Sets a text of the header that Picket itself does not act on.
    pub fn set_header_text(&mut self, key: &str, value: &str) {
        self.raw_header = edited(&self.raw_header, key, Value::from(value), || self.known_header());
    }

    /// The header as it will be written: one JSON object.
    #[must_use]
    pub const fn raw_header(&self) -> &Bytes {
        &self.raw_header
    }

    /// Puts another text in the place of the header: the same JSON object with values of keys changed that nothing here acts on.
    pub fn set_raw_header(&mut self, header: Bytes) {
        self.raw_header = header;
    }

    /// Puts another payload in, with the header's `length` set to match.
    pub fn set_payload(&mut self, payload: Bytes) {
        self.raw_header = edited(&self.raw_header, "length", Value::from(payload.len()), || self.known_header());
        self.has_length = true;
        self.payload = payload;
        self.detached = None;
    }

    /// What a header that can't be read as text is replaced by.
    fn known_header(&self) -> serde_json::Map<String, Value> {
        let known = [("type", Some(self.item_type.as_str())), ("attachment_type", self.attachment_type.as_deref())];
        let text = |(key, text): (&str, Option<&str>)| Some((key.to_owned(), Value::from(text?)));
        let length = self.has_length.then(|| ("length".to_owned(), Value::from(self.payload.len())));
        known.into_iter().filter_map(text).chain(length).collect()
    }

    /// Puts a payload in that is not in memory. Where the item is written, it has none: whoever writes it sees to the payload.
    pub fn set_detached(&mut self, payload: Arc<dyn DetachedPayload>) {
        self.set_payload(Bytes::new());
        self.detached = Some(payload);
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
