//! Contexts: what the SDK knows of the device, the runtime, the browser and so on, a section each.

use serde_json::Value;

use super::json_text;
use super::row::Rows;

/// Sections shown.
const SECTIONS_MAX: usize = 40;
/// Rows shown of a section.
const ROWS_MAX: usize = 60;

/// Contexts of an event.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    pub(crate) sections: Vec<Section>,
    pub(crate) omitted: usize,
}

/// One context.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) rows: Rows,
}

impl Sections {
    pub(crate) fn from_contexts(contexts: &Value) -> Self {
        let Value::Object(object) = contexts else {
            let rows = Rows::from_value(contexts, ROWS_MAX);
            let sections =
                if rows.is_empty() { Vec::new() } else { vec![Section { title: "Contexts".to_owned(), rows }] };
            return Self { sections, omitted: 0 };
        };
        let mut filled = object
            .iter()
            .map(|(name, context)| Section {
                title: title_of(name),
                rows: Rows::known_members(context, &["type"], ROWS_MAX),
            })
            .filter(|section| !section.rows.is_empty());
        Self { sections: filled.by_ref().take(SECTIONS_MAX).collect(), omitted: filled.count() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sections.is_empty()
    }
}

fn title_of(name: &str) -> String {
    let known = match name {
        "app" => "Application",
        "browser" => "Browser",
        "client_os" => "Client operating system",
        "cloud_resource" => "Cloud resource",
        "culture" => "Culture",
        "device" => "Device",
        "feedback" => "Feedback",
        "flags" => "Feature flags",
        "gpu" => "Graphics processor",
        "os" => "Operating system",
        "response" => "Response",
        "runtime" => "Runtime",
        "trace" => "Trace",
        other => return json_text::line(&Value::from(other)).unwrap_or_else(|| "Unnamed".to_owned()),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_context_has_a_section_without_its_type() {
        let read = Sections::from_contexts(&json!({
            "runtime": {"type": "runtime", "name": "CPython", "version": "3.13"}, "empty": {"type": "x"}, "odd": 3,
        }));
        let titles: Vec<_> =
            read.sections.iter().map(|section| (section.title.as_str(), section.rows.rows.len())).collect();
        assert_eq!(titles, [("odd", 1), ("Runtime", 2)]);
    }
}
