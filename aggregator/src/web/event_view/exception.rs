//! The chain of exceptions, outermost first: the one that ended the program's attempt, then what caused it.

use serde_json::Value;

use super::frame::StackTrace;
use super::row::Rows;
use super::{json_text, values_of};

/// Exceptions shown of a chain. Real chains have a handful; groups of failed tasks can have many.
const EXCEPTIONS_MAX: usize = 20;
/// Values shown of a mechanism's data.
const MECHANISM_ROWS_MAX: usize = 30;

/// A chain of exceptions.
#[derive(Debug, Default)]
pub(crate) struct ExceptionChain {
    pub(crate) exceptions: Vec<Exception>,
    /// How many more there are, all further down the chain.
    pub(crate) omitted: usize,
}

/// One exception.
#[derive(Debug)]
pub(crate) struct Exception {
    /// How it belongs to the one above it; none for the first.
    pub(crate) relation: Option<&'static str>,
    pub(crate) kind: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) module: Option<String>,
    /// `handled`, `unhandled`, or nothing where the SDK did not say.
    pub(crate) handled: Option<&'static str>,
    pub(crate) mechanism: Rows,
    pub(crate) stack_trace: Option<StackTrace>,
}

impl ExceptionChain {
    pub(crate) fn from_value(exception: &Value) -> Self {
        // SDKs send the innermost cause first.
        let mut outermost_first = values_of(exception).into_iter().rev();
        let exceptions = outermost_first
            .by_ref()
            .take(EXCEPTIONS_MAX)
            .enumerate()
            .map(|(place, value)| Exception::from_value(value, place > 0))
            .collect();
        Self { exceptions, omitted: outermost_first.count() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.exceptions.is_empty()
    }
}

impl Exception {
    fn from_value(exception: &Value, is_cause: bool) -> Self {
        let mechanism = exception.get("mechanism").unwrap_or(&Value::Null);
        let value = if exception.is_object() { exception.get("value").unwrap_or(&Value::Null) } else { exception };
        let handled = match mechanism.get("handled").and_then(Value::as_bool) {
            Some(true) => Some("handled"),
            Some(false) => Some("unhandled"),
            None => None,
        };
        Self {
            relation: is_cause.then(|| relation_of(mechanism)),
            kind: json_text::line_of(exception, "type"),
            value: json_text::paragraph(value),
            module: json_text::line_of(exception, "module"),
            handled,
            mechanism: Rows::known_members(mechanism, &["handled"], MECHANISM_ROWS_MAX),
            stack_trace: exception.get("stacktrace").and_then(StackTrace::from_value),
        }
    }
}

/// `mechanism.source` names the field of the outer exception that held this one: `__cause__`, `__context__`, `cause`,
/// `exceptions[3]`, `errors[0]`.
fn relation_of(mechanism: &Value) -> &'static str {
    match mechanism.get("source").and_then(Value::as_str) {
        Some("__context__") => "raised while handling",
        Some(source) if source.ends_with(']') => "a member of the group",
        _ => "caused by",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_value_comes_first_and_the_others_say_how_they_belong_to_it() {
        let chain = ExceptionChain::from_value(&json!({"values": [
            {"type": "KeyError", "value": "'sku'", "mechanism": {"source": "__context__"}},
            {"type": "LookupError", "value": "no such article", "mechanism": {"source": "__cause__"}},
            {"type": "CheckoutError", "value": "can't check out", "mechanism": {"type": "django", "handled": false}},
        ]}));
        let shown: Vec<_> = chain.exceptions.iter().map(|one| (one.kind.as_deref(), one.relation)).collect();
        assert_eq!(
            shown,
            [
                (Some("CheckoutError"), None),
                (Some("LookupError"), Some("caused by")),
                (Some("KeyError"), Some("raised while handling")),
            ]
        );
        assert_eq!(chain.exceptions[0].handled, Some("unhandled"));
    }

    #[test]
    fn a_group_names_its_members() {
        let chain =
            ExceptionChain::from_value(&json!([{"mechanism": {"source": "errors[0]"}}, {"type": "AggregateError"}]));
        assert_eq!(chain.exceptions[1].relation, Some("a member of the group"));
    }

    #[test]
    fn a_value_that_is_no_exception_is_shown_as_text() {
        let chain = ExceptionChain::from_value(&json!({"values": ["odd", {"type": {"a": 1}, "value": ["b"]}, null]}));
        assert_eq!(chain.exceptions.len(), 2);
        assert_eq!(chain.exceptions[0].kind.as_deref(), Some(r#"{"a":1}"#));
        assert_eq!(chain.exceptions[0].value.as_deref(), Some(r#"["b"]"#));
        assert_eq!(chain.exceptions[1].value.as_deref(), Some("odd"));
    }

    #[test]
    fn a_long_chain_is_cut_and_counted() {
        let values: Vec<_> = (0..50).map(|number| json!({"type": number})).collect();
        let chain = ExceptionChain::from_value(&json!({ "values": values }));
        assert_eq!((chain.exceptions.len(), chain.omitted), (EXCEPTIONS_MAX, 30));
    }
}
