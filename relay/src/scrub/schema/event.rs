//! The fields of events, with those of feedback and of browsers' security reports.

use picket_common::pii::selector::ValueType;

use super::{FIXED, Field, NAMED, OPEN, STRICT, Schema, Shape, any, shaped, typed};

/// An event.
pub(in crate::scrub) static EVENT: Field = typed(FIXED, ValueType::Event, Shape::Object(&EVENT_FIELDS));

static EVENT_FIELDS: Schema = Schema {
    fields: &[
        ("event_id", any(FIXED)),
        ("type", any(FIXED)),
        ("version", any(FIXED)),
        ("level", any(FIXED)),
        ("platform", any(FIXED)),
        ("timestamp", typed(FIXED, ValueType::DateTime, Shape::Any)),
        ("start_timestamp", typed(FIXED, ValueType::DateTime, Shape::Any)),
        ("received", typed(FIXED, ValueType::DateTime, Shape::Any)),
        ("release", any(FIXED)),
        ("dist", any(FIXED)),
        ("environment", any(FIXED)),
        ("modules", any(FIXED)),
        ("project", any(FIXED)),
        ("key_id", any(FIXED)),
        ("ingest_path", any(FIXED)),
        ("grouping_config", any(FIXED)),
        ("measurements", any(FIXED)),
        ("breakdowns", any(FIXED)),
        ("_metrics", any(FIXED)),
        ("time_spent", any(FIXED)),
        ("transaction_info", any(FIXED)),
        ("server_name", any(OPEN)),
        ("site", any(OPEN)),
        ("culprit", any(NAMED)),
        ("transaction", any(NAMED)),
        ("logger", any(STRICT)),
        ("fingerprint", any(STRICT)),
        ("errors", any(STRICT)),
        ("scraping_attempts", any(STRICT)),
        ("tags", shaped(NAMED, Shape::Pairs(&TAG))),
        ("extra", any(OPEN)),
        ("user", typed(NAMED, ValueType::User, Shape::Object(&USER))),
        ("request", typed(NAMED, ValueType::Request, Shape::Object(&REQUEST))),
        ("logentry", typed(NAMED, ValueType::LogEntry, Shape::Object(&LOG_ENTRY))),
        ("message", typed(OPEN, ValueType::LogEntry, Shape::Object(&LOG_ENTRY))),
        ("contexts", shaped(NAMED, Shape::Object(&CONTEXTS))),
        ("exception", shaped(NAMED, Shape::List(&EXCEPTION))),
        ("threads", shaped(NAMED, Shape::List(&THREAD))),
        ("stacktrace", typed(NAMED, ValueType::Stacktrace, Shape::Object(&STACKTRACE))),
        ("breadcrumbs", shaped(NAMED, Shape::List(&BREADCRUMB))),
        ("spans", shaped(NAMED, Shape::List(&SPAN))),
        ("template", shaped(NAMED, Shape::Object(&TEMPLATE))),
        ("sdk", typed(FIXED, ValueType::Sdk, Shape::Object(&SDK))),
        ("debug_meta", shaped(NAMED, Shape::Object(&DEBUG_META))),
    ],
    rest: any(OPEN),
};

static TAG: Field = any(NAMED);

static USER: Schema = Schema { fields: &[("sentry_user", any(STRICT))], rest: any(OPEN) };

static REQUEST: Schema = Schema {
    fields: &[
        ("url", any(NAMED)),
        ("method", any(FIXED)),
        ("protocol", any(FIXED)),
        ("body_size", any(FIXED)),
        ("inferred_content_type", any(FIXED)),
        ("api_target", any(FIXED)),
        ("query_string", shaped(OPEN, Shape::Pairs(&OPEN_VALUE))),
        ("cookies", shaped(OPEN, Shape::Pairs(&OPEN_VALUE))),
        ("headers", shaped(OPEN, Shape::Pairs(&OPEN_VALUE))),
        ("env", any(OPEN)),
        ("data", any(OPEN)),
        ("fragment", any(OPEN)),
    ],
    rest: any(STRICT),
};

static OPEN_VALUE: Field = any(OPEN);

static LOG_ENTRY: Schema = Schema {
    fields: &[
        ("message", typed(STRICT, ValueType::Message, Shape::Any)),
        ("formatted", typed(OPEN, ValueType::Message, Shape::Any)),
        ("params", any(OPEN)),
    ],
    rest: any(STRICT),
};

static EXCEPTION: Field = typed(NAMED, ValueType::Exception, Shape::Object(&EXCEPTION_FIELDS));

