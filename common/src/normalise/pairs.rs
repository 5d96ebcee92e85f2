//! Lists of pairs: tags, query strings, cookies, headers. They come as `[[name, value], …]` or as an object.

use std::borrow::Cow;

use super::field::{Field, invalid, settle};
use super::take_meta;
use super::trim::{Bag, TextLimit, trim_bag};
use crate::tree::{MetaTree, Object, Path, Value};

/// Turns an object into a list of pairs and checks the pairs of a list. What is neither becomes null.
pub(super) fn into_list(value: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    match value {
        Value::Null => {}
        Value::Object(object) => {
            let object = std::mem::take(object);
            *value = list_of(object, meta, path);
            check(value, meta, path);
        }
        Value::Array(_) => check(value, meta, path),
        _ => invalid(value, "expected pairs", meta, path),
    }
}

/// A pair as a value.
pub(super) fn pair<'a>(name: impl Into<Value<'a>>, value: impl Into<Value<'a>>) -> Value<'a> {
    Value::Array(vec![name.into(), value.into()])
}

/// The pairs of `a=1&b=2`, percent-decoded.
pub(super) fn of_query(query: &str) -> Value<'static> {
    let query = query.strip_prefix('?').unwrap_or(query);
    Value::Array(form_pairs(query).map(|(name, text)| pair(name, text)).collect())
}

/// Names and values of a text that is encoded like a form.
pub(super) fn form_pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    })
}

/// The pairs of `a=1; b=2`.
pub(super) fn of_cookies(header: &str) -> Value<'static> {
    let parts = header.split(';').map(str::trim).filter(|part| !part.is_empty());
    let cookies = parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        pair(name.trim().to_owned(), value.trim().to_owned())
    });
    Value::Array(cookies.collect())
}

fn list_of<'a>(object: Object<'a>, meta: &mut MetaTree, path: &Path<'_>) -> Value<'a> {
    let mut said = meta.find(path).is_some().then(|| std::mem::take(meta.node(path)));
    let mut moved = MetaTree::default();
    let mut list = Vec::with_capacity(object.len());
    for (index, (name, value)) in object.into_iter().enumerate() {
        if let Some(about) = said.as_mut().and_then(|said| said.remove_child(&name)) {
            let mut about_pair = MetaTree::default();
            about_pair.set_child("1", about);
            moved.set_child(&index.to_string(), about_pair);
        }
        list.push(pair(Value::String(name), value));
    }
    if let Some(said) = said {
        moved.meta = said.meta;
        *meta.node(path) = moved;
    }
    Value::Array(list)
}

fn check(value: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    for (index, pair) in value.as_array_mut().into_iter().flatten().enumerate() {
        let path = path.index(index);
        match pair {
            Value::Null => {}
            Value::Array(parts) if parts.len() == 2 => {
                for (position, part) in parts.iter_mut().enumerate().filter(|(_, part)| !part.is_null()) {
                    settle_part(part, meta, &path.index(position));
                }
            }
            other => invalid(other, "expected a pair", meta, &path),
        }
    }
}

/// A list as a value, as frameworks write repeated headers, is joined with commas.
pub(super) fn settle_part(part: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    if let Value::Array(parts) = part
        && parts.iter().all(|part| part.as_str().is_some())
    {
        let texts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
        let joined = texts.join(",");
        drop(take_meta(meta, path));
        *part = Value::from(joined);
    }
    settle(part, Field::Scalar(TextLimit::NONE), meta, path);
}

/// Cuts a list of pairs to what a bag may hold. A pair that would lose its value goes as a whole.
pub(super) fn trim(value: &mut Value<'_>, bag: Bag, meta: &mut MetaTree, path: &Path<'_>) {
    let length = value.as_array().map_or(0, Vec::len);
    trim_bag(value, bag, meta, path);
    let Value::Array(pairs) = value else { return };
    let is_cut = |pair: &Value<'_>| pair.as_array().is_some_and(|parts| parts.len() < 2);
    // More than one, where an empty pair found room after one that was cut.
    while pairs.last().is_some_and(is_cut) {
        pairs.pop();
        drop(take_meta(meta, &path.index(pairs.len())));
        meta.at(path).note_length(length);
    }
}

/// Takes out the pairs for which `keep` does not hold; what is said about the others moves with them.
pub(super) fn retain(
    pairs: &mut Vec<Value<'_>>,
    meta: &mut MetaTree,
    path: &Path<'_>,
    mut keep: impl FnMut(usize, &Value<'_>, &MetaTree) -> bool,
) {
    let mut kept = Vec::with_capacity(pairs.len());
    for (index, pair) in pairs.iter().enumerate() {
        kept.push(keep(index, pair, meta));
    }
    if kept.iter().all(|kept| *kept) {
        return;
    }
    if meta.find(path).is_some_and(|node| node.children().next().is_some()) {
        let node = meta.node(path);
        let mut said = std::mem::take(node);
        node.meta = std::mem::take(&mut said.meta);
        let indices = kept.iter().enumerate().filter(|(_, kept)| **kept).map(|(index, _)| index);
        for (new, old) in indices.enumerate() {
            if let Some(moved) = said.remove_child(&old.to_string()) {
                node.set_child(&new.to_string(), moved);
            }
        }
    }
    let mut kept = kept.into_iter();
    pairs.retain(|_| kept.next().unwrap_or(true));
}

/// `+` is a blank, `%41` is `A`; bytes that are no UTF-8 become U+FFFD.
fn decoded(text: &str) -> String {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, hex_pair(tail)) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => bytes.push(*first),
        }
    }
    match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => text.replace('\0', "\u{fffd}"),
        Cow::Owned(text) => text.replace('\0', "\u{fffd}"),
    }
}

fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::read;

    #[test]
    fn queries_and_cookies_become_pairs() {
        for (query, expected) in [
            ("a=1&b=x%20y+z&c", r#"[["a","1"],["b","x y z"],["c",""]]"#),
            ("?a=1&&=2", r#"[["a","1"],["","2"]]"#),
            ("a=%zz%4", r#"[["a","%zz%4"]]"#),
            ("a=%ff", "[[\"a\",\"\u{fffd}\"]]"),
            ("", "[]"),
        ] {
            assert_eq!(of_query(query).to_json(), expected, "{query}");
        }
        assert_eq!(of_cookies("a=1; b=2=3;;c").to_json(), r#"[["a","1"],["b","2=3"],["c",""]]"#);
    }

    #[test]
    fn a_list_that_is_cut_ends_with_a_whole_pair() {
        let (mut value, mut meta) = (of_query(&"   a&".repeat(200)), MetaTree::default());
        for _ in 0..2 {
            trim(&mut value, Bag::of(1024, 3), &mut meta, &Path::ROOT);
            assert!(value.as_array().unwrap().iter().all(|pair| pair.as_array().unwrap().len() == 2));
            assert_eq!(meta.to_value().to_json(), r#"{"":{"len":200}}"#);
        }
    }

    #[test]
    fn objects_become_lists_and_what_is_no_pair_null() {
        for (came, expected) in [
            (r#"{"a":1,"b":null}"#, r#"[["a","1"],["b",null]]"#),
            (r#"[["a",true],["b"],5,null]"#, r#"[["a","True"],null,null,null]"#),
            (r#"{"a":["x","y"],"b":{}}"#, r#"[["a","x,y"],["b",null]]"#),
            ("7", "null"),
        ] {
            let (mut value, mut meta) = (read(came.as_bytes()).unwrap(), MetaTree::default());
            into_list(&mut value, &mut meta, &Path::ROOT);
            assert_eq!(value.to_json(), expected, "{came}");
        }
    }
}
