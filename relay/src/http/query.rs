//! Query strings, as browsers and SDKs write them: `a=b&c=d`, percent-encoded, `+` for a blank.

use std::borrow::Cow;

/// The pairs in order. What is not valid percent-encoding stands for itself; what is not UTF-8 gets replacement characters.
pub(crate) fn pairs(raw_query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    raw_query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// The first value under a name.
pub(crate) fn value<'a>(raw_query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    pairs(raw_query).find(|(found, _)| found == name).map(|(_, value)| value)
}

fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, escaped(tail)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    Cow::Owned(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn escaped(after_percent: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*after_percent.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_decoded() {
        let read: Vec<_> = pairs("a=b%20c+d&&e&%C3%A9=%zz%4").map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(read, ["a=b c d", "e=", "é=%zz%4"]);
        assert_eq!(value("a=1&b=2&b=3", "b").as_deref(), Some("2"));
        assert_eq!(value("a=1", "c"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,80}") {
            let _ = pairs(&text).count();
        }
    }
}
