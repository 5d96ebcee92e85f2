//! The exception strategy: type and frames of every exception of the chain.

use serde_json::Value;

use super::Variant;
use crate::process::lenient::Lenient;

/// Which frames count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frames {
    InApp,
    All,
}

/// The `app` and `system` variants of an event's exceptions; none if it has no exception that says anything.
pub(super) fn variants(event: &Value) -> Vec<Variant> {
    let exceptions = event.values("exception");
    let app = chain(exceptions, Frames::InApp);
    let system = chain(exceptions, Frames::All);
    match (app, system) {
        // A view with frames never competes with one that has only type and value.
        (Some(app), Some(system)) if app.has_frames && app.values != system.values => {
            vec![Variant::new("app", app.values), Variant::new("system", system.values)]
        }
        (Some(app), Some(system)) if app.has_frames || !system.has_frames => vec![Variant::new("app", app.values)],
        (_, Some(system)) => vec![Variant::new("system", system.values)],
        _ => Vec::new(),
    }
}

struct Chain {
    values: Vec<String>,
    has_frames: bool,
}

fn chain(exceptions: &[Value], which: Frames) -> Option<Chain> {
    let mut chain = Chain { values: Vec::new(), has_frames: false };
    for exception in exceptions {
        if let Some(name) = exception.text("type") {
            chain.values.push(name.to_owned());
        }
        let before = chain.values.len();
        let frames = exception.get("stacktrace").map_or(&[][..], |stacktrace| stacktrace.values("frames"));
        for frame in frames.iter().filter(|frame| which == Frames::All || is_in_app(frame)) {
            push_frame(frame, &mut chain.values);
        }
        if chain.values.len() > before {
            chain.has_frames = true;
        } else if let Some(value) = exception.text("value") {
            // Without frames the text is all that tells one such exception from another.
            chain.values.push(value.to_owned());
        }
    }
    (!chain.values.is_empty()).then_some(chain)
}

fn is_in_app(frame: &Value) -> bool {
    frame.get("in_app").and_then(Value::as_bool).unwrap_or(false)
}

/// Module, else the last segment of the file name, then the function. Line numbers and addresses move with every release.
fn push_frame(frame: &Value, values: &mut Vec<String>) {
    if let Some(module) = frame.text("module") {
        values.push(module.to_owned());
    } else if let Some(filename) = frame.text("filename").and_then(basename) {
        values.push(filename.to_lowercase());
    }
    if let Some(function) = frame.text("function") {
        values.push(function.to_owned());
    }
}

fn basename(path: &str) -> Option<&str> {
    path.rsplit(['/', '\\']).next().filter(|name| !name.is_empty())
}
