//! A ClickHouse engine inside this process: libchdb behind the same client that talks to a ClickHouse server.
//!
//! ```text
//! clickhouse::Client ── connector.rs (memory) ──┐
//!                                               ├─▶ service.rs ─▶ pool.rs: N threads ─▶ library.rs ─▶ libchdb ─▶ data path
//! another process ───── TCP, password, LZ4 ─────┘    (HTTP)        (one connection each)   (C ABI)
//! ```
//!
//! What it promises:
//! - The rest of the aggregator cannot tell it from a server: same client, same SQL, same errors.
//! - One engine a process, one process a data path (the engine locks `status` in it); both are refused with a reason.
//! - Data of an insert is never part of a query's text (`statement.rs`: the engine would run parts of it).
//! - An insert whose request breaks off has no effect; one that was answered is in the table as durably as the table's
//!   settings ask (`fsync_after_insert` …: those are the migrations' business).
//! - Everything is bounded: threads, queued queries, connections, bytes of a request, bytes of a result, the engine's memory.
//!   Each bound is in [`EngineOptions`].
//! - No signal handler is installed (see `library.rs` for what the engine does to existing ones).
//!
//! A query cannot be taken back once it has started, except by the settings it carries (`max_execution_time`) and at the
//! end of the process ([`Engine::close`]).
//!
//! | file | what |
//! | --- | --- |
//! | `library.rs` | finding and loading the library, its C interface |
//! | `pool.rs` | threads, queue, sessions |
//! | `statement.rs` | one statement, and where an insert's data begins |
//! | `insert_data.rs` | handing that data over |
//! | `request.rs`, `multipart.rs`, `compression.rs`, `refusal.rs` | the parts of an HTTP exchange |
//! | `service.rs`, `connector.rs` | HTTP over TCP and over memory |

mod compression;
mod connector;
mod insert_data;
pub mod library;
mod multipart;
mod pool;
mod refusal;
mod request;
mod service;
mod statement;

use std::ffi::{CString, NulError};
use std::future::Future;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};

use clickhouse::{Client, Compression};
use hyper_util::rt::TokioExecutor;
use thiserror::Error;
use tokio::net::TcpListener;
use tracing::{info, warn};

use self::connector::Connector;
use self::library::{Connection, Library};
use self::pool::{Opening, Threads};
use self::service::HttpService;

