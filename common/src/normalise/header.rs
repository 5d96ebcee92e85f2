//! Headers of the request that an event was made in, by name.

use crate::tree::{Object, Value};

/// The value of a header of a request, whatever the case of its name. Headers are an object or a list of pairs.
#[must_use]
pub fn header<'v>(request: &'v Object<'_>, name: &str) -> Option<&'v str> {
    match request.get("headers")? {
        Value::Object(headers) => {
            headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_str())
        }
        Value::Array(headers) => headers.iter().find_map(|pair| match pair.as_array()?.as_slice() {
            [key, value] if key.as_str()?.eq_ignore_ascii_case(name) => value.as_str(),
            _ => None,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tree::read;

    #[test]
    fn headers_are_found_in_both_forms() {
        for json in [r#"{"headers":{"user-agent":"x"}}"#, r#"{"headers":[["Host","h"],["User-Agent","x"]]}"#] {
            assert_eq!(header(read(json.as_bytes()).unwrap().as_object().unwrap(), "User-Agent"), Some("x"));
        }
    }
}
