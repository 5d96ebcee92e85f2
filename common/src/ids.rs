//! Identifiers as types, so that a project id is never passed where a sequence is meant.
//!
//! Each type parses from and prints to its one textual form; serde uses the same form. None of them reads a clock or a
//! random source: the two that are random ([`SpoolId`], [`RelayId`]) take their bytes from the caller.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A piece of text is not a valid identifier of the named kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind}: {problem}")]
pub struct InvalidId {
    kind: &'static str,
    problem: &'static str,
}

macro_rules! text_serde {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// The number that names a project in DSNs and request paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId(u64);

impl ProjectId {
    /// Wraps a project number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ProjectId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // `u64::from_str` also takes a leading plus sign, which no client sends and no route means.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidId { kind: "project id", problem: "expected a decimal number" });
        }
        text.parse().map(Self).map_err(|_| InvalidId { kind: "project id", problem: "expected a decimal number" })
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_serde!(ProjectId);

/// The public half of a project key: exactly 32 ASCII characters, not necessarily hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// A key of 16 random bytes, in hexadecimal.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 0x0f)];
        }
        Self(text)
    }

    /// The key's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The constructors admit printable ASCII only, so the conversion cannot fail; an empty key matches nothing.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for PublicKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let problem = "expected exactly 32 printable ASCII characters";
        let bytes: [u8; 32] = text.as_bytes().try_into().map_err(|_| InvalidId { kind: "public key", problem })?;
        if !bytes.iter().all(u8::is_ascii_graphic) {
            return Err(InvalidId { kind: "public key", problem });
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.as_str())
    }
}

text_serde!(PublicKey);

/// The id of one event, made by the SDK or, where it made none, by the relay. Never nil.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// An id of 16 random bytes (UUID version 4).
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The id as a UUID.
    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl TryFrom<Uuid> for EventId {
    type Error = InvalidId;

    fn try_from(uuid: Uuid) -> Result<Self, InvalidId> {
        if uuid.is_nil() {
            return Err(InvalidId { kind: "event id", problem: "the nil id names no event" });
        }
        Ok(Self(uuid))
    }
}

impl FromStr for EventId {
    type Err = InvalidId;

    /// Takes 32 hexadecimal digits or the hyphenated form.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let problem = "expected 32 hexadecimal digits or a hyphenated UUID";
        if text.len() != 32 && text.len() != 36 {
            return Err(InvalidId { kind: "event id", problem });
        }
        let uuid = Uuid::try_parse(text).map_err(|_| InvalidId { kind: "event id", problem })?;
        Self::try_from(uuid)
    }
}

impl fmt::Display for EventId {
    /// Prints 32 lower-case hexadecimal digits, as SDKs expect in answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

text_serde!(EventId);

/// Names one blob: a payload that is spooled in pieces because it is too large for one record. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(Uuid);

impl BlobId {
    /// An id of 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl FromStr for BlobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { kind: "blob id", problem: "expected a UUID" })
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

text_serde!(BlobId);

/// Who a relay is: given by the aggregator when it joins, carried in its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId(Uuid);

impl RelayId {
    /// An id of 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl FromStr for RelayId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { kind: "relay id", problem: "expected a UUID" })
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

text_serde!(RelayId);

/// Which spool directory a batch comes from. Random and made with the directory, so that a wiped disk can't reuse
/// sequences under an old identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolId(Uuid);

impl SpoolId {
    /// An id of 16 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The 16 bytes that key the spool's state.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id as a UUID.
    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for SpoolId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for SpoolId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { kind: "spool id", problem: "expected a UUID" })
    }
}

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

text_serde!(SpoolId);

/// The place of a record in its spool: counts from 1 without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// The first sequence of every spool.
    pub const FIRST: Self = Self(1);

    /// Wraps a sequence number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sequence `count` places further on. A spool that wrote a record every nanosecond would overflow after 584
    /// years; the addition saturates rather than wraps.
    #[must_use]
    pub const fn advanced_by(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// Big-endian bytes, so that RocksDB's byte order is the numeric order.
    #[must_use]
    pub const fn to_key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Reads what [`Self::to_key`] wrote; `None` unless the key is 8 bytes long.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        Some(Self(u64::from_be_bytes(key.try_into().ok()?)))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_id_reads_both_forms_and_prints_the_simple_one() {
        let simple: EventId = "fc6d8c0c43fc4630ad850ee518f1b9d0".parse().unwrap();
        let hyphenated: EventId = "FC6D8C0C-43FC-4630-AD85-0EE518F1B9D0".parse().unwrap();
        assert_eq!(simple, hyphenated);
        assert_eq!(hyphenated.to_string(), "fc6d8c0c43fc4630ad850ee518f1b9d0");
    }

    #[test]
    fn a_nil_or_malformed_event_id_is_refused() {
        for text in ["", "00000000000000000000000000000000", "xyz", "{fc6d8c0c-43fc-4630-ad85-0ee518f1b9d0}"] {
            assert!(text.parse::<EventId>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_public_key_is_any_32_printable_ascii_characters() {
        assert!("this-key-is-not-hex-but-has-32-c".parse::<PublicKey>().is_ok());
        assert!("too short".parse::<PublicKey>().is_err());
        assert!("has a space, so it is no valid k".parse::<PublicKey>().is_err());
        assert_eq!(PublicKey::from_random([0xa5; 16]).as_str(), "a5".repeat(16));
    }

    #[test]
    fn a_project_id_is_digits_only() {
        assert_eq!("42".parse::<ProjectId>().unwrap(), ProjectId::new(42));
        for text in ["", "+42", "-1", "4x", "99999999999999999999999"] {
            assert!(text.parse::<ProjectId>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn sequence_keys_sort_like_the_numbers() {
        assert!(Sequence::new(255).to_key() < Sequence::new(256).to_key());
        assert_eq!(Sequence::from_key(&Sequence::new(77).to_key()), Some(Sequence::new(77)));
        assert_eq!(Sequence::from_key(b"short"), None);
    }
}
