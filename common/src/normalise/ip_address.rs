//! The address of the user: checked, and inferred where the SDK wants that and the project does not forbid it.
//!
//! | the SDK says | address |
//! | --- | --- |
//! | `{{auto}}`, or `infer_ip: auto` and none | `REMOTE_ADDR` of the request, else the client's |
//! | `infer_ip: never` | as sent; `{{auto}}` goes |
//! | nothing (older SDKs) and no address | `REMOTE_ADDR`; for platforms that run at the user's, else the client's |
//!
//! Where addresses are scrubbed none is written at all.

use std::net::IpAddr;

use super::field::{invalid, is_blank, text};
use super::{EventContext, IpInference};
use crate::tree::{MetaTree, Object, Path, Value};

/// What stands for the address that the event came from.
pub(super) const AUTO: &str = "{{auto}}";

/// What the SDK wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Auto,
    Never,
    Legacy,
}

/// Nulls an address that is none. One that was redacted may be anything.
pub(super) fn check(user: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let path = path.key("ip_address");
    let Some(value) = user.get_mut("ip_address") else { return };
    let Some(address) = value.as_str() else { return };
    let is_valid = address.is_empty() || address == AUTO || address.parse::<IpAddr>().is_ok();
    if !is_valid && !is_redacted(meta, &path) {
        invalid(value, "expected an ip address", meta, &path);
    }
}

/// Fills the user's address in.
pub(super) fn infer(event: &mut Object<'_>, context: &EventContext<'_>, meta: &MetaTree) {
    let is_allowed = context.ip_inference == IpInference::Allowed && mode(event) != Mode::Never;
    let client = context.client_address.filter(|_| is_allowed);
    settle_remote_address(event, client);
    let inferred = if is_allowed { inferred(event, client, meta) } else { None };
    if let Some(address) = inferred {
        if event.get("user").and_then(Value::as_object).is_none() {
            event.insert("user", Object::new());
        }
        if let Some(Value::Object(user)) = event.get_mut("user") {
            user.insert("ip_address", address.to_string());
        }
        return;
    }
    if let Some(Value::Object(user)) = event.get_mut("user")
        && text(user, "ip_address") == Some(AUTO)
    {
        user.remove("ip_address");
    }
}

fn inferred(event: &Object<'_>, client: Option<IpAddr>, meta: &MetaTree) -> Option<IpAddr> {
    let user = event.get("user").and_then(Value::as_object);
    let is_missing = user.is_none_or(|user| is_blank(user, "ip_address"));
    let path = Path::ROOT.key("user");
    let is_scrubbed = is_redacted(meta, &path) || is_redacted(meta, &path.key("ip_address"));
    let is_auto = user.is_some_and(|user| text(user, "ip_address") == Some(AUTO));
    match mode(event) {
        _ if is_auto => remote_address(event).or(client),
        _ if !is_missing || is_scrubbed => None,
        Mode::Auto => remote_address(event).or(client),
        Mode::Never => None,
        Mode::Legacy => {
            let is_at_the_user = matches!(text(event, "platform"), Some("javascript" | "cocoa" | "objc"));
            remote_address(event).or(client.filter(|_| is_at_the_user))
        }
    }
}

fn mode(event: &Object<'_>) -> Mode {
    let settings = event.get("sdk").and_then(|sdk| sdk.get("settings"));
    match settings.and_then(|settings| settings.get("infer_ip")).and_then(Value::as_str) {
        Some("auto") => Mode::Auto,
        Some("never") => Mode::Never,
        _ => Mode::Legacy,
    }
}

fn is_redacted(meta: &MetaTree, path: &Path<'_>) -> bool {
    meta.get(path).is_some_and(|meta| !meta.remarks.is_empty())
}

/// The address that the web server saw.
fn remote_address(event: &Object<'_>) -> Option<IpAddr> {
    event.get("request")?.get("env")?.get("REMOTE_ADDR")?.as_str()?.parse().ok()
}

/// The web server's view may be left to us, too.
fn settle_remote_address(event: &mut Object<'_>, client: Option<IpAddr>) {
    let env = event.get_mut("request").and_then(|request| request.get_mut("env")).and_then(Value::as_object_mut);
    let Some(env) = env.filter(|env| text(env, "REMOTE_ADDR") == Some(AUTO)) else { return };
    match client {
        Some(address) => drop(env.insert("REMOTE_ADDR", address.to_string())),
        None => drop(env.remove("REMOTE_ADDR")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::context;
    use super::*;
    use crate::tree::{Document, PythonFloats};

    fn inferred_in(event: &str, inference: IpInference) -> String {
        let mut document = Document::read(event.as_bytes(), PythonFloats::Refuse).unwrap();
        let context =
            EventContext { ip_inference: inference, client_address: Some([192, 0, 2, 9].into()), ..context() };
        infer(document.value.as_object_mut().unwrap(), &context, &document.meta);
        let user = document.value.get("user");
        user.and_then(|user| user.get("ip_address")).map_or("none".to_owned(), Value::to_json)
    }

    #[test]
    fn an_address_is_inferred_as_the_sdk_asks() {
        const ENV: &str = r#""request":{"env":{"REMOTE_ADDR":"192.0.2.1"}}"#;
        for (event, expected) in [
            (r#"{"user":{"ip_address":"{{auto}}"}}"#.to_owned(), "\"192.0.2.9\""),
            (format!(r#"{{"user":{{"ip_address":"{{{{auto}}}}"}},{ENV}}}"#), "\"192.0.2.1\""),
            (r#"{"sdk":{"settings":{"infer_ip":"auto"}}}"#.to_owned(), "\"192.0.2.9\""),
            (format!(r#"{{"sdk":{{"settings":{{"infer_ip":"auto"}}}},{ENV}}}"#), "\"192.0.2.1\""),
            (r#"{"user":{"ip_address":"{{auto}}"},"sdk":{"settings":{"infer_ip":"never"}}}"#.to_owned(), "none"),
            (format!(r#"{{"sdk":{{"settings":{{"infer_ip":"never"}}}},{ENV}}}"#), "none"),
            (r#"{"platform":"javascript"}"#.to_owned(), "\"192.0.2.9\""),
            (r#"{"platform":"cocoa"}"#.to_owned(), "\"192.0.2.9\""),
            (r#"{"platform":"python"}"#.to_owned(), "none"),
            (format!(r#"{{"platform":"python",{ENV}}}"#), "\"192.0.2.1\""),
            (r#"{"platform":"javascript","user":{"ip_address":"192.0.2.5"}}"#.to_owned(), "\"192.0.2.5\""),
            (
                r#"{"platform":"javascript","user":{"ip_address":null},"_meta":{"user":{"ip_address":{"":{"rem":[["@ip","x"]]}}}}}"#
                    .to_owned(),
                "null",
            ),
            (r#"{"platform":"python","request":{"env":{"REMOTE_ADDR":"{{auto}}"}}}"#.to_owned(), "\"192.0.2.9\""),
        ] {
            assert_eq!(inferred_in(&event, IpInference::Allowed), expected, "{event}");
        }
    }

    #[test]
    fn where_addresses_are_scrubbed_none_is_inferred() {
        for event in [
            r#"{"user":{"ip_address":"{{auto}}"}}"#,
            r#"{"platform":"javascript"}"#,
            r#"{"request":{"env":{"REMOTE_ADDR":"192.0.2.1"}}}"#,
        ] {
            assert_eq!(inferred_in(event, IpInference::Forbidden), "none", "{event}");
        }
    }
}
