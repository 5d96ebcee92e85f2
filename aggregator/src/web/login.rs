//! Logging in and out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Form;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::header::{RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use picket_common::timestamp::Timestamp;
use serde::Deserialize;
use tracing::{info, warn};

use super::page::error::PageError;
use super::page::layout::Layout;
use super::page::rendered::rendered;
use super::{Pages, cookie, origin};

/// Longer input is no name or password of ours, and hashing it would be work for nothing.
const INPUT_LEN_MAX: usize = 1_000;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    layout: Layout<'a>,
    email: &'a str,
    next: &'a str,
    problem: Option<&'a str>,
}

/// What the login form's address carries.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Destination {
    #[serde(default)]
    next: String,
}

/// What the login form sends.
#[derive(Deserialize)]
pub(crate) struct Credentials {
    email: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// `GET /login`.
pub(crate) async fn form(Query(destination): Query<Destination>) -> Result<Response, PageError> {
    login_page(StatusCode::OK, "", &destination.next, None)
}

/// `POST /login`.
pub(crate) async fn submit(State(pages): State<Arc<Pages>>, request: Request) -> Result<Response, PageError> {
    use axum::extract::FromRequest as _;
    if !origin::is_ours(request.headers(), &pages.state.public_url) {
        return Err(PageError::ForeignForm);
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let previous = cookie::session_token(request.headers(), pages.is_https()).map(str::to_owned);
    let Ok(Form(credentials)) = Form::<Credentials>::from_request(request, &()).await else {
        return login_page(StatusCode::BAD_REQUEST, "", "", Some("The form was incomplete. Please try again."));
    };
    let now = Timestamp::now();
    if let Err(wait) = pages.login_attempts.begin(address, now) {
        return too_many_attempts(&credentials, address, wait);
    }
    let accounts = &pages.state.accounts;
    let failed = |what| move |error| PageError::failed(what, &error);
    let email = credentials.email.trim();
    let is_plausible = email.len() <= INPUT_LEN_MAX && credentials.password.len() <= INPUT_LEN_MAX;
    let user = if is_plausible {
        // The semaphore is never closed; if it were, the check would only go unlimited.
        let _turn = pages.password_checks.acquire().await;
        accounts.verify_password(email, &credentials.password).await.map_err(failed("checking the password"))?
    } else {
        None
    };
    let Some(user) = user else {
        info!(?address, "login refused");
        let problem = Some("This name and password do not match.");
        return login_page(StatusCode::UNAUTHORIZED, email, &credentials.next, problem);
    };
    pages.login_attempts.succeeded(address);
    if let Some(previous) = previous {
        accounts.close_session(&previous).await.map_err(failed("closing the previous session"))?;
    }
    let token = accounts.open_session(user, now).await.map_err(failed("opening a session"))?;
    let set_cookie = AppendHeaders([(SET_COOKIE, cookie::opening(&token, pages.is_https()))]);
    Ok((set_cookie, Redirect::to(local_address(&credentials.next))).into_response())
}

/// `POST /logout`.
pub(crate) async fn leave(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Result<Response, PageError> {
    if !origin::is_ours(&headers, &pages.state.public_url) {
        return Err(PageError::ForeignForm);
    }
    if let Some(token) = cookie::session_token(&headers, pages.is_https()) {
        let closed = pages.state.accounts.close_session(token).await;
        closed.map_err(|error| PageError::failed("closing the session", &error))?;
    }
    let set_cookie = AppendHeaders([(SET_COOKIE, cookie::closing(pages.is_https()))]);
    Ok((set_cookie, Redirect::to("/login")).into_response())
}

fn too_many_attempts(
    credentials: &Credentials,
    address: Option<IpAddr>,
    wait: Duration,
) -> Result<Response, PageError> {
    warn!(?address, "too many failed logins");
    let problem = Some("Too many failed logins from your address. Please wait a few minutes.");
    let page = login_page(StatusCode::TOO_MANY_REQUESTS, credentials.email.trim(), &credentials.next, problem)?;
    Ok(([(RETRY_AFTER, wait.as_secs().max(1).to_string())], page).into_response())
}

fn login_page(status: StatusCode, email: &str, next: &str, problem: Option<&str>) -> Result<Response, PageError> {
    // A refused input may be long; it is not sent back then.
    let email = if email.len() <= INPUT_LEN_MAX { email } else { "" };
    let page = LoginPage { layout: Layout::anonymous("Log in"), email, next: local_address(next), problem };
    Ok((status, rendered(&page)?).into_response())
}

/// The address to go to after the login: a path of this site, or the start page.
///
/// `//host` and `/\host` lead to other hosts, and browsers drop tabs and line ends from addresses before they look.
fn local_address(next: &str) -> &str {
    const ADDRESS_LEN_MAX: usize = 2_000;
    let is_local = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && next.len() <= ADDRESS_LEN_MAX
        && next.bytes().all(|byte| byte.is_ascii_graphic());
    if is_local { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_never_leads_to_another_site() {
        for next in [
            "",
            "//evil.example/",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
        ] {
            assert_eq!(local_address(next), "/", "{next:?}");
        }
        assert_eq!(local_address("/issues/5/?project=shop"), "/issues/5/?project=shop");
    }
}
