//! Fingerprints that the client sets: they replace the default grouping or, with `{{ default }}` among them, refine it.

use serde_json::Value;

use super::Variant;
use crate::process::lenient::scalar;

/// Applies the event's fingerprint to the variants found without it.
pub(super) fn apply(event: &Value, variants: Vec<Variant>) -> Vec<Variant> {
    let entries = entries(event);
    if entries.iter().all(|entry| is_default(entry)) {
        return variants;
    }
    if !entries.iter().any(|entry| is_default(entry)) {
        return vec![Variant::new("custom_client_fingerprint", entries)];
    }
    let refine = |variant: Variant| {
        let values = entries
            .iter()
            .flat_map(|entry| if is_default(entry) { variant.values.clone() } else { vec![entry.clone()] })
            .collect();
        Variant::new(variant.name, values)
    };
    variants.into_iter().map(refine).collect()
}

fn entries(event: &Value) -> Vec<String> {
    let list = event.get("fingerprint").and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(scalar).collect()).unwrap_or_default()
}

/// `{{ default }}`, with or without blanks.
fn is_default(entry: &str) -> bool {
    entry
        .trim()
        .strip_prefix("{{")
        .and_then(|rest| rest.strip_suffix("}}"))
        .is_some_and(|name| name.trim() == "default")
}
