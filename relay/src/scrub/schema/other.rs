//! The fields of items that are no events.

use super::{FIXED, Field, OPEN, STRICT, Schema, Shape, any, shaped};

/// A user's report about an event.
pub(in crate::scrub) static USER_REPORT: Field =
    shaped(FIXED, Shape::Object(&Schema { fields: &[("event_id", any(FIXED))], rest: any(OPEN) }));

/// A session, or many of them summed up.
pub(in crate::scrub) static SESSION: Field = shaped(
    FIXED,
    Shape::Object(&Schema {
        fields: &[
            ("did", any(OPEN)),
            (
                "attrs",
                shaped(
                    FIXED,
                    Shape::Object(&Schema {
                        fields: &[("ip_address", any(OPEN)), ("user_agent", any(OPEN))],
                        rest: any(FIXED),
                    }),
                ),
            ),
            (
                "aggregates",
                shaped(
                    FIXED,
                    Shape::List(&shaped(
                        FIXED,
                        Shape::Object(&Schema { fields: &[("did", any(OPEN))], rest: any(FIXED) }),
                    )),
                ),
            ),
        ],
        rest: any(FIXED),
    }),
);

/// A check-in of a scheduled job.
pub(in crate::scrub) static CHECK_IN: Field = shaped(
    FIXED,
    Shape::Object(&Schema {
        fields: &[
            ("check_in_id", any(FIXED)),
            ("status", any(FIXED)),
            ("duration", any(FIXED)),
            ("release", any(FIXED)),
            ("environment", any(FIXED)),
            ("monitor_slug", any(FIXED)),
            ("monitor_config", any(FIXED)),
        ],
        rest: any(STRICT),
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
