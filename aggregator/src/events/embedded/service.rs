//! The part of ClickHouse's HTTP interface that its clients use, over the query threads.
//!
//! ```text
//! request ─▶ who is it? ─▶ read the body (bounded) ─▶ one statement, data apart ─▶ queue ─▶ response
//! ```
//!
//! - `POST /` with the query in the URL, in the body, in a form with `param_…`, or begun in the URL and continued in the
//!   body (inserts). `GET /` for queries that only read. `GET /ping`.
//! - Both sides use it: the in-memory connections of `connector.rs` (trusted) and TCP listeners (user and password).
//! - An insert runs only when its body arrived whole; a request that breaks off has no effect.
//! - Results are buffered by the engine and handed out without a copy.
//!
//! Not here: sessions, roles, external tables, progress headers, TLS.

use std::convert::Infallible;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::compression::{RequestEncoding, ResponseEncoding};
use super::insert_data::InsertData;
use super::pool::{Answer, Query, Queue, Work};
use super::refusal::Refusal;
use super::request::Parameters;
use super::statement::Statement;
use super::{Credentials, multipart};

/// How much of a refused request's body is still read, and for how long: enough for a statement and a small insert.
const REFUSED_BYTES_MAX: usize = 1 << 20;
const REFUSED_READ_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a TCP client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after a failed `accept` (no file descriptors left, usually), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests; owns the tasks of all connections.
#[derive(Debug)]
pub(super) struct HttpService {
    queue: Queue,
    request_bytes_max: usize,
    connections_max: usize,
    /// In-memory connections; a listener has as many of its own.
    in_memory: Arc<Semaphore>,
    connections: TaskTracker,
    shutdown: CancellationToken,
}

/// Who may use a connection.
#[derive(Debug, Clone)]
pub(super) enum Access {
    /// This process.
    Trusted,
    /// Whoever knows these.
    Password(Arc<Credentials>),
}

// === impl Access ===

impl Access {
    fn admits(&self, parameters: &Parameters) -> bool {
        match self {
            Self::Trusted => true,
            Self::Password(expected) => {
                let user = parameters.user.as_deref().unwrap_or("default");
                let password = parameters.password.as_deref().unwrap_or_default();
                let same_user = user.as_bytes().ct_eq(expected.user.as_bytes());
                let same_password = password.as_bytes().ct_eq(expected.password.as_bytes());
                (same_user & same_password).into()
            }
        }
    }
}

// === impl HttpService ===

impl HttpService {
    pub(super) fn new(queue: Queue, request_bytes_max: usize, connections_max: usize) -> Self {
        Self {
            queue,
            request_bytes_max,
            connections_max,
            in_memory: Arc::new(Semaphore::new(connections_max)),
            connections: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        }
    }