static EXCEPTION_FIELDS: Schema = Schema {
    fields: &[
        ("type", any(STRICT)),
        ("value", typed(OPEN, ValueType::Message, Shape::Any)),
        ("module", any(STRICT)),
        ("thread_id", any(FIXED)),
        ("mechanism", shaped(FIXED, Shape::Object(&MECHANISM))),
        ("stacktrace", typed(NAMED, ValueType::Stacktrace, Shape::Object(&STACKTRACE))),
        ("raw_stacktrace", typed(NAMED, ValueType::Stacktrace, Shape::Object(&STACKTRACE))),
    ],
    rest: any(STRICT),
};

static MECHANISM: Schema = Schema {
    fields: &[
        ("type", any(FIXED)),
        ("handled", any(FIXED)),
        ("synthetic", any(FIXED)),
        ("is_exception_group", any(FIXED)),
        ("exception_id", any(FIXED)),
        ("parent_id", any(FIXED)),
        ("meta", any(FIXED)),
        ("data", any(OPEN)),
    ],
    rest: any(STRICT),
};

static STACKTRACE: Schema = Schema {
    fields: &[
        ("frames", shaped(NAMED, Shape::List(&FRAME))),
        ("registers", any(FIXED)),
        ("lang", any(FIXED)),
        ("snapshot", any(FIXED)),
        ("frames_omitted", any(FIXED)),
    ],
    rest: any(STRICT),
};

static FRAME: Field = typed(NAMED, ValueType::Frame, Shape::Object(&FRAME_FIELDS));

static FRAME_FIELDS: Schema = Schema {
    fields: &[
        ("filename", shaped(NAMED, Shape::ImagePath)),
        ("abs_path", shaped(NAMED, Shape::ImagePath)),
        ("function", any(FIXED)),
        ("module", any(NAMED)),
        ("lineno", any(FIXED)),
        ("colno", any(FIXED)),
        ("in_app", any(FIXED)),
        ("context_line", any(STRICT)),
        ("pre_context", any(STRICT)),
        ("post_context", any(STRICT)),
        ("vars", any(OPEN)),
        ("package", shaped(STRICT, Shape::ImagePath)),
        ("raw_function", any(FIXED)),
        ("symbol", any(FIXED)),
        ("platform", any(FIXED)),
        ("image_addr", any(FIXED)),
        ("instruction_addr", any(FIXED)),
        ("symbol_addr", any(FIXED)),
        ("addr_mode", any(FIXED)),
        ("function_id", any(FIXED)),
        ("trust", any(FIXED)),
        ("stack_start", any(FIXED)),
        ("data", any(STRICT)),
    ],
    rest: any(STRICT),
};

static THREAD: Field = typed(NAMED, ValueType::Thread, Shape::Object(&THREAD_FIELDS));

static THREAD_FIELDS: Schema = Schema {
    fields: &[
        ("id", any(FIXED)),
        ("crashed", any(FIXED)),
        ("current", any(FIXED)),
        ("main", any(FIXED)),
        ("stacktrace", typed(NAMED, ValueType::Stacktrace, Shape::Object(&STACKTRACE))),
        ("raw_stacktrace", typed(NAMED, ValueType::Stacktrace, Shape::Object(&STACKTRACE))),
    ],
    rest: any(STRICT),
};

static BREADCRUMB: Field = typed(NAMED, ValueType::Breadcrumb, Shape::Object(&BREADCRUMB_FIELDS));

static BREADCRUMB_FIELDS: Schema = Schema {
    fields: &[
        ("timestamp", typed(FIXED, ValueType::DateTime, Shape::Any)),
        ("type", any(FIXED)),
        ("level", any(FIXED)),
        ("event_id", any(FIXED)),
        ("category", any(STRICT)),
        ("message", typed(OPEN, ValueType::Message, Shape::Any)),
        ("data", any(OPEN)),
    ],
    rest: any(STRICT),
};

static SPAN: Field = typed(NAMED, ValueType::Span, Shape::Object(&SPAN_FIELDS));

static SPAN_FIELDS: Schema = Schema {
    fields: &[
        ("span_id", any(FIXED)),
        ("parent_span_id", any(FIXED)),
        ("trace_id", any(FIXED)),
        ("timestamp", any(FIXED)),
        ("start_timestamp", any(FIXED)),
        ("op", any(FIXED)),
        ("status", any(FIXED)),
        ("description", any(OPEN)),
        ("tags", any(OPEN)),
        ("data", any(OPEN)),
        ("sentry_tags", any(OPEN)),
    ],
    rest: any(STRICT),
};

