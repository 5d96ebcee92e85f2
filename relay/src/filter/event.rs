//! Where the fields of an event are that filters ask for.

use picket_common::tree::Value;

/// The exceptions of an event, in their order.
pub(super) fn exceptions<'v, 'a>(event: &'v Value<'a>) -> impl Iterator<Item = &'v Value<'a>> {
    let exception = event.get("exception");
    let values = exception.map(|exception| exception.get("values").unwrap_or(exception));
    values.and_then(Value::as_array).into_iter().flatten()
}

/// The text of an event's message.
pub(super) fn message<'v>(event: &'v Value<'_>) -> Option<&'v str> {
    let entry = event.get("logentry").or_else(|| event.get("message"))?;
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    text("formatted").or_else(|| text("message")).or_else(|| entry.as_str())
}

/// A header of the event's request, whatever its letters' case.
pub(super) fn request_header<'v>(event: &'v Value<'_>, name: &str) -> Option<&'v str> {
    let headers = event.get("request")?.get("headers")?;
    match headers {
        Value::Object(headers) => {
            headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| one_text(value))
        }
        Value::Array(pairs) => pairs.iter().find_map(|pair| {
            let [key, value] = pair.as_array()?.as_slice() else { return None };
            key.as_str().filter(|key| key.eq_ignore_ascii_case(name))?;
            one_text(value)
        }),
        _ => None,
    }
}

/// A header's value may be a list.
fn one_text<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    value.as_str().or_else(|| value.as_array()?.first()?.as_str())
}

/// The address of the page or request.
pub(super) fn url<'v>(event: &'v Value<'_>) -> Option<&'v str> {
    event.get("request")?.get("url")?.as_str()
}

/// The host of an address, without user, port and brackets; `None` for what has none.
pub(super) fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(without_port(authority)).filter(|host| !host.is_empty())
}

/// `host:port` or `[v6]:port` without the rest.
pub(super) fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match authority.split_once(':') {
        // An address of version 6 without brackets has more than one colon.
        Some((host, port)) if !port.contains(':') => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::tree::read;

    #[test]
    fn hosts_are_found_in_every_form_of_address() {
        for (url, host) in [
            ("http://localhost:8000/x", Some("localhost")),
            ("https://user:secret@shop.test/", Some("shop.test")),
            ("http://[::1]:3000/", Some("::1")),
            ("https://shop.test?x", Some("shop.test")),
            ("file:///home/a.html", None),
            ("/relative", None),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
        assert_eq!(without_port("::1"), "::1");
    }

    #[test]
    fn headers_are_found_in_pairs_and_objects() {
        for text in [
            r#"{"request":{"headers":{"user-agent":"x"}}}"#,
            r#"{"request":{"headers":[["Accept","y"],["User-Agent","x"]]}}"#,
            r#"{"request":{"headers":{"User-Agent":["x"]}}}"#,
        ] {
            assert_eq!(request_header(&read(text.as_bytes()).unwrap(), "User-Agent"), Some("x"), "{text}");
        }
    }

    #[test]
    fn a_message_is_found_in_each_of_its_places() {
        for text in [
            r#"{"message":"x"}"#,
            r#"{"logentry":{"message":"x"}}"#,
            r#"{"logentry":{"message":"%s","formatted":"x"}}"#,
            r#"{"message":{"formatted":"x"}}"#,
        ] {
            assert_eq!(message(&read(text.as_bytes()).unwrap()), Some("x"), "{text}");
        }
    }
}
