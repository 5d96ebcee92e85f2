//! Logs and spans of integrations: bodies of other protocols, which go through the stages as one container item of the type
//! that they stand for. So they meet the same filters, rates and quotas, and end as `unsupported` until there is a place for
//! them.

use picket_common::envelope::{Envelope, Item, ItemType};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

use crate::http::exchange::Exchange;
use crate::http::mime;
use crate::http::request::{Rejection, Request};
use crate::refusal::Refusal;
use crate::submission::Taken;

/// Longest body: what the protocol allows a batch of logs or spans.
const MAX_BODY_BYTES: usize = 12 * 1024 * 1024;
/// Above this many bytes a body is counted on the blocking pool: 1 MiB of JSON takes about 2 ms.
const BLOCKING_ABOVE_BYTES: usize = 1024 * 1024;

/// How many entries a body holds.
pub(super) type Count = fn(&[u8]) -> Result<u64, Refusal>;

/// Takes a request whose body `count` understands, as a container of that many entries; without any there is nothing to take.
pub(super) async fn receive(
    exchange: &mut Exchange,
    project: &str,
    mimes: &[&str],
    item_type: ItemType,
    count: Count,
) -> Result<Taken, Rejection> {
    let Exchange { server, head, incoming, .. } = exchange;
    let request = Request::new(server, head, Some(project))?;
    mime::expect(&head.headers, mimes)?;
    let authorised = request.authorise()?;
    let here = authorised.rejection();
    let (body, memory) = request.body(incoming, MAX_BODY_BYTES).await.map_err(&here)?;
    let entries = if body.len() <= BLOCKING_ABOVE_BYTES {
        count(&body)
    } else {
        let body = body.clone();
        tokio::task::spawn_blocking(move || count(&body)).await.unwrap_or_else(|failure| {
            tracing::error!(%failure, "counting a body ended unexpectedly");
            Err(Refusal::unavailable("internal", "the relay failed to read the request"))
        })
    };
    let mut envelope = Envelope::empty();
    let entries = entries.map_err(&here)?;
    if entries > 0 {
        envelope.push(Item::container(item_type, entries, body));
    }
    request.take(&authorised, envelope, memory).await
}

/// The number of elements of a JSON list, or one for a single object.
pub(super) fn json_entries(body: &[u8]) -> Result<u64, Refusal> {
    if body.trim_ascii_start().first() == Some(&b'{') {
        return serde_json::from_slice::<IgnoredAny>(body).map(|_| 1).map_err(|error| not_json(&error));
    }
    serde_json::from_slice::<Sum<One>>(body).map(|sum| sum.total).map_err(|error| not_json(&error))
}

/// 400 for a body that is no JSON, or not of the form that is expected. The error's own text may quote the body.
pub(super) fn not_json(error: &serde_json::Error) -> Refusal {
    let detail = format!("expected JSON: fault at line {}, column {}", error.line(), error.column());
    Refusal::malformed("invalid_json", detail)
}

/// What counts entries.
pub(super) trait Counted {
    /// How many it holds.
    fn entries(&self) -> u64;
}

/// Any value; counts as one.
pub(super) struct One;

impl Counted for One {
    fn entries(&self) -> u64 {
        1
    }
}

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The entries of all elements of a list, added up as they are read: nothing is kept, however long the list is. Null is an
/// empty list.
pub(super) struct Sum<T> {
    /// The sum.
    pub(super) total: u64,
    of: std::marker::PhantomData<T>,
}

impl<T> Default for Sum<T> {
    fn default() -> Self {
        Self { total: 0, of: std::marker::PhantomData }
    }
}

impl<'de, T: Deserialize<'de> + Counted> Deserialize<'de> for Sum<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self::default())
    }
}

impl<'de, T: Deserialize<'de> + Counted> Visitor<'de> for Sum<T> {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(element) = list.next_element::<T>()? {
            self.total += element.entries();
        }
        Ok(self)
    }
}
