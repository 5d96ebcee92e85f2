//! The operating system that an event is from, as far as its numbers depend on it.

use crate::tree::{Object, Value};

/// The systems that number things in their own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    /// Linux and Android.
    Linux,
    /// The systems of Apple.
    Darwin,
    /// Any other, or none that is known.
    Other,
}

impl System {
    /// What the event says of its system: by its context, else by the kind of its debug images.
    pub(super) fn of(event: &Object<'_>) -> Self {
        let context = event.get("contexts").and_then(|contexts| contexts.get("os"));
        let name = context.and_then(|os| os.get("name")).and_then(Value::as_str);
        if let Some(name) = name {
            return Self::named(name);
        }
        let images = event.get("debug_meta").and_then(|debug_meta| debug_meta.get("images")).and_then(Value::as_array);
        let kinds = images.into_iter().flatten().filter_map(|image| image.get("type").and_then(Value::as_str));
        for kind in kinds {
            match kind {
                "apple" | "macho" => return Self::Darwin,
                "elf" => return Self::Linux,
                _ => {}
            }
        }
        Self::Other
    }

    fn named(name: &str) -> Self {
        let is = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if is(&["linux", "android"]) {
            Self::Linux
        } else if is(&["ios", "ipados", "macos", "mac os x", "tvos", "watchos", "visionos", "darwin"]) {
            Self::Darwin
        } else {
            Self::Other
        }
    }
}
