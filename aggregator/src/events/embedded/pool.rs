//! Threads that run queries, each with its own connection to the engine.
//!
//! ```text
//! service.rs ─▶ bounded queue ─▶ picket-engine-0..N ─▶ libchdb
//! ```
//!
//! - A query occupies a thread until it is done; as many run at once as there are threads.
//! - Queue full: the sender waits, and with it the HTTP request. A request that goes away while it is queued is not run.
//! - Every query sees a fresh session with its own settings and database, as over HTTP without a session id. A connection is
//!   used again for a query with the same settings and database; one that a query has changed (`SET`, `USE`, temporary
//!   tables) or that reported an error is replaced. Opening one takes 0.2 ms and its first query 1 ms more.
//! - Shutdown: the queue is closed, what is in it still runs, then the threads end.

use std::ffi::CString;
use std::fmt::Write as _;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::compression::{ResponseEncoding, encode};
use super::insert_data::{InsertData, InsertDataError};
use super::library::{Connection, Library, QueryCounts, QueryFailure};
use super::statement::InsertHead;

/// Stack of a query thread. The engine runs parsing and planning on the caller's stack and is made for the 8 MiB that a
/// Linux process starts with; pages that are not touched cost nothing.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// ClickHouse's error codes for what goes wrong here rather than in the engine.
const CODE_CANNOT_COMPRESS: u32 = 270;
const CODE_CANNOT_DECOMPRESS: u32 = 271;
const CODE_NETWORK_ERROR: u32 = 210;
const CODE_CANNOT_OPEN_FILE: u32 = 76;
const CODE_TOO_MANY_ROWS_OR_BYTES: u32 = 396;

/// One query with all it needs.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) work: Work,
    pub(super) database: Option<String>,
    /// Output format where the query names none.
    pub(super) format: String,
    /// Names are checked by `request.rs`: letters, digits and underscores only.
    pub(super) settings: Vec<(String, String)>,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) response_encoding: ResponseEncoding,
}

/// What a query does.
#[derive(Debug)]
pub(super) enum Work {
    Run { sql: String, changes_session: bool },
    Insert { head: InsertHead, data: InsertData },
}

/// A finished query.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// What was asked for, but an empty result stays empty.
    pub(super) encoding: ResponseEncoding,
    pub(super) counts: QueryCounts,
    pub(super) elapsed: Duration,
}

/// Where the answer goes.
type Reply = oneshot::Sender<Result<Answer, QueryFailure>>;

#[derive(Debug)]
struct Job {
    query: Query,
    reply: Reply,
}

/// Hands queries to the threads. Refuses once the pool is closed.
#[derive(Debug)]
pub(super) struct Queue {
    sender: Mutex<Option<mpsc::Sender<Job>>>,
}

/// The threads, to be ended with [`Threads::join`] after [`Queue::close`].
#[derive(Debug)]
pub(super) struct Threads {
    handles: Vec<JoinHandle<()>>,
    ended: std_mpsc::Receiver<()>,
}

/// How a thread opens a connection.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) library: Library,
    /// The engine's; the same for every connection of the process.
    pub(super) arguments: Arc<[CString]>,
    /// What every session begins with: the engine takes no settings from its arguments.
    pub(super) settings: Arc<[(String, String)]>,
    /// Bytes of a result. The engine has the same limit but counts constant columns once.
    pub(super) result_bytes_max: u64,
}

/// Starts `threads` threads with room for `queue_length` waiting queries.
pub(super) fn start(opening: &Opening, threads: usize, queue_length: usize) -> std::io::Result<(Queue, Threads)> {
    let (sender, receiver) = mpsc::channel(queue_length);
    let receiver = Arc::new(Mutex::new(receiver));
    let (ended_sender, ended) = std_mpsc::channel();
    let mut handles = Vec::with_capacity(threads);
    for index in 0..threads {
        let receiver = Arc::clone(&receiver);
        let session = Session { opening: opening.clone(), prepared: None };
        let ended_sender = ended_sender.clone();
        let thread = thread::Builder::new().name(format!("picket-engine-{index}")).stack_size(STACK_BYTES);
        handles.push(thread.spawn(move || {
            run_queries(&receiver, session);
            // The receiver is gone only when nobody waits for the threads any more.
            let _ = ended_sender.send(());
        })?);
    }
    Ok((Queue { sender: Mutex::new(Some(sender)) }, Threads { handles, ended }))
}

// === impl Queue ===

impl Queue {
    /// Runs a query and waits for its answer. A query that has started runs on when this future is dropped.
    pub(super) async fn run(&self, query: Query) -> Result<Answer, QueryFailure> {
        let (reply, answer) = oneshot::channel();
        let sender = self.lock().clone().ok_or_else(closed)?;
        sender.send(Job { query, reply }).await.map_err(|_| closed())?;
        drop(sender);
        answer.await.map_err(|_| closed())?
    }