/// How long queries get to end after they were cancelled at the end of [`Engine::close`].
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// In-memory connections that are kept open for the next request.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// Why the embedded engine cannot be had.
#[derive(Debug, Error)]
pub enum EngineError {
    /// There is no library in any of the known places.
    #[error(
        "libchdb was not found; tried {}; fetch it with `packaging/setup.sh run`, name it under [clickhouse] library, \
         or set [clickhouse] url to a ClickHouse server",
        listed(tried)
    )]
    LibraryNotFound {
        /// All places that were looked at.
        tried: Vec<PathBuf>,
    },
    /// The library is there but cannot be loaded.
    #[error("cannot load the engine from {}: {source}; it may be of another version or machine: fetch it again with `packaging/setup.sh run`", path.display())]
    Load {
        /// The library.
        path: PathBuf,
        /// The loader's reason.
        source: libloading::Error,
    },
    /// This process has loaded another library before.
    #[error("cannot load the engine from {}: this process uses {} already; start the program anew", wanted.display(), loaded.display())]
    OtherLibraryLoaded {
        /// The library asked for.
        wanted: PathBuf,
        /// The library in use.
        loaded: PathBuf,
    },
    /// This process has an engine already.
    #[error("this process has an embedded engine already; close it before opening {}", path.display())]
    AlreadyOpen {
        /// The data path asked for.
        path: PathBuf,
    },
    /// The data directory cannot be made or used.
    #[error("cannot use {} as the engine's data directory: {source}; check its owner and permissions", path.display())]
    DataPath {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process holds the data directory.
    #[error("the engine's data directory {} is in use by process {holder}; stop that process first", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that holds it.
        holder: u32,
    },
    /// The engine does not start.
    #[error("the engine refused to open {}: {reason}", path.display())]
    Refused {
        /// The data directory.
        path: PathBuf,
        /// The engine's reason, as far as it gave one.
        reason: String,
    },
    /// No threads for queries.
    #[error("cannot start the engine's query threads: {0}; check the limits on threads and memory")]
    Threads(#[source] io::Error),
    /// An option is out of range.
    #[error("option {name} of the embedded engine must be at least 1")]
    Option {
        /// The field of [`EngineOptions`].
        name: &'static str,
    },
    /// Queries did not end although they were cancelled.
    #[error(
        "{running} queries of the embedded engine did not end in time; the data is safe, but the process must end before the data directory can be opened again"
    )]
    StillRunning {
        /// How many.
        running: usize,
    },
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Bounds of the engine. The defaults are for one machine that does other work as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Queries that run at once; each has a thread and a connection.
    pub query_threads: usize,
    /// Queries that wait for a thread; further ones wait at their client.
    pub queue_length: usize,
    /// HTTP connections at once, in memory and on each listener.
    pub connections_max: usize,
    /// Bytes of a request's body, before and after decompression.
    pub request_bytes_max: usize,
    /// Bytes of a result, as the engine counts them; more is an error of that query.
    pub result_bytes_max: u64,
    /// Bytes of memory the engine may use for queries, merges and caches; a query that needs more fails.
    pub memory_bytes_max: u64,
    /// Bytes of the cache for marks (where columns' granules are), within `memory_bytes_max`.
    pub mark_cache_bytes: u64,
    /// Background merges and mutations at once.
    pub merge_threads: usize,
    /// Threads that the engine uses for one query.
    pub threads_per_query: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            query_threads: 4,
            queue_length: 64,
            connections_max: 64,
            request_bytes_max: 256 * 1024 * 1024,
            result_bytes_max: 256 * 1024 * 1024,
            memory_bytes_max: 2 * 1024 * 1024 * 1024,
            mark_cache_bytes: 64 * 1024 * 1024,
            merge_threads: 2,
            threads_per_query: 2,
        }
    }
}

// === impl EngineOptions ===

