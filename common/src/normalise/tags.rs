//! Tags: pairs of a name and a text, each name once.
//!
//! What can't be a tag is nulled in its pair, so that its error has a place. Left out without a word are names that belong to other
//! parts of the event, and pairs that are empty to begin with.

use std::collections::HashSet;

use super::attributes::is_environment;
use super::field::{invalid, is_blank, null_with};
use super::pairs;
use super::take_meta;
use crate::tree::{MetaError, MetaTree, Object, Path, Value};

/// Longest name and longest value, in characters.
const MAX_CHARS: usize = 200;
/// Names that stand for parts of the event, and one that only relays may set.
const RESERVED: [&str; 7] = ["release", "dist", "user", "filename", "function", "device.class", "environment"];
/// Up to here repeated names are looked for by comparing each with each.
const FEW_TAGS: usize = 24;

/// Settles the tags, and the attributes that are tags or were sent as such.
pub(super) fn normalise(event: &mut Object<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("tags");
    if let Some(tags) = event.get_mut("tags") {
        pairs::into_list(tags, meta, &path);
    }
    for name in ["server_name", "site"] {
        become_tag(event, name, meta, &path);
    }
    let Some(Value::Array(tags)) = event.get_mut("tags") else { return };
    for (index, tag) in tags.iter_mut().enumerate() {
        settle(tag, meta, &path.index(index));
    }
    let environment = environment(tags);
    let is_first = first_of_name(tags);
    pairs::retain(tags, meta, &path, |index, tag, meta| {
        let (name, value) = parts(tag);
        let is_said = || meta.find(&path.index(index)).is_some_and(|node| !node.is_empty());
        let is_reserved = name.and_then(Value::as_str).is_some_and(|name| RESERVED.contains(&name));
        let is_whole = [name, value].iter().all(|part| part.is_some_and(|part| !part.is_null()));
        !is_reserved && is_first[index] && (is_whole || is_said())
    });
    if let Some(environment) = environment
        && is_blank(event, "environment")
    {
        event.insert("environment", environment);
    }
}

fn parts<'v, 'a>(tag: &'v Value<'a>) -> (Option<&'v Value<'a>>, Option<&'v Value<'a>>) {
    let parts = tag.as_array();
    (parts.and_then(|parts| parts.first()), parts.and_then(|parts| parts.get(1)))
}

/// Moves an attribute to the tags, unless there is such a tag.
fn become_tag(event: &mut Object<'_>, name: &'static str, meta: &mut MetaTree, path: &Path<'_>) {
    if event.get(name).is_none_or(Value::is_null) {
        return;
    }
    let Some(value) = event.remove(name) else { return };
    let said = take_meta(meta, &Path::ROOT.key(name));
    if event.get("tags").is_none_or(Value::is_null) {
        event.insert("tags", Vec::new());
    }
    let Some(Value::Array(tags)) = event.get_mut("tags") else { return };
    let is_there = |tag: &Value<'_>| parts(tag).0.and_then(Value::as_str) == Some(name);
    if tags.iter().any(is_there) || value.as_str().is_some_and(str::is_empty) {
        return;
    }
    if let Some(said) = said {
        meta.node(&path.index(tags.len())).set_child("1", said);
    }
    tags.push(pairs::pair(name, value));
}

fn settle(tag: &mut Value<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    let Value::Array(parts) = tag else { return };
    let [name, value] = parts.as_mut_slice() else { return };
    let is_name_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    if let Some(text) = name.as_str() {
        let trimmed = text.trim();
        if trimmed.len() != text.len() || trimmed.contains(' ') {
            *name = Value::from(trimmed.replace(' ', "-"));
        }
        check(name, |text| text.bytes().all(is_name_letter), meta, &path.index(0));
    }
    if let Some(text) = value.as_str() {
        let trimmed = text.trim();
        if trimmed.len() != text.len() {
            *value = Value::from(trimmed.to_owned());
        }
        check(value, |text| !text.contains('\n'), meta, &path.index(1));
    }
}

fn check(part: &mut Value<'_>, has_valid_letters: impl Fn(&str) -> bool, meta: &mut MetaTree, path: &Path<'_>) {
    let text = part.as_str().unwrap_or_default();
    if text.is_empty() {
        invalid(part, "expected a non-empty value", meta, path);
    } else if text.len() > MAX_CHARS && text.chars().nth(MAX_CHARS).is_some() {
        null_with(part, MetaError::new("value_too_long"), meta, path);
    } else if !has_valid_letters(text) {
        invalid(part, "invalid character in string", meta, path);
    }
}

