//! The routes that can be asked without an events store.

#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, ETAG, IF_NONE_MATCH, LOCATION,
    SET_COOKIE,
};
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use picket_common::timestamp::Timestamp;
use tower::ServiceExt as _;

use super::{WebState, fixture, router};
use crate::accounts::Accounts;
use crate::database::Database;
use crate::projects::Projects;

const PUBLIC_URL: &str = "http://127.0.0.1:8000";
const PASSWORD: &str = "correct horse";

struct Site {
    _directory: tempfile::TempDir,
    router: Router,
    accounts: Accounts,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: impl axum::http::header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Site {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("picket.db")).await.unwrap();
        let accounts = Accounts::new(&database);
        accounts.create_user("admin@localhost", PASSWORD, Timestamp::now()).await.unwrap();
        let projects = Projects::open(&database, "http://127.0.0.1:3000").await.unwrap();
        let state = WebState {
            query: fixture::query_without_store(&database, &projects),
            accounts: accounts.clone(),
            projects,
            public_url: PUBLIC_URL.to_owned(),
            organisation: "picket".to_owned(),
            relay_url: "http://127.0.0.1:3000".to_owned(),
        };
        Self { _directory: directory, router: router(state.clone()).merge(crate::api::router(state)), accounts }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn get_with(&self, path: &str, name: axum::http::HeaderName, value: &str) -> Answer {
        self.ask(Request::get(path).header(name, value).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, origin: &str, cookie: &str, form: &str) -> Answer {
        let request = Request::post(path)
            .header("origin", origin)
            .header(COOKIE, cookie)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()))
            .unwrap();
        self.ask(request).await
    }

    /// Logs in and returns the cookie.
    async fn log_in(&self) -> String {
        let answer = self
            .post("/login", PUBLIC_URL, "", "email=admin%40localhost&password=correct+horse&next=%2Fprojects%2F")
            .await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        assert_eq!(answer.header(LOCATION), "/projects/");
        answer.header(SET_COOKIE).split(';').next().unwrap().to_owned()
    }
}

