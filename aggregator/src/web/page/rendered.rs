//! From a template to an answer.

use askama::Template;
use axum::response::Html;

use super::error::PageError;

/// Renders a page's template.
pub(crate) fn rendered(page: &impl Template) -> Result<Html<String>, PageError> {
    page.render().map(Html).map_err(|error| PageError::failed("rendering the page", &error))
}