static TEMPLATE: Schema = Schema {
    fields: &[
        ("lineno", any(FIXED)),
        ("filename", shaped(STRICT, Shape::ImagePath)),
        ("abs_path", shaped(STRICT, Shape::ImagePath)),
    ],
    rest: any(STRICT),
};

static SDK: Schema = Schema {
    fields: &[
        ("name", any(FIXED)),
        ("version", any(FIXED)),
        ("integrations", any(FIXED)),
        ("packages", any(FIXED)),
        ("features", any(FIXED)),
        ("client_ip", any(OPEN)),
    ],
    rest: any(STRICT),
};

static DEBUG_META: Schema =
    Schema { fields: &[("sdk_info", any(FIXED)), ("images", shaped(NAMED, Shape::List(&IMAGE)))], rest: any(STRICT) };

static IMAGE: Field = shaped(NAMED, Shape::Object(&IMAGE_FIELDS));

static IMAGE_FIELDS: Schema = Schema {
    fields: &[
        ("type", any(FIXED)),
        ("code_id", any(FIXED)),
        ("debug_id", any(FIXED)),
        ("uuid", any(FIXED)),
        ("arch", any(FIXED)),
        ("image_addr", any(FIXED)),
        ("image_size", any(FIXED)),
        ("image_vmaddr", any(FIXED)),
        ("debug_checksum", any(FIXED)),
        ("code_file", shaped(OPEN, Shape::ImagePath)),
        ("debug_file", shaped(OPEN, Shape::ImagePath)),
        ("name", shaped(STRICT, Shape::ImagePath)),
    ],
    rest: any(STRICT),
};

pub(super) static CONTEXTS: Schema = Schema {
    fields: &[
        ("device", shaped(NAMED, Shape::Object(&MACHINE))),
        ("os", shaped(NAMED, Shape::Object(&MACHINE))),
        ("client_os", shaped(NAMED, Shape::Object(&MACHINE))),
        ("runtime", shaped(NAMED, Shape::Object(&MACHINE))),
        ("browser", shaped(NAMED, Shape::Object(&MACHINE))),
        ("app", shaped(NAMED, Shape::Object(&MACHINE))),
        ("gpu", shaped(NAMED, Shape::Object(&MACHINE))),
        ("culture", shaped(NAMED, Shape::Object(&MACHINE))),
        ("cloud_resource", shaped(NAMED, Shape::Object(&MACHINE))),
        ("monitor", shaped(NAMED, Shape::Object(&MACHINE))),
        ("flags", shaped(NAMED, Shape::Object(&MACHINE))),
        ("trace", shaped(NAMED, Shape::Object(&TRACE))),
        ("profile", any(FIXED)),
        ("replay", any(FIXED)),
        ("performance_score", any(FIXED)),
        ("response", shaped(NAMED, Shape::Object(&RESPONSE))),
        ("feedback", shaped(NAMED, Shape::Object(&FEEDBACK))),
    ],
    rest: any(OPEN),
};

/// What describes a machine or program, and not its user.
static MACHINE: Schema = Schema { fields: &[("type", any(FIXED))], rest: any(NAMED) };

static TRACE: Schema = Schema {
    fields: &[
        ("type", any(FIXED)),
        ("trace_id", any(FIXED)),
        ("span_id", any(FIXED)),
        ("parent_span_id", any(FIXED)),
        ("op", any(FIXED)),
        ("status", any(FIXED)),
        ("origin", any(FIXED)),
        ("sampled", any(FIXED)),
        ("client_sample_rate", any(FIXED)),
        ("exclusive_time", any(FIXED)),
        ("data", any(OPEN)),
    ],
    rest: any(NAMED),
};

static RESPONSE: Schema = Schema {
    fields: &[
        ("type", any(FIXED)),
        ("status_code", any(FIXED)),
        ("body_size", any(FIXED)),
        ("inferred_content_type", any(FIXED)),
        ("cookies", shaped(OPEN, Shape::Pairs(&OPEN_VALUE))),
        ("headers", shaped(OPEN, Shape::Pairs(&OPEN_VALUE))),
        ("data", any(OPEN)),
    ],
    rest: any(NAMED),
};

static FEEDBACK: Schema = Schema {
    fields: &[
        ("type", any(FIXED)),
        ("associated_event_id", any(FIXED)),
        ("replay_id", any(FIXED)),
        ("message", typed(OPEN, ValueType::Message, Shape::Any)),
        ("url", any(OPEN)),
        ("contact_email", any(STRICT)),
        ("name", any(STRICT)),
    ],
    rest: any(NAMED),
};
