//! MessagePack, as native crash reporters write events and breadcrumbs, read as JSON, so that the stages see it.
//!
//! Bounded by the payload, by [`MAX_DEPTH`] and by an [`Allowance`], which each value is charged to before it is made. What JSON does
//! not have becomes the nearest that it has: binary data a text, a key that is a number or a flag its text, a number that is not finite and
//! an extension null.

use std::collections::VecDeque;

use serde_json::{Map, Number, Value};

use super::allowance::{Allowance, Shortage};

/// Deepest nesting. The JSON parser that reads it next takes 128 levels.
const MAX_DEPTH: usize = 100;
/// Most breadcrumbs kept: the newest, as many as SDKs keep.
pub(super) const MAX_BREADCRUMBS: usize = 100;

/// Why there is no value.
enum Failure {
    /// The bytes are no MessagePack, or end too early.
    Malformed,
    /// There is no more memory for it.
    Short(Shortage),
}

impl From<Shortage> for Failure {
    fn from(shortage: Shortage) -> Self {
        Self::Short(shortage)
    }
}

/// An event; `None` if the bytes are no map.
pub(super) fn event(bytes: &[u8], allowance: &mut Allowance) -> Result<Option<Map<String, Value>>, Shortage> {
    let before = allowance.charged();
    let event = match (Reader { bytes, allowance: &mut *allowance }).value(0) {
        Ok(Value::Object(event)) => return Ok(Some(event)),
        Err(Failure::Short(shortage)) => Err(shortage),
        _ => Ok(None),
    };
    allowance.release_to(before);
    event
}

/// Breadcrumbs, as far as they can be read.
#[derive(Debug)]
pub(super) struct Breadcrumbs {
    /// The newest of them, in their order.
    pub(super) values: Vec<Value>,
    /// Whether there was nothing else. A crash may have cut the last one off.
    pub(super) is_whole: bool,
}

/// Breadcrumbs: one map after the other, or arrays of maps. Those that give way to newer ones are no longer charged for.
pub(super) fn breadcrumbs(bytes: &[u8], allowance: &mut Allowance) -> Result<Breadcrumbs, Shortage> {
    let mut reader = Reader { bytes, allowance };
    // Each with its charge.
    let mut newest = VecDeque::new();
    let mut is_whole = true;
    // How many of an array are still to come.
    let mut pending = 0;
    while !reader.bytes.is_empty() {
        if pending == 0
            && let Some(length) = reader.array_length()
        {
            pending = length;
            continue;
        }
        pending = pending.saturating_sub(1);
        let before = reader.allowance.charged();
        let value = reader.value(1);
        let charge = reader.allowance.charged() - before;
        if let Ok(crumb @ Value::Object(_)) = value {
            newest.push_back((crumb, charge));
            let gone = if newest.len() > MAX_BREADCRUMBS { newest.pop_front() } else { None };
            reader.allowance.release(gone.map_or(0, |(_, charge)| charge));
            continue;
        }
        is_whole = false;
        reader.allowance.release_to(before);
        match value {
            Ok(_) => {}
            Err(Failure::Malformed | Failure::Short(Shortage::Spent)) => break,
            Err(Failure::Short(shortage)) => return Err(shortage),
        }
    }
    let values = newest.into_iter().map(|(crumb, _)| crumb).collect();
    Ok(Breadcrumbs { values, is_whole: is_whole && pending == 0 })
}

/// What is still to be read.
struct Reader<'a> {
    bytes: &'a [u8],
    allowance: &'a mut Allowance,
}

