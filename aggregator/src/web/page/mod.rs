//! One module a page: what it fetches, its view model and its template.

pub(crate) mod error;
pub(crate) mod issue_detail;
pub(crate) mod issue_heading;
pub(crate) mod issue_list;
pub(crate) mod layout;
pub(crate) mod onboarding;
pub(crate) mod project_list;
pub(crate) mod rendered;
