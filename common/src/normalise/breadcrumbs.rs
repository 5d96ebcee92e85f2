//! Breadcrumbs: what happened before.

use super::field::{self, Field, null_with};
use super::time_value::{BEFORE_EPOCH, Shift, settle};
use super::trim::{Bag, TextLimit};
use super::{interface_list, level};
use crate::tree::{MetaError, MetaTree, Object, Path, Value};

fn field_of(key: &str) -> Field {
    match key {
        "message" => Field::Written(TextLimit::of(8192, 200)),
        "type" | "category" => Field::Scalar(TextLimit::of(128, 0)),
        "event_id" | "origin" => Field::Scalar(TextLimit::NONE),
        "data" => Field::Map(Bag::of(2048, 5)),
        _ => Field::Any,
    }
}

/// Settles the breadcrumbs, their times moved.
pub(super) fn normalise(event: &mut Object<'_>, shift: Shift, meta: &mut MetaTree) {
    let path = Path::ROOT.key("breadcrumbs");
    let path = path.key("values");
    let breadcrumbs = interface_list::elements(event, "breadcrumbs", meta);
    for (index, value) in breadcrumbs.into_iter().flatten().enumerate() {
        let path = path.index(index);
        let Value::Object(breadcrumb) = value else { continue };
        field::apply(breadcrumb, field_of, meta, &path);
        if let Some(value) = breadcrumb.get_mut("level") {
            level::settle(value, meta, &path.key("level"));
        }
        let Some(time) = breadcrumb.get_mut("timestamp").filter(|time| !time.is_null()) else { continue };
        match settle(time, shift) {
            Ok(_) => {}
            // From a clock that was not set: it can't be put in order with the others.
            Err(BEFORE_EPOCH) => null_with(value, MetaError::invalid_data(BEFORE_EPOCH), meta, &path),
            Err(reason) => field::invalid(time, reason, meta, &path.key("timestamp")),
        }
    }
}
