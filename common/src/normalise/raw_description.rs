//! `raw_description`: what a system, runtime, browser, device or graphics card says of itself, taken apart into name and version.
//!
//! | context | text | becomes |
//! | --- | --- | --- |
//! | `os` | `Microsoft Windows 10.0.22631` | Windows, 11, build 22631 |
//! | `os` | `Darwin Kernel Version 21.6.0: …`, `Linux 5.15.0-91-generic #101` | Darwin or Linux, kernel version |
//! | `os`, `runtime`, `browser` | `macOS 13.2 (22D49)`, `.NET Core 3.1.0` | name, version, build |
//! | `device` | `Pixel 7` | model |
//! | `gpu` | `Apple M1` | name |

use super::field::{is_blank, text};
use crate::tree::Object;

/// The systems whose description names their kernel, with what stands between name and version.
const KERNELS: [(&str, &str); 4] =
    [("Darwin", "Darwin Kernel Version "), ("Darwin", "Darwin "), ("Linux", "Linux version "), ("Linux", "Linux ")];
/// The first build of Windows 11, which calls itself 10.0 like its predecessor.
const WINDOWS_11_BUILD: u32 = 22_000;

#[derive(Debug, Default, PartialEq, Eq)]
struct Parts {
    name: Option<String>,
    version: Option<String>,
    build: Option<String>,
    kernel_version: Option<String>,
    model: Option<String>,
}

/// Completes a context of the given kind from its description, where name and version are missing.
pub(super) fn complete(kind: &str, context: &mut Object<'_>) {
    let wanted = if kind == "device" { "model" } else { "name" };
    if !is_blank(context, wanted) || !is_blank(context, "version") {
        return;
    }
    let Some(raw) = text(context, "raw_description").map(str::trim) else { return };
    let parts = match kind {
        "os" => system(raw),
        "runtime" | "client_runtime" | "browser" => name_and_version(raw),
        "device" => Parts { model: Some(raw.to_owned()), ..Parts::default() },
        "gpu" => Parts { name: Some(raw.to_owned()), ..Parts::default() },
        _ => return,
    };
    for (key, part) in [
        ("name", parts.name),
        ("version", parts.version),
        ("build", parts.build),
        ("kernel_version", parts.kernel_version),
        ("model", parts.model),
    ] {
        if let Some(part) = part.filter(|part| !part.is_empty())
            && is_blank(context, key)
        {
            context.insert(key, part);
        }
    }
}

fn system(raw: &str) -> Parts {
    if let Some(version) = raw.strip_prefix("Microsoft Windows ") {
        return windows(version);
    }
    for (name, prefix) in KERNELS {
        let Some(rest) = raw.strip_prefix(prefix).filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        else {
            continue;
        };
        let version = rest.split([' ', ':']).next().unwrap_or_default();
        return Parts { name: Some(name.to_owned()), kernel_version: Some(version.to_owned()), ..Parts::default() };
    }
    name_and_version(raw)
}

fn windows(version: &str) -> Parts {
    let version = version.split(' ').next().unwrap_or_default();
    let mut numbers = version.splitn(3, '.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let build = numbers.next();
    let build_number = build.and_then(|build| build.split('.').next()?.parse::<u32>().ok()).unwrap_or(0);
    let product = match (major, minor) {
        ("10", "0") if build_number >= WINDOWS_11_BUILD => "11",
        ("10", _) => "10",
        ("6", "3") => "8.1",
        ("6", "2") => "8",
        ("6", "1") => "7",
        ("6", "0") => "Vista",
        _ => version,
    };
    Parts {
        name: Some("Windows".to_owned()),
        version: Some(product.to_owned()),
        build: build.map(str::to_owned),
        ..Parts::default()
    }
}

/// The words up to the first that starts with a digit, and that one; a word in brackets after it is the build.
fn name_and_version(raw: &str) -> Parts {
    let is_version = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
    let mut at = 0;
    for word in raw.split([' ', '/']) {
        if at > 0 && is_version(word) {
            let build = raw[at + word.len()..].trim().strip_prefix('(').and_then(|rest| rest.split(')').next());
            return Parts {
                name: Some(raw[..at - 1].trim().to_owned()),
                version: Some(word.to_owned()),
                build: build.map(str::to_owned),
                ..Parts::default()
            };
        }
        at += word.len() + 1;
    }
    Parts { name: Some(raw.to_owned()), ..Parts::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::Value;

    #[test]
    fn descriptions_are_taken_apart() {
        for (kind, raw, expected) in [
            ("os", "Microsoft Windows 10.0.22631", r#""name":"Windows","version":"11","build":"22631""#),
            ("os", "Microsoft Windows 10.0.19045 ", r#""name":"Windows","version":"10","build":"19045""#),
            ("os", "Microsoft Windows 6.1.7601 S", r#""name":"Windows","version":"7","build":"7601""#),
            ("os", "Darwin Kernel Version 21.6.0: Wed", r#""name":"Darwin","kernel_version":"21.6.0""#),
            ("os", "Linux 5.15.0-91-generic #101", r#""name":"Linux","kernel_version":"5.15.0-91-generic""#),
            ("os", "macOS 13.2 (22D49)", r#""name":"macOS","version":"13.2","build":"22D49""#),
            ("os", "Debian GNU/Linux 11 (bullseye)", r#""name":"Debian GNU/Linux","version":"11","build":"bullseye""#),
            ("runtime", ".NET Framework 4.8.4250.0", r#""name":".NET Framework","version":"4.8.4250.0""#),
            ("runtime", "Mono", r#""name":"Mono""#),
            ("browser", "Chrome/110.0", r#""name":"Chrome","version":"110.0""#),
            ("device", "Pixel 7", r#""model":"Pixel 7""#),
            ("gpu", "Apple M1", r#""name":"Apple M1""#),
        ] {
            let mut context = Object::new();
            context.insert("raw_description", raw);
            complete(kind, &mut context);
            context.remove("raw_description");
            assert_eq!(Value::Object(context).to_json(), format!("{{{expected}}}"), "{raw}");
        }
    }

    #[test]
    fn what_the_sdk_says_stays() {
        let mut context = Object::new();
        context.insert("raw_description", "Linux 5.15.0");
        context.insert("name", "Ubuntu");
        complete("os", &mut context);
        assert_eq!(context.len(), 2);
    }
}
