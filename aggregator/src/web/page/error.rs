//! Pages that say why there is no page.

use std::fmt;

use askama::Template;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Redirect, Response};
use tracing::error;

use super::layout::Layout;

/// Why a page can't be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PageError {
    /// The address names nothing, or something that is gone.
    #[error("there is nothing at this address")]
    NotFound,
    /// A form of another site.
    #[error("the form was sent by a page of another site")]
    ForeignForm,
    /// A store failed; the log has the reason.
    #[error("the page could not be made")]
    Failed,
}

impl PageError {
    /// Logs what failed, for the operator; the page itself does not tell.
    pub(crate) fn failed(action: &'static str, reason: &dyn fmt::Display) -> Self {
        error!(action, error = %reason, "a page could not be made");
        Self::Failed
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::ForeignForm => StatusCode::FORBIDDEN,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::NotFound => "Nothing here",
            Self::ForeignForm => "Form refused",
            Self::Failed => "Something failed",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::NotFound => {
                "There is nothing at this address. It may have been deleted, or kept for less time than you hoped."
            }
            Self::ForeignForm => {
                "The form was sent from an address that is not this server's. Open the page again and retry; if it persists, \
                 check that public_url in the aggregator's configuration is the address in your browser."
            }
            Self::Failed => "The server could not make this page. Its log says why. Trying again in a moment may help.",
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    layout: Layout<'a>,
    heading: &'static str,
    advice: &'static str,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let heading = self.heading();
        let page = ErrorPage { layout: Layout::anonymous(heading), heading, advice: self.advice() };
        match page.render() {
            Ok(html) => (self.status(), Html(html)).into_response(),
            Err(_) => (self.status(), self.advice()).into_response(),
        }
    }
}

/// Answers addresses that no route knows: those that only lack the slash at the end are sent on.
pub(crate) async fn unknown_address(uri: Uri) -> Response {
    let path = uri.path();
    let is_ours = ["/issues/", "/projects"].iter().any(|start| path.starts_with(start));
    if is_ours && !path.ends_with('/') && !path.contains("//") {
        let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
        return Redirect::permanent(&format!("{path}/{query}")).into_response();
    }
    PageError::NotFound.into_response()
}
