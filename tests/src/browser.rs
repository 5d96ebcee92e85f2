//! The pages, as someone who logs in with a browser gets them.

use std::net::SocketAddr;

use crate::http::{Answer, HttpClient};

/// A browser that is logged in.
#[derive(Debug)]
pub struct Browser {
    http: HttpClient,
    address: SocketAddr,
    cookie: String,
}

impl Browser {
    /// Logs in.
    ///
    /// # Panics
    /// If the aggregator does not let this user in.
    #[must_use]
    #[track_caller]
    pub fn log_in(address: SocketAddr, (email, password): (&str, &str)) -> Self {
        let http = HttpClient::new();
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("email", email)
            .append_pair("password", password)
            .finish();
        let origin = format!("http://{address}");
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("origin", origin.as_str())];
        let answer = http.post(address, "/login", &headers, form).expect("an answer to the login");
        assert_eq!(answer.status, 303, "the login was refused: {}", answer.text());
        let cookie =
            answer.header("set-cookie").expect("a session cookie").split(';').next().unwrap_or_default().to_owned();
        Self { http, address, cookie }
    }

    /// Gets a page.
    ///
    /// # Panics
    /// If nobody answers.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.http.get(self.address, path, &[("cookie", &self.cookie)]).expect("a page")
    }

    /// The HTML of a page that must be there.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    #[track_caller]
    pub fn page(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }
}

/// Checks that a page shows texts.
///
/// # Panics
/// If one is missing.
#[track_caller]
pub fn assert_shows(page: &str, texts: &[&str]) {
    for text in texts {
        assert!(page.contains(text), "{text:?} is not on the page:\n{page}");
    }
}