    /// Waits for room for one more in-memory connection. Fails once the service shuts down.
    pub(super) async fn admit(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.in_memory).acquire_owned().await
    }

    /// Serves one connection in a task of its own, until either end closes it.
    pub(super) fn spawn_connection<I>(self: &Arc<Self>, io: I, access: Access, permit: OwnedSemaphorePermit)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = Arc::clone(self);
        self.connections.spawn(async move {
            service.serve_connection(io, access).await;
            drop(permit);
        });
    }

    async fn serve_connection<I: AsyncRead + AsyncWrite + Unpin>(&self, io: I, access: Access) {
        let mut server = http1::Builder::new();
        if let Access::Password(_) = access {
            // In-memory clients keep idle connections; strangers are not given the chance.
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        }
        let handler = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request, &access).await) });
        let mut connection = pin!(server.serve_connection(TokioIo::new(io), handler));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            debug!(%error, "connection to the embedded engine broke off");
        }
    }

    /// Accepts connections until the service shuts down.
    pub(super) async fn serve_listener(self: Arc<Self>, listener: TcpListener, credentials: Arc<Credentials>) {
        let room = Arc::new(Semaphore::new(self.connections_max));
        let accept = async {
            loop {
                // The semaphore is never closed; without a permit there is nothing to do but to stop.
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // A small answer must not wait for the acknowledgement of the one before.
                        let _ = stream.set_nodelay(true);
                        self.spawn_connection(stream, Access::Password(Arc::clone(&credentials)), permit);
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a connection to the embedded engine");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// No new connections and requests; waits until those that run are answered, at most `patience`.
    /// Then nothing is put into the queue any more.
    pub(super) async fn shut_down(&self, patience: Duration) {
        self.shutdown.cancel();
        self.in_memory.close();
        self.connections.close();
        if tokio::time::timeout(patience, self.connections.wait()).await.is_err() {
            warn!(connections = self.connections.len(), "queries of the embedded engine are still running");
        }
        self.queue.close();
    }

    async fn answer(&self, request: Request<Incoming>, access: &Access) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        if head.method == Method::GET && (head.uri.path() == "/ping" || head.uri.query().is_none()) {
            return Response::new(Full::from("Ok.\n"));
        }
        match self.run(&head, &mut body, access).await {
            Ok(answer) => success(answer),
            Err(refusal) => {
                read_out(body).await;
                failure(refusal)
            }
        }
    }

    async fn run(&self, head: &Parts, body: &mut Incoming, access: &Access) -> Result<Answer, Refusal> {
        let mut parameters = Parameters::from_head(head)?;
        if !access.admits(&parameters) {
            return Err(Refusal::wrong_credentials());
        }
        let mut body = self.read(body).await?;
        if let Some(boundary) = multipart::boundary(&head.headers) {
            let fields = multipart::fields(&concat(std::mem::take(&mut body)), &boundary);
            for (name, value) in fields.map_err(|error| Refusal::bad_argument(&error.to_string()))? {
                parameters.add_form_field(&name, value)?;
            }
        }
        let work = self.work(parameters.query.take(), body, parameters.request_encoding)?;
        let query = Query {
            work,
            database: parameters.database,
            format: parameters.format,
            settings: parameters.settings,
            parameters: parameters.substitutions,
            response_encoding: parameters.response_encoding,
        };
        Ok(self.queue.run(query).await?)
    }

    async fn read(&self, body: &mut Incoming) -> Result<Vec<Bytes>, Refusal> {
        let mut chunks = Vec::new();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::broken_body())?;
            let Ok(chunk) = frame.into_data() else { continue };
            length += chunk.len();
            if length > self.request_bytes_max {
                return Err(Refusal::too_large(self.request_bytes_max));
            }
            chunks.push(chunk);
        }
        Ok(chunks)
    }

    /// The statement is in the URL, in the body, or begins in the URL and goes on in the body.
    fn work(&self, query: Option<String>, body: Vec<Bytes>, encoding: RequestEncoding) -> Result<Work, Refusal> {
        let has_body = !body.is_empty();
        if let Some(query) = &query {
            match Statement::parse(query.as_bytes())? {
                Statement::Insert { insert, inline_data } => {
                    let begun = Bytes::copy_from_slice(&query.as_bytes()[inline_data]);
                    if encoding == RequestEncoding::Blocks && !begun.is_empty() {
                        return Err(Refusal::bad_argument(
                            "with decompress=1 all data of an INSERT belongs into the body",
                        ));
                    }
                    let chunks = [begun].into_iter().filter(|begun| !begun.is_empty()).chain(body).collect();
                    return Ok(Work::Insert { head: insert, data: self.data(chunks, encoding) });
                }
                Statement::Plain { sql, changes_session } if !has_body => {
                    return Ok(Work::Run { sql, changes_session });
                }
                Statement::Plain { .. } => {}
            }
        }
        if encoding == RequestEncoding::Blocks && has_body {
            return Err(Refusal::not_implemented(
                "decompress=1 is for the data of an INSERT whose statement is in the URL",
            ));
        }
        let begun = query.map(|query| Bytes::from(query + "\n"));
        let text = concat(begun.into_iter().chain(body).collect());
        match Statement::parse(&text)? {
            Statement::Plain { sql, changes_session } => Ok(Work::Run { sql, changes_session }),
            Statement::Insert { insert, inline_data } => {
                Ok(Work::Insert { head: insert, data: self.data(vec![text.slice(inline_data)], encoding) })
            }
        }
    }

    fn data(&self, chunks: Vec<Bytes>, encoding: RequestEncoding) -> InsertData {
        InsertData { chunks, encoding, limit: self.request_bytes_max }
    }
}

fn concat(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.len() {
        0 => Bytes::new(),
        1 => chunks.remove(0),
        _ => Bytes::from(chunks.concat()),
    }
}

/// Reads what is left of the body of a refused request. A connection that is closed with unread bytes is reset, and a
/// reset can overtake the answer: the client would see a broken connection instead of the reason.
async fn read_out(mut body: Incoming) {
    let reading = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length > REFUSED_BYTES_MAX {
                return;
            }
        }
    };
    // Late or not, the answer goes out now.
    let _ = tokio::time::timeout(REFUSED_READ_TIMEOUT, reading).await;
}

fn success(answer: Answer) -> Response<Full<Bytes>> {
    let Answer { body, encoding, counts, elapsed } = answer;
    let summary = format!(
        r#"{{"read_rows":"{}","read_bytes":"{}","written_rows":"{}","written_bytes":"{}","elapsed_ns":"{}"}}"#,
        counts.read_rows,
        counts.read_bytes,
        counts.written_rows,
        counts.written_bytes,
        elapsed.as_nanos(),
    );
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if encoding == ResponseEncoding::Lz4Frame {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("lz4"));
    }
    if let Ok(summary) = HeaderValue::try_from(summary) {
        headers.insert("x-clickhouse-summary", summary);
    }
    response
}

fn failure(refusal: Refusal) -> Response<Full<Bytes>> {
    let Refusal { status, code, message } = refusal;
    debug!(code, %status, "query of the embedded engine refused");
    let mut response = Response::new(Full::from(message + "\n"));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    headers.insert("x-clickhouse-exception-code", HeaderValue::from(code));
    response
}

// === impl Credentials ===

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}
