//! A blocking HTTP/1.1 client with connections that are kept open. One a thread.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::{Builder, Runtime};

/// How long answers may take where a test does not measure that.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The client.
#[derive(Debug)]
pub struct HttpClient {
    runtime: Runtime,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// No answer came: refused, broken off, or too late. The text says which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered(pub String);

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}), status {}: {}", self.status, self.text()))
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    /// Makes a client.
    ///
    /// # Panics
    /// If the system gives no resources for it.
    #[must_use]
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        // A request sent twice would be an event counted twice, and that is what the tests look for.
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        Self { runtime, client }
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    /// [`Unanswered`] if there is none within `within`.
    pub fn send(&self, request: Request<Full<Bytes>>, within: Duration) -> Result<Answer, Unanswered> {
        let unanswered = |error: &dyn std::error::Error| {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            Unanswered(format!("{error}{source}"))
        };
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| unanswered(&error))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| unanswered(&error))?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        self.runtime.block_on(async {
            tokio::time::timeout(within, exchange)
                .await
                .unwrap_or_else(|_| Err(Unanswered(format!("no answer within {within:?}"))))
        })
    }

    /// Gets a path.
    ///
    /// # Errors
    /// [`Unanswered`] if there is no answer.
    pub fn get(&self, address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Answer, Unanswered> {
        self.send(request("GET", address, path, headers, Bytes::new()), PATIENCE)
    }

    /// Posts to a path.
    ///
    /// # Errors
    /// [`Unanswered`] if there is no answer.
    pub fn post(
        &self,
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Unanswered> {
        self.send(request("POST", address, path, headers, body.into()), PATIENCE)
    }
}

/// Puts a request together.
///
/// # Panics
/// If a part is not valid in HTTP.
#[must_use]
pub fn request(
    method: &str,
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body)).expect("a valid request")
}
