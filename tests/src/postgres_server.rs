//! A PostgreSQL server of the test's own: its directory, its port, its process.
//!
//! PostgreSQL refuses to run as root, so where the test does, the server runs as the user that its package makes.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use crate::port::free_address;
use crate::program::{Finished, Program, print_tail};
use crate::wait::eventually;

/// The owner of everything in it.
pub const USER: &str = "picket";
/// Whom the server runs as where the test is root; Debian's package makes it.
const SYSTEM_USER: &str = "postgres";
const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// A running PostgreSQL server; ended when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    directory: TempDir,
    binaries: PathBuf,
    port: u16,
    password: &'static str,
    /// User and group id that the server runs as, where that is not the test's.
    user: Option<(u32, u32)>,
    program: Option<Program>,
}

impl PostgresServer {
    /// Makes an empty server and starts it.
    #[must_use]
    #[track_caller]
    pub fn start(password: &'static str) -> Self {
        let user = getuid().is_root().then(system_user);
        let directory = TempDir::with_prefix("picket-postgres-").expect("a temporary directory");
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).expect("permissions");
        let home = directory.path().join("home");
        std::fs::create_dir(&home).expect("a directory");
        let secret = home.join("password");
        std::fs::write(&secret, password).expect("a file");
        if let Some((uid, gid)) = user {
            for path in [&home, &secret] {
                chown(path, Some(uid), Some(gid)).expect("root may give files away");
            }
        }
        let mut this =
            Self { binaries: binaries(), port: free_address().port(), password, user, directory, program: None };
        let mut initdb = this.command("initdb");
        initdb.args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync", "--pwfile"]);
        let _done = Finished::of(initdb.arg(&secret).arg("--pgdata").arg(this.data())).successful();
        this.launch();
        this
    }

    /// The address as `database.url` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_with_password(self.password)
    }

    /// The address with a password that may be another.
    #[must_use]
    pub fn url_with_password(&self, password: &str) -> String {
        format!("postgres://{USER}:{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// The `[database]` section of an aggregator that uses it.
    #[must_use]
    pub fn section(&self) -> String {
        format!("[database]\nurl = {:?}\n", self.url())
    }

    /// Ends it without warning, as a crash of its host's power would end its processes, and starts it again.
    #[track_caller]
    pub fn kill_and_restart(&mut self) {
        self.end_at_once();
        self.launch();
    }

    /// Ends it without warning.
    ///
    /// SIGQUIT is PostgreSQL's "immediate shutdown": no clean-up, recovery at the next start. After a SIGKILL of the main process
    /// alone its children would hold the directory for a while.
    #[track_caller]
    pub fn end_at_once(&mut self) {
        let mut program = self.program.take().expect("the server runs");
        let pid = i32::try_from(program.pid()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        kill_process(pid, Signal::QUIT).expect("our own child can be signalled");
        eventually("PostgreSQL ends", OPEN_PATIENCE, || program.ended().ok_or_else(|| "it runs".to_owned()));
    }

    /// Starts it after [`Self::end_at_once`].
    #[track_caller]
    pub fn launch(&mut self) {
        let log = self.directory.path().join("postgres.log");
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args([
            "-p",
            &self.port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-k",
        ]);
        command.arg(self.home());
        let mut program = Program::start("postgres", command, &log);
        eventually("PostgreSQL answers", OPEN_PATIENCE, || {
            if let Some(status) = program.ended() {
                print_tail("postgres", &log);
                panic!("postgres ended: {status}");
            }
            let mut ready = self.command("pg_isready");
            let asked = Finished::of(ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]));
            if asked.code == Some(0) { Ok(()) } else { Err(format!("{asked:?}")) }
        });
        self.program = Some(program);
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        command.current_dir(self.home()).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.program.is_some() && !std::thread::panicking() {
            self.end_at_once();
        }
    }
}

/// Where the newest installed PostgreSQL is. Debian keeps its server programs out of the search path.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| Path::new(&format!("/usr/lib/postgresql/{version}/bin/initdb")).exists())
        .max();
    let version = newest.expect("PostgreSQL is installed; `make test` installs it");
    PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))
}

fn system_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").expect("the list of users");
    let fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == SYSTEM_USER);
    let fields = fields.expect("PostgreSQL's package made its user");
    (fields[2].parse().expect("a user id"), fields[3].parse().expect("a group id"))
}
