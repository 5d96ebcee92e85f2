//! Form fields of crash reporters as parts of an event.
//!
//! | field | becomes |
//! | --- | --- |
//! | `sentry` | JSON of an event |
//! | `sentry__1`, `sentry__2`, … | the same, cut into pieces |
//! | `sentry[user][id]` | the field `user.id` |
//! | any other | `extra` under its name |
//!
//! What is JSON wins over what is in brackets.

use bytes::Bytes;
use picket_common::envelope::{Item, ItemType};
use serde_json::{Map, Value};

use super::allowance::{Allowance, Shortage};
use super::json::{self, merge};

/// Deepest path in brackets. Events are about ten levels deep.
const MAX_BRACKETS: usize = 16;
/// Bytes that the list of fields takes for each byte of its text: the eight of `["",""],` make two empty strings of 24 bytes each,
/// in a list that doubles.
const FIELDS_FACTOR: usize = 20;

/// An item with the fields of a form, in their order: a JSON array of pairs.
#[must_use]
pub fn form_data_item(fields: &[(String, String)]) -> Item {
    // Pairs of strings always serialise.
    Item::new(ItemType::FormData, Bytes::from(serde_json::to_vec(fields).unwrap_or_default()))
}

/// The event that a form describes; empty where it can't be read.
///
/// # Errors
/// [`Shortage`] if there is no memory for it.
pub(super) fn event(payload: &[u8], allowance: &mut Allowance) -> Result<Map<String, Value>, Shortage> {
    allowance.charge(payload.len().saturating_mul(FIELDS_FACTOR))?;
    let fields: Vec<(String, String)> = serde_json::from_slice(payload).unwrap_or_default();
    let mut event = Map::new();
    let mut whole = Map::new();
    let mut pieces: Vec<(u32, &str)> = Vec::new();
    for (name, value) in &fields {
        if name == "sentry" {
            merge(&mut whole, json_object(value, allowance)?);
        } else if let Some(number) = name.strip_prefix("sentry__").and_then(|number| number.parse().ok()) {
            pieces.push((number, value));
        } else if let Some(path) = brackets(name) {
            set(&mut event, &path, value, allowance)?;
        } else {
            set(&mut event, &["extra", name], value, allowance)?;
        }
    }
    pieces.sort_by_key(|(number, _)| *number);
    let joined: String = pieces.into_iter().map(|(_, piece)| piece).collect();
    merge(&mut whole, json_object(&joined, allowance)?);
    merge(&mut event, whole);
    Ok(event)
}

fn json_object(text: &str, allowance: &mut Allowance) -> Result<Map<String, Value>, Shortage> {
    Ok(json::strict(text.as_bytes(), allowance)?.unwrap_or_default())
}

/// The path in `sentry[a][b]`.
fn brackets(name: &str) -> Option<Vec<&str>> {
    let inner = name.strip_prefix("sentry[")?.strip_suffix(']')?;
    let path: Vec<&str> = inner.split("][").take(MAX_BRACKETS + 1).collect();
    let is_path = path.len() <= MAX_BRACKETS && path.iter().all(|part| !part.is_empty() && !part.contains(['[', ']']));
    is_path.then_some(path)
}

/// Sets a text at a path, making objects on the way. What stands in the way and is no object stays.
fn set(object: &mut Map<String, Value>, path: &[&str], text: &str, allowance: &mut Allowance) -> Result<(), Shortage> {
    match path {
        [] => {}
        [last] => {
            allowance.entry(last.len())?;
            allowance.text(text.len())?;
            object.insert((*last).to_owned(), Value::from(text));
        }
        [first, rest @ ..] => {
            if !object.contains_key(*first) {
                allowance.entry(first.len())?;
                allowance.map()?;
            }
            let inner = object.entry((*first).to_owned()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                set(inner, rest, text, allowance)?;
            }
        }
    }
    Ok(())
}
