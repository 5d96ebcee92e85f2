//! Interface names of the protocol's first versions. The name of today wins where both are there.

use std::borrow::Cow;

use super::{move_meta, take_meta};
use crate::tree::{MetaTree, Object, Path};

/// Old name, today's name. `message` is last: an old interface says more than a bare text.
const NAMES: [(&str, &str); 10] = [
    ("sentry.interfaces.Exception", "exception"),
    ("sentry.interfaces.Stacktrace", "stacktrace"),
    ("sentry.interfaces.Http", "request"),
    ("sentry.interfaces.User", "user"),
    ("sentry.interfaces.Breadcrumbs", "breadcrumbs"),
    ("sentry.interfaces.Contexts", "contexts"),
    ("sentry.interfaces.Template", "template"),
    ("sentry.interfaces.Csp", "csp"),
    ("sentry.interfaces.Message", "logentry"),
    ("message", "logentry"),
];

/// Moves what stands under old names.
pub(super) fn rename(event: &mut Object<'_>, meta: &mut MetaTree) {
    for (old, new) in NAMES {
        // The value is taken before the key goes: the new one may stand where the old one stood.
        let Some(value) = event.remove(old) else { continue };
        let (old_path, new_path) = (Path::ROOT.key(old), Path::ROOT.key(new));
        if value.is_null() || event.get(new).is_some_and(|value| !value.is_null()) {
            drop(take_meta(meta, &old_path));
            continue;
        }
        drop(take_meta(meta, &new_path));
        move_meta(meta, &old_path, &new_path);
        event.insert(Cow::Borrowed(new), value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::{Document, PythonFloats};

    #[test]
    fn old_names_become_todays_unless_todays_are_there() {
        for (came, expected) in [
            (r#"{"sentry.interfaces.Http":{"url":"u"}}"#, r#"{"request":{"url":"u"}}"#),
            (r#"{"sentry.interfaces.User":{"id":1},"user":{"id":2}}"#, r#"{"user":{"id":2}}"#),
            (r#"{"sentry.interfaces.User":{"id":1},"user":null}"#, r#"{"user":{"id":1}}"#),
            (r#"{"message":"m"}"#, r#"{"logentry":"m"}"#),
            (r#"{"message":"m","logentry":{"message":"l"}}"#, r#"{"logentry":{"message":"l"}}"#),
            (r#"{"message":"m","sentry.interfaces.Message":{"message":"l"}}"#, r#"{"logentry":{"message":"l"}}"#),
            (
                r#"{"message":"m","_meta":{"message":{"":{"len":9}}}}"#,
                r#"{"logentry":"m","_meta":{"logentry":{"":{"len":9}}}}"#,
            ),
        ] {
            let mut document = Document::read(came.as_bytes(), PythonFloats::Refuse).unwrap();
            rename(document.value.as_object_mut().unwrap(), &mut document.meta);
            assert_eq!(String::from_utf8(document.to_json()).unwrap(), expected);
        }
    }
}
