//! The fields of items that are no events.

use super::event::CONTEXTS;
use super::{FIXED, Field, NAMED, OPEN, STRICT, Schema, Shape, any, shaped};

/// A user's report about an event.
pub(in crate::scrub) static USER_REPORT: Field =
    shaped(FIXED, Shape::Object(&Schema { fields: &[("event_id", any(FIXED))], rest: any(OPEN) }));

/// A session, or many of them summed up. What counts and orders sessions is [`FIXED`]: normalisation leaves identifiers, numbers
/// and known words there, nothing else.
pub(in crate::scrub) static SESSION: Field = shaped(
    FIXED,
    Shape::Object(&Schema {
        fields: &[
            ("sid", any(FIXED)),
            ("seq", any(FIXED)),
            ("init", any(FIXED)),
            ("status", any(FIXED)),
            ("errors", any(FIXED)),
            ("started", any(FIXED)),
            ("timestamp", any(FIXED)),
            ("attrs", shaped(FIXED, Shape::Object(&SESSION_ATTRIBUTES))),
            ("aggregates", shaped(FIXED, Shape::List(&AGGREGATE))),
        ],
        rest: any(OPEN),
    }),
);

static SESSION_ATTRIBUTES: Schema =
    Schema { fields: &[("release", any(FIXED)), ("environment", any(STRICT))], rest: any(OPEN) };

static AGGREGATE: Field = shaped(
    FIXED,
    Shape::Object(&Schema {
        fields: &[
            ("started", any(FIXED)),
            ("exited", any(FIXED)),
            ("errored", any(FIXED)),
            ("abnormal", any(FIXED)),
            ("crashed", any(FIXED)),
            ("unhandled", any(FIXED)),
        ],
        rest: any(OPEN),
    }),
);

/// A check-in of a scheduled job. What is [`FIXED`] was checked by normalisation: identifiers, a slug, a known word, a number.
pub(in crate::scrub) static CHECK_IN: Field = shaped(
    FIXED,
    Shape::Object(&Schema {
        fields: &[
            ("check_in_id", any(FIXED)),
            ("status", any(FIXED)),
            ("duration", any(FIXED)),
            ("release", any(FIXED)),
            ("monitor_slug", any(FIXED)),
            ("environment", any(STRICT)),
            ("monitor_config", any(STRICT)),
            ("contexts", shaped(NAMED, Shape::Object(&CONTEXTS))),
        ],
        rest: any(OPEN),
    }),
);

/// The fields of a form that came with a crash: a list of pairs.
pub(in crate::scrub) static FORM_DATA: Field = shaped(OPEN, Shape::Pairs(&any(OPEN)));

/// What an SDK says of itself; anything more is somebody's own.
static SDK: Schema = Schema {
    fields: &[
        ("name", any(FIXED)),
        ("version", any(FIXED)),
        ("packages", any(FIXED)),
        ("integrations", any(FIXED)),
        ("features", any(FIXED)),
    ],
    rest: any(STRICT),
};

/// The headers of envelopes and items. What the relay and its peers act on stays.
pub(in crate::scrub) static HEADERS: Field = shaped(
    FIXED,
    Shape::Object(&Schema {
        fields: &[
            ("dsn", any(FIXED)),
            ("event_id", any(FIXED)),
            ("sent_at", any(FIXED)),
            ("sdk", shaped(FIXED, Shape::Object(&SDK))),
            ("type", any(FIXED)),
            ("length", any(FIXED)),
            ("content_type", any(FIXED)),
            ("attachment_type", any(FIXED)),
            ("item_count", any(FIXED)),
            ("platform", any(FIXED)),
            ("trace", shaped(FIXED, Shape::Object(&TRACE))),
        ],
        rest: any(STRICT),
    }),
);

static TRACE: Schema = Schema {
    fields: &[
        ("trace_id", any(FIXED)),
        ("public_key", any(FIXED)),
        ("org_id", any(FIXED)),
        ("replay_id", any(FIXED)),
        ("release", any(FIXED)),
        ("environment", any(FIXED)),
        ("sample_rate", any(FIXED)),
        ("sample_rand", any(FIXED)),
        ("sampled", any(FIXED)),
    ],
    rest: any(STRICT),
};
