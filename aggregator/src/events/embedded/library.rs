//! Binding to libchdb, the ClickHouse engine as a shared library. The only place with `unsafe`.
//!
//! Invariants:
//! - The library is loaded at most once a process and never unloaded: its threads outlive every connection.
//! - Signal handlers stay ours: they are switched off before the first connection. As a side effect the library puts
//!   SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP and SIGTSTP back to their defaults, so Rust's message on a
//!   stack overflow is lost; SIGINT, SIGTERM and SIGHUP are left alone.
//! - A `Connection` is used by one thread at a time (it is `Send`, not `Sync`).
//! - A `QueryResult` owns its buffer and does not depend on the connection it came from.
//! - A process that ends with a connection open ends at once: at exit the library destroys its globals while its background
//!   threads still use them, which crashed about one exit in ten (SIGSEGV after the last line of `main`).
//! - The counters of a failed result are never read: the library returns another type there and the values are garbage.
//!
//! The package has no header; the signatures are those of its C ABI at 26.5:
//!
//! ```text
//! chdb_connection *chdb_connect(int argc, char **argv);                 null on failure
//! chdb_result     *chdb_query_with_params_n(chdb_connection,
//!                      const char *query, size_t, const char *format, size_t,
//!                      const char *const *names, const size_t *, const char *const *values, const size_t *, size_t count);
//! char            *chdb_result_buffer(chdb_result *);   size_t chdb_result_length(chdb_result *);
//! const char      *chdb_result_error(chdb_result *);                    null when there is none
//! size_t           chdb_result_{rows,bytes}_{read,written}(chdb_result *);
//! void             chdb_destroy_query_result(chdb_result *);
//! void             chdb_close_conn(chdb_connection *);
//! void             chdb_set_signal_handlers_enabled(int);
//! ```

#![expect(unsafe_code, reason = "the one module that calls the engine's C interface")]

use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::EngineError;

/// Where a package puts the library.
const SYSTEM_PATH: &str = "/usr/lib/picket/libchdb.so";

/// File name in the cache directory (a link to the pinned version, made by `packaging/setup.sh`).
const CACHE_FILE: &str = "libchdb.so";

/// Finds the library: `configured` if given, else the packaged one, else the one in the cache directory
/// (`$PICKET_CACHE_DIR`, default `~/.cache/picket`).
///
/// A configured path is not replaced by another one when it does not exist: whoever configured it meant it.
///
/// # Errors
/// [`EngineError::LibraryNotFound`] names every path that was tried.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, EngineError> {
    find_among(candidates(configured, cache_dir()))
}

fn cache_dir() -> Option<PathBuf> {
    let explicit = env::var_os("PICKET_CACHE_DIR").filter(|dir| !dir.is_empty());
    explicit.map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(Path::new(&home).join(".cache/picket"))
    })
}

fn candidates(configured: Option<&Path>, cache_dir: Option<PathBuf>) -> Vec<PathBuf> {
    match configured {
        Some(path) => vec![path.to_owned()],
        None => {
            let cached = cache_dir.map(|dir| dir.join(CACHE_FILE));
            [Some(PathBuf::from(SYSTEM_PATH)), cached].into_iter().flatten().collect()
        }
    }
}

fn find_among(candidates: Vec<PathBuf>) -> Result<PathBuf, EngineError> {
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(EngineError::LibraryNotFound { tried: candidates }),
    }
}

/// What the library's pointer types point to; opaque to us.
type RawConnection = *mut c_void;
type RawResult = c_void;

type Connect = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut RawConnection;
type Close = unsafe extern "C" fn(*mut RawConnection);
type Query = unsafe extern "C" fn(
    RawConnection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> *mut RawResult;
type Buffer = unsafe extern "C" fn(*mut RawResult) -> *mut c_char;
type Count = unsafe extern "C" fn(*mut RawResult) -> usize;
type ErrorText = unsafe extern "C" fn(*mut RawResult) -> *const c_char;
type Destroy = unsafe extern "C" fn(*mut RawResult);
type SetSignalHandlers = unsafe extern "C" fn(c_int);

#[derive(Debug)]
struct Functions {
    connect: Connect,
    close: Close,
    query: Query,
    buffer: Buffer,
    length: Count,
    error: ErrorText,
    rows_read: Count,
    bytes_read: Count,
    rows_written: Count,
    bytes_written: Count,
    destroy: Destroy,
}

unsafe extern "C" {
    /// glibc: has `function` called by `exit` with its status; last registered, first called.
    safe fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    /// Ends the process without any handler.
    safe fn _exit(status: c_int) -> !;
}

/// Connections that are open in this process.
static OPEN_CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// Keeps `exit` from the library's destructors while the engine is up. What has to be on disk is there: the engine writes
/// parts before it answers, and Rust has flushed its streams before it calls `exit`.
extern "C" fn leave_while_the_engine_is_up(status: c_int, _argument: *mut c_void) {
    if OPEN_CONNECTIONS.load(Ordering::Acquire) > 0 {
        _exit(status);
    }
}

/// The loaded library. Cheap to copy; lives as long as the process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Library {
    functions: &'static Functions,
}

