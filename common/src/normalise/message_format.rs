//! Filling parameters into message templates, as the logging of the SDKs' languages does.
//!
//! Known are `%s` with every flag, width and letter (all filled alike: widths are for terminals), `%(name)s`, `%%`, `{}`, `{0}`,
//! `{name}`, `{{` and `}}`. A place without a parameter stays as it is written. A template that has `%` places is not searched for
//! braces, because messages often quote JSON.

use crate::tree::Value;

/// Longest message that is made, in bytes: more than is kept of it.
const MAX_BYTES: usize = 40_000;

/// The message with its parameters, which are a list or an object; `None` if no place was filled.
#[must_use]
pub fn format(template: &str, params: &Value<'_>) -> Option<String> {
    let is_usable = match params {
        Value::Array(params) => !params.is_empty(),
        Value::Object(params) => !params.is_empty(),
        _ => false,
    };
    if !is_usable {
        return None;
    }
    fill(template, '%', percent_place, params).or_else(|| fill(template, '{', brace_place, params))
}

/// What stands at the start of a text.
enum Place<'t> {
    /// A place for a parameter, so many bytes long.
    Parameter(Name<'t>, usize),
    /// An escaped sign, so many bytes long.
    Sign(usize),
}

/// Which parameter.
enum Name<'t> {
    Next,
    Key(&'t str),
}

type FindPlace = fn(&str) -> Option<Place<'_>>;

fn fill(template: &str, sign: char, place_at: FindPlace, params: &Value<'_>) -> Option<String> {
    let mut message = String::with_capacity(template.len() + 32);
    let (mut rest, mut next, mut has_filled) = (template, 0, false);
    while let Some(at) = rest.find(sign) {
        push_literal(&rest[..at], sign, &mut message);
        rest = &rest[at..];
        let length = match place_at(rest) {
            Some(Place::Sign(length)) => {
                message.push(sign);
                length
            }
            Some(Place::Parameter(name, length)) => {
                match parameter(params, &name, &mut next).filter(|_| message.len() < MAX_BYTES) {
                    Some(value) => {
                        write(value, &mut message);
                        has_filled = true;
                    }
                    None => message.push_str(&rest[..length]),
                }
                length
            }
            None => {
                message.push(sign);
                sign.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    push_literal(rest, sign, &mut message);
    has_filled.then_some(message)
}

/// Text between places. In a template with braces a closing one is written twice.
fn push_literal(text: &str, sign: char, message: &mut String) {
    if sign != '{' {
        message.push_str(text);
        return;
    }
    let mut parts = text.split("}}");
    message.push_str(parts.next().unwrap_or_default());
    for part in parts {
        message.push('}');
        message.push_str(part);
    }
}

fn parameter<'v, 'a>(params: &'v Value<'a>, name: &Name<'_>, next: &mut usize) -> Option<&'v Value<'a>> {
    match (name, params) {
        (Name::Next, Value::Array(params)) => {
            *next += 1;
            params.get(*next - 1)
        }
        (Name::Key(key), Value::Array(params)) => params.get(key.parse::<usize>().ok()?),
        (Name::Key(key), Value::Object(params)) => params.get(key),
        _ => None,
    }
}

fn write(value: &Value<'_>, message: &mut String) {
    match value {
        Value::String(text) => message.push_str(text),
        other => message.push_str(&other.to_json()),
    }
}

/// `%s`, `%-5.2f`, `%(name)s`, `%%`
fn percent_place(text: &str) -> Option<Place<'_>> {
    let mut rest = &text[1..];
    if rest.starts_with('%') {
        return Some(Place::Sign(2));
    }
    let mut name = Name::Next;
    if let Some(named) = rest.strip_prefix('(') {
        let end = named.find(')')?;
        name = Name::Key(&named[..end]);
        rest = &named[end + 1..];
    }
    // A blank is a flag in C, but in prose it follows a percentage.
    let letter = rest.find(|character: char| !matches!(character, '-' | '+' | '#' | '.' | '0'..='9'))?;
    let is_letter = rest[letter..]
        .starts_with(['s', 'd', 'i', 'u', 'f', 'F', 'r', 'a', 'x', 'X', 'o', 'e', 'E', 'g', 'G', 'c', 'j', 'O']);
    is_letter.then(|| Place::Parameter(name, text.len() - rest.len() + letter + 1))
}

/// `{}`, `{0}`, `{name}`, `{name:format}`, `{{`
fn brace_place(text: &str) -> Option<Place<'_>> {
    let rest = &text[1..];
    if rest.starts_with('{') {
        return Some(Place::Sign(2));
    }
    let end = rest.find(['}', '{']).filter(|end| rest[*end..].starts_with('}'))?;
    let name = rest[..end].split([':', '!']).next().unwrap_or_default();
    let is_name = name.chars().all(|character| character.is_alphanumeric() || matches!(character, '_' | '.' | '-'));
    let name = if name.is_empty() { Name::Next } else { Name::Key(name) };
    is_name.then_some(Place::Parameter(name, end + 2))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::read;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_filled_into_their_places() {
        for (template, params, expected) in [
            ("hello %s", r#"["ada"]"#, Some("hello ada")),
            ("%d of %i, %.2f%%", "[1,2,3.5]", Some("1 of 2, 3.5%")),
            ("%(who)s is %(age)d", r#"{"who":"ada","age":36}"#, Some("ada is 36")),
            ("%s and %s", r#"["one"]"#, Some("one and %s")),
            ("hello {}", r#"["ada"]"#, Some("hello ada")),
            ("{1} {0} {name}", r#"["a","b"]"#, Some("b a {name}")),
            ("{who:>5} {{x}}", r#"{"who":"ada"}"#, Some("ada {x}")),
            ("%s {}", r#"["a","b"]"#, Some("a {}")),
            ("%r", r#"[{"a":null}]"#, Some(r#"{"a":null}"#)),
            ("100% sure", "[1]", None),
            ("plain", "[1]", None),
            ("hello %s", "[]", None),
            ("hello %s", "5", None),
            ("%", "[1]", None),
            ("{", "[1]", None),
        ] {
            let params = read(params.as_bytes()).unwrap();
            assert_eq!(format(template, &params).as_deref(), expected, "{template}");
        }
    }

    proptest! {
        #[test]
        fn no_template_panics(template in "[%(){}sd:!. é]{0,30}", param in "\\PC{0,5}") {
            let _ = format(&template, &Value::Array(vec![Value::from(param.clone())]));
            let params = [(std::borrow::Cow::Borrowed("s"), Value::from(param))].into_iter().collect();
            let _ = format(&template, &Value::Object(params));
        }
    }
}
