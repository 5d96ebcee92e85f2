//! `picket-relay`: arguments ▸ configuration ▸ one of the commands.
//!
//! Answers go to stdout, logs and reasons to stderr. Exit codes: 0, 1 (it failed), 2 (wrong arguments), 65 (`spool verify` found damage),
//! 78 (bad configuration).

use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use picket_common::config::{ConfigError, InvalidValue, Override, Sources, load_with};
use picket_common::error_text::reason;
use picket_common::ids::{EventId, Sequence};
use picket_common::pii::ScrubProfile;
use picket_common::telemetry::init_logs;
use picket_common::timestamp::Timestamp;
use picket_common::wire::join::JoinToken;
use picket_relay::config::{ENV_PREFIX, RelayConfig, STANDARD_FILE};
use picket_relay::http::tls::{Certificates, TlsError};
use picket_relay::join::{self, Overwrite};
use picket_relay::reload::ConfigSource;
use picket_relay::scrub::dry_run;
use picket_relay::spool_command::{self, Form, Wanted};
use picket_relay::{run, status};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// An event is some hundred small allocations; glibc's allocator takes a tenth of the relay's time with them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// sysexits.h, EX_CONFIG: systemd and people tell it from a passing failure.
const EXIT_BAD_CONFIGURATION: u8 = 78;

/// sysexits.h, EX_DATAERR: what was read is not what was written.
const EXIT_DAMAGED: u8 = 65;

/// How large a core file may be; none is as small.
const CORE_BYTES_MAX: u64 = 1;

/// Most that `scrub` reads from stdin; a relay takes events up to a megabyte unless it is configured otherwise.
const EVENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Takes events from Sentry SDKs, makes them durable and streams them to a Picket aggregator.
#[derive(Parser)]
#[command(name = "picket-relay", version)]
struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct CommonArguments {
    /// Configuration file [default: /etc/picket/relay.toml where it exists].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Directory for identity and spool; overrides data_dir.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Print facts as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Join an aggregator: make a key here and have its certificate signed there.
    Join {
        /// What `picket-aggregator relay invite` printed.
        #[arg(value_name = "TOKEN")]
        token: JoinToken,
        /// Replace the identity of a relay that has joined already. The former one stays registered until it is revoked.
        #[arg(long)]
        force: bool,
    },
    /// Run the relay until SIGTERM or SIGINT.
    Run,
    /// Check the configuration and say what is wrong with it.
    CheckConfig,
    /// Ask the running relay how it fares.
    Status,
    /// Read an event from stdin and print what scrubbing leaves of it; what went, and by which rule, is told on stderr.
    Scrub(ScrubArguments),
    /// Look at what waits for an aggregator, whether the relay runs or not. Changes nothing.
    #[command(subcommand)]
    Spool(SpoolCommand),
}

#[derive(Subcommand)]
enum SpoolCommand {
    /// How full it is, how old, and who it is.
    Status,
    /// Which batches there are; or what is in one, or where an event is. Tells keys and sizes, never what an event says.
    Inspect(InspectArguments),
    /// Read everything and check every checksum. Exit code 65 if anything is damaged.
    Verify,
}

#[derive(Args)]
struct InspectArguments {
    /// The batch that has this sequence, and its records.
    #[arg(long, value_name = "N", conflicts_with = "event")]
    batch: Option<u64>,
    /// Where the records of this event are. Unpacks all batches.
    #[arg(long, value_name = "ID")]
    event: Option<EventId>,
}