/// The one library of this process and the path it came from.
static LOADED: Mutex<Option<(PathBuf, Library)>> = Mutex::new(None);

// === impl Library ===

impl Library {
    /// Loads the library, or returns the one that is loaded already.
    pub(super) fn load(path: &Path) -> Result<Self, EngineError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((loaded_path, library)) = &*loaded {
            if loaded_path == path {
                return Ok(*library);
            }
            return Err(EngineError::OtherLibraryLoaded { wanted: path.to_owned(), loaded: loaded_path.clone() });
        }
        let functions = resolve(path).map_err(|source| EngineError::Load { path: path.to_owned(), source })?;
        let library = Self { functions: Box::leak(Box::new(functions)) };
        *loaded = Some((path.to_owned(), library));
        Ok(library)
    }

    /// Opens a connection. The first one of the process starts the engine with `arguments` (as clickhouse-local takes
    /// them, `--name=value`); later ones must pass the same and get settings from them.
    ///
    /// `None` when the engine refuses; it says why on stderr only.
    pub(super) fn connect(self, arguments: &[CString]) -> Option<Connection> {
        let mut argv: Vec<*mut c_char> = Vec::with_capacity(arguments.len() + 2);
        argv.push(c"clickhouse".as_ptr().cast_mut());
        argv.extend(arguments.iter().map(|argument| argument.as_ptr().cast_mut()));
        let argc = c_int::try_from(argv.len()).ok()?;
        argv.push(ptr::null_mut());
        // SAFETY: `argv` holds `argc` pointers to NUL-terminated strings that outlive the call, then a null; the library
        // copies them and does not write to them.
        let raw = NonNull::new(unsafe { (self.functions.connect)(argc, argv.as_mut_ptr()) })?;
        if OPEN_CONNECTIONS.fetch_add(1, Ordering::AcqRel) == 0 {
            // After the library's own handlers, the later ones of a start included, so that it is called before them. Again
            // at each start: there are few in a process, and glibc's list grows as needed.
            on_exit(leave_while_the_engine_is_up, ptr::null_mut());
        }
        Some(Connection { functions: self.functions, raw })
    }
}

fn resolve(path: &Path) -> Result<Functions, libloading::Error> {
    // SAFETY: loading runs the library's initialisers. The path is the operator's or the package's: code that is trusted
    // as much as this program. The handle is leaked below, so the symbols stay valid for the life of the process.
    let library: &'static libloading::Library = unsafe { Box::leak(Box::new(libloading::Library::new(path)?)) };

    /// Looks up one function; its type is that of the field it is stored in.
    macro_rules! function {
        ($name:literal) => {
            // SAFETY: the signature is that of the C ABI in the module's documentation, and `library` is never unloaded.
            *unsafe { library.get($name)? }
        };
    }

    let set_signal_handlers: SetSignalHandlers = function!(c"chdb_set_signal_handlers_enabled");
    // SAFETY: sets a flag of the library; called before any connection, as it must be.
    unsafe { set_signal_handlers(0) };

    Ok(Functions {
        connect: function!(c"chdb_connect"),
        close: function!(c"chdb_close_conn"),
        query: function!(c"chdb_query_with_params_n"),
        buffer: function!(c"chdb_result_buffer"),
        length: function!(c"chdb_result_length"),
        error: function!(c"chdb_result_error"),
        rows_read: function!(c"chdb_result_rows_read"),
        bytes_read: function!(c"chdb_result_bytes_read"),
        rows_written: function!(c"chdb_result_rows_written"),
        bytes_written: function!(c"chdb_result_bytes_written"),
        destroy: function!(c"chdb_destroy_query_result"),
    })
}

/// One session of the engine. Settings, current database and temporary tables belong to it. Closed on drop.
#[derive(Debug)]
pub(super) struct Connection {
    functions: &'static Functions,
    raw: NonNull<RawConnection>,
}

// SAFETY: a connection is bound to no thread; the library only asks that one thread uses it at a time, and every method
// that reaches it takes `&mut self`.
unsafe impl Send for Connection {}

/// Why the engine refused or broke off a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueryFailure {
    /// ClickHouse's error code.
    pub(super) code: u32,
    /// `Code: 60. DB::Exception: …`
    pub(super) message: String,
}

// === impl Connection ===

