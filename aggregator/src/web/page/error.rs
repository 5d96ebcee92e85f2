//! Pages that say why there is no page. Whoever is logged in keeps the navigation on them.

use std::fmt;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use picket_common::timestamp::Timestamp;
use tracing::error;

use super::layout::Layout;
use crate::web::{Pages, cookie};

/// Why a page can't be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PageError {
    /// The address names nothing, or something that is gone.
    #[error("there is nothing at this address")]
    NotFound,
    /// The address asks for a project that does not exist.
    #[error("there is no such project")]
    NoSuchProject,
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
            Self::NotFound | Self::NoSuchProject => StatusCode::NOT_FOUND,
            Self::ForeignForm => StatusCode::FORBIDDEN,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::NotFound => "Nothing here",
            Self::NoSuchProject => "No such project",
            Self::ForeignForm => "Form refused",
            Self::Failed => "Something failed",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::NotFound => {
                "There is nothing at this address. It may have been deleted, or kept for less time than you hoped."
            }
            Self::NoSuchProject => {
                "There is no project of the name in this address. The page Projects lists those that there are."
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

impl PageError {
    fn page(self, viewer: Option<&str>) -> Response {
        let heading = self.heading();
        let layout = viewer.map_or_else(|| Layout::anonymous(heading), |viewer| Layout::new(heading, viewer));
        match (ErrorPage { layout, heading, advice: self.advice() }).render() {
            Ok(html) => (self.status(), Html(html)).into_response(),
            Err(_) => (self.status(), self.advice()).into_response(),
        }
    }
}

impl IntoResponse for PageError {
    /// The page for anybody, marked so that [`with_navigation`] finds it.
    fn into_response(self) -> Response {
        let mut response = self.page(None);
        response.extensions_mut().insert(self);
        response
    }
}

/// Puts the navigation on an error's page where the request is of someone who is logged in. Not every handler that fails
/// knows its viewer, and an error is rare enough to look for the session again.
pub(crate) async fn with_navigation(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let token = cookie::session_token(request.headers(), pages.is_https()).map(str::to_owned);
    let response = next.run(request).await;
    let (Some(error), Some(token)) = (response.extensions().get::<PageError>().copied(), token) else {
        return response;
    };
    match pages.state.accounts.session_user(&token, Timestamp::now()).await {
        Ok(Some(user)) => error.page(Some(&user.email)),
        // Without the store the page for anybody has to do; whatever failed there is in the log already.
        Ok(None) | Err(_) => response,
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
