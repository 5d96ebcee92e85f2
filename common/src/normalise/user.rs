//! The user: identity, and under `data` whatever else an SDK says of it.

use super::field::{self, Field};
use super::trim::{Bag, TextLimit};
use super::{EventContext, ip_address, take_meta};
use crate::tree::{MetaTree, Object, Path, Value};

/// Keys with a place of their own; all others move to `data`.
const KNOWN: [&str; 9] = ["id", "email", "ip_address", "username", "name", "geo", "segment", "data", "sentry_user"];

fn field_of(key: &str) -> Field {
    match key {
        "id" | "username" | "name" | "segment" => Field::Scalar(TextLimit::of(128, 0)),
        "email" => Field::Scalar(TextLimit::of(75, 0)),
        "ip_address" => Field::Text(TextLimit::NONE),
        "geo" | "data" => Field::Object,
        _ => Field::Any,
    }
}

/// Settles the user and infers its address.
pub(super) fn normalise(event: &mut Object<'_>, context: &EventContext<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("user");
    if let Some(Value::Object(user)) = event.get_mut("user") {
        field::apply(user, field_of, meta, &path);
        gather_data(user, meta, &path);
        ip_address::check(user, meta, &path);
    }
    ip_address::infer(event, context, meta);
}

/// Moves what is not known to `data`. What is there under the same key stays.
fn gather_data(user: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let is_unknown = |key: &str| !KNOWN.contains(&key);
    let data_path = path.key("data");
    if user.iter().any(|(key, _)| is_unknown(key)) {
        let all = std::mem::take(user);
        let (unknown, known): (Vec<_>, Vec<_>) = all.into_iter().partition(|(key, _)| is_unknown(key));
        *user = known.into_iter().collect();
        for (key, _) in &unknown {
            if let Some(moved) = take_meta(meta, &path.key(key)) {
                meta.node(&data_path).set_child(key, moved);
            }
        }
        let data = match user.get_mut("data").map(Value::take) {
            Some(Value::Object(data)) => data,
            _ => Object::new(),
        };
        // Of two equal keys the last wins.
        user.insert("data", unknown.into_iter().chain(data).collect::<Object<'_>>());
    }
    if let Some(data) = user.get_mut("data") {
        field::settle(data, Field::Bag(Bag::of(8192, 7)), meta, &data_path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::{Document, PythonFloats};

    #[test]
    fn unknown_keys_move_to_data_with_their_remarks() {
        for (came, expected) in [
            (r#"{"user":{"id":7,"plan":"free"}}"#, r#"{"user":{"id":"7","data":{"plan":"free"}}}"#),
            (r#"{"user":{"plan":"a","data":{"plan":"b","x":1}}}"#, r#"{"user":{"data":{"plan":"b","x":1}}}"#),
            (
                r#"{"user":{"plan":"a"},"_meta":{"user":{"plan":{"":{"len":9}}}}}"#,
                r#"{"user":{"data":{"plan":"a"}},"_meta":{"user":{"data":{"plan":{"":{"len":9}}}}}}"#,
            ),
        ] {
            let mut document = Document::read(came.as_bytes(), PythonFloats::Refuse).unwrap();
            let user = document.value.get_mut("user").and_then(Value::as_object_mut).unwrap();
            field::apply(user, field_of, &mut document.meta, &Path::ROOT.key("user"));
            gather_data(user, &mut document.meta, &Path::ROOT.key("user"));
            assert_eq!(String::from_utf8(document.to_json()).unwrap(), expected);
        }
    }
}