impl EngineOptions {
    fn validate(&self) -> Result<(), EngineError> {
        let at_least_one = [
            ("query_threads", self.query_threads),
            ("queue_length", self.queue_length),
            ("connections_max", self.connections_max),
            ("request_bytes_max", self.request_bytes_max),
            ("merge_threads", self.merge_threads),
            ("threads_per_query", self.threads_per_query),
        ];
        match at_least_one.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(EngineError::Option { name }),
            None => Ok(()),
        }
    }

    /// Server settings, which the engine takes as arguments when it starts.
    fn arguments(&self, data_path: &Path) -> Result<Vec<CString>, NulError> {
        let mut path = b"--path=".to_vec();
        path.extend_from_slice(data_path.as_os_str().as_bytes());
        let mut arguments = vec![CString::new(path)?];
        let server_settings = [
            ("max_server_memory_usage", self.memory_bytes_max),
            ("mark_cache_size", self.mark_cache_bytes),
            // Pages are in the kernel's cache; a second copy decompressed pays off on larger machines only.
            ("uncompressed_cache_size", 0),
            ("background_pool_size", self.merge_threads as u64),
        ];
        for (name, value) in server_settings {
            arguments.push(CString::new(format!("--{name}={value}"))?);
        }
        Ok(arguments)
    }

    /// Settings that every session begins with; a request's settings come after and win.
    fn session_settings(&self) -> Vec<(String, String)> {
        let settings = [
            ("max_threads", self.threads_per_query.to_string()),
            ("max_result_bytes", self.result_bytes_max.to_string()),
            ("result_overflow_mode", "throw".to_owned()),
            // Compiling queries to machine code costs memory, and it fails where the service manager forbids memory that
            // is both writable and executable.
            ("compile_expressions", "0".to_owned()),
            ("compile_aggregate_expressions", "0".to_owned()),
            ("compile_sort_description", "0".to_owned()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// User and password of a TCP listener.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User; ClickHouse's usual one is `default`.
    pub user: String,
    /// Password in clear; never logged.
    pub password: String,
}

/// The engine of this process. To be ended with [`Engine::close`].
#[derive(Debug)]
pub struct Engine {
    service: Arc<HttpService>,
    client: Client,
    version: String,
    running: Mutex<Option<Running>>,
}

/// What `close` takes down.
#[derive(Debug)]
struct Running {
    threads: Threads,
    /// Keeps the engine up while threads replace their connections; cancels queries at the end.
    anchor: Connection,
    claim: Claim,
}

/// The right to the one engine of this process.
#[derive(Debug)]
struct Claim;

/// Whether a [`Claim`] exists.
static CLAIMED: AtomicBool = AtomicBool::new(false);

// === impl Claim ===

impl Claim {
    fn take(path: &Path) -> Result<Self, EngineError> {
        if CLAIMED.swap(true, Ordering::AcqRel) {
            return Err(EngineError::AlreadyOpen { path: path.to_owned() });
        }
        Ok(Self)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.store(false, Ordering::Release);
    }
}

// === impl Engine ===

impl Engine {
    /// Loads the library and opens `data_path`, which is made (mode 0700) where it does not exist.
    ///
    /// Takes 0.3 s with a warm page cache and a few seconds without (the library has 560 MB, of which about 150 are read),
    /// on a thread for blocking work. The engine belongs to the Tokio runtime it is opened in.
    ///
    /// # Errors
    /// See [`EngineError`]; nothing stays open after an error.
    pub async fn open(library_path: &Path, data_path: &Path, options: EngineOptions) -> Result<Self, EngineError> {
        let (library_path, data_path) = (library_path.to_owned(), data_path.to_owned());
        let opening = tokio::task::spawn_blocking(move || Self::open_blocking(&library_path, &data_path, &options));
        match opening.await {
            Ok(result) => result,
            // It is never cancelled, so it panicked: go on as if it had happened here.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn open_blocking(library_path: &Path, data_path: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        options.validate()?;
        let started = Instant::now();
        let claim = Claim::take(data_path)?;
        let library = Library::load(library_path)?;
        let data_path = prepare_data_path(data_path)?;
        let arguments = options.arguments(&data_path).map_err(|error| refused(&data_path, error.to_string()))?;
        let opening = Opening {
            library,
            arguments: arguments.into(),
            settings: options.session_settings().into(),
            result_bytes_max: options.result_bytes_max,
        };
        let mut anchor = opening.connect().map_err(|failure| match holder_of(&data_path) {
            Some(holder) => EngineError::InUse { path: data_path.clone(), holder },
            None => refused(&data_path, failure.message),
        })?;
        let version = version_of(&mut anchor).map_err(|reason| refused(&data_path, reason))?;
        let (queue, threads) =
            pool::start(&opening, options.query_threads, options.queue_length).map_err(EngineError::Threads)?;
        let service = Arc::new(HttpService::new(queue, options.request_bytes_max, options.connections_max));
        let client = in_memory_client(&service);
        let milliseconds = started.elapsed().as_millis();
        info!(version, path = %data_path.display(), milliseconds, "embedded engine open");
        let running = Mutex::new(Some(Running { threads, anchor, claim }));
        Ok(Self { service, client, version, running })
    }

    /// A client of this engine. Clones share its connections. Data crosses memory uncompressed.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Version of ClickHouse, such as `26.5.1.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Serves the engine to other processes over HTTP until it is closed; the caller runs the future as a task.
    ///
    /// There is no TLS: the listener belongs on loopback.
    pub fn serve_tcp(
        &self,
        listener: TcpListener,
        credentials: Credentials,
    ) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.service).serve_listener(listener, Arc::new(credentials))
    }

    /// Takes no more requests, lets those that run end within `patience`, cancels the rest and closes the data path, which
    /// may then be opened again. A second call does nothing.
    ///
    /// # Errors
    /// [`EngineError::StillRunning`] if queries go on after they were cancelled; the engine then stays as it is.
    pub async fn close(&self, patience: Duration) -> Result<(), EngineError> {
        let deadline = Instant::now() + patience;
        self.service.shut_down(patience).await;
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        let stop = tokio::task::spawn_blocking(move || running.stop(left));
        // The task is not cancelled and does not panic; if it did, the engine's state would be unknown.
        stop.await.unwrap_or(Err(EngineError::StillRunning { running: 0 }))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            warn!("embedded engine dropped without closing it; it stays up until the process ends");
            running.leak();
        }
    }
}