    /// No more queries from here on; those in the queue still run.
    pub(super) fn close(&self) {
        self.lock().take();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Job>>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> QueryFailure {
    QueryFailure {
        code: CODE_NETWORK_ERROR,
        message: format!(
            "Code: {CODE_NETWORK_ERROR}. DB::Exception: the embedded engine is shutting down. (NETWORK_ERROR)"
        ),
    }
}

// === impl Threads ===

impl Threads {
    /// Waits until all threads have ended, at most `patience`. Gives the number that have not.
    pub(super) fn join(&mut self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        while !self.handles.iter().all(JoinHandle::is_finished) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.ended.recv_timeout(left) {
                Ok(()) => {}
                Err(std_mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std_mpsc::RecvTimeoutError::Timeout) => {
                    return self.handles.iter().filter(|handle| !handle.is_finished()).count();
                }
            }
        }
        for handle in self.handles.drain(..) {
            // A panic was reported when it happened; the thread is gone either way.
            let _ = handle.join();
        }
        0
    }
}

fn run_queries(receiver: &Mutex<mpsc::Receiver<Job>>, mut session: Session) {
    loop {
        // One thread waits with the lock held, the others for the lock: whoever has it takes the next query.
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(Job { query, reply }) = job else { return };
        if reply.is_closed() {
            debug!("a request went away before its query started");
            continue;
        }
        let result = session.run(query);
        // The request may be gone by now; the query has had its effect all the same.
        let _ = reply.send(result);
    }
}

// === impl Opening ===

impl Opening {
    /// A connection with the settings that every session begins with.
    pub(super) fn connect(&self) -> Result<Connection, QueryFailure> {
        let mut connection = self.library.connect(&self.arguments).ok_or_else(cannot_connect)?;
        connection.query(&set_statement(&self.settings), "Null", &[])?;
        Ok(connection)
    }
}

/// A thread's connection and how to open another.
#[derive(Debug)]
struct Session {
    opening: Opening,
    /// As it was prepared for the last query, and not changed by it.
    prepared: Option<Prepared>,
}

/// A connection whose database and settings are set.
#[derive(Debug)]
struct Prepared {
    connection: Connection,
    database: Option<String>,
    settings: Vec<(String, String)>,
}

// === impl Session ===

impl Session {
    fn run(&mut self, query: Query) -> Result<Answer, QueryFailure> {
        let started = Instant::now();
        let Query { work, database, format, settings, parameters, response_encoding } = query;
        let mut prepared = self.prepare(database, settings)?;
        let connection = &mut prepared.connection;
        let (result, keeps_session) = match work {
            Work::Run { sql, changes_session } => (connection.query(&sql, &format, &parameters)?, !changes_session),
            Work::Insert { head, data } => {
                let file = data.into_file().map_err(|error| cannot_store(&error))?;
                (connection.query(&head.reading_from(&file.path()), &format, &parameters)?, true)
            }
        };
        self.prepared = keeps_session.then_some(prepared);
        let counts = result.counts();
        let raw = Bytes::from_owner(result);
        if raw.len() as u64 > self.opening.result_bytes_max {
            return Err(result_too_large(raw.len(), self.opening.result_bytes_max));
        }
        let encoding = if raw.is_empty() { ResponseEncoding::Identity } else { response_encoding };
        let body = encode(raw, encoding).map_err(|error| cannot_encode(&error))?;
        Ok(Answer { body, encoding, counts, elapsed: started.elapsed() })
    }

    /// The connection of the last query if it fits this one, else a new one.
    fn prepare(&mut self, database: Option<String>, settings: Vec<(String, String)>) -> Result<Prepared, QueryFailure> {
        let last = self.prepared.take();
        if let Some(fitting) = last.filter(|last| last.database == database && last.settings == settings) {
            return Ok(fitting);
        }
        let mut connection = self.opening.connect()?;
        if let Some(database) = &database {
            connection.query(&format!("USE {}", quoted(database, '`')), "Null", &[])?;
        }
        if !settings.is_empty() {
            connection.query(&set_statement(&settings), "Null", &[])?;
        }
        Ok(Prepared { connection, database, settings })
    }
}

fn set_statement(settings: &[(String, String)]) -> String {
    let mut statement = String::from("SET ");
    for (index, (name, value)) in settings.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(statement, "{separator}{name} = {}", quoted(value, '\''));
    }
    statement
}

fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for character in text.chars() {
        if character == quote || character == '\\' {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push(quote);
    quoted
}

fn cannot_connect() -> QueryFailure {
    QueryFailure {
        code: CODE_NETWORK_ERROR,
        message: format!(
            "Code: {CODE_NETWORK_ERROR}. DB::Exception: the embedded engine refused a connection; its reason is on stderr. (NETWORK_ERROR)"
        ),
    }
}

fn result_too_large(bytes: usize, limit: u64) -> QueryFailure {
    let code = CODE_TOO_MANY_ROWS_OR_BYTES;
    QueryFailure {
        code,
        message: format!(
            "Code: {code}. DB::Exception: the result has {bytes} bytes, the limit is {limit}. (TOO_MANY_ROWS_OR_BYTES)"
        ),
    }
}

fn cannot_store(error: &InsertDataError) -> QueryFailure {
    let (code, name) = match error {
        InsertDataError::Decode(_) => (CODE_CANNOT_DECOMPRESS, "CANNOT_DECOMPRESS"),
        InsertDataError::File(_) => (CODE_CANNOT_OPEN_FILE, "CANNOT_OPEN_FILE"),
    };
    QueryFailure { code, message: format!("Code: {code}. DB::Exception: {error}. ({name})") }
}

fn cannot_encode(error: &std::io::Error) -> QueryFailure {
    let code = CODE_CANNOT_COMPRESS;
    QueryFailure {
        code,
        message: format!("Code: {code}. DB::Exception: cannot compress the result: {error}. (CANNOT_COMPRESS)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_settings_cannot_leave_their_quotes() {
        let settings = [
            ("insert_deduplication_token".to_owned(), "a'; DROP TABLE t; --\\".to_owned()),
            ("max_threads".to_owned(), "2".to_owned()),
        ];

        assert_eq!(
            set_statement(&settings),
            r"SET insert_deduplication_token = 'a\'; DROP TABLE t; --\\', max_threads = '2'"
        );
    }

    #[test]
    fn names_of_databases_cannot_leave_their_quotes() {
        assert_eq!(quoted("a`; DROP", '`'), r"`a\`; DROP`");
    }
}
