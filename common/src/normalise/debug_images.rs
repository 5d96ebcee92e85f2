//! Debug images: the files that addresses in stack traces belong to.

use super::field::{self, Field, invalid, is_blank, text};
use super::move_meta;
use super::trim::TextLimit;
use crate::tree::{MetaTree, Number, Object, Path, Value};

/// The kinds of images there are; `apple` is an older form of `macho`.
const KINDS: [&str; 10] =
    ["apple", "macho", "elf", "pe", "pe_dotnet", "wasm", "sourcemap", "proguard", "jvm", "symbolic"];
/// Old key, key of today.
const APPLE_KEYS: [(&str, &str); 3] = [("name", "code_file"), ("uuid", "debug_id"), ("cpu_name", "arch")];

fn field_of(key: &str) -> Field {
    match key {
        "image_addr" | "image_vmaddr" => Field::Address,
        "image_size" => Field::Unsigned,
        "code_id" | "debug_id" | "code_file" | "debug_file" | "arch" | "uuid" | "name" => {
            Field::Scalar(TextLimit::NONE)
        }
        _ => Field::Any,
    }
}

/// Settles the images of the event.
pub(super) fn normalise(event: &mut Object<'_>, meta: &mut MetaTree) {
    let path = Path::ROOT.key("debug_meta");
    let path = path.key("images");
    let Some(images) = event.get_mut("debug_meta").and_then(|debug_meta| debug_meta.get_mut("images")) else { return };
    if images.is_null() {
        return;
    }
    field::settle(images, Field::Array, meta, &path);
    for (index, value) in images.as_array_mut().into_iter().flatten().enumerate() {
        let path = path.index(index);
        match value {
            Value::Null => {}
            Value::Object(image) if text(image, "type").is_some_and(|kind| KINDS.contains(&kind)) => {
                field::apply(image, field_of, meta, &path);
                if text(image, "type") == Some("apple") {
                    become_macho(image, meta, &path);
                }
            }
            other => invalid(other, "expected a known kind of debug image", meta, &path),
        }
    }
}

fn become_macho(image: &mut Object<'_>, meta: &mut MetaTree, path: &Path<'_>) {
    image.insert("type", "macho");
    for (old, new) in APPLE_KEYS {
        let Some(value) = image.remove(old) else { continue };
        if is_blank(image, new) {
            image.insert(new, value);
            move_meta(meta, &path.key(old), &path.key(new));
        }
    }
    let number = |key: &str| image.get(key).and_then(Value::as_number).and_then(Number::as_i64);
    let processor = number("cpu_type").and_then(|kind| processor(kind, number("cpu_subtype").unwrap_or(0)));
    image.remove("cpu_type");
    image.remove("cpu_subtype");
    if let Some(name) = processor
        && is_blank(image, "arch")
    {
        image.insert("arch", name);
    }
}

/// The name of a processor (mach/machine.h).
const fn processor(kind: i64, subtype: i64) -> Option<&'static str> {
    const IS_64_BIT: i64 = 0x0100_0000;
    const IS_64_BIT_WITH_32_BIT_POINTERS: i64 = 0x0200_0000;
    // The upper byte of the subtype holds capabilities.
    Some(match (kind, subtype & 0x00ff_ffff) {
        (7, _) => "x86",
        (kind, 8) if kind == 7 | IS_64_BIT => "x86_64h",
        (kind, _) if kind == 7 | IS_64_BIT => "x86_64",
        (12, 6) => "armv6",
        (12, 9) => "armv7",
        (12, 11) => "armv7s",
        (12, 12) => "armv7k",
        (12, _) => "arm",
        (kind, 2) if kind == 12 | IS_64_BIT => "arm64e",
        (kind, _) if kind == 12 | IS_64_BIT => "arm64",
        (kind, _) if kind == 12 | IS_64_BIT_WITH_32_BIT_POINTERS => "arm64_32",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::{Document, PythonFloats};

    #[test]
    fn images_of_known_kinds_stay_and_those_of_apple_become_todays() {
        for (came, expected) in [
            (r#"{"type":"elf","image_addr":4096}"#, r#"{"type":"elf","image_addr":"0x1000"}"#),
            (
                r#"{"type":"apple","name":"/a/App","uuid":"9A8F","cpu_type":16777228,"cpu_subtype":0,"image_size":10}"#,
                r#"{"type":"macho","image_size":10,"code_file":"/a/App","debug_id":"9A8F","arch":"arm64"}"#,
            ),
            (r#"{"type":"sourcemap","code_file":"a.js"}"#, r#"{"type":"sourcemap","code_file":"a.js"}"#),
            (r#"{"type":"odd"}"#, "null"),
            ("5", "null"),
        ] {
            let json = format!(r#"{{"debug_meta":{{"images":[{came}]}}}}"#);
            let mut document = Document::read(json.as_bytes(), PythonFloats::Refuse).unwrap();
            normalise(document.value.as_object_mut().unwrap(), &mut document.meta);
            assert_eq!(document.value.to_json(), format!(r#"{{"debug_meta":{{"images":[{expected}]}}}}"#));
            assert_eq!(document.meta.is_empty(), expected != "null");
        }
    }
}
