//! Events and the envelopes that carry them.

use bytes::Bytes;
use picket_common::ids::EventId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::random::Random;

/// Words of a verse: nothing that a scrubber or a normaliser has a reason to touch.
const WORDS: [&str; 16] = [
    "amber", "birch", "cloud", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "kelp", "larch", "maple",
    "north", "ocean", "plume",
];
/// Words in a verse: some 200 bytes.
const VERSE_WORDS: usize = 32;

/// Text that follows from an event's id, and is in `extra.verse` of every [`TestEvent`]: what is stored must have it to the byte.
#[must_use]
pub fn verse(id: EventId) -> String {
    let id = id.to_string();
    // The whole id counts, in both halves.
    let half = |digits: &str| u64::from_str_radix(digits, 16).unwrap_or_default();
    let mut random = Random::from(half(&id[..16]) ^ half(&id[16..]).rotate_left(17));
    let word = |_| WORDS[usize::try_from(random.below(WORDS.len() as u64)).unwrap_or_default()];
    (0..VERSE_WORDS).map(word).collect::<Vec<_>>().join(" ")
}

/// An event of a test's own making.
#[derive(Debug, Clone)]
pub struct TestEvent {
    /// Its id; also its tag `id`.
    pub id: EventId,
    /// What it says, without the id.
    pub content: Value,
}

impl TestEvent {
    /// A message; equal messages make one issue.
    ///
    /// # Panics
    /// Never: 32 hexadecimal digits are an id.
    #[must_use]
    pub fn message(text: &str) -> Self {
        let id: EventId = Uuid::new_v4().simple().to_string().parse().expect("32 hexadecimal digits");
        let content = json!({
            "platform": "python",
            "level": "error",
            "logentry": { "formatted": text },
            "tags": { "id": id.to_string() },
            "extra": { "verse": verse(id) },
        });
        Self { id, content }
    }

    /// An exception with a few frames, about 2 KB: what makes up most of an installation's load. Equal groups make one issue.
    #[must_use]
    pub fn exception(group: &str) -> Self {
        let frame = |number: u32| {
            json!({
                "module": format!("shop.{group}.part{number}"), "function": format!("step_{number}"), "in_app": true,
                "filename": format!("shop/{group}/part{number}.py"), "lineno": 10 + number,
                "context_line": "    return charge(card, amount)", "pre_context": ["def step(card, amount):", "    check(card)"],
            })
        };
        let mut event = Self::message(group);
        event.content["exception"] = json!({ "values": [{
            "type": "LoadError", "value": format!("failed in {group}"),
            "stacktrace": { "frames": (0..6).map(frame).collect::<Vec<_>>() },
        }]});
        event
    }

    /// The event as SDKs send it to the store endpoint.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let mut event = self.content.clone();
        event["event_id"] = json!(self.id.to_string());
        event.to_string().into_bytes()
    }

    /// The event in an envelope.
    #[must_use]
    pub fn envelope(&self) -> Bytes {
        let event = self.json();
        let header = json!({ "event_id": self.id.to_string() });
        let item = json!({ "type": "event", "length": event.len() });
        let mut envelope = format!("{header}\n{item}\n").into_bytes();
        envelope.extend_from_slice(&event);
        envelope.push(b'\n');
        envelope.into()
    }
}
