//! GraphQL requests: their variables are data, whatever they are called, and come back in the response.

use std::borrow::Cow;
use std::collections::HashSet;

use picket_common::pii::ruleset::FILTERED;
use picket_common::tree::{Document, MetaTree, Path, Remark, RemarkKind, Value};

/// What the remarks are signed with.
const RULE: &str = "@graphql";

/// Replaces the variables of a GraphQL request, and what goes by the same names in the response. A response to a query without
/// variables can't be told apart, and goes as a whole.
pub(super) fn scrub(document: &mut Document<'_>) {
    let Document { value, meta } = document;
    let is_graphql =
        value.get("request").and_then(|request| request.get("api_target")).and_then(Value::as_str) == Some("graphql");
    if !is_graphql {
        return;
    }
    let root = Path::ROOT;
    let mut names = HashSet::new();
    let request = root.key("request");
    let data = request.key("data");
    let variables = value.get_mut("request").and_then(|request| request.get_mut("data")?.get_mut("variables"));
    if let Some(Value::Object(variables)) = variables {
        let path = data.key("variables");
        for (name, variable) in variables.iter_mut() {
            names.insert(name.to_string());
            filter(variable, &path.key(name), meta);
        }
    }
    let response = value.get_mut("contexts").and_then(|contexts| contexts.get_mut("response"));
    let contexts = root.key("contexts");
    let path = contexts.key("response");
    let path = path.key("data");
    let Some(data) = response.and_then(|response| response.get_mut("data")) else { return };
    if !names.is_empty() {
        if let Some(answer) = data.get_mut("data") {
            filter_named(answer, &names, &path.key("data"), meta);
        }
    } else if !data.is_null() {
        *data = Value::Null;
        meta.at(&path).remarks.push(Remark::whole(RULE, RemarkKind::Removed));
    }
}

fn filter(value: &mut Value<'_>, path: &Path<'_>, meta: &mut MetaTree) {
    if value.is_null() || value.as_str() == Some(FILTERED) {
        return;
    }
    *value = Value::String(Cow::Borrowed(FILTERED));
    let said = meta.node(path);
    said.clear_children();
    said.meta.remarks = vec![Remark::span(RULE, RemarkKind::Substituted, 0, FILTERED.len())];
}

fn filter_named(value: &mut Value<'_>, names: &HashSet<String>, path: &Path<'_>, meta: &mut MetaTree) {
    match value {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                let path = path.key(key);
                if names.contains(key.as_ref()) {
                    filter(value, &path, meta);
                } else {
                    filter_named(value, names, &path, meta);
                }
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter_mut().enumerate() {
                filter_named(element, names, &path.index(index), meta);
            }
        }
        _ => {}
    }
}
