//! What can go wrong while the programs under test are set up, asked and ended.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// See the module documentation.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// A program is not where it was looked for.
    #[error(
        "no program `{name}` at {path}; build it with `cargo build --release -p {name}` or name it with --{option}"
    )]
    NoBinary {
        /// The program.
        name: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// The flag that names it.
        option: &'static str,
    },
    /// The path of this program is unknown.
    #[error("cannot tell where this program lies: {0}; name the others with --relay-bin and --aggregator-bin")]
    OwnPath(io::Error),
    /// No free ports.
    #[error("cannot find free ports on 127.0.0.1: {0}")]
    Ports(io::Error),
    /// A configuration file or data directory could not be made.
    #[error("cannot write {path}: {source}")]
    Files {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A command ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command's words.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// A command did not end.
    #[error("`{command}` did not end within {deadline:?} and was killed")]
    CommandTimeout {
        /// The command's words.
        command: String,
        /// How long it had.
        deadline: Duration,
    },
    /// A command's answer is not what the contract says.
    #[error("the answer of `{command}` has no {missing}; the programs may be of another version than the bench")]
    Answer {
        /// The command's words.
        command: String,
        /// What was looked for.
        missing: String,
    },
    /// A service ended by itself.
    #[error("the {name} ended by itself ({status}); the end of its log:\n{log}")]
    Ended {
        /// The service.
        name: &'static str,
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// A service did not become ready.
    #[error("the {name} did not become ready on {address} within {deadline:?}; the end of its log:\n{log}")]
    NotReady {
        /// The service.
        name: &'static str,
        /// Where it was asked.
        address: SocketAddr,
        /// How long it had.
        deadline: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// A service had to be killed.
    #[error("the {name} did not end within {deadline:?} of SIGTERM and was killed; the end of its log:\n{log}")]
    DidNotStop {
        /// The service.
        name: &'static str,
        /// How long it had.
        deadline: Duration,
        /// The last lines of its log.
        log: String,
    },
}
