//! Overwriting what was found, in place and at its length.

use std::borrow::Cow;

use crate::pii::rule::Redaction;

use crate::pii::pseudonym::hash;

/// What covers bytes.
pub(super) const MASK: u8 = b'*';

/// Overwrites bytes: text cut or filled up with [`MASK`].
pub(super) fn bytes(found: &mut [u8], redaction: &Redaction) {
    let text = text(redaction, found);
    let text = cut(&text, found.len());
    let (head, rest) = found.split_at_mut(text.len());
    head.copy_from_slice(text.as_bytes());
    rest.fill(MASK);
}

/// Overwrites UTF-16LE text (an even number of bytes) that reads `decoded`.
pub(super) fn utf16(found: &mut [u8], decoded: &str, redaction: &Redaction) {
    let text = text(redaction, decoded.as_bytes());
    let units = text.encode_utf16().chain(std::iter::repeat(u16::from(MASK)));
    for (place, unit) in found.chunks_exact_mut(2).zip(units) {
        place.copy_from_slice(&unit.to_le_bytes());
    }
}

fn text<'r>(redaction: &'r Redaction, found: &[u8]) -> Cow<'r, str> {
    match redaction {
        Redaction::Replace(text) => Cow::Borrowed(text),
        Redaction::Hash => Cow::Owned(hash(found)),
        Redaction::Default | Redaction::Remove | Redaction::Mask | Redaction::Unknown => Cow::Borrowed(""),
    }
}

/// The longest prefix of whole characters within `limit` bytes. One character says nothing, and a bracket alone would seem to
/// open a list.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = if limit < 2 { 0 } else { text.len().min(limit) };
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
