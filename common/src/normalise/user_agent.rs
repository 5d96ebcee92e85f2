//! Browser, device and operating system, from client hints and user agents.
//!
//! Client hints are preferred: browsers freeze their user agents. Both are taken from the headers of the event's request; for events
//! of browsers that have none there, from the request that brought the event.

use std::borrow::Cow;

use woothee::parser::{Parser, WootheeResult};
use woothee::woothee::VALUE_UNKNOWN;

use super::event_context::{ClientHints, EventContext};
use super::field::text;
use super::header::header;
use crate::tree::{Object, Value};

/// Longest user agent that is looked into, in bytes. Real ones have less than 300.
const MAX_BYTES: usize = 2048;

/// What the client's software says of itself.
struct Agent<'v> {
    user_agent: Option<&'v str>,
    hints: ClientHints<'v>,
}

/// The contexts that can be told from the client's software, of those that `is_missing` names.
pub(super) fn contexts(
    event: &Object<'_>,
    context: &EventContext<'_>,
    is_missing: impl Fn(&str) -> bool,
) -> Vec<(&'static str, Object<'static>)> {
    let runs_at_the_user = text(event, "platform") == Some("javascript");
    // On a server the event's own system is the server's.
    let system_key = if runs_at_the_user { "os" } else { "client_os" };
    if ![system_key, "browser", "device"].into_iter().any(&is_missing) {
        return Vec::new();
    }
    let Some(agent) = agent(event, context) else { return Vec::new() };
    let user_agent = agent.user_agent.filter(|user_agent| user_agent.len() <= MAX_BYTES);
    let parsed = user_agent.and_then(|user_agent| Parser::new().parse(user_agent));
    let found = [
        ("browser", browser_hint(&agent.hints).or_else(|| browser(parsed.as_ref()?))),
        ("device", device_hint(&agent.hints).or_else(|| device(user_agent?))),
        (system_key, system_hint(&agent.hints).or_else(|| system(parsed.as_ref()?))),
    ];
    found.into_iter().filter_map(|(key, object)| Some((key, object?))).filter(|(key, _)| is_missing(key)).collect()
}

fn agent<'v>(event: &'v Object<'_>, context: &EventContext<'v>) -> Option<Agent<'v>> {
    let request = event.get("request").and_then(Value::as_object);
    let in_event = |name| request.and_then(|request| header(request, name)).filter(|value| !value.is_empty());
    let hints = ClientHints {
        brands: in_event("Sec-CH-UA"),
        platform: in_event("Sec-CH-UA-Platform"),
        platform_version: in_event("Sec-CH-UA-Platform-Version"),
        model: in_event("Sec-CH-UA-Model"),
    };
    let user_agent = in_event("User-Agent");
    if user_agent.is_some() || hints != ClientHints::default() {
        return Some(Agent { user_agent, hints });
    }
    let is_browser = text(event, "platform") == Some("javascript");
    is_browser.then_some(Agent { user_agent: context.user_agent, hints: context.client_hints })
}

