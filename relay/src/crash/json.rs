//! JSON objects, read within an [`Allowance`].

use std::fmt;

use picket_common::tree::{Document, PythonFloats};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::allowance::{Allowance, Shortage};

/// Most memory that the lenient reader takes for each byte of text: a byte of `[0]` is a fourth of an array with room for four.
const LENIENT_FACTOR: usize = 40;

/// An object, repaired where SDKs are known to break it; `None` if the text is none.
pub(super) fn object(text: &[u8], allowance: &mut Allowance) -> Result<Option<Map<String, Value>>, Shortage> {
    if let Some(object) = strict(text, allowance)? {
        return Ok(Some(object));
    }
    let before = allowance.charged();
    allowance.charge(text.len().saturating_mul(LENIENT_FACTOR))?;
    let Ok(document) = Document::read(text, PythonFloats::Accept) else {
        allowance.release_to(before);
        return Ok(None);
    };
    let mut repaired = Vec::with_capacity(text.len());
    document.write_json(&mut repaired);
    drop(document);
    allowance.release_to(before);
    strict(&repaired, allowance)
}

/// An object without anything to repair.
pub(super) fn strict(text: &[u8], allowance: &mut Allowance) -> Result<Option<Map<String, Value>>, Shortage> {
    let before = allowance.charged();
    // One that was told already is not this text's.
    allowance.take_shortage();
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Seed(&mut *allowance).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(object)) => Ok(Some(object)),
        _ => {
            allowance.release_to(before);
            allowance.take_shortage().map_or(Ok(None), Err)
        }
    }
}

/// Makes a value, charging for it.
struct Seed<'a>(&'a mut Allowance);

impl Seed<'_> {
    fn scalar<E: Error>(self, value: Value) -> Result<Value, E> {
        self.0.value().map_err(|_| E::custom("too many values"))?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.scalar(Value::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
        self.scalar(Value::Bool(flag))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.scalar(Value::from(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.scalar(Value::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        self.scalar(Value::from(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.0.text(text.len()).map_err(|_| E::custom("too much text"))?;
        self.scalar(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = elements.next_element_seed(Seed(&mut *self.0))? {
            values.push(value);
        }
        self.scalar(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.map().map_err(|_| A::Error::custom("too many objects"))?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.0.entry(key.len()).map_err(|_| A::Error::custom("too many fields"))?;
            let value = entries.next_value_seed(Seed(&mut *self.0))?;
            object.insert(key, value);
        }
        self.scalar(Value::Object(object))
    }
}

/// Puts `other` over `object`, object by object; what is null there changes nothing.
pub(super) fn merge(object: &mut Map<String, Value>, other: Map<String, Value>) {
    for (key, value) in other {
        match (object.get_mut(&key), value) {
            (Some(Value::Object(inner)), Value::Object(value)) => merge(inner, value),
            (Some(_), Value::Null) => {}
            (_, value) => {
                object.insert(key, value);
            }
        }
    }
}
