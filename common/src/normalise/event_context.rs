//! What an item's surroundings say of it: the request it came in, the project it is for.

use std::net::IpAddr;

use crate::ids::EventId;
use crate::timestamp::Timestamp;

/// What normalisation knows beside the payload. Two runs under the same context give the same result.
#[derive(Debug, Clone, Copy)]
pub struct EventContext<'c> {
    /// The settled id, which overwrites the payload's; `None` leaves the payload's as it is.
    pub event_id: Option<EventId>,
    /// When the relay received the request.
    pub received_at: Timestamp,
    /// When the client says that it sent the request, by its own clock.
    pub sent_at: Option<Timestamp>,
    /// Where the request came from.
    pub client_address: Option<IpAddr>,
    /// Whether an address may be written into the item.
    pub ip_inference: IpInference,
    /// The request's own `User-Agent`.
    pub user_agent: Option<&'c str>,
    /// The request's own `Sec-CH-UA…` headers.
    pub client_hints: ClientHints<'c>,
    /// What the client calls itself, `name/version`.
    pub client: Option<&'c str>,
    /// How long the project keeps events, in days. What is older was not measured by a working clock.
    pub retention_days: u16,
}

/// Whether addresses of users may be filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpInference {
    /// As the SDK asks.
    Allowed,
    /// Never: the project scrubs addresses.
    Forbidden,
}

/// The client hints of a request, as their headers have them (quoted strings).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientHints<'c> {
    /// `Sec-CH-UA`: the browser's brands.
    pub brands: Option<&'c str>,
    /// `Sec-CH-UA-Platform`: the operating system.
    pub platform: Option<&'c str>,
    /// `Sec-CH-UA-Platform-Version`.
    pub platform_version: Option<&'c str>,
    /// `Sec-CH-UA-Model`: the device.
    pub model: Option<&'c str>,
}
