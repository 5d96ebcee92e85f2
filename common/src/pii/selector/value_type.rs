//! The types of values that a selector can name: `$string`, `$user`, `$frame` and so on.

/// What a value is, in JSON's terms or the schema's. A value has one of the first kind and any number of the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueType {
    /// A text.
    String,
    /// Bytes: an attachment, memory.
    Binary,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A point in time.
    DateTime,
    /// A list.
    Array,
    /// An object.
    Object,
    /// The event itself.
    Event,
    /// The attachments of an event.
    Attachments,
    /// A replay.
    Replay,
    /// An exception.
    Exception,
    /// A stack trace.
    Stacktrace,
    /// A frame of a stack trace.
    Frame,
    /// The HTTP request.
    Request,
    /// The user.
    User,
    /// The message with its parameters.
    LogEntry,
    /// A message field.
    Message,
    /// A thread.
    Thread,
    /// A breadcrumb.
    Breadcrumb,
    /// A log line.
    Log,
    /// A metric of a trace.
    TraceMetric,
    /// A span.
    Span,
    /// What sent the event.
    Sdk,
    /// A minidump.
    Minidump,
    /// Memory of a minidump that is no stack.
    HeapMemory,
    /// Memory of a minidump that is a stack.
    StackMemory,
}

/// Every type with its name and the other words for it, the last of which are older than the selectors themselves.
const NAMES: &[(ValueType, &str, &[&str])] = &[
    (ValueType::String, "string", &["freeform", "email", "sensitive", "text"]),
    (ValueType::Binary, "binary", &[]),
    (ValueType::Number, "number", &[]),
    (ValueType::Boolean, "boolean", &["bool"]),
    (ValueType::DateTime, "datetime", &[]),
    (ValueType::Array, "array", &["list"]),
    (ValueType::Object, "object", &["databag", "container"]),
    (ValueType::Event, "event", &[]),
    (ValueType::Attachments, "attachments", &[]),
    (ValueType::Replay, "replay", &[]),
    (ValueType::Exception, "error", &["exception"]),
    (ValueType::Stacktrace, "stack", &["stacktrace"]),
    (ValueType::Frame, "frame", &[]),
    (ValueType::Request, "http", &["request"]),
    (ValueType::User, "user", &[]),
    (ValueType::LogEntry, "logentry", &[]),
    (ValueType::Message, "message", &[]),
    (ValueType::Thread, "thread", &[]),
    (ValueType::Breadcrumb, "breadcrumb", &[]),
    (ValueType::Log, "log", &[]),
    (ValueType::TraceMetric, "trace_metric", &[]),
    (ValueType::Span, "span", &[]),
    (ValueType::Sdk, "sdk", &[]),
    (ValueType::Minidump, "minidump", &[]),
    (ValueType::HeapMemory, "heap_memory", &[]),
    (ValueType::StackMemory, "stack_memory", &[]),
];

impl ValueType {
    /// All of them, in their order.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(kind, ..)| *kind)
    }

    /// The name after `$`.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }

    /// The type of this name, in any case.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let is_called = |other: &&str| other.eq_ignore_ascii_case(name);
        NAMES.iter().find(|(_, first, others)| is_called(first) || others.iter().any(is_called)).map(|(kind, ..)| *kind)
    }

    /// Whether values anywhere can have this type, so that it says nothing about the place.
    #[must_use]
    pub const fn is_basic(self) -> bool {
        matches!(
            self,
            Self::String | Self::Binary | Self::Number | Self::Boolean | Self::DateTime | Self::Array | Self::Object
        )
    }

    /// Whether it is memory of a minidump.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::HeapMemory | Self::StackMemory)
    }
}

/// A set of value types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TypeSet(u32);

impl TypeSet {
    /// No type.
    pub const EMPTY: Self = Self(0);

    /// One type.
    #[must_use]
    pub const fn of(kind: ValueType) -> Self {
        Self(1 << kind as u32)
    }

    /// Both.
    #[must_use]
    pub const fn with(self, kind: ValueType) -> Self {
        Self(self.0 | 1 << kind as u32)
    }

    /// All of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the type is in it.
    #[must_use]
    pub const fn contains(self, kind: ValueType) -> bool {
        self.0 & (1 << kind as u32) != 0
    }

    /// The position of each type in it, as [`ValueType`] orders them.
    pub fn positions(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let position = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (position < 32).then_some(position as usize)
        })
    }
}
