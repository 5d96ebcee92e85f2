//! The event's plain attributes: id, level, platform, logger, release, environment, dist, SDK, and the bounds of the rest.

use super::field::{self, Field, invalid, text};
use super::trim::{Bag, TextLimit, trim_bag};
use super::{EventContext, level};
use crate::ids::EventId;
use crate::tree::{MetaTree, Object, Path, Value};

/// The platforms there are; every other is `other`.
const PLATFORMS: [&str; 19] = [
    "as3",
    "c",
    "cfml",
    "cocoa",
    "csharp",
    "elixir",
    "go",
    "groovy",
    "haskell",
    "java",
    "javascript",
    "native",
    "node",
    "objc",
    "other",
    "perl",
    "php",
    "python",
    "ruby",
];
/// Longest logger, in characters.
const MAX_LOGGER_CHARS: usize = 64;
/// What a whole `extra` and one value in it may hold.
const EXTRA: Bag = Bag::of(262_144, 7);
const EXTRA_VALUE: Bag = Bag::of(16_384, 6);

/// What the event's own keys hold.
pub(super) fn field_of(key: &str) -> Field {
    const PLAIN: Field = Field::Scalar(TextLimit::NONE);
    match key {
        "release" | "environment" | "dist" | "server_name" | "site" => PLAIN,
        "transaction" | "culprit" => Field::Scalar(TextLimit::of(200, 0)),
        "event_id" | "platform" | "logger" | "type" => Field::Text(TextLimit::NONE),
        "user" | "request" | "contexts" | "extra" | "sdk" | "debug_meta" | "stacktrace" | "transaction_info"
        | "measurements" => Field::Object,
        "modules" => Field::Map(Bag::of(8192, 7)),
        "spans" => Field::Bag(Bag::of(819_200, 7)),
        _ => Field::Any,
    }
}

/// Settles the attributes.
pub(super) fn normalise(event: &mut Object<'_>, context: &EventContext<'_>, meta: &mut MetaTree) {
    event_id(event, context, meta);
    event_level(event, meta);
    platform(event);
    logger(event, meta);
    for (key, is_valid, reason) in [
        ("release", is_release as fn(&str) -> bool, "expected a release name"),
        ("environment", is_environment, "expected an environment name"),
        ("dist", is_dist, "expected a distribution name"),
    ] {
        named(event, key, is_valid, reason, meta);
    }
    fingerprint(event, meta);
    sdk(event, context, meta);
    extra(event, meta);
}

fn event_id(event: &mut Object<'_>, context: &EventContext<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("event_id");
    let written = event.get_mut("event_id").filter(|value| !value.is_null());
    let written = written.and_then(|value| {
        let id = value.as_str().and_then(|text| text.parse::<EventId>().ok());
        if id.is_none() {
            invalid(value, "expected an event id", meta, &path);
        }
        id
    });
    if let Some(id) = context.event_id.or(written) {
        event.insert("event_id", id.to_string());
    }
}

fn event_level(event: &mut Object<'_>, meta: &mut MetaTree) {
    if let Some(value) = event.get_mut("level") {
        level::settle(value, meta, &Path::ROOT.key("level"));
    }
    if field::is_blank(event, "level") {
        let default = match text(event, "type") {
            Some("transaction" | "feedback") => "info",
            _ => "error",
        };
        event.insert("level", default);
    }
}

fn platform(event: &mut Object<'_>) {
    if !text(event, "platform").is_some_and(|platform| PLATFORMS.contains(&platform)) {
        event.insert("platform", "other");
    }
}

fn logger(event: &mut Object<'_>, meta: &mut MetaTree) {
    let is_java = text(event, "platform") == Some("java");
    let Some(value @ Value::String(_)) = event.get_mut("logger") else { return };
    if is_java && let Some(short) = value.as_str().and_then(shortened) {
        *value = Value::from(short);
    }
    field::settle(value, Field::Text(TextLimit::of(MAX_LOGGER_CHARS, 0)), meta, &Path::ROOT.key("logger"));
}

/// `com.example.a.very.long.package.Name` → `*.long.package.Name`; the class says most. `None` if it is short enough, or its
/// last part alone is too long.
fn shortened(logger: &str) -> Option<String> {
    logger.chars().nth(MAX_LOGGER_CHARS)?;
    let starts = logger.match_indices('.').map(|(at, _)| &logger[at..]);
    let kept = starts.into_iter().find(|rest| rest.chars().count() < MAX_LOGGER_CHARS && rest.len() > 1)?;
    Some(format!("*{kept}"))
}