impl Connection {
    /// Runs one statement; blocks until it is done.
    ///
    /// `sql` must be a single statement without inline data: the engine splits on `;`, and it ends inline data of an
    /// `INSERT` at the first empty line and *runs what follows as SQL* (see `statement.rs`, which keeps both out).
    /// `parameters` fill `{name:Type}` placeholders, values escaped as in TSV (as the HTTP interface takes them).
    pub(super) fn query(
        &mut self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<QueryResult, QueryFailure> {
        let names: Vec<*const c_char> = parameters.iter().map(|(name, _)| name.as_ptr().cast()).collect();
        let name_lengths: Vec<usize> = parameters.iter().map(|(name, _)| name.len()).collect();
        let values: Vec<*const c_char> = parameters.iter().map(|(_, value)| value.as_ptr().cast()).collect();
        let value_lengths: Vec<usize> = parameters.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: the connection is open (it is closed on drop only) and ours alone (`&mut self`). All pointers come with
        // their lengths, the four arrays hold `parameters.len()` elements each, and all outlive the call.
        let raw = unsafe {
            (self.functions.query)(
                *self.raw.as_ptr(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        let Some(raw) = NonNull::new(raw) else {
            return Err(QueryFailure::from_message("the engine returned no result".to_owned()));
        };
        let result = QueryResult { functions: self.functions, raw };
        match result.error() {
            Some(failure) => Err(failure),
            None => Ok(result),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: opened by `connect`, not closed before, not used after.
        unsafe { (self.functions.close)(self.raw.as_ptr()) };
        OPEN_CONNECTIONS.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl QueryFailure ===

impl QueryFailure {
    /// `STD_EXCEPTION`: ClickHouse's code for an error that is not one of its own.
    const CODE_OTHER: u32 = 1001;

    fn from_message(message: String) -> Self {
        let code = message
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(digits, _)| digits.parse().ok())
            .unwrap_or(Self::CODE_OTHER);
        Self { code, message }
    }
}

/// The output of one query, in the library's memory; freed on drop.
#[derive(Debug)]
pub(super) struct QueryResult {
    functions: &'static Functions,
    raw: NonNull<RawResult>,
}

// SAFETY: the result owns its buffer and is not tied to its connection or thread.
unsafe impl Send for QueryResult {}
// SAFETY: after `Connection::query` returned it, the result is only read; the getters do not change it.
unsafe impl Sync for QueryResult {}

/// How much a query read and wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct QueryCounts {
    pub(super) read_rows: usize,
    pub(super) read_bytes: usize,
    pub(super) written_rows: usize,
    pub(super) written_bytes: usize,
}

// === impl QueryResult ===

impl QueryResult {
    fn error(&self) -> Option<QueryFailure> {
        // SAFETY: `raw` is a live result; the text, if any, lives as long as the result and is NUL-terminated.
        let text = unsafe {
            let text = (self.functions.error)(self.raw.as_ptr());
            (!text.is_null()).then(|| CStr::from_ptr(text))
        }?;
        Some(QueryFailure::from_message(text.to_string_lossy().into_owned()))
    }

    /// Counters of the query. Only results without an error leave this module, so they are valid.
    pub(super) fn counts(&self) -> QueryCounts {
        // SAFETY: `raw` is a live result without an error.
        unsafe {
            QueryCounts {
                read_rows: (self.functions.rows_read)(self.raw.as_ptr()),
                read_bytes: (self.functions.bytes_read)(self.raw.as_ptr()),
                written_rows: (self.functions.rows_written)(self.raw.as_ptr()),
                written_bytes: (self.functions.bytes_written)(self.raw.as_ptr()),
            }
        }
    }
}

impl AsRef<[u8]> for QueryResult {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `raw` is a live result; buffer and length describe one allocation that it owns until it is destroyed,
        // which cannot happen while `self` is borrowed. The buffer of an empty result may be null.
        unsafe {
            let buffer = (self.functions.buffer)(self.raw.as_ptr());
            let length = (self.functions.length)(self.raw.as_ptr());
            if buffer.is_null() || length == 0 { &[] } else { std::slice::from_raw_parts(buffer.cast(), length) }
        }
    }
}

impl Drop for QueryResult {
    fn drop(&mut self) {
        // SAFETY: a live result that is not used after.
        unsafe { (self.functions.destroy)(self.raw.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_configured_path_is_the_only_one_tried() {
        let error =
            find_among(candidates(Some(Path::new("/nonexistent/libchdb.so")), Some("/cache".into()))).unwrap_err();

        let EngineError::LibraryNotFound { tried } = error else { unreachable!("{error}") };
        assert_eq!(tried, [PathBuf::from("/nonexistent/libchdb.so")]);
    }

    #[test]
    fn without_a_configured_path_the_package_comes_before_the_cache() {
        let tried = candidates(None, Some("/home/someone/.cache/picket".into()));

        assert_eq!(tried, [PathBuf::from(SYSTEM_PATH), PathBuf::from("/home/someone/.cache/picket/libchdb.so")]);
    }

    #[test]
    fn the_error_names_all_paths_and_the_remedy() {
        let error = find_among(vec!["/a/libchdb.so".into(), "/b/libchdb.so".into()]).unwrap_err().to_string();

        assert!(error.contains("/a/libchdb.so, /b/libchdb.so"), "{error}");
        assert!(error.contains("setup.sh run"), "{error}");
    }

    #[test]
    fn the_code_is_read_from_the_message() {
        let failure = |text: &str| QueryFailure::from_message(text.to_owned()).code;

        assert_eq!(failure("Code: 60. DB::Exception: Unknown table"), 60);
        assert_eq!(failure("Error: something else"), QueryFailure::CODE_OTHER);
        assert_eq!(failure("Code: x. y"), QueryFailure::CODE_OTHER);
    }
}
