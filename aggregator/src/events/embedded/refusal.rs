//! Answers that carry an error, in the form that ClickHouse's clients expect:
//!
//! ```text
//! HTTP/1.1 404 Not Found
//! X-ClickHouse-Exception-Code: 60
//!
//! Code: 60. DB::Exception: Unknown table … (UNKNOWN_TABLE)
//! ```

use http::StatusCode;

use super::library::QueryFailure;
use super::statement::StatementError;

/// An error on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// ClickHouse's error code.
    pub(super) code: u32,
    pub(super) message: String,
}

// === impl Refusal ===

impl Refusal {
    fn new(status: StatusCode, code: u32, name: &str, reason: &str) -> Self {
        Self { status, code, message: format!("Code: {code}. DB::Exception: {reason}. ({name})") }
    }

    pub(super) fn bad_argument(reason: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 36, "BAD_ARGUMENTS", reason)
    }

    pub(super) fn not_implemented(reason: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, 48, "NOT_IMPLEMENTED", reason)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let reason = format!("the request is larger than {limit} bytes; send it in parts");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, 223, "QUERY_IS_TOO_LARGE", &reason)
    }

    pub(super) fn wrong_credentials() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            516,
            "AUTHENTICATION_FAILED",
            "Authentication failed: user or password is wrong",
        )
    }

    pub(super) fn broken_body() -> Self {
        Self::new(StatusCode::BAD_REQUEST, 210, "NETWORK_ERROR", "the request's body broke off; nothing was run")
    }
}

impl From<QueryFailure> for Refusal {
    fn from(failure: QueryFailure) -> Self {
        Self { status: status_of(failure.code), code: failure.code, message: failure.message }
    }
}

impl From<StatementError> for Refusal {
    fn from(error: StatementError) -> Self {
        match error {
            StatementError::InsertFromInput => Self::not_implemented(&error.to_string()),
            _ => Self::new(StatusCode::BAD_REQUEST, 62, "SYNTAX_ERROR", &error.to_string()),
        }
    }
}

/// The status that a ClickHouse server answers with; clients look at the code, people at the status.
fn status_of(code: u32) -> StatusCode {
    match code {
        // Parsing of values, types, syntax, unknown identifiers, formats and settings.
        6 | 26 | 27 | 33 | 38 | 41 | 43 | 47 | 53 | 62 | 72 | 73 | 115 | 117 | 130 | 271 | 457 => {
            StatusCode::BAD_REQUEST
        }
        // Unknown function, type, table, database.
        46 | 50 | 60 | 81 => StatusCode::NOT_FOUND,
        48 => StatusCode::NOT_IMPLEMENTED,
        159 => StatusCode::REQUEST_TIMEOUT,
        164 => StatusCode::FORBIDDEN,
        210 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_engine_keeps_its_code_and_text() {
        let message = "Code: 60. DB::Exception: Unknown table. (UNKNOWN_TABLE)".to_owned();

        let refusal = Refusal::from(QueryFailure { code: 60, message: message.clone() });

        assert_eq!(refusal, Refusal { status: StatusCode::NOT_FOUND, code: 60, message });
    }

    #[test]
    fn several_statements_are_a_syntax_error() {
        let refusal = Refusal::from(StatementError::SeveralStatements);

        assert_eq!((refusal.status, refusal.code), (StatusCode::BAD_REQUEST, 62));
        assert!(refusal.message.starts_with("Code: 62. DB::Exception: multi-statements"), "{}", refusal.message);
    }
}