fn named(
    event: &mut Object<'_>,
    key: &'static str,
    is_valid: fn(&str) -> bool,
    reason: &'static str,
    meta: &mut MetaTree,
) {
    let Some(value) = event.get_mut(key) else { return };
    let Some(name) = value.as_str() else { return };
    let trimmed = name.trim();
    if !is_valid(trimmed) {
        invalid(value, reason, meta, &Path::ROOT.key(key));
    } else if trimmed.len() != name.len() {
        *value = Value::from(trimmed.to_owned());
    }
}

/// 1 to 200 characters, no slash, no white space but blanks, and none of the names that mean something in addresses.
pub(super) fn is_release(name: &str) -> bool {
    let is_reserved = matches!(name, "." | "..") || name.eq_ignore_ascii_case("latest");
    is_between(name, 1, 200) && !is_reserved && !name.contains(['/', '\\', '\t', '\n', '\r', '\x0c'])
}

/// 1 to 64 characters, no slash or new line, and not `none`.
pub(super) fn is_environment(name: &str) -> bool {
    is_between(name, 1, 64) && !name.eq_ignore_ascii_case("none") && !name.contains(['/', '\n', '\r'])
}

/// 1 to 64 of the characters of names.
fn is_dist(name: &str) -> bool {
    is_between(name, 1, 64) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_between(text: &str, min_chars: usize, max_chars: usize) -> bool {
    text.chars().nth(min_chars - 1).is_some() && text.chars().nth(max_chars).is_none()
}

/// A list of texts; a text alone is a list of it.
fn fingerprint(event: &mut Object<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("fingerprint");
    let Some(value) = event.get_mut("fingerprint").filter(|value| !value.is_null()) else { return };
    if value.as_array().is_none() && field::scalar(value).is_ok() {
        *value = Value::Array(vec![value.take()]);
    }
    let Value::Array(parts) = value else {
        invalid(value, "expected a list of strings", meta, &path);
        return;
    };
    for (index, part) in parts.iter_mut().enumerate() {
        if !part.is_null() {
            field::settle(part, Field::Scalar(TextLimit::NONE), meta, &path.index(index));
        }
    }
}

/// The SDK's name and version; where the event has none, those of the client that sent it.
fn sdk(event: &mut Object<'_>, context: &EventContext<'_>, meta: &mut MetaTree) {
    let Some(Value::Object(sdk)) = event.get_mut("sdk") else {
        let Some((name, version)) = context.client.and_then(|client| client.split_once('/')) else { return };
        if event.get("sdk").is_some_and(|sdk| !sdk.is_null()) || name.is_empty() || name.contains(' ') {
            return;
        }
        let sdk = [("name", name), ("version", version)];
        let sdk: Object<'_> = sdk.into_iter().map(|(key, text)| (key.into(), Value::from(text.to_owned()))).collect();
        event.insert("sdk", sdk);
        return;
    };
    let field_of = |key: &str| match key {
        "name" | "version" => Field::Scalar(TextLimit::of(128, 0)),
        "integrations" | "packages" | "features" => Field::Array,
        "settings" => Field::Object,
        _ => Field::Any,
    };
    field::apply(sdk, field_of, meta, &Path::ROOT.key("sdk"));
}

fn extra(event: &mut Object<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("extra");
    let Some(extra @ Value::Object(_)) = event.get_mut("extra") else { return };
    for (key, value) in extra.as_object_mut().into_iter().flat_map(Object::iter_mut) {
        trim_bag(value, EXTRA_VALUE, meta, &path.key(key));
    }
    trim_bag(extra, EXTRA, meta, &path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_environments_and_distributions_are_names() {
        let long = "x".repeat(201);
        for (name, release, environment, dist) in [
            ("shop@1.2+3", true, true, false),
            ("1.0", true, true, true),
            ("", false, false, false),
            (".", false, true, true),
            ("..", false, true, true),
            ("Latest", false, true, true),
            ("None", true, false, true),
            ("a/b", false, false, false),
            ("a\\b", false, true, false),
            ("a\tb", false, true, false),
            ("a\nb", false, false, false),
            (&long[..64], true, true, true),
            (&long[..65], true, false, false),
            (&long[..200], true, false, false),
            (&long, false, false, false),
        ] {
            assert_eq!(
                (is_release(name), is_environment(name), is_dist(name)),
                (release, environment, dist),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_long_java_logger_keeps_its_last_parts() {
        let long = "org.example.alpha.beta.gamma.delta.epsilon.zeta.eta.theta.iota.KappaLogger";
        assert_eq!(
            shortened(long).as_deref(),
            Some("*.alpha.beta.gamma.delta.epsilon.zeta.eta.theta.iota.KappaLogger")
        );
        assert_eq!(shortened("org.example.Short"), None);
        assert_eq!(shortened(&"x".repeat(100)), None);
    }
}
