//! What happens on developers' own machines.

use std::net::IpAddr;

use picket_common::tree::Value;

use super::event;

/// Whether an event comes from the machine that its software runs on: by the user's address, by the page's or request's
/// address, or by the host that was asked for.
pub(super) fn is_local(event: &Value<'_>) -> bool {
    let user = event.get("user").and_then(|user| user.get("ip_address")).and_then(Value::as_str);
    let is_local_user = user.and_then(|text| text.parse::<IpAddr>().ok()).is_some_and(|address| address.is_loopback());
    let url = event::url(event).unwrap_or_default();
    let is_file = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:"));
    let is_local_url = event::host_of(url).is_some_and(is_local_host);
    let asked = ["Host", "X-Forwarded-Host"].into_iter().filter_map(|name| event::request_header(event, name));
    is_local_user || is_file || is_local_url || asked.map(event::without_port).any(is_local_host)
}

fn is_local_host(host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.is_loopback();
    }
    // RFC 6761 §6.3: every name below `localhost` is the machine itself.
    let last_label = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last_label.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::tree::read;

    #[test]
    fn each_sign_of_a_local_machine_is_enough() {
        let table = [
            (r#"{"user":{"ip_address":"127.0.0.1"}}"#, true),
            (r#"{"user":{"ip_address":"::1"}}"#, true),
            (r#"{"user":{"ip_address":"192.168.0.1"}}"#, false),
            (r#"{"request":{"url":"http://localhost:3000/x"}}"#, true),
            (r#"{"request":{"url":"http://shop.localhost/x"}}"#, true),
            (r#"{"request":{"url":"http://127.0.0.1/x"}}"#, true),
            (r#"{"request":{"url":"http://[::1]:80/x"}}"#, true),
            (r#"{"request":{"url":"file:///home/x.html"}}"#, true),
            (r#"{"request":{"url":"https://localhost.shop.test/"}}"#, false),
            (r#"{"request":{"url":"https://notlocalhost/"}}"#, false),
            (r#"{"request":{"headers":[["host","localhost:80"]]}}"#, true),
            (r#"{"request":{"headers":{"X-Forwarded-Host":"127.0.0.1"}}}"#, true),
            (r#"{"request":{"headers":{"Host":"shop.test"}}}"#, false),
            ("{}", false),
        ];
        for (text, expected) in table {
            assert_eq!(is_local(&read(text.as_bytes()).unwrap()), expected, "{text}");
        }
    }
}
