//! The web pages: server-rendered, complete without JavaScript, of which there is none.
//!
//! ```text
//! request ──▶ session (who?) ──▶ page handler ──▶ query ──▶ view model ──▶ askama template ──▶ security headers
//! ```
//!
//! Promises:
//! - A page shows nothing of an installation to someone who is not logged in.
//! - Nothing that came in an event can run or load anything: templates escape every value, and the content security policy
//!   forbids scripts, inline styles and foreign resources besides.
//! - Requests that change something are POSTs of a page of ours (see `origin`).
//! - Rendering is pure: handlers fetch, then build a view model with the time passed in, then render it to a string.
//!
//! What it does not do: answer programs (that is [`crate::api`], served on the same port), or touch stores but
//! through `query`, `accounts` and `projects`.

pub(crate) mod asset;
pub(crate) mod cookie;
pub(crate) mod event_view;
mod login;
mod login_attempts;
mod origin;
mod page;
mod security_headers;
mod session;
mod sparkline;
pub mod state;
mod when;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

pub use state::WebState;

/// What the handlers share: the state given to the server and what belongs to the pages alone.
#[derive(Debug)]
pub(crate) struct Pages {
    pub(crate) state: WebState,
    pub(crate) login_attempts: login_attempts::LoginAttempts,
    /// Password checks at the same time; each takes 19 MiB and a core.
    pub(crate) password_checks: Semaphore,
}

/// More at once would only take memory from the rest of the program; the others wait their turn.
const PASSWORD_CHECKS_MAX: usize = 4;

impl Pages {
    /// Whether browsers reach the pages over TLS, and cookies can be kept to that.
    pub(crate) fn is_https(&self) -> bool {
        self.state.public_url.starts_with("https://")
    }
}

/// The routes of the pages.
///
/// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`: failed logins are counted by peer address, and share
/// one counter where the address is unknown.
pub fn router(state: WebState) -> Router {
    let pages = Arc::new(Pages {
        state,
        login_attempts: login_attempts::LoginAttempts::default(),
        password_checks: Semaphore::new(PASSWORD_CHECKS_MAX),
    });
    Router::new()
        .route("/", get(page::issue_list::show))
        .route("/issues/{issue}/", get(page::issue_detail::latest))
        .route("/issues/{issue}/events/{event}/", get(page::issue_detail::event))
        .route("/issues/{issue}/events/{event}/json", get(page::issue_detail::event_json))
        .route("/projects/", get(page::project_list::show).post(page::project_list::create))
        .route("/login", get(login::form).post(login::submit))
        .route("/logout", post(login::leave))
        .route(asset::STYLE_PATH, get(asset::style))
        .route(asset::ICON_PATH, get(asset::icon))
        .fallback(page::error::unknown_address)
        .layer(from_fn_with_state(Arc::clone(&pages), page::error::with_navigation))
        .with_state(pages)
        .layer(map_response(security_headers::add))
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
