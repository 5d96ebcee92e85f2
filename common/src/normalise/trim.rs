//! Trimming: texts are cut by characters, bags of arbitrary values by the bytes they take as JSON and by their depth.
//!
//! A cut text ends in `...`, with a `!limit` remark on these three bytes and the original length in characters. A container that
//! does not fit loses its end; its original number of elements is noted. A container that is nested too deep becomes its JSON text.
//!
//! Invariant: what has been cut fits, by the same count. Costs are therefore taken from what is kept, and an element is only
//! entered where the least that can be left of it still fits.

use std::borrow::Cow;

use crate::tree::{Meta, MetaTree, Number, Object, Path, Remark, RemarkKind, Value};

/// The rule that cuts are remarked under.
const LIMIT: &str = "!limit";
/// What a cut text ends in.
const ELLIPSIS: &str = "...";
/// Least bytes of budget under which a text is cut and not left out.
const LEAST_TEXT_BYTES: usize = 8;

/// How long a text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextLimit {
    /// What it is cut to, in characters, the ellipsis included.
    chars: usize,
    /// How many characters more it may have before it is cut at all.
    allowance: usize,
}

/// How much a bag of values may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bag {
    /// As JSON text without escapes.
    bytes: usize,
    /// Levels, the bag's own included.
    depth: usize,
}

// === impl TextLimit ===

impl TextLimit {
    /// For texts that are bounded by nothing but the event.
    pub(super) const NONE: Self = Self::of(usize::MAX / 2, 0);

    pub(super) const fn of(chars: usize, allowance: usize) -> Self {
        Self { chars, allowance }
    }
}

// === impl Bag ===

impl Bag {
    pub(super) const fn of(bytes: usize, depth: usize) -> Self {
        Self { bytes, depth }
    }
}

/// Cuts a text that is longer than the limit. Values that are no texts stay.
pub(super) fn trim_text(value: &mut Value<'_>, limit: TextLimit, meta: &mut MetaTree, path: &Path<'_>) {
    let Value::String(text) = value else { return };
    let tolerated = limit.chars + limit.allowance;
    // No text has more characters than bytes.
    if text.len() <= tolerated || text.chars().nth(tolerated).is_none() {
        return;
    }
    let kept = limit.chars.saturating_sub(ELLIPSIS.len());
    let at = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
    cut(text, at, meta.at(path));
}

/// Cuts a value of any kind to what a bag may hold.
pub(super) fn trim_bag(value: &mut Value<'_>, bag: Bag, meta: &mut MetaTree, path: &Path<'_>) {
    let mut trimming = Trimming { budget: bag.bytes.max(LEAST_TEXT_BYTES), meta };
    trimming.value(value, bag.depth, path);
}

struct Trimming<'m> {
    /// Bytes that may still be used.
    budget: usize,
    meta: &'m mut MetaTree,
}

impl Trimming<'_> {
    /// The caller has seen that [`least`] of the value fits.
    fn value(&mut self, value: &mut Value<'_>, levels: usize, path: &Path<'_>) {
        if is_too_deep(value, levels) {
            self.flatten(value, path);
        }
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => self.spend(least(value, levels)),
            Value::String(text) => self.text(text, path),
            Value::Array(elements) => self.array(elements, levels.saturating_sub(1), path),
            Value::Object(object) => self.object(object, levels.saturating_sub(1), path),
        }
    }

    fn text(&mut self, text: &mut Cow<'_, str>, path: &Path<'_>) {
        if text.len() + 2 > self.budget {
            let at = text.floor_char_boundary(self.budget.saturating_sub(2 + ELLIPSIS.len()));
            cut(text, at, self.meta.at(path));
        }
        self.spend(text.len() + 2);
    }

    fn array(&mut self, elements: &mut Vec<Value<'_>>, levels: usize, path: &Path<'_>) {
        self.spend(2);
        let length = elements.len();
        for index in 0..length {
            if 1 + least(&elements[index], levels) > self.budget {
                elements.truncate(index);
                self.forget((index..length).map(|gone| gone.to_string()), length, path);
                return;
            }
            self.spend(1);
            self.value(&mut elements[index], levels, &path.index(index));
        }
    }

    fn object(&mut self, object: &mut Object<'_>, levels: usize, path: &Path<'_>) {
        self.spend(2);
        let length = object.len();
        let mut kept = 0;
        for (key, value) in object.iter_mut() {
            let key_cost = key.len() + 4;
            if key_cost + least(value, levels) > self.budget {
                break;
            }
            self.spend(key_cost);
            self.value(value, levels, &path.key(key));
            kept += 1;
        }
        if kept < length {
            self.forget(object.iter().skip(kept).map(|(key, _)| key.to_owned()), length, path);
            object.truncate(kept);
        }
    }

    fn flatten(&mut self, value: &mut Value<'_>, path: &Path<'_>) {
        let text = value.to_json();
        let node = self.meta.node(path);
        node.clear_children();
        // Texts about a container don't apply to its JSON text.
        // No range: that would say that it is redacted, and it holds whatever the container held.
        node.meta.remarks.push(Remark::whole(LIMIT, RemarkKind::Substituted));
        *value = Value::from(text);
    }

    /// Notes that a container lost its end, and forgets what was said about that.
    fn forget(&mut self, gone: impl Iterator<Item = String>, length: usize, path: &Path<'_>) {
        let node = self.meta.node(path);
        if node.children().next().is_some() {
            gone.for_each(|key| {
                node.remove_child(&key);
            });
        }
        node.meta.note_length(length);
    }

    const fn spend(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub(bytes);
    }
}