// === impl Running ===

impl Running {
    fn stop(mut self, patience: Duration) -> Result<(), EngineError> {
        let mut still_running = self.threads.join(patience);
        if still_running > 0 {
            warn!(queries = still_running, "cancelling queries of the embedded engine");
            if let Err(failure) = self.anchor.query("KILL QUERY WHERE 1 ASYNC", "Null", &[]) {
                warn!(reason = failure.message, "cannot cancel queries of the embedded engine");
            }
            still_running = self.threads.join(CANCEL_PATIENCE);
        }
        if still_running > 0 {
            self.leak();
            return Err(EngineError::StillRunning { running: still_running });
        }
        let Self { anchor, claim, .. } = self;
        // The last connection: the engine writes out what it has to and lets go of the data path.
        drop(anchor);
        drop(claim);
        info!("embedded engine closed");
        Ok(())
    }

    /// Threads may still use the engine, so it must neither be closed nor opened again.
    fn leak(self) {
        std::mem::forget(self.anchor);
        std::mem::forget(self.claim);
    }
}

fn in_memory_client(service: &Arc<HttpService>) -> Client {
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(None)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .build(Connector::new(Arc::clone(service)));
    // The connector does not look at the address, but the client must have one.
    Client::with_http_client(http).with_url("http://embedded.invalid/").with_compression(Compression::None)
}

fn prepare_data_path(path: &Path) -> Result<PathBuf, EngineError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| fs::canonicalize(path)).map_err(|source| EngineError::DataPath { path: path.to_owned(), source })
}

fn refused(path: &Path, reason: String) -> EngineError {
    EngineError::Refused { path: path.to_owned(), reason }
}

/// The process named in the engine's lock file, if it is alive and not this one.
fn holder_of(data_path: &Path) -> Option<u32> {
    let status = fs::read_to_string(data_path.join("status")).ok()?;
    let holder: u32 = status.lines().find_map(|line| line.strip_prefix("PID: "))?.trim().parse().ok()?;
    let alive = Path::new("/proc").join(holder.to_string()).exists();
    (alive && holder != std::process::id()).then_some(holder)
}

fn version_of(connection: &mut Connection) -> Result<String, String> {
    let result = connection.query("SELECT version()", "TSVRaw", &[]).map_err(|failure| failure.message)?;
    Ok(String::from_utf8_lossy(result.as_ref()).trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_option_of_zero_is_refused_by_name() {
        let options = EngineOptions { queue_length: 0, ..EngineOptions::default() };

        let error = options.validate().unwrap_err();

        assert!(matches!(error, EngineError::Option { name: "queue_length" }), "{error}");
    }

    #[test]
    fn the_data_path_is_an_argument_of_the_engine() {
        let arguments = EngineOptions::default().arguments(Path::new("/var/lib/picket/a b")).unwrap();

        assert_eq!(arguments[0], CString::new("--path=/var/lib/picket/a b").unwrap());
    }

    #[test]
    fn the_holder_is_read_from_the_lock_file() {
        let directory = tempfile::tempdir().unwrap();
        let status = directory.path().join("status");

        assert_eq!(holder_of(directory.path()), None);
        fs::write(&status, "PID: 1\nStarted at: 2026-01-01 00:00:00\nRevision: 54510\n").unwrap();
        assert_eq!(holder_of(directory.path()), Some(1));
        fs::write(&status, "PID: 999999999\n").unwrap();
        assert_eq!(holder_of(directory.path()), None);
    }

    #[test]
    fn a_password_is_not_printed() {
        let credentials = Credentials { user: "someone".to_owned(), password: "secret".to_owned() };

        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
