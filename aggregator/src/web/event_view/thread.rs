//! Threads of an event. Messages with a stack trace have theirs here, as have crashes of native programs.

use serde_json::Value;

use super::frame::StackTrace;
use super::{json_text, values_of};

/// Threads shown; a crashed or current one always is.
const THREADS_MAX: usize = 20;

/// Threads, those that crashed or were current first.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    pub(crate) threads: Vec<Thread>,
    pub(crate) omitted: usize,
}

/// One thread.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) title: String,
    pub(crate) state: Option<&'static str>,
    pub(crate) stack_trace: Option<StackTrace>,
}

impl Threads {
    pub(crate) fn from_value(threads: &Value) -> Self {
        let mut members = values_of(threads);
        let is = |thread: &Value, name: &str| thread.get(name).and_then(Value::as_bool) == Some(true);
        // Stable, so the others keep the SDK's order.
        members.sort_by_key(|thread| (!is(thread, "crashed"), !is(thread, "current")));
        let omitted = members.len().saturating_sub(THREADS_MAX);
        let threads = members.into_iter().take(THREADS_MAX).map(|thread| Thread {
            title: title_of(thread),
            state: match (is(thread, "crashed"), is(thread, "current")) {
                (true, _) => Some("crashed"),
                (false, true) => Some("current"),
                (false, false) => None,
            },
            stack_trace: thread.get("stacktrace").and_then(StackTrace::from_value),
        });
        Self { threads: threads.collect(), omitted }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }
}

fn title_of(thread: &Value) -> String {
    match (json_text::line_of(thread, "name"), json_text::line_of(thread, "id")) {
        (Some(name), Some(id)) => format!("{name} ({id})"),
        (Some(name), None) => name,
        (None, Some(id)) => id,
        (None, None) if thread.is_object() => "unnamed".to_owned(),
        (None, None) => json_text::line(thread).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_crashed_thread_comes_first() {
        let threads = Threads::from_value(&json!({"values": [
            {"id": 1, "name": "pool"}, {"id": 2, "current": true}, {"crashed": true, "stacktrace": {"frames": [{}]}}, 7,
        ]}));
        let titles: Vec<_> = threads.threads.iter().map(|thread| (thread.title.as_str(), thread.state)).collect();
        assert_eq!(titles, [("unnamed", Some("crashed")), ("2", Some("current")), ("pool (1)", None), ("7", None)]);
        assert!(threads.threads[0].stack_trace.is_some());
    }
}
