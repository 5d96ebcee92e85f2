//! Whose address a request is from, where proxies stand between client and relay.
//!
//! A header can say anything, so headers count only when the connection comes from a trusted network, and only as far as trusted
//! proxies wrote them:
//!
//! ```text
//! X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.7      peer 10.0.0.8, trusted 10.0.0.0/8
//!                  ▲ anybody ▲ the client ◂──── read from the right, past trusted hops
//! ```
//!
//! The first of these headers that names an address is read, and only that one: `X-Forwarded-For`, `Forwarded`,
//! `X-Sentry-Forwarded-For`, `X-Vercel-Forwarded-For`, `CF-Connecting-IP`. The first two come first because every proxy adds its
//! own hop to them, so what a client puts there stands to the left of the truth; the others are passed on unchanged by proxies
//! that do not know them, so that a client could name itself anything if they won.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Headers that name clients, the one that counts first.
const HEADERS: [&str; 5] =
    ["x-forwarded-for", "forwarded", "x-sentry-forwarded-for", "x-vercel-forwarded-for", "cf-connecting-ip"];

/// A network, written `10.0.0.0/8`, or as one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text that names no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a network such as \"10.0.0.0/8\" or an address")]
pub struct InvalidNetwork;

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| InvalidNetwork)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer).map_err(|_| de::Error::custom(InvalidNetwork))?;
        text.parse().map_err(|_| de::Error::custom(format!("{InvalidNetwork}, found {text:?}")))
    }
}

/// The client of a request that came from `peer`.
pub(crate) fn of_request(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let Some(hops) = HEADERS.iter().find_map(|name| hops(headers, name)) else { return peer };
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        // What can't be read was written by somebody who is not trusted, or hides on purpose: the last known hop stands for it.
        let Some(address) = hop else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// The hops that a header names, in its order, over all its lines; `None` if it names no address.
fn hops(headers: &HeaderMap, name: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut hops = Vec::new();
    for line in headers.get_all(name) {
        let line = line.to_str().unwrap_or("unreadable");
        hops.extend(line.split(',').map(|hop| address(if name == "forwarded" { forwarded_for(hop) } else { hop })));
    }
    hops.iter().any(Option::is_some).then_some(hops)
}

/// The `for` of one element of `Forwarded` (RFC 7239 §4).
fn forwarded_for(element: &str) -> &str {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let found = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    found.map_or("", |(_, value)| value.trim().trim_matches('"'))
}

/// An address with or without port and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|with_port| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn client(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8", "192.0.2.1"].map(|network| network.parse().unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        of_request(peer.parse().unwrap(), &map, &trusted).to_string()
    }

    #[test]
    fn headers_count_only_from_trusted_peers_and_from_the_right() {
        for (peer, headers, expected) in [
            ("198.51.100.7", vec![("x-forwarded-for", "6.6.6.6"), ("cf-connecting-ip", "6.6.6.6")], "198.51.100.7"),
            ("10.0.0.8", vec![], "10.0.0.8"),
            ("::ffff:10.0.0.8", vec![("x-forwarded-for", "203.0.113.9")], "203.0.113.9"),
            ("192.0.2.1", vec![("x-forwarded-for", "203.0.113.9")], "203.0.113.9"),
            ("10.0.0.8", vec![("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.0.0.7")], "203.0.113.9"),
            (
                "10.0.0.8",
                vec![("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9, 10.1.1.1")],
                "203.0.113.9",
            ),
            ("10.0.0.8", vec![("x-forwarded-for", "10.0.0.5, 10.0.0.7")], "10.0.0.5"),
            ("10.0.0.8", vec![("x-forwarded-for", "6.6.6.6, unknown, 10.0.0.7")], "10.0.0.7"),
            ("10.0.0.8", vec![("x-forwarded-for", "203.0.113.9:4711")], "203.0.113.9"),
            ("10.0.0.8", vec![("x-forwarded-for", "[2001:db8::1]:4711")], "2001:db8::1"),
            ("10.0.0.8", vec![("x-forwarded-for", "[2001:db8::1]")], "2001:db8::1"),
            ("10.0.0.8", vec![("forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=https")], "2001:db8::1"),
            ("fd00::1", vec![("forwarded", "proto=http;FOR=203.0.113.9;by=10.0.0.1")], "203.0.113.9"),
            ("10.0.0.8", vec![("cf-connecting-ip", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9")], "203.0.113.9"),
            ("10.0.0.8", vec![("cf-connecting-ip", "203.0.113.9"), ("x-forwarded-for", "-")], "203.0.113.9"),
            ("10.0.0.8", vec![("x-sentry-forwarded-for", "203.0.113.9")], "203.0.113.9"),
            ("10.0.0.8", vec![("x-vercel-forwarded-for", "203.0.113.9")], "203.0.113.9"),
        ] {
            assert_eq!(client(peer, &headers), expected, "{peer} {headers:?}");
        }
    }

    #[test]
    fn a_network_is_written_with_its_length_or_as_one_address() {
        for (text, written) in [("10.0.0.0/8", Some("10.0.0.0/8")), ("::1", Some("::1/128")), ("ten", None)] {
            assert_eq!(text.parse::<Network>().map(|network| network.to_string()).ok().as_deref(), written);
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(name in 0..HEADERS.len(), value in "[ -~]{0,60}") {
            client("10.0.0.8", &[(HEADERS[name], &value)]);
        }
    }
}