/// The environment, where it was sent as a tag.
fn environment(tags: &[Value<'_>]) -> Option<String> {
    let mut found = tags.iter().filter(|tag| parts(tag).0.and_then(Value::as_str) == Some("environment"));
    let value = parts(found.next()?).1?.as_str()?;
    is_environment(value).then(|| value.to_owned())
}

/// Which tags are the first of their name.
fn first_of_name(tags: &[Value<'_>]) -> Vec<bool> {
    let name = |tag| parts(tag).0.and_then(Value::as_str);
    if tags.len() > FEW_TAGS {
        let mut seen = HashSet::with_capacity(tags.len());
        return tags.iter().map(|tag| name(tag).is_none_or(|name| seen.insert(name))).collect();
    }
    let is_first = |(index, tag): (usize, _)| match name(tag) {
        None => true,
        Some(text) => !tags[..index].iter().any(|earlier| parts(earlier).0.and_then(Value::as_str) == Some(text)),
    };
    tags.iter().enumerate().map(is_first).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::{Document, PythonFloats};

    fn settled(json: &str) -> String {
        let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
        normalise(document.value.as_object_mut().unwrap(), &mut document.meta);
        String::from_utf8(document.to_json()).unwrap()
    }

    #[test]
    fn tags_become_pairs_of_names_and_texts() {
        let long = "x".repeat(200);
        for (came, expected) in [
            (r#"{"tags":{"a":1,"b":true}}"#.to_owned(), r#"{"tags":[["a","1"],["b","True"]]}"#.to_owned()),
            (r#"{"tags":[[" my key ","  v "]]}"#.to_owned(), r#"{"tags":[["my-key","v"]]}"#.to_owned()),
            (r#"{"tags":[["a","1"],["a","2"]]}"#.to_owned(), r#"{"tags":[["a","1"]]}"#.to_owned()),
            (r#"{"tags":{"a":null}}"#.to_owned(), r#"{"tags":[]}"#.to_owned()),
            (
                r#"{"tags":{"release":"1","dist":"2","user":"3","filename":"4","function":"5","device.class":"6","a":"b"}}"#.to_owned(),
                r#"{"tags":[["a","b"]]}"#.to_owned(),
            ),
            (r#"{"tags":{"environment":"prod"}}"#.to_owned(), r#"{"tags":[],"environment":"prod"}"#.to_owned()),
            (
                r#"{"tags":{"environment":"prod"},"environment":"dev"}"#.to_owned(),
                r#"{"tags":[],"environment":"dev"}"#.to_owned(),
            ),
            (r#"{"server_name":"web-1","site":"s"}"#.to_owned(), r#"{"tags":[["server_name","web-1"],["site","s"]]}"#.to_owned()),
            (
                r#"{"server_name":"web-1","tags":{"server_name":"tag"}}"#.to_owned(),
                r#"{"tags":[["server_name","tag"]]}"#.to_owned(),
            ),
            (format!(r#"{{"tags":{{"a":"{long}"}}}}"#), format!(r#"{{"tags":[["a","{long}"]]}}"#)),
        ] {
            assert_eq!(settled(&came), expected);
            assert_eq!(settled(&expected), expected);
        }
    }

    #[test]
    fn what_can_be_no_tag_is_nulled_with_the_reason() {
        let long = "x".repeat(201);
        for (tag, nulled, error) in [
            (r#"["a",""]"#, 1, r#"["invalid_data",{"reason":"expected a non-empty value"}]"#),
            (r#"["","v"]"#, 0, r#"["invalid_data",{"reason":"expected a non-empty value"}]"#),
            (r#"["a b?","v"]"#, 0, r#"["invalid_data",{"reason":"invalid character in string"}]"#),
            (r#"["a","x\ny"]"#, 1, r#"["invalid_data",{"reason":"invalid character in string"}]"#),
            (&format!(r#"["a","{long}"]"#), 1, r#""value_too_long""#),
            (&format!(r#"["{long}","v"]"#), 0, r#""value_too_long""#),
            (r#"["a",{"b":1}]"#, 1, r#"["invalid_data",{"reason":"expected a string, number or boolean"}]"#),
        ] {
            let came = format!(r#"{{"tags":[["first","1"],{tag}]}}"#);
            let once = settled(&came);
            assert!(once.contains(&format!(r#""_meta":{{"tags":{{"1":{{"{nulled}":{{"":{{"err":[{error}]"#)), "{once}");
            assert_eq!(settled(&once), once);
        }
    }

    #[test]
    fn many_tags_are_compared_by_hashing() {
        let pairs: Vec<String> = (0..100).map(|number| format!(r#"["k{}","v"]"#, number % 50)).collect();
        let document = settled(&format!(r#"{{"tags":[{}]}}"#, pairs.join(",")));
        assert_eq!(document.matches("\"v\"").count(), 50);
    }
}