// === impl Reader ===

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Failure> {
        if depth > MAX_DEPTH {
            return Err(Failure::Malformed);
        }
        self.allowance.value()?;
        // The markers of the specification of MessagePack, "Formats".
        Ok(match self.number::<1>()? {
            marker @ 0x00..=0x7f => Value::from(marker),
            marker @ 0x80..=0x8f => self.map(marker & 0x0f, depth)?,
            marker @ 0x90..=0x9f => self.array(marker & 0x0f, depth)?,
            marker @ 0xa0..=0xbf => self.text(marker & 0x1f)?,
            0xc2 => Value::Bool(false),
            0xc3 => Value::Bool(true),
            0xc4 | 0xd9 => self.sized::<1>(Self::text)?,
            0xc5 | 0xda => self.sized::<2>(Self::text)?,
            0xc6 | 0xdb => self.sized::<4>(Self::text)?,
            0xc7 => self.sized::<1>(Self::extension)?,
            0xc8 => self.sized::<2>(Self::extension)?,
            0xc9 => self.sized::<4>(Self::extension)?,
            0xca => float(f64::from(f32::from_be_bytes(self.array_of()?))),
            0xcb => float(f64::from_be_bytes(self.array_of()?)),
            0xcc => Value::from(self.number::<1>()?),
            0xcd => Value::from(self.number::<2>()?),
            0xce => Value::from(self.number::<4>()?),
            0xcf => Value::from(self.number::<8>()?),
            0xd0 => Value::from(i8::from_be_bytes(self.array_of()?)),
            0xd1 => Value::from(i16::from_be_bytes(self.array_of()?)),
            0xd2 => Value::from(i32::from_be_bytes(self.array_of()?)),
            0xd3 => Value::from(i64::from_be_bytes(self.array_of()?)),
            marker @ 0xd4..=0xd8 => self.extension(1 << (marker - 0xd4))?,
            0xdc => self.sized::<2>(|reader, length| reader.array(length, depth))?,
            0xdd => self.sized::<4>(|reader, length| reader.array(length, depth))?,
            0xde => self.sized::<2>(|reader, length| reader.map(length, depth))?,
            0xdf => self.sized::<4>(|reader, length| reader.map(length, depth))?,
            // Below zero: the lowest five bits of the two's complement.
            marker @ 0xe0..=0xff => Value::from(marker.cast_signed() - 0x100),
            0xc0 => Value::Null,
            _ => return Err(Failure::Malformed),
        })
    }

    /// The length of an array, if one comes next; its elements then do.
    fn array_length(&mut self) -> Option<u64> {
        let (length, rest) = match self.bytes {
            [marker @ 0x90..=0x9f, rest @ ..] => (u64::from(marker & 0x0f), rest),
            [0xdc, high, low, rest @ ..] => (u64::from(u16::from_be_bytes([*high, *low])), rest),
            [0xdd, a, b, c, d, rest @ ..] => (u64::from(u32::from_be_bytes([*a, *b, *c, *d])), rest),
            _ => return None,
        };
        self.bytes = rest;
        Some(length)
    }

    fn take(&mut self, length: u64) -> Result<&[u8], Failure> {
        let length = usize::try_from(length).map_err(|_| Failure::Malformed)?;
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Failure::Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(Failure::Malformed)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// An unsigned number of `N` bytes, at most eight.
    fn number<const N: usize>(&mut self) -> Result<u64, Failure> {
        let bytes: [u8; N] = self.array_of()?;
        Ok(bytes.into_iter().fold(0, |number, byte| number << 8 | u64::from(byte)))
    }

    /// What begins with its length, a number of `N` bytes.
    fn sized<const N: usize>(
        &mut self,
        read: impl FnOnce(&mut Self, u64) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let length = self.number::<N>()?;
        read(self, length)
    }

    fn text(&mut self, length: u64) -> Result<Value, Failure> {
        // A byte that is no UTF-8 becomes a character of three.
        self.allowance.text(3 * usize::try_from(length).unwrap_or(usize::MAX / 4).min(self.bytes.len()))?;
        Ok(Value::from(String::from_utf8_lossy(self.take(length)?).into_owned()))
    }

    fn extension(&mut self, length: u64) -> Result<Value, Failure> {
        self.take(length + 1)?;
        Ok(Value::Null)
    }

    fn array(&mut self, length: u64, depth: usize) -> Result<Value, Failure> {
        let mut values = Vec::new();
        for _ in 0..length {
            values.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(values))
    }

    fn map(&mut self, length: u64, depth: usize) -> Result<Value, Failure> {
        self.allowance.map()?;
        let mut object = Map::new();
        for _ in 0..length {
            let key = match self.value(depth + 1)? {
                Value::String(text) => text,
                // As text within text within text each level would be twice as long as the one in it.
                Value::Array(_) | Value::Object(_) => return Err(Failure::Malformed),
                other => other.to_string(),
            };
            self.allowance.entry(key.len())?;
            let value = self.value(depth + 1)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