fn is_too_deep(value: &Value<'_>, levels: usize) -> bool {
    levels <= 1
        && match value {
            Value::Array(elements) => !elements.is_empty(),
            Value::Object(object) => !object.is_empty(),
            _ => false,
        }
}

/// The least bytes that are left of a value when it is kept; for values without parts, all of them.
fn least(value: &Value<'_>, levels: usize) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        // A double takes up to 17 digits; counting them would mean writing them.
        Value::Number(Number::Float(_)) => 18,
        Value::Number(Number::Unsigned(number)) => digits(*number),
        Value::Number(Number::Signed(number)) => 1 + digits(number.unsigned_abs()),
        Value::String(text) => (text.len() + 2).min(LEAST_TEXT_BYTES),
        Value::Array(_) | Value::Object(_) if is_too_deep(value, levels) => LEAST_TEXT_BYTES,
        Value::Array(_) | Value::Object(_) => 2,
    }
}

const fn digits(number: u64) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// Cuts a text at a byte that starts a character; what was said about the rest of it goes with it.
fn cut(text: &mut Cow<'_, str>, at: usize, meta: &mut Meta) {
    let length = text.chars().count();
    let mut kept = String::with_capacity(at + ELLIPSIS.len());
    kept.push_str(&text[..at]);
    kept.push_str(ELLIPSIS);
    *text = Cow::Owned(kept);
    meta.remarks.retain_mut(|remark| match &mut remark.range {
        None => true,
        Some((start, end)) => {
            *end = (*end).min(at);
            *start < *end
        }
    });
    meta.remarks.push(Remark::span(LIMIT, RemarkKind::Substituted, at, at + ELLIPSIS.len()));
    meta.note_length(length);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::read;

    const ROOT: Path<'static> = Path::ROOT;

    fn trimmed_text(text: &str, chars: usize, allowance: usize) -> (String, Meta) {
        let (mut value, mut meta) = (Value::from(text), MetaTree::default());
        trim_text(&mut value, TextLimit::of(chars, allowance), &mut meta, &ROOT);
        (value.as_str().unwrap().to_owned(), meta.meta)
    }

    fn trimmed_bag(json: &str, bytes: usize, depth: usize) -> (String, String) {
        let (mut value, mut meta) = (read(json.as_bytes()).unwrap(), MetaTree::default());
        trim_bag(&mut value, Bag::of(bytes, depth), &mut meta, &ROOT);
        let once = (value.to_json(), meta.to_value().to_json());
        trim_bag(&mut value, Bag::of(bytes, depth), &mut meta, &ROOT);
        assert_eq!((value.to_json(), meta.to_value().to_json()), once, "not stable: {json}");
        once
    }

    #[test]
    fn a_text_is_cut_only_beyond_its_allowance() {
        assert_eq!(trimmed_text("0123456789", 10, 0).0, "0123456789");
        assert_eq!(trimmed_text("0123456789ab", 10, 2).0, "0123456789ab");
        let (text, meta) = trimmed_text("0123456789abc", 10, 2);
        assert_eq!(text, "0123456...");
        assert_eq!(meta.remarks, [Remark::span("!limit", RemarkKind::Substituted, 7, 10)]);
        assert_eq!(meta.original_length, Some(13));
    }

    #[test]
    fn ranges_count_bytes_and_lengths_count_characters() {
        let (text, meta) = trimmed_text(&"é".repeat(20), 10, 0);
        assert_eq!(text, format!("{}...", "é".repeat(7)));
        assert_eq!(meta.remarks[0].range, Some((14, 17)));
        assert_eq!(meta.original_length, Some(20));
    }

    #[test]
    fn remarks_on_what_is_cut_off_go_with_it() {
        let (mut value, mut meta) = (Value::from("0123456789abcdef"), MetaTree::default());
        for (start, end) in [(0, 2), (6, 9), (12, 14)] {
            meta.meta.remarks.push(Remark::span("x", RemarkKind::Masked, start, end));
        }
        trim_text(&mut value, TextLimit::of(10, 0), &mut meta, &ROOT);
        let ranges: Vec<_> = meta.meta.remarks.iter().map(|remark| remark.range.unwrap()).collect();
        assert_eq!(ranges, [(0, 2), (6, 7), (7, 10)]);
    }

    #[test]
    fn a_bag_loses_its_end_and_notes_its_length() {
        let (json, meta) = trimmed_bag(r#"{"a":[1,2,3,4,5,6,7,8],"b":"text","c":null}"#, 20, 5);
        assert_eq!(json, r#"{"a":[1,2,3,4,5]}"#);
        assert_eq!(meta, r#"{"":{"len":3},"a":{"":{"len":8}}}"#);
        assert_eq!(trimmed_bag(r#"{"a":[1,2],"b":"text"}"#, 100, 5).1, "{}");
    }

    #[test]
    fn a_text_in_a_bag_is_cut_to_what_is_left() {
        let (json, meta) = trimmed_bag(&format!(r#"["{}",1]"#, "x".repeat(100)), 20, 5);
        assert_eq!(json, r#"["xxxxxxxxxxxx..."]"#);
        assert_eq!(meta, r#"{"":{"len":2},"0":{"":{"rem":[["!limit","s",12,15]],"len":100}}}"#);
    }

    #[test]
    fn what_is_too_deep_becomes_its_json_text() {
        let (json, meta) = trimmed_bag(r#"{"a":{"b":{"c":{"d":1}},"e":[]}}"#, 1000, 3);
        assert_eq!(json, r#"{"a":{"b":"{\"c\":{\"d\":1}}","e":[]}}"#);
        assert_eq!(meta, r#"{"a":{"b":{"":{"rem":[["!limit","s"]]}}}}"#);
    }
}