#[tokio::test]
async fn without_a_session_every_page_leads_to_the_login() {
    let site = Site::open().await;
    for path in ["/", "/issues/5/", "/issues/5/events/x/", "/issues/5/events/x/json", "/projects/"] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert_eq!(answer.header(LOCATION), format!("/login?next={path}"));
    }
    let forged = site.get_with("/projects/", COOKIE, "picket_session=forged").await;
    assert_eq!(forged.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_link_from_elsewhere_is_followed_again_from_here() {
    let site = Site::open().await;
    let answer = site.get_with("/issues/5/?a=1", "sec-fetch-site".parse().unwrap(), "cross-site").await;
    assert_eq!((answer.status, answer.header("refresh")), (StatusCode::OK, "0; url=/issues/5/?a=1"));
    assert_eq!(answer.body, "");
}

#[tokio::test]
async fn pages_carry_the_security_headers() {
    let site = Site::open().await;
    for path in ["/login", "/nowhere", "/", "/static/picket.css"] {
        let answer = site.get(path).await;
        let policy = answer.header(CONTENT_SECURITY_POLICY);
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'; img-src 'self' data:; form-action"),
            "{path}"
        );
        assert!(policy.contains("frame-ancestors 'none'; base-uri 'none'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
    }
    assert_eq!(site.get("/login").await.header(CACHE_CONTROL), "no-store");
}

#[tokio::test]
async fn the_style_sheet_is_kept_for_ever_under_its_digest() {
    let site = Site::open().await;
    let login = site.get("/login").await.body;
    let address = login.split("rel=\"stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let style = site.get(address).await;
    assert_eq!((style.status, style.header(CONTENT_TYPE)), (StatusCode::OK, "text/css; charset=utf-8"));
    assert!(style.header(CACHE_CONTROL).contains("immutable"));
    assert_eq!(site.get("/static/picket.css").await.header(CACHE_CONTROL), "no-cache");
    let again = site.get_with("/static/picket.css", IF_NONE_MATCH, style.header(ETAG)).await;
    assert_eq!((again.status, again.body.as_str()), (StatusCode::NOT_MODIFIED, ""));
}

#[tokio::test]
async fn a_login_opens_a_session_that_a_logout_ends() {
    let site = Site::open().await;
    let cookie = site.log_in().await;
    let made = site.post("/projects/", PUBLIC_URL, &cookie, "name=Web+Shop&platform=python").await;
    assert_eq!(made.status, StatusCode::SEE_OTHER);
    let projects = site.get_with("/projects/", COOKIE, &cookie).await;
    assert!(projects.body.contains("Web Shop") && projects.body.contains("@127.0.0.1:3000/1"), "{}", projects.body);
    let refused = site.post("/projects/", PUBLIC_URL, &cookie, "name=%21%21").await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);

    let left = site.post("/logout", PUBLIC_URL, &cookie, "").await;
    assert!(left.header(SET_COOKIE).contains("Max-Age=0"));
    assert_eq!(site.get_with("/projects/", COOKIE, &cookie).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn wrong_passwords_and_unknown_users_get_the_same_answer() {
    let site = Site::open().await;
    let wrong = site.post("/login", PUBLIC_URL, "", "email=admin%40localhost&password=x").await;
    let unknown = site.post("/login", PUBLIC_URL, "", "email=%22%3E%3Cscript%3E&password=x").await;
    assert_eq!((wrong.status, unknown.status), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    assert!(unknown.body.contains("name and password do not match") && !unknown.body.contains("<script"));
    assert!(wrong.headers.get(SET_COOKIE).is_none());
}

#[tokio::test]
async fn after_ten_failed_logins_an_address_has_to_wait() {
    let site = Site::open().await;
    for _ in 0..10 {
        let answer = site.post("/login", PUBLIC_URL, "", &format!("email=a&password={}", "x".repeat(2_000))).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    let refused = site.post("/login", PUBLIC_URL, "", "email=admin%40localhost&password=correct+horse").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn forms_of_other_sites_are_refused() {
    let site = Site::open().await;
    let cookie = site.log_in().await;
    for path in ["/login", "/logout", "/projects/"] {
        let answer = site.post(path, "https://evil.example", &cookie, "name=x&email=a&password=b").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(site.get_with("/projects/", COOKIE, &cookie).await.status, StatusCode::OK);
}

#[tokio::test]
async fn unknown_addresses_say_so_and_a_missing_slash_is_added() {
    let site = Site::open().await;
    assert_eq!(site.get("/nowhere").await.status, StatusCode::NOT_FOUND);
    let slash = site.get("/issues/5?x=1").await;
    assert_eq!((slash.status, slash.header(LOCATION)), (StatusCode::PERMANENT_REDIRECT, "/issues/5/?x=1"));
    let api = site.get("/api/0/nowhere/").await;
    assert_eq!(api.status, StatusCode::NOT_FOUND);
    assert!(api.body.starts_with("{\"detail\":"), "{}", api.body);
    let method = site.post("/api/0/organizations/", PUBLIC_URL, "", "").await;
    assert_eq!(method.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(method.body.starts_with("{\"detail\":"), "{}", method.body);
}

#[tokio::test]
async fn error_pages_keep_the_navigation_for_whoever_is_logged_in() {
    let site = Site::open().await;
    let cookie = site.log_in().await;
    let known = site.get_with("/nowhere", COOKIE, &cookie).await;
    assert_eq!(known.status, StatusCode::NOT_FOUND);
    assert!(known.body.contains("href=\"/projects/\"") && known.body.contains("admin@localhost"), "{}", known.body);
    assert_eq!(known.header("x-content-type-options"), "nosniff");
    let anybody = site.get("/nowhere").await;
    assert!(!anybody.body.contains("href=\"/projects/\""), "{}", anybody.body);
}

#[tokio::test]
async fn a_project_that_does_not_exist_is_not_shown_as_all_of_them() {
    let site = Site::open().await;
    let cookie = site.log_in().await;
    let answer = site.get_with("/?project=nosuch", COOKIE, &cookie).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.body.contains("No such project") && answer.body.contains("admin@localhost"), "{}", answer.body);
}

#[tokio::test]
async fn the_api_refuses_callers_it_does_not_know() {
    let site = Site::open().await;
    for path in [
        "/api/0/",
        "/api/0/organizations/",
        "/api/0/organizations/picket/",
        "/api/0/organizations/picket/projects/",
        "/api/0/organizations/picket/issues/",
        "/api/0/organizations/picket/issues/1/",
        "/api/0/organizations/picket/issues/1/events/latest/",
        "/api/0/projects/",
        "/api/0/projects/picket/shop/",
        "/api/0/projects/picket/shop/issues/",
        "/api/0/projects/picket/shop/events/x/",
        "/api/0/issues/1/",
        "/api/0/issues/1/events/latest/",
    ] {
        for credentials in ["", "Bearer forged", "Basic abc", "Bearer"] {
            let request = Request::get(path);
            let request = if credentials.is_empty() { request } else { request.header(AUTHORIZATION, credentials) };
            let answer = site.ask(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {credentials}");
            assert!(answer.body.starts_with("{\"detail\":"), "{}", answer.body);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
}

#[tokio::test]
async fn a_token_gets_what_its_scopes_allow() {
    let site = Site::open().await;
    let scopes = ["org:read".to_owned()];
    let token = site.accounts.create_token("ci", &scopes, "picket", PUBLIC_URL, Timestamp::now()).await.unwrap();
    let bearer = format!("Bearer {token}");
    let organisations = site.get_with("/api/0/organizations/", AUTHORIZATION, &bearer).await;
    assert_eq!(organisations.status, StatusCode::OK);
    assert!(organisations.body.contains("\"slug\":\"picket\""));
    let other = site.get_with("/api/0/organizations/other/", AUTHORIZATION, &bearer).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
    for path in ["/api/0/projects/", "/api/0/organizations/picket/issues/", "/api/0/issues/1/"] {
        let answer = site.get_with(path, AUTHORIZATION, &bearer).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn a_page_session_may_read_the_api() {
    let site = Site::open().await;
    let cookie = site.log_in().await;
    let projects = site.get_with("/api/0/projects/", COOKIE, &cookie).await;
    assert_eq!((projects.status, projects.body.as_str()), (StatusCode::OK, "[]"));
    let bad = site.get_with("/api/0/organizations/picket/issues/?sort=freq", COOKIE, &cookie).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
}
