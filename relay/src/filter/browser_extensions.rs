//! What browser extensions and injected scripts raise: errors in pages that the pages did not make.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use picket_common::tree::Value;

use super::event;

/// Messages of well-known injected scripts; matched anywhere, in any case.
const MESSAGES: [&str; 22] = [
    // Names that scripts of toolbars, translators and in-app browsers expect on the page.
    "top.globals",
    "conduitpage",
    "jigsaw is not defined",
    "miscellaneous_bindings",
    "atomicfindclose",
    "__gcrweb",
    "_autofillcallbackhandler",
    "instantsearchsdkjsbridgeclearhighlight",
    "can't find variable: zalosdk",
    "zalojsv2",
    "bmi_safeaddonload",
    "ebcallback",
    "fb_xd_fragment",
    "xbrowser is not defined",
    "null is not an object (evaluating 'elt.parentnode')",
    // Messages that only the extensions' own interfaces raise.
    "extension context invalidated",
    "could not establish connection. receiving end does not exist",
    "the message port closed before a response was received",
    "a listener indicated an asynchronous response by returning true",
    "moz-extension://",
    "chrome-extension://",
    "safari-web-extension://",
];

/// Where injected scripts come from; matched anywhere in a frame's path, in any case.
const SOURCES: [&str; 15] = [
    "chrome-extension://",
    "moz-extension://",
    "safari-extension://",
    "safari-web-extension://",
    "webkit-masked-url://",
    "resource://gre/",
    "ms-browser-extension://",
    "graph.facebook.com",
    "connect.facebook.net",
    "static.woopra.com/",
    "gc.kis.v2.scr.kaspersky-labs.com",
    "kaspersky-labs.com",
    "translate.google.com/translate_a",
    "superfish.com",
    "conduit.com/",
];

#[expect(clippy::expect_used, reason = "tables of plain words always compile; a test does so")]
fn finder(words: &[&str]) -> AhoCorasick {
    AhoCorasick::builder().ascii_case_insensitive(true).build(words).expect("the table compiles")
}

static IN_MESSAGE: LazyLock<AhoCorasick> = LazyLock::new(|| finder(&MESSAGES));
static IN_SOURCE: LazyLock<AhoCorasick> = LazyLock::new(|| finder(&SOURCES));

/// Whether an event was raised by an extension: by its first exception's message, or by where that one was thrown.
pub(super) fn is_extension(event: &Value<'_>) -> bool {
    // The outermost exception stands last, but what is thrown by extensions comes alone; like the reference, the first counts.
    let Some(exception) = event::exceptions(event).next() else { return false };
    let text = |key: &str| exception.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, message) = (text("type"), text("value"));
    IN_MESSAGE.is_match(message)
        || IN_MESSAGE.is_match(kind)
        || last_source(exception).is_some_and(|path| IN_SOURCE.is_match(path))
}

/// The path of the frame that threw: the last one that has a place.
fn last_source<'v>(exception: &'v Value<'_>) -> Option<&'v str> {
    let frames = exception.get("stacktrace")?.get("frames")?.as_array()?;
    frames.iter().rev().find_map(|frame| {
        let path = frame.get("abs_path").or_else(|| frame.get("filename")).and_then(Value::as_str)?;
        (!matches!(path, "" | "<anonymous>" | "[native code]")).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use picket_common::tree::read;

    fn is_extension_json(text: &str) -> bool {
        is_extension(&read(text.as_bytes()).unwrap())
    }

    fn thrown_from(path: &str) -> String {
        format!(
            r#"{{"exception":{{"values":[{{"type":"Error","value":"x","stacktrace":{{"frames":[
               {{"abs_path":"https://shop.test/a.js"}},{{"abs_path":"{path}"}},{{"abs_path":"<anonymous>"}}]}}}}]}}}}"#
        )
    }

    #[test]
    fn the_last_frame_with_a_place_tells_where_it_was_thrown() {
        for path in
            ["chrome-extension://abc/content.js", "moz-extension://x/y.js", "https://connect.facebook.net/en_US/sdk.js"]
        {
            assert!(is_extension_json(&thrown_from(path)), "{path}");
        }
        assert!(!is_extension_json(&thrown_from("https://shop.test/b.js")));
    }

    #[test]
    fn well_known_messages_tell_too() {
        let thrown = |value: &str| format!(r#"{{"exception":{{"values":[{{"type":"Error","value":"{value}"}}]}}}}"#);
        assert!(is_extension_json(&thrown("Uncaught ReferenceError: conduitPage is not defined")));
        assert!(is_extension_json(&thrown("Extension context invalidated.")));
        assert!(!is_extension_json(&thrown("cart is not defined")));
        assert!(!is_extension_json(r#"{"message":"conduitPage"}"#));
    }
}