#[derive(Args)]
struct ScrubArguments {
    /// How the switches are read: strict or compat [default: that of the settings, else strict].
    #[arg(long, value_name = "PROFILE")]
    profile: Option<ScrubProfile>,
    /// JSON with datascrubbingSettings, piiConfig, scrubProfile, and nothing else [default: the settings of a new project].
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

fn main() -> ExitCode {
    keep_files_private();
    // Nothing but in builds for fault tests.
    picket_common::failpoint::set_up();
    if let Err(error) = forbid_core_dumps() {
        complain(&format_args!("core dumps can't be forbidden, they would hold unscrubbed events: {error}"));
    }
    let arguments = Arguments::parse();
    if let Command::Scrub(scrub) = &arguments.command {
        return exit_code(print_scrubbed(scrub, arguments.common.json));
    }
    let config = match configuration(&arguments) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return ExitCode::from(EXIT_BAD_CONFIGURATION);
        }
    };
    if let Command::Spool(SpoolCommand::Verify) = arguments.command {
        return verify_spool(&config, form(arguments.common.json));
    }
    exit_code(execute(arguments, config))
}

fn verify_spool(config: &RelayConfig, form: Form) -> ExitCode {
    match spool_command::print_verification(config, form, io::stdout().lock()) {
        Ok(verdict) if verdict.findings == 0 => ExitCode::SUCCESS,
        Ok(verdict) => {
            complain(&format_args!("the spool is damaged ({} findings)", verdict.findings));
            ExitCode::from(EXIT_DAMAGED)
        }
        Err(error) => {
            complain(&reason(&error));
            ExitCode::FAILURE
        }
    }
}

const fn form(json: bool) -> Form {
    if json { Form::Json } else { Form::Text }
}

fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&reason(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Spool and identity are for this user only, also in a data directory that someone else made. RocksDB takes no modes, so the
/// process says it once, before there is another thread.
fn keep_files_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// A core dump holds events as they came, and the keys of the staging area: what must never be on a disk unscrubbed. One byte,
/// not zero, is what also keeps Linux from piping the memory to a crash handler (fs/coredump.c, `cprm.limit == 1`). The process
/// stays dumpable, so that its user can read its counters in /proc; a core file is not made for that.
fn forbid_core_dumps() -> rustix::io::Result<()> {
    let allowed = getrlimit(Resource::Core).maximum.unwrap_or(CORE_BYTES_MAX).min(CORE_BYTES_MAX);
    setrlimit(Resource::Core, Rlimit { current: Some(allowed), maximum: Some(allowed) })
}

fn configuration(arguments: &Arguments) -> Result<RelayConfig, ConfigError> {
    let needs_certificate = matches!(arguments.command, Command::Run | Command::CheckConfig);
    let sources = sources(&arguments.common);
    load_with(&sources, |config: &RelayConfig| if needs_certificate { check_certificate(config) } else { Ok(()) })
}

fn sources(common: &CommonArguments) -> Sources {
    let CommonArguments { config, data_dir, .. } = common;
    let data_dir = data_dir.as_ref().map(|directory| Override {
        flag: "--data-dir",
        key: "data_dir",
        value: toml::Value::String(directory.display().to_string()),
    });
    Sources::of_process(config.clone(), STANDARD_FILE, ENV_PREFIX, data_dir.into_iter().collect())
}

fn check_certificate(config: &RelayConfig) -> Result<(), InvalidValue> {
    let fault = |error: TlsError| InvalidValue::new(error.key(), reason(&error));
    Certificates::of_config(&config.tls).map(|_| ()).map_err(fault)
}

fn execute(arguments: Arguments, config: RelayConfig) -> anyhow::Result<()> {
    let json = arguments.common.json;
    match arguments.command {
        Command::CheckConfig => check_config(&config, json),
        Command::Status => print_status(&config, json),
        Command::Scrub(scrub) => print_scrubbed(&scrub, json),
        Command::Spool(command) => print_spool(&command, &config, form(json)),
        Command::Run => {
            let logs = Some(init_logs(&config.log)?);
            let common = arguments.common;
            let read = Arc::new(move || load_with(&sources(&common), check_certificate));
            let runtime = runtime()?;
            let ended = runtime.block_on(run::run(ConfigSource { config, read, logs }));
            // What still waits, for a disk or a name server, must not keep the process from ending.
            runtime.shutdown_background();
            ended.map_err(Into::into)
        }
        Command::Join { token, force } => {
            init_logs(&config.log)?;
            let overwrite = if force { Overwrite::Replace } else { Overwrite::Refuse };
            runtime()?.block_on(join(&token, &config, overwrite, json))
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("relay")
        .enable_all()
        .build()
        .context("can't start the async runtime")
}

fn check_config(config: &RelayConfig, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&serde_json::json!({ "valid": true, "config": config }));
    }
    print(&format!("the configuration is valid; data directory {}\n", config.data_dir.display()))
}

fn print_status(config: &RelayConfig, json: bool) -> anyhow::Result<()> {
    let status = status::ask(config.admin_listen)?;
    if json { print_json(&status) } else { print(&status.screen(Timestamp::now())) }
}

fn print_spool(command: &SpoolCommand, config: &RelayConfig, form: Form) -> anyhow::Result<()> {
    let (now, mut out) = (Timestamp::now(), io::stdout().lock());
    match command {
        SpoolCommand::Status => spool_command::print_status(config, form, now, &mut out)?,
        SpoolCommand::Inspect(inspect) => {
            let wanted = match (inspect.batch, inspect.event) {
                (Some(sequence), _) => Wanted::Batch(Sequence::new(sequence)),
                (None, Some(event_id)) => Wanted::Event(event_id),
                (None, None) => Wanted::Batches,
            };
            spool_command::print_inspection(config, wanted, form, now, out)?;
        }
        SpoolCommand::Verify => {
            spool_command::print_verification(config, form, out)?;
        }
    }
    Ok(())
}

/// Needs no configuration, so that rules can be tried anywhere.
fn print_scrubbed(arguments: &ScrubArguments, json: bool) -> anyhow::Result<()> {
    let text = arguments
        .settings
        .as_ref()
        .map(|file| std::fs::read(file).with_context(|| format!("can't read {}", file.display())))
        .transpose()?;
    let settings = dry_run::settings(text.as_deref(), arguments.profile).with_context(|| {
        let file = arguments.settings.as_ref().map_or_else(String::new, |file| format!(" of {}", file.display()));
        format!("can't use the settings{file}")
    })?;
    let mut event = Vec::new();
    let limit = EVENT_BYTES_MAX + 1;
    io::stdin().lock().take(limit).read_to_end(&mut event).context("can't read the event from stdin")?;
    anyhow::ensure!((event.len() as u64) < limit, "the event is larger than {EVENT_BYTES_MAX} bytes");
    let run = dry_run::dry_run(&settings, &event, Timestamp::now())?;
    if json {
        return print_json(&run);
    }
    let mut stderr = io::stderr().lock();
    for remark in &run.remarks {
        writeln!(stderr, "{remark}").context("can't write to stderr")?;
    }
    print_json(&run.event)
}

async fn join(token: &JoinToken, config: &RelayConfig, overwrite: Overwrite, json: bool) -> anyhow::Result<()> {
    let joined = join::join(token, &config.data_dir, overwrite).await?;
    if let Some(replaced) = &joined.replaced {
        complain(replaced);
    }
    if json {
        return print_json(&joined);
    }
    print(&format!("joined as {} ({}); start it with: picket-relay run\n", joined.name, joined.relay_id))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("can't write to stdout")
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Says on stderr why the command failed, or what is left to do; if even that can't be written, the exit code has to do.
fn complain(reason: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "picket-relay: {reason}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_crash_leaves_no_core_with_unscrubbed_events_in_it() {
        forbid_core_dumps().unwrap();
        let limit = getrlimit(Resource::Core);
        assert!(limit.current.is_some_and(|bytes| bytes <= 1), "{limit:?}");
        assert_eq!(limit.maximum, limit.current);
        forbid_core_dumps().unwrap();
    }

    #[test]
    fn what_is_made_after_the_start_is_for_this_user_only() {
        keep_files_private();
        let parent = tempfile::tempdir().unwrap();
        let (directory, file) = (parent.path().join("spool"), parent.path().join("LOCK"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(&file, "").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
    }
}