fn object(parts: &[(&'static str, &str)]) -> Object<'static> {
    let present = parts.iter().filter(|(_, part)| !part.is_empty());
    present.map(|(key, part)| (Cow::Borrowed(*key), Value::from((*part).to_owned()))).collect()
}

fn known(text: &str) -> &str {
    if text == VALUE_UNKNOWN { "" } else { text }
}

// === client hints ===

/// `"Chromium";v="110", "Not A(Brand";v="24", "Google Chrome";v="110"`: the most particular brand that is none made up.
fn browser_hint(hints: &ClientHints<'_>) -> Option<Object<'static>> {
    let brands = hints.brands?.split(',').filter_map(|brand| {
        let (name, version) = brand.trim().split_once(";v=")?;
        Some((unquoted(name), unquoted(version)))
    });
    let real = brands.filter(|(name, _)| !(name.is_empty() || name.contains("Not") && name.contains("Brand")));
    let mut chosen = None;
    for (name, version) in real {
        if chosen.is_none_or(|(name, _)| name == "Chromium") {
            chosen = Some((name, version));
        }
    }
    let (name, version) = chosen?;
    // As their user agents are read, so that a browser has one name.
    let name = match name {
        "Google Chrome" => "Chrome",
        "Microsoft Edge" => "Edge",
        other => other,
    };
    Some(object(&[("name", name), ("version", version)]))
}

fn system_hint(hints: &ClientHints<'_>) -> Option<Object<'static>> {
    let name = unquoted(hints.platform?);
    let version = hints.platform_version.map(unquoted).unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    let version = match (name, major) {
        // Windows counts releases of its interface here.
        ("Windows", Some(13..)) => "11",
        ("Windows", Some(1..)) => "10",
        ("Windows", _) => "",
        _ => version,
    };
    (!name.is_empty() && name != "Unknown").then(|| object(&[("name", name), ("version", version)]))
}

fn device_hint(hints: &ClientHints<'_>) -> Option<Object<'static>> {
    let model = unquoted(hints.model?);
    (!model.is_empty()).then(|| object(&[("family", model), ("model", model)]))
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches('"')
}

// === user agents ===

fn browser(parsed: &WootheeResult<'_>) -> Option<Object<'static>> {
    let name = known(parsed.name);
    (!name.is_empty()).then(|| object(&[("name", name), ("version", known(parsed.version))]))
}

fn system(parsed: &WootheeResult<'_>) -> Option<Object<'static>> {
    let version = known(&parsed.os_version);
    let (name, version) = match known(parsed.os) {
        "" => return None,
        "Windows UNKNOWN Ver" => ("Windows", ""),
        "Mac OSX" => ("Mac OS X", version),
        "iPhone" | "iPad" | "iPod" => ("iOS", version),
        // The name has the version of the product, the version that of the kernel.
        windows if windows.starts_with("Windows ") && windows != "Windows Phone OS" => ("Windows", &windows[8..]),
        other => (other, version),
    };
    let version = version.replace('_', ".");
    Some(object(&[("name", name), ("version", &version)]))
}

fn device(user_agent: &str) -> Option<Object<'static>> {
    for (sign, model) in [("iPhone", "iPhone"), ("iPad", "iPad"), ("iPod", "iPod"), ("Macintosh", "Mac")] {
        if user_agent.contains(sign) {
            return Some(object(&[("family", model), ("model", model), ("brand", "Apple")]));
        }
    }
    // `(Linux; Android 13; Pixel 7 Build/TQ3A)`
    let comment = user_agent.split_once("Android ")?.1.split(')').next()?;
    let model = comment.split(';').map(str::trim).skip(1).find(|part| part.len() > 2 && *part != "wv")?;
    let model = model.split(" Build/").next()?.trim();
    // The frozen user agent calls every device K.
    (model.len() > 1).then(|| object(&[("family", model), ("model", model)]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::context;
    use super::*;
    use crate::tree::read;

    fn found(event: &str, context: &EventContext<'_>) -> String {
        let value = read(event.as_bytes()).unwrap();
        let contexts = contexts(value.as_object().unwrap(), context, |_| true);
        let texts: Vec<String> =
            contexts.into_iter().map(|(key, object)| format!("{key}={}", Value::Object(object).to_json())).collect();
        texts.join(" ")
    }

    fn from_headers(platform: &str, headers: &str) -> String {
        found(&format!(r#"{{"platform":"{platform}","request":{{"headers":{headers}}}}}"#), &context())
    }

    #[test]
    fn user_agents_tell_browser_device_and_system() {
        for (agent, expected) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
                r#"browser={"name":"Chrome","version":"120.0.0.0"} os={"name":"Windows","version":"10"}"#,
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Safari/605.1.15",
                r#"browser={"name":"Safari","version":"17.2"} device={"family":"Mac","model":"Mac","brand":"Apple"} os={"name":"Mac OS X","version":"10.15.7"}"#,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0",
                r#"browser={"name":"Firefox","version":"121.0"} os={"name":"Linux"}"#,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Mobile/15E148 Safari/604.1",
                r#"browser={"name":"Safari","version":"17.2"} device={"family":"iPhone","model":"iPhone","brand":"Apple"} os={"name":"iOS","version":"17.2"}"#,
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; Pixel 7 Build/TQ3A) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
                r#"browser={"name":"Chrome","version":"120.0.0.0"} device={"family":"Pixel 7","model":"Pixel 7"} os={"name":"Android","version":"13"}"#,
            ),
        ] {
            assert_eq!(from_headers("javascript", &format!(r#"{{"User-Agent":"{agent}"}}"#)), expected);
        }
    }

    #[test]
    fn client_hints_are_preferred() {
        let headers = r#"{"Sec-CH-UA":"\"Chromium\";v=\"110\", \"Not A(Brand\";v=\"24\", \"Google Chrome\";v=\"110\"",
            "sec-ch-ua-platform":"\"Windows\"","Sec-CH-UA-Platform-Version":"\"15.0.0\"","Sec-CH-UA-Model":"\"Pixel 7\"",
            "User-Agent":"Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0"}"#;
        assert_eq!(
            from_headers("javascript", headers),
            r#"browser={"name":"Chrome","version":"110"} device={"family":"Pixel 7","model":"Pixel 7"} os={"name":"Windows","version":"11"}"#
        );
    }

    #[test]
    fn on_a_server_the_system_is_the_clients_and_the_relays_own_request_says_nothing() {
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0";
        let headers = format!(r#"[["user-agent","{firefox}"]]"#);
        let expected = r#"browser={"name":"Firefox","version":"121.0"} client_os={"name":"Linux"}"#;
        assert_eq!(from_headers("python", &headers), expected);
        let context = EventContext { user_agent: Some(firefox), ..context() };
        assert_eq!(found(r#"{"platform":"python"}"#, &context), "");
        assert!(found(r#"{"platform":"javascript"}"#, &context).contains("Firefox"));
    }
}
