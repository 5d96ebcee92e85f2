//! Mechanisms: how an exception was caught. Numbers of signals, Mach exceptions and error codes get their names, which depend on the
//! operating system.

use super::errno;
use super::field::{self, Field, is_blank};
use super::signal::{self, SignalName};
use super::system::System;
use super::trim::{Bag, TextLimit};
use crate::tree::{MetaTree, Object, Path, Value};

fn field_of(key: &str) -> Field {
    match key {
        "type" => Field::Scalar(TextLimit::of(128, 0)),
        "description" => Field::Scalar(TextLimit::of(1024, 100)),
        "help_link" | "source" => Field::Scalar(TextLimit::of(256, 40)),
        "handled" | "synthetic" | "is_exception_group" => Field::Truth,
        "data" => Field::Map(Bag::of(2048, 5)),
        "meta" => Field::Object,
        "exception_id" | "parent_id" => Field::Unsigned,
        _ => Field::Any,
    }
}

/// Settles the mechanism of an exception.
pub(super) fn normalise(exception: &mut Object<'_>, system: System, meta: &mut MetaTree, path: &Path<'_>) {
    let path = path.key("mechanism");
    let Some(Value::Object(mechanism)) = exception.get_mut("mechanism") else { return };
    field::apply(mechanism, field_of, meta, &path);
    let Some(Value::Object(details)) = mechanism.get_mut("meta") else { return };
    if let Some(Value::Object(signal)) = details.get_mut("signal") {
        complete_signal(signal, system);
    }
    if let Some(Value::Object(exception)) = details.get_mut("mach_exception") {
        complete(exception, "exception", "name", signal::mach_exception);
    }
    if let Some(Value::Object(error)) = details.get_mut("errno") {
        complete(error, "number", "name", |number| errno::name(number, system));
    }
}

fn complete_signal(signal: &mut Object<'_>, system: System) {
    let Some(SignalName { name, number }) = number(signal, "number").and_then(|number| signal::name(number, system))
    else {
        return;
    };
    if is_blank(signal, "name") {
        signal.insert("name", name);
    }
    complete(signal, "code", "code_name", |code| signal::code_name(number, code, system));
}

/// Names the number under one key under the other, unless there is a name.
fn complete(
    object: &mut Object<'_>,
    number_key: &str,
    name_key: &'static str,
    name_of: impl Fn(i64) -> Option<&'static str>,
) {
    if !is_blank(object, name_key) {
        return;
    }
    if let Some(name) = number(object, number_key).and_then(name_of) {
        object.insert(name_key, name);
    }
}

fn number(object: &Object<'_>, key: &str) -> Option<i64> {
    object.get(key)?.as_number()?.as_i64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tree::read;

    #[test]
    fn numbers_get_the_names_of_their_system() {
        for (system, details, expected) in [
            (
                System::Linux,
                r#"{"signal":{"number":11,"code":1}}"#,
                r#"{"signal":{"number":11,"code":1,"name":"SIGSEGV","code_name":"SEGV_MAPERR"}}"#,
            ),
            (System::Darwin, r#"{"signal":{"number":10}}"#, r#"{"signal":{"number":10,"name":"SIGBUS"}}"#),
            (System::Linux, r#"{"signal":{"number":10}}"#, r#"{"signal":{"number":10,"name":"SIGUSR1"}}"#),
            (System::Other, r#"{"signal":{"number":10}}"#, r#"{"signal":{"number":10}}"#),
            (System::Linux, r#"{"signal":{"number":6,"name":"mine"}}"#, r#"{"signal":{"number":6,"name":"mine"}}"#),
            (
                System::Darwin,
                r#"{"mach_exception":{"exception":1,"code":2}}"#,
                r#"{"mach_exception":{"exception":1,"code":2,"name":"EXC_BAD_ACCESS"}}"#,
            ),
            (System::Linux, r#"{"errno":{"number":110}}"#, r#"{"errno":{"number":110,"name":"ETIMEDOUT"}}"#),
            (System::Darwin, r#"{"errno":{"number":60}}"#, r#"{"errno":{"number":60,"name":"ETIMEDOUT"}}"#),
            (System::Linux, r#"{"errno":{"number":-1}}"#, r#"{"errno":{"number":-1}}"#),
        ] {
            let json = format!(r#"{{"mechanism":{{"meta":{details}}}}}"#);
            let mut value = read(json.as_bytes()).unwrap();
            let mut meta = MetaTree::default();
            normalise(value.as_object_mut().unwrap(), system, &mut meta, &Path::ROOT);
            assert_eq!(value.to_json(), format!(r#"{{"mechanism":{{"meta":{expected}}}}}"#));
            assert!(meta.is_empty());
        }
    }

    #[test]
    fn the_system_is_known_by_its_context_or_its_images() {
        for (event, system) in [
            (r#"{"contexts":{"os":{"name":"iOS"}}}"#, System::Darwin),
            (r#"{"contexts":{"os":{"name":"Android"}}}"#, System::Linux),
            (r#"{"contexts":{"os":{"name":"Windows"}},"debug_meta":{"images":[{"type":"elf"}]}}"#, System::Other),
            (r#"{"debug_meta":{"images":[{"type":"pe"},{"type":"macho"}]}}"#, System::Darwin),
            ("{}", System::Other),
        ] {
            assert_eq!(System::of(read(event.as_bytes()).unwrap().as_object().unwrap()), system, "{event}");
        }
    }
}
